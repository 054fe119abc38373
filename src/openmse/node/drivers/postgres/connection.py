"""One asynchronous connection to the local server, on libpq itself.

Why not psycopg's own asyncio layer: there a cancelled wait first asks the server to cancel and
waits for the answer, so a frozen server would hold its caller. Here a deadline closes the socket.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from openmse.errors import DatabaseError

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

Row = tuple[str | None, ...]


class StatementFailed(DatabaseError):
    """The server refused a statement; ``sqlstate`` says why (PostgreSQL, appendix A)."""

    code = "MSE-DB-002"

    def __init__(self, sentence: str, sqlstate: str) -> None:
        super().__init__(sentence)
        self.sqlstate = sqlstate


class ConnectionLost(DatabaseError):
    """There is no connection, or it broke, or its deadline passed."""

    code = "MSE-DB-003"


class _Io:
    """Readiness of one socket, which may be taken away while somebody waits for it."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[None] | None = None
        self._descriptor = -1

    async def wait(self, descriptor: int, *, for_write: bool) -> None:
        """Wait until the socket can be read, or written. Raises: ConnectionLost after abort()."""
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        self._descriptor = descriptor
        if for_write:
            loop.add_writer(descriptor, self._wake)
        else:
            loop.add_reader(descriptor, self._wake)
        try:
            await self._waiting
        finally:
            self._forget()

    def abort(self) -> None:
        """Let go whoever waits, before the socket is closed."""
        waiting = self._waiting
        self._forget()
        if waiting is not None and not waiting.done():
            waiting.set_exception(ConnectionLost("The connection to PostgreSQL was closed."))

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _forget(self) -> None:
        if self._waiting is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._descriptor)
            loop.remove_writer(self._descriptor)
            self._waiting = None


class Connection:
    """A connection with one statement at a time; closed by any deadline or cancellation."""

    def __init__(self, pgconn: "PGconn", io: _Io) -> None:
        self._pgconn: PGconn | None = pgconn
        self._io = io
        self.notices: list[str] = []
        pgconn.notice_handler = self._take_notice

    @classmethod
    async def open(cls, conninfo: str, *, deadline_s: float) -> Self:
        """Connect. Raises: ConnectionLost (also while the server starts up or shuts down)."""
        # psycopg takes 0.1 s to import: the health monitor pays that after it is up.
        from psycopg import OperationalError, pq

        io = _Io()
        pgconn = pq.PGconn.connect_start(conninfo.encode())
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    status = pgconn.connect_poll()
                    if status == pq.PollingStatus.OK:
                        break
                    if status == pq.PollingStatus.FAILED:
                        raise ConnectionLost(_sentence(pgconn.error_message))
                    is_write = status == pq.PollingStatus.WRITING
                    await io.wait(pgconn.socket, for_write=is_write)
        except TimeoutError:
            pgconn.finish()
            raise ConnectionLost(
                f"PostgreSQL did not accept a connection within {deadline_s:g} s."
            ) from None
        except OperationalError as error:
            pgconn.finish()
            raise ConnectionLost(_sentence(str(error).encode())) from error
        except BaseException:
            pgconn.finish()
            raise
        pgconn.nonblocking = 1
        return cls(pgconn, io)

    @property
    def is_open(self) -> bool:
        """Whether a statement may be sent."""
        return self._pgconn is not None

    async def query(
        self, sql: str, parameters: Sequence[str] = (), *, deadline_s: float
    ) -> list[Row]:
        """Run one statement (several without parameters) and return the last one's rows.

        Raises: StatementFailed (the connection stays usable), ConnectionLost.
        """
        pgconn = self._pgconn
        if pgconn is None:
            raise ConnectionLost("The connection to PostgreSQL is closed.")
        try:
            async with asyncio.timeout(deadline_s):
                results = await _execute(pgconn, self._io, sql, parameters)
        except TimeoutError:
            self.close()
            raise ConnectionLost(
                f"PostgreSQL did not answer a statement within {deadline_s:g} s."
            ) from None
        except StatementFailed:
            raise
        except BaseException:
            self.close()
            raise
        return _rows(results[-1]) if results else []

    def encrypt_password(self, password: str, role: str) -> str:
        """A SCRAM verifier, so that no password appears in a statement or in the server's log."""
        if self._pgconn is None:
            raise ConnectionLost("The connection to PostgreSQL is closed.")
        verifier = self._pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
        return verifier.decode()

    def close(self) -> None:
        """Close without waiting for anybody; a statement under way raises ConnectionLost."""
        pgconn, self._pgconn = self._pgconn, None
        if pgconn is not None:
            self._io.abort()
            pgconn.finish()

    def _take_notice(self, result: "PGresult") -> None:
        self.notices.append((result.error_message or b"").decode(errors="replace").strip())
        del self.notices[:-20]


async def _execute(
    pgconn: "PGconn", io: _Io, sql: str, parameters: Sequence[str]
) -> list["PGresult"]:
    from psycopg import OperationalError, pq

    results: list[PGresult] = []
    failed: PGresult | None = None
    try:
        if parameters:
            pgconn.send_query_params(sql.encode(), [value.encode() for value in parameters])
        else:
            pgconn.send_query(sql.encode())
        while pgconn.flush():
            await io.wait(pgconn.socket, for_write=True)
        while True:
            while pgconn.is_busy():
                await io.wait(pgconn.socket, for_write=False)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                break
            if result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE):
                failed = result
            else:
                results.append(result)
    except OperationalError as error:
        raise ConnectionLost(_sentence(str(error).encode())) from error
    if failed is not None:
        raise _failure(failed)
    return results


def _failure(result: "PGresult") -> DatabaseError:
    from psycopg import pq

    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    sentence = _sentence(result.error_message or b"")
    if not state or state.startswith(("57P", "08")):
        return ConnectionLost(sentence)
    return StatementFailed(sentence, state)


def _sentence(message: bytes) -> str:
    text = " ".join(message.decode(errors="replace").split())
    return f"PostgreSQL says: {text or 'the connection was closed'}"


def _rows(result: "PGresult") -> list[Row]:
    return [
        tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
        for row in range(result.ntuples)
    ]


def _text(value: bytes | None) -> str | None:
    """Names of roles may be in the encoding of another database: such bytes are shown as �."""
    return None if value is None else value.decode(errors="replace")
