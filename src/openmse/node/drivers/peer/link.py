"""One connection over mutual TLS, from either side: identity first, then bounded frames."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

import msgspec
from msgspec import Struct

from openmse.errors import PeerError
from openmse.node.drivers.peer.paths import Path
from openmse.node.drivers.peer.tls import peer_identity
from openmse.pki.names import Identity
from openmse.wire.codec import MAX_MESSAGE_BYTES
from openmse.wire.frames import FrameReader, frame
from openmse.wire.versions import OLDEST_VERSION, WIRE_VERSION, common_version

USER_TIMEOUT_MS = 1000
"""Unacknowledged bytes older than this end the connection (TCP_USER_TIMEOUT)."""
UNSENT_LIMIT_BYTES = 2 << 20
"""What may wait in a connection before further messages are dropped."""

_SILENT = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN})
"""Errors that say nothing about the other process: only that no answer came."""


class Greeting(Struct, frozen=True, array_like=True):
    """The first frame of each side: which wire versions it reads."""

    lowest: int = OLDEST_VERSION
    highest: int = WIRE_VERSION


class Link(asyncio.Protocol):
    """A connection; ready once both sides have verified each other and exchanged greetings.

    The greeting matters: in TLS 1.3 a client is done before the server has looked at its
    certificate, so without it a refused client would see a link come up and break.
    ``on_ready(link)``, ``on_frame(link, data)``, ``on_gone(link, was_reset)``: the last only for
    a link that was ready. ``admits(link, identity)`` raises PeerError for parties not expected.
    """

    def __init__(
        self,
        *,
        admits: Callable[["Link", Identity], None],
        on_ready: Callable[["Link"], None],
        on_frame: Callable[["Link", bytes], None],
        on_gone: Callable[["Link", bool], None],
        on_refused: Callable[["Link", PeerError], None],
        greeting: Greeting,
    ) -> None:
        self._admits = admits
        self._on_ready = on_ready
        self._on_frame = on_frame
        self._on_gone = on_gone
        self._on_refused = on_refused
        self._greeting = greeting
        self._reader = FrameReader(MAX_MESSAGE_BYTES)
        self._transport: asyncio.Transport | None = None
        self._is_closed_here = False
        self.path = Path.NETWORK
        """Which way it goes; set by whoever made it."""
        self.identity: Identity | None = None
        self.version = 0
        """The wire version common to both; valid once ready."""
        self.is_ready = False
        self.was_ready = False
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection has ended, whatever the reason."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._is_closed_here:
            self._transport.abort()
            return
        tune(transport.get_extra_info("socket"))
        try:
            identity = peer_identity(transport.get_extra_info("ssl_object"))
            self._admits(self, identity)
        except PeerError as error:
            self._refuse(error)
            return
        self.identity = identity
        self._transport.write(frame(msgspec.msgpack.encode(self._greeting)))

    def data_received(self, data: bytes) -> None:
        if self.identity is None or self._is_closed_here:
            return
        try:
            for received in self._reader.feed(data):
                self._take(received)
        except PeerError as error:
            self._refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        if self.is_ready:
            self.is_ready = False
            is_silent = isinstance(exc, OSError) and exc.errno in _SILENT
            self._on_gone(self, not self._is_closed_here and not is_silent)

    def send(self, data: bytes) -> bool:
        """Whether the message was taken; it may be lost all the same. Never blocks."""
        transport = self._transport
        if not self.is_ready or transport is None or transport.is_closing():
            return False
        if transport.get_write_buffer_size() + len(data) > UNSENT_LIMIT_BYTES:
            return False
        transport.write(frame(data))
        return True

    def close(self) -> None:
        """End the connection now, without waiting for the other side. More than once is once.

        A TLS transport forgets what it stands for once it is closed; aborting it again would raise
        (CPython 3.11, sslproto.py).
        """
        is_first, self._is_closed_here = not self._is_closed_here, True
        if self._transport is not None and is_first and not self.gone.done():
            self._transport.abort()

    @property
    def context(self) -> ssl.SSLContext:
        """The context the handshake ended with: a listener's tells which group was asked for."""
        assert self._transport is not None
        connection: Any = self._transport.get_extra_info("ssl_object")
        return cast(ssl.SSLContext, connection.context)

    def _take(self, received: bytes) -> None:
        if self.is_ready:
            self._on_frame(self, received)
            return
        try:
            theirs = msgspec.msgpack.decode(received, type=Greeting)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise PeerError("The other party did not greet as this product does.") from error
        common = common_version(theirs.lowest, theirs.highest)
        self.version = min(common, self._greeting.highest)
        self.is_ready = self.was_ready = True
        self._on_ready(self)

    def _refuse(self, error: PeerError) -> None:
        self.close()
        self._on_refused(self, error)


def tune(sock: socket.socket) -> None:
    """Small messages leave at once, and silence is noticed in about a second."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
