"""Applying a plan step by step; a failure takes everything back in reverse order."""

from collections.abc import Callable

from openmse.errors import MseError
from openmse.setup.errors import ApplyFailed, StepError
from openmse.setup.files import Files, Undo
from openmse.setup.plan import Plan, act_text
from openmse.setup.system import System

Say = Callable[[str], None]


def apply(
    plan: Plan, files: Files, system: System, say: Say, check: Callable[[], None] = lambda: None
) -> None:
    """Do every step in order. Raises ApplyFailed after taking back what was done.

    ``check`` is called between two changes, and raises KeyboardInterrupt where somebody wants it to
    stop: everything is taken back then too.
    """
    done: list[tuple[str, Undo]] = []
    current = ""
    try:
        for step in plan.steps:
            current = step.name
            say(f"Applying {step.name} configuration")
            for change in step.changes:
                check()
                done.append((f"restore {change.path}", files.put(change)))
            for act in step.acts:
                check()
                done.append((f"take back: {act_text(act)}", system.perform(act, say)))
        check()
        files.settle()
    except MseError as error:
        raise _taken_back(current, error, done) from error
    except BaseException as error:
        stopped = StepError(
            "It was interrupted."
            if isinstance(error, KeyboardInterrupt)
            else (f"An unforeseen fault: {error!r}.")
        )
        failure = _taken_back(current, stopped, done)
        if isinstance(error, KeyboardInterrupt):
            say(failure.sentence)
            raise
        raise failure from error


def _taken_back(step: str, error: MseError, done: list[tuple[str, Undo]]) -> ApplyFailed:
    stuck = []
    for what, undo in reversed(done):
        try:
            undo()
        except Exception as failure:  # whatever it is, the others must be taken back too
            reason = failure.sentence if isinstance(failure, MseError) else repr(failure)
            stuck.append(f"'{what}' failed: {reason}")
    sentence = f"The {step} configuration was not applied: {error.sentence}"
    if not stuck:
        return ApplyFailed(
            f"{sentence} Everything before it was taken back; nothing is changed.", error.hint
        )
    return ApplyFailed(
        f"{sentence} Taking back what was done before failed in part: {' '.join(stuck)}",
        f"{error.hint} The copies of the files are in /var/backups/openmse.".strip(),
        code="MSE-SET-007",
    )
