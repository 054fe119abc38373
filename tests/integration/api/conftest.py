"""The management API over real TLS and a real control socket, in short directories."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "control"))

from api_machine import Machine, Served


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine with its configuration files and an administrator; nothing runs on it."""
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Machine(Path(name))


@pytest.fixture
def served(machine: Machine) -> Iterator[Served]:
    """Its API, with a primary that is not paired behind it."""
    with machine.monitor(), machine.serve() as found:
        found.until_up()
        yield found


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    """The same for all tests of a module that leave no trace."""
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        machine = Machine(Path(name))
        with machine.monitor(), machine.serve() as found:
            found.until_up()
            yield found
