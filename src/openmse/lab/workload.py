"""The load on a laboratory: the measuring clients, pgbench, and the presence monitor.

All but the monitor run on the client machine and reach the database through the virtual IP. Their
ledgers are written where the host can read them while they grow.
Units: seconds for timeouts; instants are CLOCK_BOOTTIME ns.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from psycopg.conninfo import conninfo_to_dict

from openmse.errors import DriverError
from openmse.lab import ledger, presence
from openmse.lab.checker import Account, Row
from openmse.lab.laboratory import Laboratory
from openmse.lab.ledger import Acknowledged, Entry
from openmse.lab.presence_rules import Sign
from openmse.lab.programs import PYTHON
from openmse.lab.topology import SWITCH, VIRTUAL_IP, Kind
from openmse.node.drivers.postgres.settings import ADMIN_ROLE, CLIENT_DATABASE
from openmse.ports import POSTGRESQL

CLIENT = "client"
WRITER, READER, ORDINARY = "writer", "reader", "ordinary"
STOP_S = 10.0
SOCKETS = "/run/openmse/postgres"
"""Where a node's server has its unix socket."""


class Tail:
    """A ledger that grows, read piece by piece into an account."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
        self._lock = threading.Lock()
        self.entries: list[Entry] = []
        self.acknowledged: list[Acknowledged] = []

    def catch_up(self) -> None:
        """Read what was added since the last call."""
        with self._lock:
            try:
                with self._path.open("rb") as file:
                    file.seek(self._offset)
                    new = file.read()
            except FileNotFoundError:
                return
            whole = new[: new.rfind(b"\n") + 1]
            self._offset += len(whole)
            fresh = [self._decoder.decode(line) for line in whole.splitlines()]
            self.entries += fresh
            self.acknowledged += [e for e in fresh if isinstance(e, Acknowledged)]

    def account(self) -> Account:
        """Everything so far, sorted by kind."""
        self.catch_up()
        return Account.of(self.entries)


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def machine_of(cluster_name: str) -> str:
    """The machine that a server's ``cluster_name`` (NODE.DIRECTORY) stands for."""
    return cluster_name.partition(".")[0]


class Workload:
    """The processes of one run, each started at most once; ``stop`` ends them all."""

    def __init__(self, laboratory: Laboratory, conninfo: str, run: str) -> None:
        self.laboratory = laboratory
        self.run = run
        self.directory = laboratory.places.share / "runs" / run
        self.directory.mkdir(parents=True, exist_ok=True)
        self._conninfo_file = self.directory / "conninfo"
        _write_private(self._conninfo_file, conninfo)
        self.conninfo = conninfo
        self._running: dict[str, subprocess.Popen[Any]] = {}
        self._pgbench: Pgbench | None = None
        self.writer = Tail(self.path(WRITER))
        self.reader = Tail(self.path(READER))
        self.ordinary = Tail(self.path(ORDINARY))

    def path(self, role: str) -> Path:
        """The ledger of one client."""
        return self.directory / f"{role}.jsonl"

    # ------------------------------------------------------------------ start and stop

    def create_table(self) -> None:
        """Make the table the clients write to. Raises: DriverError."""
        done = self.laboratory.exec(CLIENT, self._command("create"), timeout_s=30)
        if done.returncode:
            raise DriverError(
                f"The client could not make its table: {done.stderr.strip()[-500:]}",
                "Look at the group: mse lab status; does the client's connection string work?",
            )

    def start(self, *roles: str) -> None:
        """Start clients (WRITER, READER, ORDINARY)."""
        periods = {WRITER: "5", READER: "25", ORDINARY: "20"}
        for role in roles:
            extra = ["--ledger", str(self.path(role)), "--period-ms", periods[role]]
            with (self.directory / f"{role}.err").open("ab") as errors:
                self._running[role] = self.laboratory.popen(
                    CLIENT,
                    [*self._command(role), *extra],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                )

    def start_presence(self) -> None:
        """Start the presence monitor in the switch."""
        places = self.laboratory.places
        nodes = [m for m in self.laboratory.machines.values() if m.kind is Kind.NODE]
        command = [sys.executable, "-m", "openmse.lab.presence"]
        command += ["--netns", str(places.netns(SWITCH)), "--virtual-ip", VIRTUAL_IP]
        command += ["--tcp-port", str(POSTGRESQL), "--ledger", str(self.path("presence"))]
        command += [f"{m.name}={m.name}={m.address}={m.mac}" for m in nodes]
        with (self.directory / "presence.err").open("ab") as errors:
            self._running["presence"] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
            )

    def start_pgbench(self, scale: int, rate: int, clients: int) -> None:
        """Keep pgbench's TPC-B running, on tables of ``scale``. Raises: DriverError."""
        self._pgbench = Pgbench(self.laboratory, self.conninfo, self.directory)
        self._pgbench.fill_once(scale)
        self._pgbench.start(rate, clients)

    def stop(self) -> None:
        """End every client, the measuring ones in good order."""
        if self._pgbench is not None:
            self._pgbench.stop()
            self._pgbench = None
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def broken(self) -> list[str]:
        """Sentences about clients that ended by themselves, which would spoil the result."""
        sentences = []
        for role, process in self._running.items():
            if process.poll() is not None:
                words = (self.directory / f"{role}.err").read_text(errors="replace")[-400:].strip()
                sentences.append(f"The {role} ended by itself ({process.returncode}): {words}")
        return sentences

    def _command(self, role: str) -> list[str]:
        return [
            PYTHON,
            *("-m", "openmse.lab.writer", role),
            *("--conninfo-file", str(self._conninfo_file), "--run", self.run),
        ]

    # ------------------------------------------------------------------ what they saw

    def signs(self) -> list[Sign]:
        """Every sign of presence: the monitor's, and each commit that a server acknowledged."""
        path = self.path("presence")
        found = presence.read(path) if path.exists() else []
        for tail in (self.writer, self.ordinary):
            tail.catch_up()
            found += [
                Sign(machine_of(ack.by), "commit", ack.sent, ack.at) for ack in tail.acknowledged
            ]
        return found

    def rows(self) -> list[Row]:
        """The rows of this run as the server behind the virtual IP has them.

        Raises: DriverError.
        """
        done = self.laboratory.exec(CLIENT, self._command("dump"), timeout_s=120)
        if done.returncode:
            raise DriverError(
                f"The rows could not be read back: {done.stderr.strip()[-500:]}",
                "Look at the group: mse lab status.",
            )
        return [Row(*map(int, line.split())) for line in done.stdout.splitlines()]

    def ids_on(self, machine: str) -> set[int]:
        """The ids of this run's rows that a node's own server shows; empty if it cannot be asked.

        Asked on the node itself, so a standby answers too.
        """
        query = f"SELECT id FROM lab_writes WHERE run = '{self.run}'"
        command = ["psql", "-X", "-A", "-t", "-h", SOCKETS, "-p", str(POSTGRESQL)]
        command += ["-U", ADMIN_ROLE, "-d", CLIENT_DATABASE, "-c", query]
        done = self.laboratory.exec(machine, command, timeout_s=60)
        return set(map(int, done.stdout.split())) if done.returncode == 0 else set()

    def pgbench_sums(self) -> list[int]:
        """The sums that TPC-B keeps equal (accounts, tellers, branches, history), and a count.

        Raises: DriverError.
        """
        done = self.laboratory.exec(CLIENT, self._command("tpcb"), timeout_s=120)
        if done.returncode:
            raise DriverError(f"pgbench's sums could not be read: {done.stderr.strip()[-500:]}")
        return [int(word) for word in done.stdout.split()]

    def acknowledged_since(self, instant: int, by: str = "", but: str = "") -> int:
        """How many writes sent after ``instant`` were acknowledged, by or but by a machine."""
        self.writer.catch_up()
        count = 0
        for ack in reversed(self.writer.acknowledged):
            if ack.sent < instant:
                break
            server = machine_of(ack.by)
            count += (not by or server == by) and (not but or server != but)
        return count

    def last_served_by(self) -> str:
        """The machine that acknowledged last, or ''."""
        self.writer.catch_up()
        found = self.writer.acknowledged
        return machine_of(found[-1].by) if found else ""

    def undisturbed_connect_ms(self) -> float | None:
        """What one connection cost the writer at its start."""
        self.writer.catch_up()
        started = [e for e in self.writer.entries if isinstance(e, ledger.Started)]
        return started[0].connect_ms if started else None


_GENTLE_STEPS_PER_S = 2
_SOME_ACCOUNTS = """
insert into pgbench_accounts select n, 1, 0, repeat(' ', 84) from generate_series(
  (select coalesce(max(aid), 0) + 1 from pgbench_accounts),
  (select coalesce(max(aid), 0) + 100000 from pgbench_accounts)) n;
"""


class Pgbench:
    """PostgreSQL's own pgbench, started again whenever a lost connection ends it."""

    def __init__(self, laboratory: Laboratory, conninfo: str, directory: Path) -> None:
        self._laboratory = laboratory
        self._log = directory / "pgbench.log"
        self._script = directory / "accounts.sql"
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[Any] | None = None
        service = directory / "pg_service.conf"
        self._environment = {"PGSERVICEFILE": str(service)}
        limits = {"connect_timeout": "2", "tcp_user_timeout": "1000"}
        limits |= {"keepalives_idle": "1", "keepalives_interval": "1"}
        values = {**conninfo_to_dict(conninfo), **limits}
        text = "[lab]\n" + "".join(f"{key}={value}\n" for key, value in values.items())
        _write_private(service, text)  # a password has no place on a command line

    def fill_once(self, scale: int, *, is_gentle: bool = False) -> None:
        """Make its tables, unless this laboratory has them already; 15 MB for each step of
        ``scale``. ``is_gentle``: the accounts alone, at a pace that leaves the disk to others (all
        machines of a laboratory share it, and a flood stalls both nodes at once, which is a
        failover and no filling). Raises: DriverError.
        """
        marker = self._laboratory.places.share / "pgbench-scale"
        if marker.exists() and marker.read_text() == str(scale):
            return
        if is_gentle:
            self._script.write_text(_SOME_ACCOUNTS)
            pace = f"--transactions={scale}", f"--rate={_GENTLE_STEPS_PER_S}"
            self._fill(["--initialize", "--quiet", "--init-steps=dtp"])
            self._fill(["--no-vacuum", *pace, f"--file={self._script}"])
        else:
            self._fill(["--initialize", "--quiet", f"--scale={scale}"])
        marker.write_text(str(scale))

    def _fill(self, arguments: Sequence[str]) -> None:
        if self._popen(arguments).wait(900):
            words = self._log.read_text(errors="replace")[-500:].strip()
            raise DriverError(f"pgbench could not fill its tables: {words}")

    def start(self, rate: int, clients: int) -> None:
        """Keep ``clients`` sessions at ``rate`` transactions a second in all."""
        arguments = ["--no-vacuum", f"--client={clients}", f"--rate={rate}", "--time=86400"]
        self._thread = threading.Thread(target=self._keep, args=(arguments,), daemon=True)
        self._thread.start()

    def _popen(self, arguments: Sequence[str]) -> subprocess.Popen[Any]:
        with self._log.open("ab") as log:
            return self._laboratory.popen(
                CLIENT,
                ["pgbench", *arguments, "service=lab"],
                environment=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _keep(self, arguments: Sequence[str]) -> None:
        while not self._stopping.is_set():
            self._process = self._popen(arguments)
            self._process.wait()
            self._stopping.wait(0.25)

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        if self._thread is not None:
            while self._thread.is_alive():
                if self._process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        self._process.terminate()
                self._thread.join(0.2)


def wait_for(condition: Callable[[], bool], timeout_s: float, every_s: float = 0.05) -> bool:
    """Look every ``every_s`` until ``condition`` holds; False on timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every_s)
    return True
