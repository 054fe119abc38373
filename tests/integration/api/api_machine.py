"""A machine for the tests of the management API: real files, sockets and TLS; the real core."""

import asyncio
import base64
import contextlib
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
from live_core import LiveCore, NoJournal, NoPairing, serving

from openmse.api.config import load
from openmse.api.context import Context
from openmse.api.people import People, Role
from openmse.api.server import Server, listen, serve, server_of
from openmse.api.store import ManagementPlaces, prepare
from openmse.ha.effects import Note
from openmse.node import group as group_file
from openmse.node.config_load import load as load_node
from openmse.node.control.handler import Handler, Pairing
from openmse.node.control.server import ControlServer
from openmse.node.group import GroupInfo
from openmse.node.runtime.event_log import Entry, append, wall_now
from openmse.node.runtime.pairing import NodePairing

ADMIN = ("admin", "correct horse battery")
CONFIG = """
[node]
name = "mse1"
role = "{role}"
address = "10.10.10.11/24"
interface = "lo"
[group]
virtual_ips = ["10.10.10.10/24"]
[paths]
state_dir = "{root}/state"
run_dir = "{root}/run"
"""
MANAGEMENT = """
[management]
address = "127.0.0.1"
port = {port}
[limits]
streams = 4
connections = 32
"""


class CalmCore(LiveCore):
    """The core, which is asked for its picture less often than it could be."""

    async def wait_changed(self, within_s: float) -> None:
        """Twenty times a second."""
        await asyncio.sleep(min(within_s, 0.05))


class SlowPairing(NoPairing):
    """Pairing that takes until it is let go, and tells its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    async def pair(self, args: Any, progress: Any) -> str:
        """Two steps, and a wait between them."""
        await progress("the first step")
        while not self.let_go.is_set():
            await asyncio.sleep(0.01)
        told = await super().pair(args, progress)
        await progress("the second step")
        return told


class FilesPairing(NoPairing):
    """Ends a wait for a new machine as the health monitor does, by the files that it goes by."""

    def __init__(self, machine: "Machine", note: Callable[[Note], object]) -> None:
        super().__init__()
        self._machine = machine
        self.note = note

    @property
    def group(self) -> GroupInfo | None:
        """The group's facts."""
        return group_file.load(load_node(self._machine.config).places.group)

    async def readmit_cancel(self, by: str) -> str:
        """The real one, of a host of which only the facts and the event log are needed."""
        host: Any = self
        return await NodePairing(load_node(self._machine.config), host).readmit_cancel(by)


class Machine:
    """Files of one machine, and what runs on it."""

    def __init__(self, root: Path, role: str = "primary") -> None:
        self.root = root
        self._count = 0
        self.config = root / "openmse.toml"
        self.management = root / "management.toml"
        self.state = root / "state"
        self.control_socket = root / "run" / "control.sock"
        (root / "run").mkdir(mode=0o755)
        self.state.mkdir(mode=0o755)
        self.configure(role=role)
        self.places = ManagementPlaces.of(self.state)
        prepare(self.places)
        self.people = People(self.places)
        self.people.set_user(ADMIN[0], Role.ADMINISTRATOR, ADMIN[1])

    def configure(self, *, role: str = "primary", port: int = 0) -> None:
        """Write both files."""
        self.config.write_text(CONFIG.format(root=self.root, role=role))
        self.management.write_text(MANAGEMENT.format(port=port))

    def log(self, kind: str, sentence: str, *, severity: str = "info", at: str = "") -> Entry:
        """Write an entry of the event log, as the health monitor does."""
        when = at or f"2026-01-31T03:00:{(self._count + 1) % 60:02}.000+00:00"
        return self._log([self._entry(kind, sentence, severity, when)])[0]

    def noted(self, note: Note) -> Entry:
        """An entry of the event log, as the core makes it."""
        return self.log(note.kind, note.sentence, severity=note.severity, at=wall_now())

    def log_many(self, kind: str, sentences: list[str]) -> list[Entry]:
        """Write many entries of one moment at once."""
        at = "2026-01-31T03:00:00.000+00:00"
        return self._log([self._entry(kind, sentence, "info", at) for sentence in sentences])

    def _entry(self, kind: str, sentence: str, severity: str, at: str) -> Entry:
        self._count += 1
        return Entry(at, 1_000_000 + self._count, "mse1", kind, severity, sentence, 1, 3)

    def _log(self, entries: list[Entry]) -> list[Entry]:
        data = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        append(self.state / "events.jsonl", data)
        return entries

    @contextlib.contextmanager
    def monitor(
        self, core: LiveCore | None = None, pairing: Pairing | None = None
    ) -> Iterator[LiveCore]:
        """A health monitor's control socket over the real core, as long as the context lasts."""
        core = core or CalmCore(serving())
        server = ControlServer(
            self.control_socket,
            Handler(core, pairing or FilesPairing(self, self.noted), NoJournal()),
        )
        with _loop() as loop:
            asyncio.run_coroutine_threadsafe(server.start(), loop).result(15)
            try:
                yield core
            finally:
                asyncio.run_coroutine_threadsafe(server.stop(), loop).result(15)

    @contextlib.contextmanager
    def serve(self) -> Iterator["Served"]:
        """The API in a thread of this process."""
        node, config = load_node(self.config), load(self.management)
        sockets = listen(node, config)
        port = sockets[0].getsockname()[1]
        with _loop() as loop:
            made: list[tuple[Context, Server]] = []

            async def run() -> None:
                context = Context(node, self.config, config)
                made.append((context, server_of(context)))
                await serve(*made[0], sockets)

            task = asyncio.run_coroutine_threadsafe(run(), loop)
            try:
                until(lambda: task.done() or (made and made[0][1].started), "it serves")
                yield Served(self, port, *made[0])
            finally:
                if made:
                    loop.call_soon_threadsafe(made[0][1].end)
                task.result(15)
                for sock in sockets:
                    sock.close()

    def process(self, *, port: int = 0) -> "Process":
        """The API as the process that it is in production."""
        self.configure(port=port)
        return Process(self)


class Served:
    """An API that serves, and a client for it."""

    def __init__(
        self, machine: Machine, port: int, context: Context | None = None, server: Any = None
    ) -> None:
        self.machine = machine
        self.port = port
        self.context = context
        self.server = server
        self.url = f"https://127.0.0.1:{port}"

    def tls(self) -> ssl.SSLContext:
        """What a client needs: the pinned certificate, and nothing else, is trusted."""
        context = ssl.create_default_context(cafile=str(self.machine.places.certificate))
        context.check_hostname = False
        return context

    def client(self, auth: tuple[str, str] | None = ADMIN, token: str = "") -> httpx.Client:
        """A client with these credentials."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        used = None if token else auth
        return httpx.Client(
            base_url=self.url, verify=self.tls(), auth=used, headers=headers, timeout=20
        )

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request as the administrator, or with ``token`` or ``auth``."""
        token = options.pop("token", "")
        auth = options.pop("auth", ADMIN)
        with self.client(auth, token) as client:
            return client.request(method, path, **options)

    def ok(self, method: str, path: str, **options: Any) -> Any:
        """One request that has to succeed; its JSON."""
        found = self.ask(method, path, **options)
        assert found.status_code < 300, f"{path}: {found.status_code} {found.text}"
        return found.json() if found.content else None

    def refused(self, method: str, path: str, status: int, code: str, **options: Any) -> Any:
        """One request that has to be refused in the one shape of errors; the error."""
        found = self.ask(method, path, **options)
        assert found.status_code == status, f"{path}: {found.status_code} {found.text}"
        assert list(found.json()) == ["error"]
        error = found.json()["error"]
        assert error["status"] == status
        assert error["code"] == code, error
        assert error["sentence"].endswith("."), error
        return error

    def until_up(self) -> None:
        """Wait until the health monitor's first picture has come."""
        until(lambda: self.ok("GET", "/v1/summary")["is_monitor_up"], "the monitor is up")

    @contextlib.contextmanager
    def stream(self, query: str = "", **options: Any) -> Iterator["Stream"]:
        """The stream, read as it comes."""
        headers = options.pop("headers", {})
        with (
            self.client(options.pop("auth", ADMIN), options.pop("token", "")) as client,
            client.stream("GET", f"/v1/stream{query}", headers=headers) as response,
        ):
            yield Stream(response)


class Stream:
    """Messages of one stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        assert response.status_code == 200, response.read()
        self._lines = response.iter_lines()
        self.beats = 0

    def next(self, left_out: tuple[str, ...] = ("licences",)) -> tuple[str, Any, str]:
        """The next message: its event, its data, its id. Raises StopIteration at the end.

        ``left_out``: how licences stand comes at a time of its own.
        """
        event, data, name = "", "", ""
        deadline = time.monotonic() + 20.0  # beats come all the time
        for line in self._lines:
            assert time.monotonic() < deadline, "nothing but beats for 20 s"
            if line == ": beat":
                self.beats += 1
            key, _, value = line.partition(": ")
            if key == "event":
                event = value
            elif key == "data":
                data = value
            elif key == "id":
                name = value
            elif not line and event and event not in left_out:
                return event, json.loads(data), name
        raise StopIteration

    def until(self, event: str, within_s: float = 10.0) -> Any:
        """The data of the next message of this kind."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            kind, data, _ = self.next(left_out=())
            if kind == event:
                return data
        raise AssertionError(f"no {event} within {within_s} s")


class Process:
    """``python -m openmse.api`` as a process of its own."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.log = machine.root / f"api-{len(list(machine.root.glob('api-*')))}.log"
        command = [sys.executable, "-m", "openmse.api", "--config", str(machine.config)]
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [*command, "--management", str(machine.management)], stdout=log, stderr=log
            )

    def served(self) -> Served:
        """Once it listens."""
        until(lambda: "listening on" in self.text() or self.popen.poll() is not None, "it listens")
        assert self.popen.poll() is None, self.text()
        port = int(self.text().rpartition(" port ")[2].partition(",")[0])
        return Served(self.machine, port)

    def text(self) -> str:
        """What it has written."""
        return self.log.read_text()

    def ended(self, within_s: float = 15.0) -> int:
        """Its exit status."""
        return self.popen.wait(within_s)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(10)


def until(condition: Any, what: str, within_s: float = 15.0) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain until {what}"
        time.sleep(0.01)


def basic(user: str, password: str) -> str:
    """The header of these credentials."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@contextlib.contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(15)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
