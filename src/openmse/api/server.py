"""The process: sockets, TLS, uvicorn with limits it has none for, and a calm end."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from openmse.api import readmission
from openmse.api.app import build
from openmse.api.config import ManagementConfig
from openmse.api.context import Context
from openmse.api.edge import MAX_HEAD_BYTES
from openmse.api.identity import tls_context
from openmse.api.licence_watch import LicenceWatch
from openmse.node.config import NodeConfig
from openmse.sockets import bind, open_socket

REQUEST_WITHIN_S = 10.0
"""For the head of a request, from its first byte; a connection that asks nothing ends too."""
HANDSHAKE_WITHIN_S = 5.0
TLS_END_WITHIN_S = 2.0
KEEP_ALIVE_S = 30
STOP_WITHIN_S = 5
BACKLOG = 128
NICENESS = 5
_LOG = logging.getLogger("openmse.api")


class Connection(H11Protocol):
    """A connection that must say what it wants in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; let a stream that is stuck break the connection off."""
        self.app_state = {**self.app_state, "abort": transport.abort}
        self._head_timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        if self._is_one_too_many():
            transport.abort()
        else:
            self._wait_for_head()

    def _is_one_too_many(self) -> bool:
        """Whether all connections are taken, or half of them by this address alone."""
        limit = (self.config.limit_concurrency or 1) - 1
        host = _host_of(self)
        same = [one for one in self.connections if _host_of(one) == host]
        return len(self.connections) > limit or len(same) > max(4, limit // 2)

    def data_received(self, data: bytes) -> None:
        """Part of a request came: its head must be whole in time."""
        super().data_received(data)
        if self._is_serving():
            self._stop_waiting()
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self) -> None:
        if self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(REQUEST_WITHIN_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self._is_serving():
            self.transport.abort()


def _host_of(connection: object) -> str:
    client = getattr(connection, "client", None)
    return client[0] if client else ""


class Server(uvicorn.Server):
    """uvicorn with deadlines for TLS, and streams that end when the process is to end."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the process with status 0; other threads hear no signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self.end)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def end(self) -> None:
        """Stop serving; readers of streams are told."""
        self.should_exit = True
        self._context.hub.close("The management API of this node is being stopped.")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on sockets that are bound already."""
        assert sockets is not None
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            return Connection(
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
                _loop=loop,
            )

        self.servers = [
            await loop.create_server(
                connection,
                sock=sock,
                ssl=self.config.ssl,
                backlog=BACKLOG,
                ssl_handshake_timeout=HANDSHAKE_WITHIN_S,
                ssl_shutdown_timeout=TLS_END_WITHIN_S,
            )
            for sock in sockets
        ]
        self.started = True
        mark = self._context.fingerprint
        for sock in sockets:
            _LOG.info("listening on %s port %s, fingerprint %s", *sock.getsockname()[:2], mark)


def run(node: NodeConfig, node_path: Path, config: ManagementConfig) -> None:
    """Serve until SIGTERM or SIGINT; raises MseError where it cannot begin."""
    sockets = listen(node, config)
    try:
        context = Context(node, node_path, config)
        server = server_of(context)
        _step_back()
        asyncio.run(serve(context, server, sockets))
    finally:
        for sock in sockets:
            sock.close()


def listen(node: NodeConfig, config: ManagementConfig) -> list[socket.socket]:
    """The sockets, bound; raises NetworkError, and then none is left open."""
    section = config.management
    hosts = [section.address] if section.address else [node.node.host, node.node.host6]
    sockets: list[socket.socket] = []
    try:
        for host in filter(None, hosts):
            sock = open_socket(host, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # asyncio does that only for sockets made with a protocol number; without it each answer
            # on a connection that is kept waits 40 ms for the acknowledgement of the one before.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            bind(sock, (host, section.port), "The management API")
            sockets.append(sock)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def server_of(context: Context) -> Server:
    """The server of this process; raises StateError where the certificate cannot be used."""
    tls = tls_context(context.tls)
    settings = uvicorn.Config(
        build(context),
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=context.config.limits.connections + 1,  # ours comes before uvicorn's
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_WITHIN_S,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ssl_context_factory=lambda *_: tls,
    )
    return Server(settings, context)


async def serve(context: Context, server: Server, sockets: list[socket.socket]) -> None:
    """Serve on ``sockets`` until the server is told to end."""
    context.start()
    watching = [
        asyncio.create_task(LicenceWatch(context).run(), name="licences"),
        asyncio.create_task(readmission.watch(context), name="readmission"),
    ]
    try:
        await server.serve(sockets=sockets)
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await context.stop()


def _step_back() -> None:
    """The health monitor comes first: for the processor, and when memory runs out."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
