"""The writer, the reader and the ordinary client against a real server that is really killed."""

import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from plain_server import PlainServer

from openmse.lab import checker, ledger
from openmse.lab.ledger import Acknowledged, Ended, Entry, Lost, Seen, Started, Unknown
from openmse.lab.outage import longest_gap


@pytest.fixture(scope="module")
def shared_server() -> Iterator[PlainServer]:
    server = PlainServer()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def server(shared_server: PlainServer) -> PlainServer:
    if not _answers(shared_server):
        shared_server.start()
    with psycopg.connect(shared_server.conninfo, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS lab_writes")
    return shared_server


PATIENT = ("--deadline-ms", "10000")
"""So that a busy machine is no disturbance."""


def _answers(server: PlainServer) -> bool:
    try:
        psycopg.connect(server.conninfo, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


class Clients:
    """Starts roles of the program and reads their ledgers."""

    def __init__(self, directory: Path, conninfo: str) -> None:
        self._directory = directory
        self._file = directory / "conninfo"
        self._file.write_text(conninfo)
        self._running: list[subprocess.Popen[str]] = []

    def path(self, role: str) -> Path:
        return self._directory / f"{role}.jsonl"

    def start(self, role: str, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "openmse.lab.writer", role]
        command += ["--conninfo-file", str(self._file), "--ledger", str(self.path(role)), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._running.append(process)
        return process

    def stop(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0

    def entries(self, role: str) -> list[Entry]:
        return list(ledger.read(self.path(role))) if self.path(role).exists() else []

    def wait(self, role: str, enough: Callable[[list[Entry]], bool]) -> list[Entry]:
        deadline = time.monotonic() + 20
        while not enough(found := self.entries(role)):
            assert time.monotonic() < deadline, found[-5:]
            time.sleep(0.02)
        return found

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def clients(tmp_path: Path, server: PlainServer) -> Iterator[Clients]:
    found = Clients(tmp_path, server.conninfo)
    assert found.start("create").wait(20) == 0
    try:
        yield found
    finally:
        found.close()


def _acks(entries: list[Entry]) -> list[Acknowledged]:
    return [entry for entry in entries if isinstance(entry, Acknowledged)]


def _rows(server: PlainServer, run: str = "run") -> list[checker.Row]:
    with psycopg.connect(server.conninfo) as connection:
        found = connection.execute("SELECT id, serial FROM lab_writes WHERE run = %s", (run,))
        return [checker.Row(*row) for row in found.fetchall()]


def test_undisturbed_everything_is_acknowledged_and_there(
    clients: Clients, server: PlainServer
) -> None:
    writer = clients.start("writer", *PATIENT)
    reader = clients.start("reader", "--period-ms", "20")
    clients.wait("writer", lambda found: len(_acks(found)) >= 100)
    clients.stop(writer)
    clients.stop(reader)
    written = checker.Account.of(clients.entries("writer"))
    read = checker.Account.of(clients.entries("reader"))
    verdict = checker.judge(written, _rows(server), read)
    assert verdict.violations == ()
    assert verdict.acknowledged >= 100
    assert verdict.unknown <= 1  # the one under way when it was stopped
    assert {entry.by for entry in written.acknowledged} == {"plain.1"}
    assert read.seen
    assert isinstance(clients.entries("writer")[-1], Ended)
    assert any(isinstance(entry, Started) for entry in clients.entries("writer"))


def test_survives_a_crash_and_loses_nothing_it_noted(clients: Clients, server: PlainServer) -> None:
    writer = clients.start("writer")
    before = clients.wait("writer", lambda found: len(_acks(found)) >= 50)
    killed_at = ledger.now_ns()
    server.kill()
    server.start()
    started_at = ledger.now_ns()
    count = len(_acks(before))
    clients.wait(
        "writer",
        lambda found: len(_acks(found)) >= count + 50 and _acks(found)[-1].sent > started_at,
    )
    clients.stop(writer)
    account = checker.Account.of(clients.entries("writer"))
    assert checker.judge(account, _rows(server)).violations == ()
    gap = longest_gap(account.acknowledged_at, killed_at, started_at)
    assert gap.ms > 20
    assert not gap.is_open


def test_abandons_a_frozen_server_within_its_own_deadline(
    clients: Clients, server: PlainServer
) -> None:
    writer = clients.start("writer")
    clients.wait("writer", lambda found: len(_acks(found)) >= 20)
    server.signal_all(signal.SIGSTOP)
    frozen = server.pids()
    try:
        found = clients.wait("writer", lambda found: any(isinstance(e, Unknown) for e in found))
    finally:
        server.signal_all(signal.SIGCONT)
    first = next(entry for entry in found if isinstance(entry, Unknown))
    assert 100e6 <= first.at - first.sent <= 5e9, "not the minutes that TCP would wait"
    assert "100 ms" in first.why
    assert len(frozen) < 40
    count = len(_acks(found))
    clients.wait("writer", lambda found: len(_acks(found)) >= count + 20)
    clients.stop(writer)
    account = checker.Account.of(clients.entries("writer"))
    assert checker.judge(account, _rows(server)).violations == ()


def test_a_commit_with_a_warning_is_no_acknowledgement(
    clients: Clients, server: PlainServer
) -> None:
    server.reload_with("synchronous_standby_names", "nobody")
    writer = clients.start("writer", "--deadline-ms", "10000")
    try:
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            cancel = (
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            )
            deadline = time.monotonic() + 20
            while not connection.execute(cancel).fetchall():
                assert time.monotonic() < deadline
        found = clients.wait("writer", lambda found: any(isinstance(e, Unknown) for e in found))
    finally:
        server.reload_with("synchronous_standby_names", "")
    warned = next(entry for entry in found if isinstance(entry, Unknown))
    assert warned.is_warning
    assert "canceling" in warned.why
    assert warned.id in {row.id for row in _rows(server)}
    clients.stop(writer)
    account = checker.Account.of(clients.entries("writer"))
    verdict = checker.judge(account, _rows(server))
    assert verdict.warnings == 1
    assert verdict.violations == ()


def test_a_lost_row_is_found(clients: Clients, server: PlainServer) -> None:
    writer = clients.start("writer", *PATIENT)
    reader = clients.start("reader", "--period-ms", "10")
    clients.wait("reader", lambda found: any(isinstance(e, Seen) and 5 in e.ids for e in found))
    clients.stop(writer)
    clients.stop(reader)
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute("DELETE FROM lab_writes WHERE id = 5")
    verdict = checker.judge(
        checker.Account.of(clients.entries("writer")),
        _rows(server),
        checker.Account.of(clients.entries("reader")),
    )
    assert verdict.lost == (5,)
    assert verdict.vanished == (5,)


def test_an_ordinary_client_comes_back_too(clients: Clients, server: PlainServer) -> None:
    ordinary = clients.start("ordinary")
    before = clients.wait("ordinary", lambda found: len(_acks(found)) >= 20)
    server.kill()
    server.start()
    count = len(_acks(before))
    clients.wait("ordinary", lambda found: len(_acks(found)) >= count + 20)
    clients.stop(ordinary)
    found = clients.entries("ordinary")
    assert any(isinstance(entry, Lost) for entry in found)
    rows = _rows(server, "run-ordinary")
    acknowledged = {entry.id for entry in _acks(found)}
    assert acknowledged <= {row.id for row in rows}


def test_dump_prints_every_row(clients: Clients, server: PlainServer) -> None:
    writer = clients.start("writer", *PATIENT)
    clients.wait("writer", lambda found: len(_acks(found)) >= 5)
    clients.stop(writer)
    out, _ = clients.start("dump").communicate(timeout=20)
    printed = {tuple(map(int, line.split())) for line in out.splitlines()}
    assert printed == {(row.id, row.serial) for row in _rows(server)}


def _came_at(connection: socket.socket) -> float:
    """When its client spoke (monotonic s), as the kernel noted it: we may accept it much later."""
    while True:
        before_s = time.monotonic()
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
        if time.monotonic() - before_s < 0.005:  # else we were held up in between
            (ago_ms,) = struct.unpack_from("=I", info, 52)  # tcpi_last_data_recv
            return before_s - float(ago_ms) / 1000


def test_never_more_attempts_than_allowed(tmp_path: Path, server: PlainServer) -> None:
    """Against a server that takes connections and says nothing, attempts stay bounded."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        port = silent.getsockname()[1]
        taken: list[socket.socket] = []
        stop = threading.Event()

        def accept() -> None:
            silent.settimeout(0.05)
            while not stop.is_set():
                try:
                    taken.append(silent.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        clients = Clients(tmp_path, server.conninfo.replace(str(server.port), str(port)))
        try:
            clients.start("writer", "--attempts", "3")
            deadline = time.monotonic() + 20
            while len(taken) < 5:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            came = [_came_at(connection) for connection in taken]
        finally:
            clients.close()
            stop.set()
            thread.join()
            for connection in taken:
                connection.close()
    apart = [b - a for a, b in pairwise(came[1:])]
    assert min(apart) > 0.05  # one is answered by the kernel: the next waits for its 100 ms
