"""The event log as the API tells it: cursors, filters, pages, and what is new in the file."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from openmse.errors import UsageError
from openmse.node.runtime.event_log import Entry

MAX_LIMIT = 1000
DEFAULT_LIMIT = 200
MAX_READ_BYTES = 1 << 20
"""Of the log's growth, at one look."""
SEVERITIES = ("info", "warning", "error")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_CURSOR = re.compile(r"(\d{1,16})-(\d{1,20})")
_decoder = msgspec.json.Decoder(Entry)


class LogEvent(Struct, frozen=True, kw_only=True):
    """One entry of the event log, with its cursor."""

    cursor: str
    at: str
    boot_ns: int
    node: str
    kind: str
    severity: str
    sentence: str
    term: int
    epoch: int


class EventPage(Struct, frozen=True):
    """Some entries, oldest first."""

    events: tuple[LogEvent, ...]
    is_more: bool


class Query(Struct, frozen=True, kw_only=True):
    """What is asked of the log. Instants: ISO in UTC, or ''."""

    since: str = ""
    until: str = ""
    kinds: tuple[str, ...] = ()
    severity: str = "info"
    text: str = ""
    before: str = ""
    after: str = ""
    limit: int = DEFAULT_LIMIT


def cursor_of(entry: Entry) -> str:
    """The name of a place in the log: milliseconds of the calendar, and the node's own clock."""
    try:
        ms = round(datetime.fromisoformat(entry.at).timestamp() * 1000)
    except ValueError:
        ms = 0
    return f"{max(0, ms)}-{max(0, entry.boot_ns)}"


def is_cursor(text: str) -> bool:
    """Whether ``text`` can be a cursor."""
    return bool(_CURSOR.fullmatch(text))


def event_of(entry: Entry) -> LogEvent:
    """An entry as clients see it."""
    return LogEvent(
        cursor=cursor_of(entry),
        at=entry.at,
        boot_ns=entry.boot_ns,
        node=entry.node,
        kind=entry.kind,
        severity=entry.severity,
        sentence=entry.sentence,
        term=entry.term,
        epoch=entry.epoch,
    )


def instant(text: str, now: datetime) -> str:
    """An ISO instant in UTC from one, or from 30m, 2h, 1d ago; '' from ''. Raises UsageError."""
    if not text:
        return ""
    ago = re.fullmatch(r"(\d{1,6})([smhd])", text)
    try:
        if ago:
            at = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            at = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"'{text[:40]}' is no point in time.",
            "Write 30m, 2h, 1d (ago), or 2026-01-31T03:00Z.",
        ) from error
    return at.isoformat(timespec="milliseconds")


def page(entries: Sequence[Entry], query: Query) -> EventPage:
    """The entries that match, bounded; ``entries`` oldest first. Pure; raises UsageError."""
    for name, cursor in (("before", query.before), ("after", query.after)):
        if cursor and not is_cursor(cursor):
            raise UsageError(f"'{cursor[:40]}' ({name}) is no cursor of the event log.")
    found = [entry for entry in entries if _matches(entry, query)]
    if query.before:
        found = found[: _position(found, query.before, is_after=False)]
    limit = min(max(query.limit, 1), MAX_LIMIT)
    if query.after:
        found = found[_position(found, query.after, is_after=True) :]
        part = found[:limit]
    else:
        part = found[-limit:]
    return EventPage(tuple(event_of(entry) for entry in part), len(found) > len(part))


def _matches(entry: Entry, query: Query) -> bool:
    if entry.at < query.since or (query.until and entry.at > query.until):
        return False
    if query.kinds and entry.kind not in query.kinds:
        return False
    if _rank(entry.severity) < _rank(query.severity):
        return False
    return query.text.casefold() in entry.sentence.casefold()


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else 0


def _position(entries: Sequence[Entry], cursor: str, *, is_after: bool) -> int:
    """Where a cursor stands among ``entries``: its own place, else that of its instant."""
    cursors = [cursor_of(entry) for entry in entries]
    if cursor in cursors:
        last = len(cursors) - 1 - cursors[::-1].index(cursor)
        return last + 1 if is_after else cursors.index(cursor)
    ms = int(cursor.partition("-")[0])
    return sum(int(one.partition("-")[0]) <= ms for one in cursors)


class Tail:
    """What is added to the log, at each look; follows it when it is rotated. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._part = b""
        self._open(at_end=True)

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def new(self) -> list[Entry]:
        """Whole entries that were added since the last look; never raises for the file."""
        found: list[Entry] = []
        try:
            if self._file is not None:
                found += self._read(self._file)
            if self._is_other_file():
                self.close()
                self._part = b""
                self._open(at_end=False)
                if self._file is not None:
                    found += self._read(self._file)
        except OSError:
            self.close()
        return found

    def _open(self, *, at_end: bool) -> None:
        with suppress(OSError):
            self._file = self._path.open("rb")
            if at_end:
                self._file.seek(0, os.SEEK_END)

    def _is_other_file(self) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        return self._file is None or os.fstat(self._file.fileno()).st_ino != now.st_ino

    def _read(self, file: BinaryIO) -> list[Entry]:
        if os.fstat(file.fileno()).st_size < file.tell():
            file.seek(0, os.SEEK_END)  # what could not be written whole was taken back
            self._part = b""
        *lines, self._part = (self._part + file.read(MAX_READ_BYTES)).split(b"\n")
        if len(self._part) > MAX_READ_BYTES:
            self._part = b""
        entries = []
        for line in lines:
            with suppress(msgspec.MsgspecError, ValueError):
                entries.append(_decoder.decode(line))
        return entries
