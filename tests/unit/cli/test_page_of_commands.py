"""docs/commands.md names every command there is, and none that is not."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from openmse.cli.main import root

PAGE = Path(__file__).resolve().parents[3] / "docs" / "commands.md"
ELSEWHERE = ("mse lab", "mse witness")
"""They have pages of their own."""


def commands(command: click.Command, path: str) -> Iterator[str]:
    """The full names of all commands below ``command``."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = f"{path} {name}"
        if below in ELSEWHERE:
            continue
        found = command.get_command(context, name)
        assert found is not None, below
        if found.hidden:
            continue  # for units and packages, not for people
        yield from commands(found, below)


def test_every_command_is_on_the_page() -> None:
    text = PAGE.read_text().replace("`journal ", "`mse ha journal ")
    missing = [name for name in commands(root, "mse") if f"`{name}" not in text]
    assert missing == []


def test_every_option_on_the_page_exists() -> None:
    known: set[str] = set()
    for name in [*commands(root, "mse"), "mse ha journal"]:
        command: click.Command = root
        for part in name.split()[1:]:
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), part)
            assert found is not None
            command = found
        known |= {opt for param in command.params for opt in param.opts}
    known |= {opt for param in root.params for opt in param.opts} | {"--help"}
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE.read_text()))
    assert named <= known
