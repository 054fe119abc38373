"""Keeps one outgoing connection to one party: tries again quickly, at once when poked."""

import asyncio
import socket
import ssl
from collections.abc import Callable

from openmse.node.drivers.peer.link import Link, tune
from openmse.sockets import IP_BIND_ADDRESS_NO_PORT, Address, open_socket

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 0.25
BACKOFF_REFUSED_S = 1.0
"""After a party that is not who it should be: trying harder would not change that."""
CONNECT_TIMEOUTS_S = (0.3, 0.6, 1.5)
"""Used in turn: a lost SYN is sent again sooner than TCP would (1 s), a far party still reached."""
HANDSHAKE_TIMEOUT_S = 4.0
"""A witness that comes back has the nodes of all its groups at its door."""
SILENCE_S = 1.0
"""A poke after so long without one means that the network came back: what was sent before is
lost, so an attempt under way is begun anew. Pokes that follow closely leave it alone, or a slow
network would never see one end."""


class Dialer:
    """A task that connects, waits for the end of the link, and connects again.

    ``make_link``: a fresh ``Link`` for each attempt. ``on_failed``: each failed attempt's error.
    """

    def __init__(
        self,
        *,
        address: Address,
        source: str,
        context: Callable[[], ssl.SSLContext],
        server_name: str,
        make_link: Callable[[], Link],
        on_failed: Callable[[Exception], None],
    ) -> None:
        self.address = address
        self._source = source
        self._context = context
        self._server_name = server_name
        self._make_link = make_link
        self._on_failed = on_failed
        self._poked = asyncio.Event()
        self._attempt: asyncio.Timeout | None = None
        self._poked_at = -SILENCE_S
        self.link: Link | None = None

    def poke(self) -> None:
        """The party was heard: end the waiting; after a silence, begin a stuck attempt anew."""
        self._poked.set()
        now = asyncio.get_running_loop().time()
        is_return = now - self._poked_at > SILENCE_S
        self._poked_at = now
        attempt = self._attempt
        if attempt is not None and is_return:
            self._attempt = None
            attempt.reschedule(now)

    async def run(self) -> None:
        """Until cancelled; closes the link then."""
        backoff_s = BACKOFF_FIRST_S
        tries = 0
        try:
            while True:
                self._poked.clear()
                was_refused = False
                try:
                    timeout_s = CONNECT_TIMEOUTS_S[tries % len(CONNECT_TIMEOUTS_S)]
                    self.link = await self._connect(timeout_s)
                    await asyncio.shield(self.link.gone)
                    was_refused = self.link.identity is None
                    was_ready = self.link.was_ready
                except (OSError, TimeoutError) as error:
                    was_ready = False
                    was_refused = isinstance(error, ssl.SSLError)
                    self._on_failed(error)
                tries = 0 if was_ready else tries + 1
                backoff_s = BACKOFF_FIRST_S if was_ready else min(2 * backoff_s, BACKOFF_MAX_S)
                await self._wait(backoff_s, was_refused)
        finally:
            if self.link is not None:
                self.link.close()

    async def _wait(self, backoff_s: float, was_refused: bool) -> None:
        if was_refused:
            await asyncio.sleep(BACKOFF_REFUSED_S)
            return
        try:
            async with asyncio.timeout(backoff_s):
                await self._poked.wait()
        except TimeoutError:
            return

    async def _connect(self, timeout_s: float) -> Link:
        loop = asyncio.get_running_loop()
        sock = open_socket(self.address[0], socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(timeout_s) as attempt:
                self._attempt = attempt
                try:
                    self._prepare(sock)
                    await loop.sock_connect(sock, self.address)
                except BaseException:
                    sock.close()  # from here on the transport owns it
                    raise
                attempt.reschedule(loop.time() + HANDSHAKE_TIMEOUT_S)
                _, link = await loop.create_connection(
                    self._make_link,
                    sock=sock,
                    ssl=self._context(),
                    server_hostname=self._server_name,
                )
            return link
        finally:
            self._attempt = None

    def _prepare(self, sock: socket.socket) -> None:
        tune(sock)
        if self._source:
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((self._source, 0))
