"""Accepts connections and sees each handshake through to its end, whichever that is.

asyncio's own server forgets a connection whose handshake is under way: it can neither be ended
with the others, nor counted, nor limited.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable

from openmse.node.drivers.peer.link import Link
from openmse.sockets import Address

HANDSHAKE_TIMEOUT_S = 5.0
MAX_HANDSHAKES = 1024
"""At once; beyond it a connection is closed, and its party tries again."""
BACKLOG = 512
PAUSE_S = 0.5
"""Without accepting, after the process ran out of file descriptors."""
_ACCEPTS_PER_TURN = 32
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """Listens on ``sock`` (bound, not blocking) in the running loop until closed.

    ``on_failed(reason)``: a connection that came to nothing.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        make_link: Callable[[], Link],
        on_failed: Callable[[str], None],
    ) -> None:
        self._sock = sock
        self._context = context
        self._make_link = make_link
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._is_closed = False
        sock.listen(BACKLOG)
        self._resume()

    @property
    def address(self) -> Address:
        """Where it listens."""
        host, port = self._sock.getsockname()[:2]
        return host, port

    async def close(self) -> None:
        """Stop listening and end the handshakes under way; links that came of them stay."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for task in self._handshakes:
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def _resume(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                connection, _ = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:  # it would be readable again at once
                    self._loop.remove_reader(self._sock.fileno())
                    self._loop.call_later(PAUSE_S, self._resume)
                self._on_failed("accept_failed")
                return
            if len(self._handshakes) >= MAX_HANDSHAKES:
                connection.close()
                self._on_failed("too_many_handshakes")
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._shake(connection), name="handshake")
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make_link,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=0.5,
            )
        except OSError:  # of which ssl.SSLError is one
            self._on_failed("handshake_failed")
