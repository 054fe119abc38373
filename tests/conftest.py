"""What every test starts from, however the tests themselves were started."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.workermanage import NodeManager

HERE = Path(__file__).parent
LABORATORY = HERE / "lab"
LONG = ("simulation", "browser", "exploration", "integration/postgres", "integration/console")
"""Folders with the files that take longest, which are begun first: so at the end of the phase no
worker waits for the other."""

WORKERS_END_WITHIN_S = 20
"""Interrupted workers hear it after 5 s and take 10 s at the most to remove their laboratories; of
themselves, xdist's 10 s would kill them meanwhile."""

# Hundreds of processes are started from these sources: they are compiled once, not by each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# On a busy machine an example takes as long as it takes; pytest-timeout ends what hangs.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_configure() -> None:
    """Hear Ctrl-C and SIGQUIT like a program in the foreground, and let workers tidy up after it.

    A job in the background of a script, as continuous integration may run us, begins with both
    ignored, and children inherit that: commands and servers under test would not hear theirs.
    """
    NodeManager.EXIT_TIMEOUT = WORKERS_END_WITHIN_S
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Whatever is in tests/lab has a phase to itself (tests/everything.py); and, after the
    shuffle, what takes long is begun first."""
    for item in items:
        if item.path.is_relative_to(LABORATORY):
            item.add_marker(pytest.mark.laboratory)
    yield
    items.sort(key=lambda item: _begins_at(item.path))


def _begins_at(path: Path) -> int:
    found = (at for at, folder in enumerate(LONG) if path.is_relative_to(HERE / folder))
    return next(found, len(LONG))
