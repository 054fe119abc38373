"""Completion for the shells, made by click from the commands themselves.

Two faults of click's scripts are mended, which only real shells show (click 8.1 to 8.5): zsh's does
nothing at every session's second TAB, and fish's cuts descriptions at their first comma.
"""

from collections.abc import Callable, Mapping

import click
from click.shell_completion import get_completion_class

FILES: Mapping[str, str] = {
    "bash": "bash-completion/completions/{name}",
    "zsh": "zsh/site-functions/_{name}",
    "fish": "fish/vendor_completions.d/{name}.fish",
}
"""Where each shell looks, below ``share``."""


def commands() -> dict[str, click.Command]:
    """The programs that have commands, and their trees."""
    from openmse.cli.main import root
    from openmse.cli.msed import msed

    return {"mse": root, "msed": msed}


def programs() -> Mapping[str, click.Command]:
    """The programs that people type.

    Not ``setup.sh``: shells complete by the last part of a path, and the scripts call what was
    typed, so that a TAB after the setup.sh of somebody else would run it.
    """
    from openmse.cli.alias import by_its_own_name
    from openmse.cli.info import gethainfo, getserverinfo
    from openmse.cli.setup import setup

    others = {"mse-setup": setup, "getserverinfo": getserverinfo, "gethainfo": gethainfo}
    return commands() | {name: by_its_own_name(each, name) for name, each in others.items()}


def files() -> dict[str, str]:
    """Path below ``share`` -> text of the completion file."""
    found = {}
    for name, command in programs().items():
        for shell, path in FILES.items():
            made_by = get_completion_class(shell)
            assert made_by is not None
            completer = made_by(command, {}, name, f"_{name.replace('-', '_').upper()}_COMPLETE")
            text = completer.source_template % completer.source_vars()
            found[path.format(name=name)] = _MENDS[shell](text)
    return found


def _bash(text: str) -> str:
    return text


def _zsh(text: str) -> str:
    """The file is the function's body at every call; click's thinks so only at the first."""
    before, is_there, after = text.partition("if [[ $zsh_eval_context[-1] == loadautofunc ]]")
    assert is_there, "click's script for zsh is another one: look whether it needs mending"
    call = next(line.strip() for line in after.splitlines() if '"$@"' in line)
    return f"{before}{call}\n"


def _fish(text: str) -> str:
    """A description is what comes after the first comma, with all of its own."""
    before = 'string split "," $completion'
    assert before in text, "click's script for fish is another one: look whether it needs mending"
    return text.replace(before, 'string split --max 1 "," $completion')


_MENDS: Mapping[str, Callable[[str], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
"""Not ``source()`` of click: that runs the shell to see whether it is new enough."""
