"""A laboratory machine has the commands that an installation has."""

import tomllib
from pathlib import Path

from openmse.lab.rootfs import COMMANDS

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_a_machine_has_every_command_of_the_project() -> None:
    assert tomllib.loads(PROJECT.read_text())["project"]["scripts"] == COMMANDS
