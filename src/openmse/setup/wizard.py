"""The wizard as a pure state machine: a line in, the next state and the next prompt out.

The state is the trail of answers given; ``^`` takes the last one back and remembers it as the
suggestion for the same question. Only ``yes`` at the end of everything leads to APPLY.
"""

import textwrap
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from openmse.setup import texts
from openmse.setup.checks import Check, as_lines, is_red
from openmse.setup.errors import BadAnswer
from openmse.setup.items import guide_items
from openmse.setup.menus import BACK, GoBack
from openmse.setup.modern import modern_items
from openmse.setup.questions import Item, Question
from openmse.setup.summary import summary
from openmse.setup.values import DEFAULT, NO, SKIP, Answers, Machine, View

LINE_MAX = 1000
WIDTH = 80


class Phase(StrEnum):
    """Where the conversation is."""

    ASKING = "asking"
    CONFIRM = "confirm"
    """The summary is shown; yes, no, or ^."""
    CHECKING = "checking"
    """Nobody is asked: the checks are to be made, and ``checked`` told what they found."""
    RED = "red"
    """Some are red; yes, no, or ^."""
    APPLY = "apply"
    LEFT = "left"
    """The person wants to set the parameters manually."""


class Given(Struct, frozen=True):
    """One answer. Never shows a secret."""

    id: str
    value: str
    is_secret: bool = False
    is_default: bool = False
    """Taken by (U)se default: nobody was asked."""

    def __repr__(self) -> str:
        value = "…" if self.is_secret else self.value
        return f"Given({self.id!r}, {value!r})"


class State(Struct, frozen=True):
    """All there is to know of a conversation."""

    trail: tuple[Given, ...] = ()
    remembered: Mapping[str, str] = field(default_factory=dict)
    phase: Phase = Phase.ASKING
    checks: tuple[Check, ...] = ()

    def __repr__(self) -> str:
        return f"State({self.phase.value}, {len(self.trail)} answers)"

    @property
    def answers(self) -> Answers:
        """Each answer by its question."""
        return {given.id: given.value for given in self.trail}


class Turn(NamedTuple):
    """What is shown, what is asked, and the state in which the answer is awaited."""

    state: State
    text: str
    prompt: str = ""
    is_secret: bool = False
    is_close: bool = False
    """The prompt follows the text without an empty line."""

    @property
    def screen(self) -> str:
        """As it stands on a terminal, up to the cursor."""
        if not self.text:
            return self.prompt
        if not self.prompt:
            return f"\n{self.text}\n"
        gap = "\n" if self.is_close else "\n\n"
        return f"\n{self.text}{gap}{self.prompt}"


class Script(Struct, frozen=True):
    """What is asked on a machine; ``review`` yields what is wrong with all answers together."""

    machine: Machine
    items: tuple[Item, ...]
    review: Callable[[View], list[str]]

    def view(self, state: State) -> View:
        """What questions may look at."""
        return View(self.machine, state.answers)


def script_for(machine: Machine, review: Callable[[View], list[str]]) -> Script:
    """Every item, for this machine."""
    return Script(machine, (*guide_items(machine), *modern_items()), review)


def begin(script: Script) -> Turn:
    """The first question."""
    return ask(script, State())


def answer(script: Script, state: State, line: str) -> Turn:
    """Take a line; the next turn. A line that breaks a rule changes nothing and is told so."""
    text = line.strip() if not _is_secret(script, state) else line.rstrip("\r\n")
    if len(text) > LINE_MAX:
        return _again(script, state, f"The answer must have at most {LINE_MAX} characters.")
    if text == BACK:
        return _back(script, state)
    match state.phase:
        case Phase.ASKING:
            return _take(script, state, text)
        case Phase.CONFIRM | Phase.RED:
            return _decide(script, state, text)
        case _:
            return Turn(state, "")  # nobody is asked in these


def checked(script: Script, state: State, checks: tuple[Check, ...]) -> Turn:
    """The checks are made: on to applying, or the question whether to do so all the same."""
    if state.phase is not Phase.CHECKING:
        return Turn(state, "")
    phase = Phase.RED if is_red(checks) else Phase.APPLY
    return _shown(script, replace(state, phase=phase, checks=checks))


def ask(script: Script, state: State) -> Turn:
    """The next question that is open, or the summary."""
    state = _fill(script, state)
    question = next_question(script, state)
    phase = Phase.ASKING if question is not None else Phase.CONFIRM
    return _shown(script, replace(state, phase=phase))


def next_question(script: Script, state: State) -> Question | None:
    """The first question without an answer; None where all are answered."""
    answers = state.answers
    view = View(script.machine, answers)
    for item in script.items:
        if not item.when(view):
            continue
        if item.id not in answers:
            return item.gate
        if answers[item.id] == SKIP:
            continue
        for question in item.questions:
            if question.id not in answers and question.when(view):
                return question
    return None


def suggestion(script: Script, state: State, question: Question) -> str:
    """What Enter takes: what was typed before a ``^``, or else the current value."""
    if question.is_secret:
        return ""
    is_gate = any(item.gate is question for item in script.items)
    remembered = "" if is_gate or question.is_plain else state.remembered.get(question.id, "")
    return remembered or question.suggested(script.view(state))


# -- taking answers ---------------------------------------------------------------------------


def _take(script: Script, state: State, text: str) -> Turn:
    question = next_question(script, state)
    assert question is not None
    try:
        value = checked_value(script, state, question, text)
    except GoBack:
        return _back(script, state)
    except BadAnswer as error:
        return _again(script, state, error.sentence)
    state = with_answer(state, question, value)
    if question.id == "wizard" and value == NO:
        return Turn(replace(state, phase=Phase.LEFT), texts.MANUALLY)
    return ask(script, state)


def checked_value(script: Script, state: State, question: Question, text: str) -> str:
    """The canonical answer that ``text`` means; raises BadAnswer with the rule, or GoBack."""
    suggested = suggestion(script, state, question)
    return question.rule(text or suggested, script.view(state))


def with_answer(state: State, question: Question, value: str, *, is_default: bool = False) -> State:
    """The state after an answer."""
    given = Given(question.id, value, question.is_secret, is_default)
    remembered = dict(state.remembered)
    if not question.is_secret:
        remembered[question.id] = question.shown(value)
    return replace(state, trail=(*state.trail, given), remembered=remembered)


def _fill(script: Script, state: State) -> State:
    """(U)se default: take what has a default, as far as the rules allow it."""
    while (question := next_question(script, state)) is not None:
        item = next(i for i in script.items if question is i.gate or question in i.questions)
        view = script.view(state)
        fallback = question.fallback(view)
        if question is item.gate or state.answers[item.id] != DEFAULT or not fallback:
            break
        try:
            value = question.rule(fallback, view)
        except BadAnswer:
            break  # then a person must say
        state = with_answer(state, question, value, is_default=True)
    return state


def _decide(script: Script, state: State, text: str) -> Turn:
    word = text.lower()
    if word in ("no", "n"):
        first = tuple(given for given in state.trail[:1] if given.id == "wizard")
        return ask(script, State(first, state.remembered))
    if word not in ("yes", "y"):
        return _again(script, state, 'The answer must be "yes", "no", or "^".')
    if state.phase is Phase.RED:
        return Turn(replace(state, phase=Phase.APPLY), "")
    faults = script.review(script.view(state))
    if faults:
        rows = "\n".join(f"  {fault}" for fault in faults)
        return _again(script, state, f"This cannot be applied together; ^ goes back:\n{rows}")
    return Turn(replace(state, phase=Phase.CHECKING), "")


def _back(script: Script, state: State) -> Turn:
    if state.phase is Phase.RED:
        return _shown(script, replace(state, phase=Phase.CONFIRM, checks=()))
    if state.phase not in (Phase.ASKING, Phase.CONFIRM):
        return Turn(state, "")
    trail = list(state.trail)
    while trail and trail[-1].is_default:
        trail.pop()
    if not trail:
        return _again(script, state, "There is no step before this one.")
    trail.pop()
    return _shown(script, State(tuple(trail), state.remembered))


# -- showing ----------------------------------------------------------------------------------


def _is_secret(script: Script, state: State) -> bool:
    if state.phase is not Phase.ASKING:
        return False
    question = next_question(script, state)
    return question is not None and question.is_secret


def _shown(script: Script, state: State) -> Turn:
    """The paragraph and the prompt of a state."""
    match state.phase:
        case Phase.ASKING:
            question = next_question(script, state)
            assert question is not None
            text = question.intro(script.view(state))
            is_close = question.is_plain or any(i.gate is question for i in script.items)
            prompt = _prompt(script, state, question)
            return Turn(state, text, prompt, question.is_secret, is_close and bool(state.trail))
        case Phase.CONFIRM:
            return Turn(state, _summary(script, state), f"{texts.CORRECT}: ", is_close=True)
        case Phase.RED:
            text = "\n".join([*as_lines(state.checks), "", texts.RED])
            return Turn(state, text, f"{texts.APPLY_RED}: ")
        case Phase.APPLY:
            return Turn(state, "\n".join(as_lines(state.checks)))
        case _:
            return Turn(state, "")


def _again(script: Script, state: State, message: str) -> Turn:
    turn = _shown(script, state)
    text = "\n".join(textwrap.fill(line, WIDTH) for line in message.splitlines())
    return turn._replace(text=text, is_close=True)


def _prompt(script: Script, state: State, question: Question) -> str:
    prompt = question.prompt(script.view(state))
    if question.is_plain:
        return prompt
    suggested = suggestion(script, state, question)
    return f"{prompt} [{question.shown(suggested)}]: " if suggested else f"{prompt}: "


def _summary(script: Script, state: State) -> str:
    view = script.view(state)
    is_changed = any(given.value not in (SKIP,) for given in state.trail if given.id != "wizard")
    return "\n\n".join(
        (
            texts.SUMMARY,
            "\n\n".join((texts.BEGIN, summary(view), texts.END)).replace("\n\n\n\n", "\n\n"),
            texts.VERIFY,
            texts.CHANGED if is_changed else texts.UNCHANGED,
        )
    )
