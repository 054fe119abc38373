"""The audit: every change, who asked, what came of it. Appended and fsynced, bounded, chained.

An entry carries a hash over the one before, so that a line that was changed or taken out shows.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from openmse.api.errors import AuditUnavailable
from openmse.api.store import ManagementPlaces, locked
from openmse.errors import StateError
from openmse.node.runtime.event_log import append, rotated

MAX_BYTES = 5_000_000
KEPT_FILES = 10


class AuditEntry(Struct, frozen=True, kw_only=True):
    """One line. ``result``: begun, done, refused, failed or lost."""

    at: str
    who: str
    scope: str
    from_address: str
    action: str
    args: dict[str, Any] = {}
    result: str
    code: str = ""
    sentence: str = ""
    operation: str | None = None
    chain: str = ""
    """SHA-256 over the line before this one."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AuditEntry)


class Audit:
    """Appends to the audit file; shared with ``mse admin``. Blocking: call it in a thread."""

    def __init__(
        self, places: ManagementPlaces, *, max_bytes: int = MAX_BYTES, kept_files: int = KEPT_FILES
    ) -> None:
        self.path = places.audit
        self._lock = places.lock
        self._max_bytes = max_bytes
        self._kept_files = kept_files

    def write(self, entry: AuditEntry) -> None:
        """Keep an entry, on disk before this returns; raises AuditUnavailable."""
        try:
            with locked(self._lock):
                chained = replace(entry, chain=_chain(_last_line(self.path)))
                data = _encoder.encode(chained) + b"\n"
                self._rotate(len(data))
                _make_private(self.path)
                append(self.path, data)
        except (OSError, StateError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.sentence
            raise AuditUnavailable(
                f"The audit {self.path} cannot be written ({reason}), so nothing was changed.",
                "Make room on the disk of the state directory; 'mse ha' works meanwhile.",
            ) from error

    def _rotate(self, coming_bytes: int) -> None:
        try:
            if self.path.stat().st_size + coming_bytes <= self._max_bytes:
                return
        except FileNotFoundError:
            return
        for number in range(self._kept_files - 1, 0, -1):
            with suppress(FileNotFoundError):
                rotated(self.path, number - 1).replace(rotated(self.path, number))

    def newest(self, limit: int) -> list[AuditEntry]:
        """The newest entries, newest first; raises StateError."""
        found: list[AuditEntry] = []
        for line in self._lines_backwards():
            with suppress(msgspec.MsgspecError, ValueError):
                found.append(_decoder.decode(line))
            if len(found) >= limit:
                break
        return found

    def faults(self) -> list[str]:
        """Where the chain is broken, in sentences; empty if the audit is whole."""
        found, before = [], None
        for line in reversed(list(self._lines_backwards())):
            try:
                entry = _decoder.decode(line)
            except (msgspec.MsgspecError, ValueError):
                found.append("A line cannot be read.")
                before = line
                continue
            if before is not None and entry.chain != _chain(before):
                found.append(f"Before the entry of {entry.at} something was changed or removed.")
            before = line
        return found

    def _lines_backwards(self) -> Iterator[bytes]:
        for number in range(self._kept_files):
            try:
                yield from reversed(rotated(self.path, number).read_bytes().splitlines())
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StateError(
                    f"The audit {self.path} cannot be read: {error.strerror}.", "Run it as root."
                ) from error


def _chain(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest() if line else ""


def _last_line(path: Path) -> bytes:
    """The last whole line, without its end; b'' where there is none."""
    for candidate in (path, rotated(path, 1)):
        try:
            with candidate.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 256 * 1024))
                lines = file.read().splitlines()
        except FileNotFoundError:
            continue
        if lines:
            return lines[-1]
    return b""


def _make_private(path: Path) -> None:
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
