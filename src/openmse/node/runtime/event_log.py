"""The event log: what an operator wants to read afterwards, one JSON object per line, bounded.

Writing never blocks the loop and never fails the daemon: on a full disk entries are dropped and
counted, and the first entry that fits again says how many are missing.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from openmse.errors import StateError
from openmse.node.runtime.background import Background

MAX_BYTES = 2_000_000
KEPT_FILES = 5
"""The current file and four older ones."""
MODE = 0o640


class Entry(Struct, frozen=True):
    """One event. ``at``: wall clock (ISO 8601, UTC); ``boot_ns``: CLOCK_BOOTTIME of the node."""

    at: str
    boot_ns: int
    node: str
    kind: str
    severity: str
    """info, warning or error."""
    sentence: str
    term: int = 0
    epoch: int = 0


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


def wall_now() -> str:
    """The wall clock with milliseconds, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class EventLog:
    """Appends to ``path``; older entries move to ``path.1`` and so on."""

    def __init__(
        self,
        path: Path,
        background: Background,
        *,
        max_bytes: int = MAX_BYTES,
        kept_files: int = KEPT_FILES,
    ) -> None:
        self._path = path
        self._background = background
        self._max_bytes = max_bytes
        self._kept_files = kept_files
        self._missing = 0
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Entries that could not be kept since this process started."""
        return self._dropped

    def write(self, entry: Entry) -> None:
        """Keep an entry; returns at once."""
        if not self._background.put(lambda: self._write(entry)):
            self._drop()

    def drain(self, within_s: float) -> None:
        """Wait, blocking, until what was handed over is on disk, but no longer than this."""
        self._background.drain(within_s)

    def _drop(self) -> None:
        self._missing += 1
        self._dropped += 1

    def _write(self, entry: Entry) -> None:
        """In the thread."""
        missing = self._missing
        data = _encoder.encode(entry) + b"\n"
        if missing:
            told = replace(
                entry,
                kind="events_dropped",
                severity="warning",
                sentence=f"{missing} events could not be written (disk full or too slow).",
            )
            data = _encoder.encode(told) + b"\n" + data
        try:
            self._rotate(len(data))
            append(self._path, data)
        except OSError:
            self._drop()
            return
        self._missing -= missing

    def _rotate(self, coming_bytes: int) -> None:
        try:
            if self._path.stat().st_size + coming_bytes <= self._max_bytes:
                return
        except FileNotFoundError:
            return
        for number in range(self._kept_files - 1, 0, -1):
            source = rotated(self._path, number - 1)
            with suppress(FileNotFoundError):
                source.replace(rotated(self._path, number))


def rotated(path: Path, number: int) -> Path:
    """The ``number``-th older file of a log; 0 is the log itself."""
    return path.with_name(f"{path.name}.{number}") if number else path


def append(path: Path, data: bytes) -> None:
    """Add ``data`` to a file, all of it and on disk, or leave the file as it was (OSError)."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(path, flags, MODE)
    try:
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, data)
            if written != len(data):
                raise OSError(28, "No space left on device")
            os.fdatasync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def read(path: Path, *, since: str = "", limit: int = 0) -> list[Entry]:
    """Entries of a log and its older files, oldest first; lines that cannot be read are skipped.

    ``since``: only entries at or after this ISO instant in UTC; ``limit``: the newest so many.
    Raises StateError where the log exists and cannot be read.
    """
    entries = [entry for entry in _all(path) if entry.at >= since]
    return entries[-limit:] if limit else entries


def _all(path: Path) -> Iterator[Entry]:
    files = [rotated(path, n) for n in range(64, -1, -1)]
    for file in (file for file in files if file.exists()):
        try:
            lines = file.read_bytes().splitlines()
        except OSError as error:
            raise StateError(
                f"The event log {file} cannot be read: {error.strerror}.", "Run it as root."
            ) from error
        for data in lines:
            with suppress(msgspec.MsgspecError, ValueError):
                yield _decoder.decode(data)
