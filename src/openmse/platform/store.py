"""The licences installed on this engine: ``<state>/licences/``, whole or not at all.

Each licence is kept as the signed text it came as, and proven again at each reading. Beside them a
ledger: when each was first installed in the group (a licence that is removed and installed again
does not begin anew), which were removed, and the latest date this engine has seen.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct, field
from msgspec.structs import replace

from openmse.errors import MseError, StateError
from openmse.pki.files import PUBLIC, read_file, sync_directory
from openmse.platform import licence_keys
from openmse.platform.errors import LicenceRefused, LicenceStoreError
from openmse.platform.evaluation import Installed
from openmse.platform.licence import MAX_BYTES, Licence
from openmse.platform.licence_keys import Broken

SUFFIX = ".licence"
LEDGER = "ledger.json"
FORMAT = 1
MAX_LICENCES = 1000
Trusted = dict[str, Ed25519PublicKey]


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    """What the ledger knows of one licence. ``changed_at``: ISO 8601, UTC."""

    first_installed: date
    is_removed: bool
    changed_at: str
    by: str = ""
    """Who made that change; '' where it was not told."""


class Ledger(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole ledger, by licence id."""

    lines: dict[str, Line] = field(default_factory=dict)
    latest_seen: date = date(2000, 1, 1)
    format: int = FORMAT


class Held(Struct, frozen=True):
    """Everything in the store."""

    installed: tuple[Installed, ...]
    texts: dict[str, bytes]
    """The signed texts, by licence id."""
    ledger: Ledger
    broken: tuple[Broken, ...] = ()


class LicenceStore:
    """The directory. Reading needs no lock: each file is replaced at once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def read(self, trusted: Trusted) -> Held:
        """What is installed and proven, and what is broken. Raises LicenceStoreError."""
        ledger = self._ledger()
        installed, texts, broken = [], {}, []
        for path in self._files():
            try:
                data = read_file(path, MAX_BYTES)
                one = licence_keys.verify(data, trusted).licence
                if path.name != one.id + SUFFIX:
                    raise LicenceRefused(f"It holds licence {one.id}, not the one it is named for.")
            except MseError as error:
                broken.append(Broken(path.name, error.sentence))
                continue
            line = ledger.lines.get(one.id)
            first = line.first_installed if line is not None else one.issued
            changed = (line.changed_at, line.by) if line is not None else ("", "")
            installed.append(Installed(one, first, *changed))
            texts[one.id] = data
        return Held(tuple(installed), texts, ledger, tuple(broken))

    def latest_seen(self) -> date:
        """The latest date this engine has seen. Raises LicenceStoreError."""
        return self._ledger().latest_seen

    def put(self, texts: dict[str, bytes], lines: dict[str, Line], seen: date) -> None:
        """Take over licences and what is known of them; removed ones leave their file.

        All of it, or nothing and LicenceStoreError (disk full, read-only, no rights). ``texts``
        are proven by the caller.
        """
        with self.locked():
            ledger = self._ledger()
            known = {**ledger.lines, **lines}
            wanted = replace(ledger, lines=known, latest_seen=max(seen, ledger.latest_seen))
            files = {identity + SUFFIX: text for identity, text in texts.items()}
            self._write({**files, LEDGER: _encode(wanted)})
            for identity, line in lines.items():
                if line.is_removed:
                    self._unlink(self.directory / (identity + SUFFIX))

    def saw(self, today: date) -> None:
        """Remember a later date than any before; written at most once a day."""
        if today > self._ledger().latest_seen:
            self.put({}, {}, today)

    def _files(self) -> list[Path]:
        try:
            return sorted(self.directory.glob(f"*{SUFFIX}"))[:MAX_LICENCES]
        except OSError as error:
            raise _unreadable(self.directory, error.strerror or str(error)) from error

    def _ledger(self) -> Ledger:
        path = self.directory / LEDGER
        if not path.exists():
            return Ledger()
        try:
            found = msgspec.json.decode(read_file(path), type=Ledger)
        except (StateError, msgspec.MsgspecError) as error:
            raise _unreadable(path, str(error)) from error
        if found.format != FORMAT:
            raise _unreadable(path, f"its format is {found.format}, not {FORMAT}")
        return found

    def _write(self, files: dict[str, bytes]) -> None:
        """All files under their temporary names and on disk first, then all names."""
        staged: list[tuple[Path, Path]] = []
        try:
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            for name, data in files.items():
                temporary = self.directory / f".{name}.new"
                staged.append((temporary, self.directory / name))
                _write_synced(temporary, data)
            for temporary, path in staged:
                os.rename(temporary, path)
            sync_directory(self.directory)
        except OSError as error:
            for temporary, _ in staged:
                with suppress(OSError):
                    temporary.unlink()
            raise _unwritable(self.directory, error) from error

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
            sync_directory(self.directory)
        except OSError as error:
            raise _unwritable(self.directory, error) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time; waits for the other. Raises LicenceStoreError."""
        try:
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            lock = os.open(self.directory / ".lock", flags, 0o600)
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def find(held: Held, identity: str) -> Licence:
    """The installed licence of that id, or its unambiguous beginning; raises LicenceRefused."""
    found = [one.licence for one in held.installed if one.licence.id.startswith(identity)]
    if len(found) != 1 or not identity:
        how = "is no licence that is installed" if not found else "begins more than one licence"
        raise LicenceRefused(
            f"'{identity[:40]}' {how} on this engine; nothing was changed.",
            "'mse license list' shows what is installed.",
        )
    return found[0]


def _encode(ledger: Ledger) -> bytes:
    return msgspec.json.format(msgspec.json.encode(ledger, order="sorted"), indent=1) + b"\n"


def _write_synced(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, PUBLIC), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _unreadable(path: Path, reason: str) -> LicenceStoreError:
    return LicenceStoreError(
        f"{path} cannot be read: {reason}.",
        "The built-in limits hold until it can. Restore it from a backup, or move it away: "
        "licences that are then installed again count from that day.",
    )


def _unwritable(directory: Path, error: OSError) -> LicenceStoreError:
    return LicenceStoreError(
        f"The licences in {directory} could not be changed: {error.strerror}.",
        "What was installed before still stands. Make room on the disk or mend its rights, and "
        "run the command as root.",
        is_retryable=True,
    )
