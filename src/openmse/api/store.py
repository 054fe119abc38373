"""Small files of the admin process: JSON, whole or not at all, shared with ``mse admin``.

A change is read-modify-write under a lock that the commands take too; a reader sees what another
process has written at its next look, since the file's identity has changed.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from openmse.errors import StateError
from openmse.pki.files import PRIVATE, read_file, write_file

Kept = TypeVar("Kept", bound=Struct)
Result = TypeVar("Result")
_Mark = tuple[int, int, int]


class ManagementPlaces(Struct, frozen=True):
    """Every path of the admin process, below ``<state>/management``."""

    directory: Path

    @classmethod
    def of(cls, state_dir: Path) -> "ManagementPlaces":
        """Those of the machine with this state directory."""
        return cls(state_dir / "management")

    @property
    def key(self) -> Path:
        """The TLS key that is made at the first start."""
        return self.directory / "tls.key"

    @property
    def certificate(self) -> Path:
        """Its certificate."""
        return self.directory / "tls.crt"

    @property
    def users(self) -> Path:
        """Who may log in."""
        return self.directory / "users.json"

    @property
    def tokens(self) -> Path:
        """Hashes of the tokens."""
        return self.directory / "tokens.json"

    @property
    def claim(self) -> Path:
        """Which console manages this engine."""
        return self.directory / "console.json"

    @property
    def audit(self) -> Path:
        """Who changed what."""
        return self.directory / "audit.jsonl"

    @property
    def operations(self) -> Path:
        """One file for each operation."""
        return self.directory / "operations"

    @property
    def lock(self) -> Path:
        """Held while any of these is changed."""
        return self.directory / ".lock"


def prepare(places: ManagementPlaces) -> None:
    """Make the directories; raises StateError.

    Others may reach the certificate, which is no secret; every other file is this user's only.
    """
    for path, mode in ((places.directory, 0o711), (places.operations, 0o700)):
        try:
            path.mkdir(mode=mode, parents=True, exist_ok=True)
            path.chmod(mode)
        except OSError as error:
            raise StateError(
                f"The directory {path} cannot be made: {error.strerror}.",
                "Run as root, and check the disk and [paths] state_dir.",
                code="MSE-STA-030",
            ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; waits for who has it. Raises StateError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    except OSError as error:
        raise StateError(
            f"The lock {path} cannot be taken: {error.strerror}; nothing was changed.",
            "Run as root; 'mse admin run' makes the directory at its first start.",
            code="MSE-STA-031",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class JsonFile(Generic[Kept]):
    """One value in one file; the default where there is none yet."""

    def __init__(self, path: Path, default: Kept, lock: Path) -> None:
        self.path = path
        self._default = default
        self._lock = lock
        self._decoder = msgspec.json.Decoder(type(default))
        self._seen: tuple[_Mark | None, Kept] | None = None

    def read(self) -> Kept:
        """What is kept now; raises StateError where it is damaged or may not be read."""
        mark = self._mark()
        seen = self._seen  # once: another thread may change the file meanwhile
        if seen is not None and seen[0] == mark:
            return seen[1]
        value = self._default if mark is None else self._decode()
        self._seen = (mark, value)
        return value

    def change(self, edit: Callable[[Kept], tuple[Kept, Result]]) -> Result:
        """Replace what is kept by what ``edit`` makes of it, durably; its second result.

        Raises StateError, or what ``edit`` raises; then nothing has changed.
        """
        with locked(self._lock):
            before = self.read()
            after, result = edit(before)
            if after != before:
                write_file(self.path, msgspec.json.format(msgspec.json.encode(after)))
                self._seen = None
        return result

    def _mark(self) -> _Mark | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(
                f"The file {self.path} could not be read: {error.strerror}.",
                "Run it as root.",
                code="MSE-STA-011",
            ) from error
        return (found.st_ino, found.st_mtime_ns, found.st_size)

    def _decode(self) -> Kept:
        try:
            return self._decoder.decode(read_file(self.path))
        except (msgspec.MsgspecError, ValueError) as error:
            raise StateError(
                f"The file {self.path} is damaged, so nobody can be let in by it.",
                "Restore it, or remove it and set it up again with 'mse admin'.",
                code="MSE-STA-032",
            ) from error
