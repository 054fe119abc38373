"""One bare connection to an engine: a few questions, then its stream for as long as it lasts.

A console follows a thousand engines, each of which gives a sign of life every second: a general
HTTP client costs more for that than everything else together. ``h11`` reads the protocol; what
arrives is handed on in the call that received it, without a task or a queue in between.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import h11

from openmse.console.errors import NodeUnreachable
from openmse.console.nodes import models
from openmse.console.nodes.sse import SseEvent, SseParser
from openmse.console.nodes.tls import CONNECT_WITHIN_S, translated

ANSWER_WITHIN_S = 10.0
SILENCE_MAX_S = 4.0
"""The stream carries something each second."""
ANSWER_BYTES_MAX = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """Who is called; ``context`` accepts exactly the pinned certificate."""

    name: str
    address: str
    port: int
    context: ssl.SSLContext
    token: str


Told = Callable[[SseEvent | None], None]
"""What becomes of an event of the stream, or of a sign of life (None); may raise MseError."""


class NodeConnection(asyncio.Protocol):
    """Ask with ``get``, one after the other; then ``follow``. Used by one task."""

    def __init__(self, called: Called) -> None:
        self._called = called
        self._http = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[bytes] | None = None
        self._status = 0
        self._body = bytearray()
        self._parser: SseParser | None = None
        self._told: Told | None = None
        self._on_end: Callable[[], None] | None = None
        self._heard_s = 0.0
        self._silence: asyncio.TimerHandle | None = None
        self.error: BaseException | None = None
        """Why the connection has ended; None while it lasts."""

    async def open(self) -> None:
        """Connect; raises NodeUnreachable or NodeUntrusted."""
        loop = asyncio.get_running_loop()
        called = self._called
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await loop.create_connection(
                    lambda: self, called.address, called.port, ssl=called.context
                )
        except (OSError, TimeoutError) as error:
            raise translated(error, called.name, called.address, called.port) from error

    async def get(self, target: str) -> bytes:
        """The body of an answer; raises NodeRefused or NodeUnreachable."""
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            self._ask(target, "application/json")
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._waiting
        except TimeoutError as error:
            called = self._called
            raise translated(error, called.name, called.address, called.port) from error
        finally:
            self._waiting = None

    def follow(self, target: str, told: Told, on_end: Callable[[], None]) -> None:
        """Begin to read the stream; ``on_end`` is called once, when ``error`` tells why."""
        self._parser, self._told, self._on_end = SseParser(), told, on_end
        self._ask(target, "text/event-stream")
        self._expect_signs_of_life()

    def close(self) -> None:
        """Hang up, without ceremony."""
        self._on_end = None
        self._end(ConnectionAbortedError())

    # -- what asyncio calls -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS stands, and the certificate is the pinned one."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side, or the network, has ended it."""
        self._end(exc or ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        """Some bytes: whatever is whole is handed on before this returns."""
        if self.error is not None:
            return
        try:
            self._http.receive_data(data)
            self._read()
        except h11.RemoteProtocolError as error:
            self._end(self._gibberish(error))
        except Exception as error:  # a refusal, or a mistake of ours: told to who follows
            self._end(error)

    # -- inside -------------------------------------------------------------------------------

    def _ask(self, target: str, accept: str) -> None:
        if self.error is not None:
            raise self._told_error()
        headers = [("Host", "engine"), ("Accept", accept)]
        if self._called.token:
            headers.append(("Authorization", f"Bearer {self._called.token}"))
        try:
            if self._http.our_state is h11.DONE:
                self._http.start_next_cycle()
            request = h11.Request(method="GET", target=target, headers=headers)
            data = self._http.send(request) or b""
            data += self._http.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:  # the other side has said that it hangs up
            gone, called = ConnectionResetError(), self._called
            raise translated(gone, called.name, called.address, called.port) from error
        assert self._transport is not None
        self._transport.write(data)

    def _read(self) -> None:
        """Everything that can be read of what has come so far."""
        while self.error is None:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Response):
                self._status = event.status_code
                self._body.clear()
            elif isinstance(event, h11.Data):
                self._on_body(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._on_answer()
            elif isinstance(event, h11.ConnectionClosed):
                self._end(ConnectionResetError())

    def _on_body(self, data: bytes) -> None:
        if self._parser is None or self._told is None or self._status != 200:
            self._body += data
            if len(self._body) > ANSWER_BYTES_MAX:
                raise NodeUnreachable(f"An answer of {self._called.name} is too large.")
            return
        self._heard_s = asyncio.get_running_loop().time()
        self._told(None)
        for event in self._parser.feed(data):
            self._told(event)

    def _on_answer(self) -> None:
        if self._status >= 400:
            raise models.refusal(bytes(self._body), self._status, self._called.name)
        if self._parser is not None:
            raise NodeUnreachable(f"{self._called.name} has ended the stream.")
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(bytes(self._body))

    def _expect_signs_of_life(self) -> None:
        """Look again when the time is over that the last sign was good for."""
        loop = asyncio.get_running_loop()
        self._heard_s = self._heard_s or loop.time()
        left_s = self._heard_s + SILENCE_MAX_S - loop.time()
        if left_s <= 0:
            self._end(TimeoutError())
        else:
            self._silence = loop.call_later(left_s, self._expect_signs_of_life)

    def _end(self, error: BaseException) -> None:
        if self.error is not None:
            return
        self.error = error
        if self._silence is not None:
            self._silence.cancel()
        if self._transport is not None:
            self._transport.abort()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(self._told_error())
        if self._on_end is not None:
            self._on_end()

    def _told_error(self) -> BaseException:
        """Why it has ended, as callers raise it."""
        called, error = self._called, self.error
        if isinstance(error, OSError):
            return translated(error, called.name, called.address, called.port)
        assert error is not None
        return error

    def raise_error(self) -> None:
        """Raise why the connection has ended; nothing while it lasts."""
        if self.error is not None:
            raise self._told_error()

    def _gibberish(self, error: Exception) -> NodeUnreachable:
        told = NodeUnreachable(f"{self._called.name} answered with something that is no HTTP.")
        told.__cause__ = error
        return told
