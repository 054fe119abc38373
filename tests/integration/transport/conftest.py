"""Groups with real certificates and keys, for tests over real sockets on the loopback."""

import asyncio
import fcntl
import os
import pwd
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from openmse.node.drivers.peer.tls import TlsFiles
from openmse.pki.authority import Authority, Subject, new_key, signing_request
from openmse.pki.files import PUBLIC, write_file
from openmse.pki.names import Identity, Role


class Site:
    """A group's authority, and the files of its parties."""

    def __init__(self, directory: Path, group: str) -> None:
        self.group = group
        self.key = os.urandom(32)
        self.directory = directory
        self.authority = Authority.create(group)

    def files(self, party: str, role: Role = Role.NODE, group: str = "") -> TlsFiles:
        """Fresh key and certificate; ``group``: the name it claims, if not its authority's."""
        identity = Identity(group or self.group, role, party)
        key = new_key()
        request = signing_request(key, party)
        certificate = self.authority.issue(request, Subject(identity, (), ("127.0.0.1",)))
        base = self.directory / f"{self.group}-{party}"
        base.mkdir(exist_ok=True)
        files = TlsFiles(base / "node.crt", base / "node.key", base / "ca.crt")
        write_file(files.key, key)
        write_file(files.certificate, certificate, mode=PUBLIC)
        write_file(files.authority, self.authority.certificate_pem, mode=PUBLIC)
        return files


@pytest.fixture(scope="session")
def unix_user() -> str:
    """The user PostgreSQL runs as; made on a machine of ours that lacks it."""
    user = "openmse"
    if os.geteuid() == 0:
        with open(os.path.join(tempfile.gettempdir(), "openmse-tests.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # files run side by side: only one may make it
            try:
                pwd.getpwnam(user)
            except KeyError:
                command = ["useradd", "--system", "--no-create-home", user]
                subprocess.run(command, check=True, timeout=30)
    return user


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, "floor1")


@pytest.fixture
def other_site(tmp_path: Path) -> Site:
    return Site(tmp_path, "floor2")


async def _until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
def until() -> Callable[..., object]:
    """Awaits a condition, with a deadline."""
    return _until
