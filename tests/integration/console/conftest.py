"""A console as a process, and engines that are the real management API over real cores."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "browser"))

from live_pair import Site
from stage import ConsoleProcess, console_process
from store_database import Database


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A short directory (Unix sockets allow 107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def site(root: Path) -> Iterator[Site]:
    """A pair. Ask for it before the console: it then ends after it, so no API has a reader."""
    with Site(root, is_paired=True).serving() as found:
        yield found


@pytest.fixture(scope="module")
def console(root: Path) -> Iterator[ConsoleProcess]:
    """A console with an administrator."""
    with console_process(root / "console") as found:
        yield found


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """A PostgreSQL server that runs."""
    made = Database()
    try:
        made.start()
        yield made
    finally:
        made.remove()
