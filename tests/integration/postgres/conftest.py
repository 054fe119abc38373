"""Real PostgreSQL; as root the servers run as the user ``openmse``."""

import fcntl
import os
import pwd
import subprocess
import tempfile
from collections.abc import AsyncIterator

import pytest
from postgres_pair import UNIX_USER, Pair, new_pair


@pytest.fixture(scope="session")
def unix_user() -> str:
    """The user PostgreSQL runs as; made on a machine of ours that lacks it."""
    if os.geteuid() == 0:
        with open(os.path.join(tempfile.gettempdir(), "openmse-tests.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # files run side by side: only one may make it
            _make(UNIX_USER)
    return UNIX_USER


def _make(user: str) -> None:
    try:
        pwd.getpwnam(user)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", user], check=True, timeout=30)


@pytest.fixture
async def pair(unix_user: str) -> AsyncIterator[Pair]:
    async with new_pair() as made:
        yield made
