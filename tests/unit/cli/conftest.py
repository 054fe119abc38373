"""Fixtures of the command line's tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_machine import CliMachine
from live_core import LiveCore, daemon, serving


@pytest.fixture
def machine(capsys: pytest.CaptureFixture[str]) -> Iterator[CliMachine]:
    """A configured machine whose daemon does not run."""
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield CliMachine(Path(name), capsys)


@pytest.fixture
def running(machine: CliMachine) -> Iterator[CliMachine]:
    """The same with its daemon: an unpaired primary that serves."""
    machine.core = LiveCore(serving())
    with daemon(machine.socket, machine.core) as pairing:
        machine.pairing = pairing
        yield machine
