"""Completion for the shells, made by click from the commands themselves."""

from collections.abc import Mapping

import click
from click.shell_completion import get_completion_class

FILES: Mapping[str, str] = {
    "bash": "bash-completion/completions/{name}",
    "zsh": "zsh/site-functions/_{name}",
    "fish": "fish/vendor_completions.d/{name}.fish",
}
"""Where each shell looks, below ``share``."""


def commands() -> Mapping[str, click.Command]:
    """The programs that people type, and their trees."""
    from openmse.cli.main import root
    from openmse.cli.msed import msed

    return {"mse": root, "msed": msed}


def files() -> dict[str, str]:
    """Path below ``share`` -> text of the completion file."""
    found = {}
    for name, command in commands().items():
        for shell, path in FILES.items():
            made_by = get_completion_class(shell)
            assert made_by is not None
            completer = made_by(command, {}, name, f"_{name.upper()}_COMPLETE")
            found[path.format(name=name)] = _source(completer.source_template, completer)
    return found


def _source(template: str, completer: click.shell_completion.ShellComplete) -> str:
    """The script; not ``source()``, which runs the shell to see whether it is new enough."""
    return template % completer.source_vars()
