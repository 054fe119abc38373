"""Fans out what happens on this node to the readers of the stream; nobody waits for a slow one.

All of it lives in one event loop. Each message is rendered once; a reader holds references only.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import date

import msgspec
from msgspec import Struct

from openmse.api.answers import ReadmissionView
from openmse.api.errors import Fault, NoRoom, Stopping, fault_of
from openmse.api.events import LogEvent
from openmse.api.operations import Operation
from openmse.api.summary import Summary, summary_down, summary_of, without_noise
from openmse.errors import ControlError, DaemonDownError, MseError
from openmse.node.control.snapshot import Snapshot

SUMMARY_EVERY_S = 10.0
"""At the latest: what is not worth a message of its own, such as a round trip, ages no longer."""
MAX_QUEUED = 256
"""Messages that may wait for one reader, besides the newest picture."""


class MonitorTold(Struct, frozen=True):
    """The data of a ``monitor`` message."""

    is_up: bool
    error: Fault | None = None


class LicencesTold(Struct, frozen=True):
    """The data of a ``licences`` message: read them anew when either is another than before."""

    mark: str
    """Another one whenever a file that decides about licences is."""
    as_of: date
    """The day in UTC: with it terms end."""


class Reason(Struct, frozen=True):
    """The data of ``gap`` and ``bye``."""

    reason: str


def message(event: str, data: bytes, id: str = "") -> bytes:
    """One message of the stream. ``data``: JSON in one line."""
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {event}\ndata: ".encode() + data + b"\n\n"


class Reader:
    """What waits for one reader of the stream."""

    def __init__(self, view: str) -> None:
        self.view = view
        self.bye = ""
        """Why the stream is to end; '' while it goes on."""
        self._queue: deque[tuple[str, bytes]] = deque()
        self._picture: bytes | None = None
        self._wake = asyncio.Event()

    def put(self, data: bytes, cursor: str = "") -> None:
        """A message that must not be left out; too many and the reader is dropped."""
        if len(self._queue) >= MAX_QUEUED:
            self.end("This reader is too slow, so it was dropped.")
            return
        self._queue.append((cursor, data))
        self._wake.set()

    def picture(self, data: bytes) -> None:
        """A picture; one that still waits is replaced by it."""
        self._picture = data
        self._wake.set()

    def end(self, reason: str) -> None:
        """Let the stream end."""
        self.bye = self.bye or reason
        self._wake.set()

    async def wait(self, within_s: float) -> None:
        """Return when something waits, or after this time."""
        try:
            async with asyncio.timeout(within_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def take(self) -> list[tuple[str, bytes]]:
        """All that waits, as (cursor, message), the picture last."""
        found = list(self._queue)
        self._queue.clear()
        if self._picture is not None:
            found.append(("", self._picture))
            self._picture = None
        self._wake.clear()
        return found


class Hub:
    """What was last known of the node, and who wants to hear of it."""

    def __init__(self, node: str, role: str, max_readers: int) -> None:
        self._node = node
        self._role = role
        self._max_readers = max_readers
        self._readers: set[Reader] = set()
        self._snapshot: Snapshot | None = None
        self._picture = b""
        self._down: MseError | None = DaemonDownError(
            "The health monitor has not been asked yet.", "Try again in a second."
        )
        self._console_id: str | None = None
        self._noted: tuple[object, ...] = ()
        self._told_at = 0.0
        self._licences: LicencesTold | None = None
        self._readmission = ReadmissionView()
        self._is_closed = False
        self.on_snapshot: Callable[[Snapshot | None], None] | None = None

    # -- what is known ----------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest picture, at most seconds old; None while the health monitor is down."""
        return self._snapshot

    @property
    def down(self) -> MseError | None:
        """Why there is no picture; None while there is one."""
        return self._down

    @property
    def readers(self) -> int:
        """How many listen."""
        return len(self._readers)

    def summary(self) -> Summary:
        """The small picture of this moment."""
        if self._snapshot is not None:
            return summary_of(self._snapshot, self._console_id)
        assert self._down is not None
        return summary_down(self._node, self._role, self._down, self._console_id)

    # -- what happens -----------------------------------------------------------------------

    def on_picture(self, data: bytes) -> None:
        """The health monitor told how it stands; ``data``: a Snapshot as JSON."""
        was_down = self._down is not None
        try:
            self._snapshot = msgspec.json.decode(data, type=Snapshot)
        except msgspec.MsgspecError as error:
            self.on_down(_unreadable(error))
            return
        self._down = None
        self._picture = message("status", data)
        if was_down:
            self._send("monitor", MonitorTold(True))
        for reader in self._readers:
            if reader.view == "full":
                reader.picture(self._picture)
        self._tell_summary()
        if self.on_snapshot is not None:
            self.on_snapshot(self._snapshot)

    def on_down(self, error: MseError) -> None:
        """The health monitor does not answer."""
        was_up_or_else = self._down is None or self._down.sentence != error.sentence
        self._snapshot, self._picture, self._down = None, b"", error
        if was_up_or_else:
            self._send("monitor", MonitorTold(False, fault_of(error)))
        self._tell_summary()
        if self.on_snapshot is not None:
            self.on_snapshot(None)

    def on_event(self, event: LogEvent) -> None:
        """The event log has a new entry."""
        data = message("event", msgspec.json.encode(event), event.cursor)
        for reader in tuple(self._readers):
            reader.put(data, event.cursor)

    def on_operation(self, operation: Operation) -> None:
        """An operation has changed."""
        self._send("operation", operation)

    def on_console(self, console_id: str | None, told: Struct) -> None:
        """The claim has changed."""
        self._console_id = console_id
        self._send("console", told)
        self._tell_summary()

    def on_licences(self, told: LicencesTold) -> None:
        """How the licences' files are; readers hear of it when it is another than before."""
        if told != self._licences:
            self._licences = told
            self._send("licences", told)

    def on_readmission(self, told: ReadmissionView) -> None:
        """Whether a new machine is waited for; readers hear of it when it has changed."""
        if told != self._readmission:
            self._readmission = told
            self._send("readmission", told)

    def know_console(self, console_id: str | None) -> None:
        """Who manages this engine, when this process starts."""
        self._console_id = console_id

    def _tell_summary(self) -> None:
        summary = self.summary()
        noted, now = without_noise(summary), time.monotonic()
        if noted == self._noted and now - self._told_at < SUMMARY_EVERY_S:
            return
        self._noted, self._told_at = noted, now
        data = message("summary", msgspec.json.encode(summary))
        for reader in self._readers:
            if reader.view == "summary":
                reader.picture(data)

    def _send(self, event: str, value: Struct) -> None:
        data = message(event, msgspec.json.encode(value))
        for reader in tuple(self._readers):
            reader.put(data)

    # -- readers ----------------------------------------------------------------------------

    def join(self, view: str, running: list[Operation], *, is_console: bool = False) -> Reader:
        """Begin to listen; the first messages wait already. Raises NoRoom or Stopping.

        ``is_console``: for the console that manages this engine there is one place more, so that
        nobody who may only read can make it blind.
        """
        if self._is_closed:
            raise Stopping("This process is being stopped.", "Connect again in a few seconds.")
        if len(self._readers) >= self._max_readers + (1 if is_console else 0):
            raise NoRoom(
                f"All {self._max_readers} streams of this node are taken.",
                "Close one, or raise [limits] streams in management.toml.",
            )
        reader = Reader(view)
        fault = fault_of(self._down) if self._down is not None else None
        told = MonitorTold(self._down is None, fault)
        reader.put(message("monitor", msgspec.json.encode(told)))
        if self._licences is not None:
            reader.put(message("licences", msgspec.json.encode(self._licences)))
        if self._readmission.is_waiting:
            reader.put(message("readmission", msgspec.json.encode(self._readmission)))
        for operation in running:
            reader.put(message("operation", msgspec.json.encode(operation)))
        if view == "full" and self._picture:
            reader.picture(self._picture)
        elif view == "summary":
            reader.picture(message("summary", msgspec.json.encode(self.summary())))
        self._readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Listen no longer."""
        self._readers.discard(reader)

    def close(self, reason: str) -> None:
        """Let all streams end."""
        self._is_closed = True
        for reader in self._readers:
            reader.end(reason)


def _unreadable(error: Exception) -> MseError:
    return ControlError(
        f"The health monitor's picture cannot be understood: {error}.",
        "Both processes must be of the same version; restart them after an upgrade.",
    )
