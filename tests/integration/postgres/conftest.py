"""Real PostgreSQL; as root the servers run as the user ``openmse``."""

import os
import pwd
import subprocess
from collections.abc import AsyncIterator

import pytest
from postgres_pair import UNIX_USER, Pair, new_pair


@pytest.fixture(scope="session")
def unix_user() -> str:
    """The user PostgreSQL runs as; made on a machine of ours that lacks it."""
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(UNIX_USER)
        except KeyError:
            subprocess.run(
                ["useradd", "--system", "--no-create-home", UNIX_USER], check=True, timeout=30
            )
    return UNIX_USER


@pytest.fixture
async def pair(unix_user: str) -> AsyncIterator[Pair]:
    async with new_pair() as made:
        yield made
