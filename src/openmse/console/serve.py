"""Serves the console over HTTPS, on its own port or on a socket that was opened for it."""

import asyncio
import contextlib
import signal
import socket
import ssl
import sys
from types import FrameType

import uvicorn

from openmse.console import certificate
from openmse.console.app import make_app, make_console
from openmse.console.backup import not_running
from openmse.console.connections import Connection
from openmse.console.context import Console
from openmse.console.errors import ConsoleConfigError
from openmse.console.people.login import new_setup_link
from openmse.console.settings import ConsoleSettings
from openmse.console.store.store import open_store
from openmse.errors import MseError, NetworkError
from openmse.sockets import bind, family_of

GRACE_S = 2


def listening_socket(settings: ConsoleSettings, descriptor: int) -> socket.socket:
    """The socket that was passed in, or one on the settings' address. Raises MseError."""
    if descriptor >= 0:
        try:
            given = socket.socket(fileno=descriptor)
            is_listening = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ConsoleConfigError(
                f"File descriptor {descriptor} is not a socket ({error.strerror}).",
                "Pass one that listens, or leave --fd out.",
            ) from error
        if not is_listening or given.type != socket.SOCK_STREAM:
            raise ConsoleConfigError(
                f"The socket with file descriptor {descriptor} does not listen.",
                "Call listen() before passing it on.",
            )
        _answer_at_once(given)
        return given
    host, port = settings.console.address, settings.console.port
    sock = socket.socket(family_of(host), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _answer_at_once(sock)
    bind(sock, (host, port), "The console")
    try:
        sock.listen(512)
    except OSError as error:
        sock.close()
        raise NetworkError(f"The console cannot listen on port {port}.") from error
    return sock


def _answer_at_once(sock: socket.socket) -> None:
    """Let connections that are accepted send without waiting for the other side's acknowledgement.

    They inherit it. asyncio does that only for sockets made with a protocol number; without it each
    answer on a connection that is kept waits 40 ms for the acknowledgement of the one before.
    """
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _Server(uvicorn.Server):
    """Says when it serves, and ends open streams quickly when it is told to stop."""

    def __init__(self, config: uvicorn.Config, console: Console, first_link: str) -> None:
        super().__init__(config)
        self._console = console
        self._first_link = first_link

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, then tell where."""
        await super().startup(sockets)
        if self.started:
            if self._first_link:
                print("Nobody can log in yet. This link makes the first administrator, once:")
                print(f"  {self._first_link}")
            print(f"The console serves at {self._console.settings.shown_url}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: streams end, so that the process can."""
        self._console.hub.close()
        self.should_exit = True  # the base class would raise the signal again: an end by 15


def serve(settings: ConsoleSettings, descriptor: int = -1) -> None:
    """Serve until SIGTERM or SIGINT; raises MseError where that cannot begin."""
    sock = listening_socket(settings, descriptor)
    with contextlib.closing(sock), not_running(settings):
        _serve(settings, sock)


def _serve(settings: ConsoleSettings, sock: socket.socket) -> None:
    store = open_store(settings)
    cert, key = certificate.files(settings)
    console = make_console(settings, store)
    try:
        console.engines.all()  # another program's database is told before anything is served
    except MseError:
        store.close()
        raise
    link = new_setup_link(console) if console.people.count() == 0 else ""
    config = uvicorn.Config(
        make_app(console),
        http=Connection,
        ws="none",
        ssl_certfile=str(cert),
        ssl_keyfile=str(key),
        log_level="error",  # below that strangers could fill the journal with what is no HTTP
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whoever is on this machine could name any address
        date_header=True,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=64 * 1024,
        backlog=512,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    server = _Server(config, console, link)
    try:
        asyncio.run(server.serve(sockets=[sock]))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    finally:
        sock.close()
    if not server.started:
        sys.exit(1)
