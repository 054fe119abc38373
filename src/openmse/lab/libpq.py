"""One PostgreSQL connection that never blocks, with deadlines that are ours and not libpq's.

libpq's own limits are whole seconds (``connect_timeout``) or need unacknowledged data
(``tcp_user_timeout``); to measure outages of 0.2 s a client must give up after 0.1 s of silence.
So this drives libpq's non-blocking calls (``PQconnectPoll``, ``PQsendQueryParams``) from asyncio.
Units: seconds for deadlines. Knows nothing of laboratories.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from psycopg import OperationalError, pq


class LinkLost(Exception):
    """The connection is of no further use; what was sent may or may not have happened."""


class ConnectFailed(Exception):
    """No connection came about; nothing was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for a server, in seconds, and how hard to try.

    Never are more than ``attempts`` under way. With more than one a new attempt starts every
    ``hedge_s`` as long as none has reached a server (a lost SYN is only repeated after 1 s by the
    kernel); with one, when the attempt before it was given up.
    """

    silence_s: float = 0.1
    """Longest wait for the next sign of life, while connecting and for an answer."""
    connect_s: float = 1.0
    """Longest time for one attempt in all, however talkative the server."""
    hedge_s: float = 0.02
    attempts: int = 1
    retry_s: float = 0.01
    """Pause after a refusal."""


@dataclass(slots=True)
class Answer:
    """What a statement returned. ``error`` is '' or the server's message, severity first."""

    rows: list[tuple[bytes | None, ...]] = field(default_factory=list)
    error: str = ""
    is_fatal: bool = False
    warnings: list[str] = field(default_factory=list)


class Link:
    """A connection. After :class:`LinkLost` only ``close`` may be called."""

    def __init__(self, connection: pq.abc.PGconn) -> None:
        self._connection = connection
        self._warnings: list[str] = []
        self.reached = False
        """Whether a server has taken the TCP connection."""
        connection.notice_handler = self._on_notice

    @classmethod
    def start(cls, conninfo: bytes) -> "Link":
        """Begin to connect; returns at once. Finish with :meth:`establish`.

        Raises: ConnectFailed for a connection string that libpq cannot use.
        """
        connection = pq.PGconn.connect_start(conninfo)
        if connection.status == pq.ConnStatus.BAD:
            reason = _message(connection)
            connection.finish()
            raise ConnectFailed(reason)
        connection.nonblocking = 1
        return cls(connection)

    async def establish(self, patience: Patience) -> None:
        """Wait until the connection can be used. Raises: ConnectFailed."""
        try:
            async with asyncio.timeout(patience.connect_s):
                await self._poll_until_open(patience.silence_s)
        except TimeoutError as error:
            raise ConnectFailed("no answer within the deadline") from error
        except OSError as error:
            raise ConnectFailed(str(error)) from error

    async def _poll_until_open(self, silence_s: float) -> None:
        while True:
            status = self._connection.connect_poll()
            if self._connection.status not in (pq.ConnStatus.STARTED, pq.ConnStatus.BAD):
                self.reached = True
            if status == pq.PollingStatus.OK:
                return
            if status == pq.PollingStatus.FAILED:
                raise ConnectFailed(_message(self._connection))
            wants_write = status == pq.PollingStatus.WRITING
            await _ready(self._connection.socket, wants_write, silence_s)

    async def run(self, statement: bytes, values: Sequence[bytes | None], wait_s: float) -> Answer:
        """Send one statement and wait up to ``wait_s`` for its complete answer.

        Raises: LinkLost when the answer does not come in time or the connection breaks.
        """
        self._warnings = []
        try:
            async with asyncio.timeout(wait_s):
                self._connection.send_query_params(statement, values)
                await self._flush()
                answer = await self._collect()
        except TimeoutError as error:
            raise LinkLost(f"no answer within {wait_s * 1000:.0f} ms") from error
        except (OSError, OperationalError) as error:
            raise LinkLost(str(error).strip() or "connection lost") from error
        answer.warnings = self._warnings
        return answer

    async def _flush(self) -> None:
        while self._connection.flush():
            await _ready(self._connection.socket, True, None)

    async def _collect(self) -> Answer:
        answer = Answer()
        while True:
            self._connection.consume_input()
            while not self._connection.is_busy():
                result = self._connection.get_result()
                if result is None:
                    return answer
                _read(result, answer)
            await _ready(self._connection.socket, False, None)

    def close(self) -> None:
        """Let go of the socket; never waits."""
        self._connection.notice_handler = None  # the cycle would keep it without a collector
        with contextlib.suppress(OSError, OperationalError):
            self._connection.finish()

    def _on_notice(self, notice: pq.abc.PGresult) -> None:
        severity = notice.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) or b""
        if severity == b"WARNING":
            text = notice.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
            self._warnings.append(text.decode(errors="replace"))


async def connect(conninfo: bytes, patience: Patience) -> Link:
    """Connect, however long it takes, with the overlapping attempts that ``patience`` describes.

    The first to be established wins; the others are closed. Cancel to give up.
    """
    under_way: dict[asyncio.Task[None], Link] = {}
    last_start = -patience.hedge_s
    try:
        while True:
            if _may_start(under_way, patience, last_start):
                last_start = time.monotonic()
                _start_attempt(under_way, conninfo, patience)
            pause = patience.hedge_s if under_way else patience.retry_s
            won = await _first_established(under_way, pause)
            if won is not None:
                return won
    finally:
        for task in under_way:
            task.cancel()
        if under_way:  # a socket may be closed only once nobody waits for it any more
            await asyncio.wait(under_way)
        for link in under_way.values():
            link.close()


def _may_start(
    under_way: dict[asyncio.Task[None], Link], patience: Patience, last_start: float
) -> bool:
    if any(link.reached for link in under_way.values()):
        return False  # a server answers: another attempt would only slow that one down
    if not under_way:
        return time.monotonic() - last_start >= patience.retry_s
    waited = time.monotonic() - last_start >= patience.hedge_s
    return waited and len(under_way) < patience.attempts


def _start_attempt(
    under_way: dict[asyncio.Task[None], Link], conninfo: bytes, patience: Patience
) -> None:
    try:
        link = Link.start(conninfo)
    except ConnectFailed:
        return
    under_way[asyncio.ensure_future(link.establish(patience))] = link


async def _first_established(
    under_way: dict[asyncio.Task[None], Link], pause_s: float
) -> Link | None:
    if not under_way:
        await asyncio.sleep(pause_s)
        return None
    done, _ = await asyncio.wait(under_way, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
    won: Link | None = None
    for task in done:
        link = under_way.pop(task)
        if task.exception() is None and won is None:
            won = link
        else:
            link.close()
    return won


async def _ready(descriptor: int, wants_write: bool, wait_s: float | None) -> None:
    """Wait until the socket can be read (or written). Raises: TimeoutError."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, wake)
    if wants_write:
        loop.add_writer(descriptor, wake)
    try:
        async with asyncio.timeout(wait_s):
            await ready
    finally:
        loop.remove_reader(descriptor)
        loop.remove_writer(descriptor)


def _read(result: pq.abc.PGresult, answer: Answer) -> None:
    if result.status == pq.ExecStatus.FATAL_ERROR:
        severity = result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) or b""
        text = result.error_message.decode(errors="replace").strip()
        answer.error = text or "unknown error"
        answer.is_fatal = severity != b"ERROR"
        return
    for row in range(result.ntuples):
        answer.rows.append(tuple(result.get_value(row, c) for c in range(result.nfields)))


def _message(connection: pq.abc.PGconn) -> str:
    return connection.error_message.decode(errors="replace").strip() or "connection failed"
