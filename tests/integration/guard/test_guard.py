"""The guard with a real process in the health monitor's place, and in PostgreSQL's."""

import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from openmse.errors import StateError
from openmse.guard.feed import SOCKET_NAME, STOPPED_NAME, Feed, encode
from openmse.guard.processes import start_time
from openmse.node.drivers.guard_feed import GuardFeed, HealthMonitorLock

pytestmark = pytest.mark.alone
STAND_IN = Path(__file__).with_name("stand_in.py")
MS = 1_000_000
LATE = 450 * MS
"""On a busy machine; at 500 ms force is used, which must not be needed."""


def boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wait_until(is_true: Callable[[], bool], timeout_s: float, what: str) -> None:
    ends_at = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < ends_at, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


class Machine:
    """A run directory, guards, stand-ins and postmasters; everything ends with the test."""

    def __init__(self, run_dir: Path, data_dir: Path) -> None:
        self.run_dir, self.data_dir = run_dir, data_dir
        self.started: list[subprocess.Popen[str]] = []
        self._orders: dict[str, object] = {}

    def order(self, **orders: object) -> None:
        self._orders |= orders
        (self.run_dir / "orders.new").write_text(json.dumps(self._orders))
        (self.run_dir / "orders.new").rename(self.run_dir / "orders.json")

    def guard(self, *options: str, command: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = command or (sys.executable, str(STAND_IN), str(self.run_dir))
        log = (self.run_dir / "log").open("a")
        process = subprocess.Popen(
            [sys.executable, "-m", "openmse.guard", "--run-dir", str(self.run_dir), *options,
             "--", *command],
            stderr=log, text=True,
        )  # fmt: skip
        log.close()
        self.started.append(process)
        return process

    def postmaster(self, *command: str) -> int:
        """A process in the data directory, announced to the guard as the postmaster."""
        process = subprocess.Popen(command or ("sleep", "1000"), cwd=self.data_dir, text=True)
        self.started.append(process)
        self.order(postmaster=[process.pid, start_time(process.pid)], data_dir=str(self.data_dir))
        return process.pid

    @property
    def starts(self) -> list[list[int]]:
        """[pid, started at, restarts, nice] of each stand-in so far."""
        try:
            lines = (self.run_dir / "starts").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [[int(word) for word in line.split()] for line in lines]

    def wait_monitor(self, number: int = 1, timeout_s: float = 5) -> int:
        """The pid of the n-th stand-in, once it has been started."""
        wait_until(lambda: len(self.starts) >= number, timeout_s, f"stand-in {number}")
        return self.starts[number - 1][0]

    def wait_heard(self) -> None:
        """Wait until the guard has surely read a feed of the present orders."""
        first = self.last_deadline
        wait_until(lambda: self.last_deadline > first + 60 * MS, 5, "feeds")

    @property
    def last_deadline(self) -> int:
        try:
            return int((self.run_dir / "deadline").read_text())
        except FileNotFoundError:
            return 0

    def events(self) -> list[str]:
        lines = (self.run_dir / "log").read_text().splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        pids = [start[0] for start in self.starts]
        with suppress(FileNotFoundError):
            pids.append(int((self.run_dir / "spawned").read_text()))
        for pid in pids:
            with suppress(OSError):
                if str(self.run_dir).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    run_dir = Path("/dev/shm") / f"mse-guard-{secrets.token_hex(4)}"
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs a file system in memory at /dev/shm")
    run_dir.mkdir()
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    made = Machine(run_dir, data_dir)
    made.order(mode="SYNC", lease_ms=1500)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(run_dir)


def test_a_killed_health_monitor_is_back_at_once_and_postgresql_lives(machine: Machine) -> None:
    postmaster = machine.postmaster()
    machine.guard()
    for number in (1, 2):
        pid = machine.wait_monitor(number)
        machine.wait_heard()
        killed_at = boottime()
        os.kill(pid, signal.SIGKILL)
        machine.wait_monitor(number + 1)
        assert machine.starts[number][1] - killed_at < LATE
        assert machine.starts[number][2] == number, "it is told how often it was restarted"
    overdue = machine.last_deadline
    wait_until(lambda: boottime() > overdue + 200 * MS, 5, "the deadline of the one killed")
    assert is_alive(postmaster), "the new one renewed in time"


def test_repeated_quick_deaths_are_slowed_down(machine: Machine) -> None:
    times = machine.run_dir / "times"
    script = f"date +%s%N >> {times}; exit 1"
    machine.guard(command=("sh", "-c", script))
    wait_until(lambda: times.exists() and len(times.read_text().split()) >= 7, 10, "seven starts")
    at = [int(word) / 1e9 for word in times.read_text().split()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    for gap, delay in zip(gaps, (0, 0, 0.2, 0.5, 1, 1), strict=False):
        assert delay <= gap + 0.01
        assert gap < delay + LATE / 1e9


def test_a_frozen_one_is_left_alone_until_its_lease_ends(machine: Machine) -> None:
    postmaster = machine.postmaster()
    machine.guard()
    pid = machine.wait_monitor()
    machine.wait_heard()
    os.kill(pid, signal.SIGSTOP)
    deadline = machine.last_deadline
    wait_until(lambda: boottime() > deadline - 100 * MS, 5, "the last 100 ms of the lease")
    assert is_alive(postmaster)
    assert is_alive(pid)
    wait_until(lambda: not is_alive(postmaster), 3, "the end of PostgreSQL")
    assert -5 * MS < boottime() - deadline < LATE
    machine.wait_monitor(2)
    assert not is_alive(pid)


def test_a_short_freeze_changes_nothing(machine: Machine) -> None:
    postmaster = machine.postmaster()
    machine.guard()
    pid = machine.wait_monitor()
    machine.wait_heard()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(1.0)
    os.kill(pid, signal.SIGCONT)
    deadline = machine.last_deadline
    wait_until(lambda: boottime() > deadline + 300 * MS, 5, "the deadline of before the freeze")
    assert is_alive(postmaster)
    assert is_alive(pid)
    assert len(machine.starts) == 1


@pytest.mark.parametrize("mode", ["ALONE", "PINNED"])
def test_alone_and_pinned_never_time_out(machine: Machine, mode: str) -> None:
    machine.order(mode=mode, lease_ms=200, silence_limit_ms=900)
    postmaster = machine.postmaster()
    machine.guard()
    pid = machine.wait_monitor()
    machine.wait_heard()
    os.kill(pid, signal.SIGSTOP)
    frozen_at = boottime()
    wait_until(lambda: not is_alive(pid), 3, "the silent one's end")
    assert boottime() - frozen_at > 800 * MS
    machine.wait_monitor(2)
    machine.order(is_feeding=False)
    time.sleep(0.4)  # twice the deadline that would count in SYNC
    assert is_alive(postmaster)


def test_dead_and_not_back_in_time_stops_postgresql(machine: Machine) -> None:
    postmaster = machine.postmaster()
    machine.guard()
    pid = machine.wait_monitor()
    machine.wait_heard()
    machine.order(is_feeding=False)  # so the next one never becomes ready
    os.kill(pid, signal.SIGKILL)
    deadline = machine.last_deadline
    machine.wait_monitor(2)
    wait_until(lambda: not is_alive(postmaster), 4, "the end of PostgreSQL")
    assert -5 * MS < boottime() - deadline < LATE
    assert is_alive(machine.starts[-1][0]), "a slow start is not punished"


def test_a_last_word_of_going_alone_counts_although_its_sender_is_dead(machine: Machine) -> None:
    postmaster = machine.postmaster()
    machine.guard()
    pid = machine.wait_monitor()
    machine.wait_heard()
    machine.order(mode="ALONE")
    time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    machine.order(is_feeding=False)
    deadline = machine.last_deadline
    wait_until(lambda: boottime() > deadline + 200 * MS, 4, "what would be the deadline in SYNC")
    assert is_alive(postmaster)


def test_a_postmaster_that_does_not_obey_is_forced_with_its_children(machine: Machine) -> None:
    program = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGQUIT, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.setsid()\n"
        "else:\n"
        "    open('child', 'w').write(str(child))\n"
        "time.sleep(1000)\n"
    )
    postmaster = machine.postmaster(sys.executable, "-c", program)
    bystander = subprocess.Popen(["sleep", "1000"], cwd=machine.data_dir, text=True)
    machine.started.append(bystander)
    child_file = machine.data_dir / "child"
    wait_until(lambda: child_file.exists() and child_file.read_text() != "", 5, "the child")
    child = int(child_file.read_text())
    machine.guard()
    pid = machine.wait_monitor()
    machine.wait_heard()
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: not is_alive(postmaster), 5, "the end of the postmaster")
    wait_until(lambda: not is_alive(child), 1, "the end of its child")
    assert is_alive(bystander.pid), "a shell in the data directory is nobody's child"


def test_a_postmaster_started_since_the_last_word_is_found(
    machine: Machine, tmp_path: Path
) -> None:
    """The health monitor restarted PostgreSQL and froze before it could say so."""
    program = tmp_path / "postgres"
    shutil.copy("/bin/sleep", program)
    postmaster = machine.postmaster(str(program), "1000")
    machine.guard()
    pid = machine.wait_monitor()
    machine.wait_heard()
    os.kill(pid, signal.SIGSTOP)
    os.kill(postmaster, signal.SIGKILL)
    successor = subprocess.Popen([program, "1000"], cwd=machine.data_dir, text=True)
    elsewhere = subprocess.Popen([program, "1000"], cwd=tmp_path, text=True)
    machine.started += [successor, elsewhere]
    deadline = machine.last_deadline
    wait_until(lambda: not is_alive(successor.pid), 4, "the end of the new PostgreSQL")
    assert -5 * MS < boottime() - deadline < LATE
    assert is_alive(elsewhere.pid), "an instance of somebody else's"


def test_a_number_used_again_is_not_taken_for_the_postmaster(machine: Machine) -> None:
    postmaster = machine.postmaster()
    started = start_time(postmaster)
    assert started is not None
    machine.order(postmaster=[postmaster, started + 1])
    machine.guard()
    pid = machine.wait_monitor()
    machine.wait_heard()
    os.kill(pid, signal.SIGSTOP)
    machine.wait_monitor(2)
    assert is_alive(postmaster)


def test_a_new_guard_attaches_to_a_living_health_monitor(machine: Machine) -> None:
    postmaster = machine.postmaster()
    guard = machine.guard()
    pid = machine.wait_monitor()
    machine.wait_heard()
    guard.kill()
    guard.wait()
    time.sleep(1.8)  # longer than the lease: what the new guard remembers is overdue
    machine.guard()
    wait_until(lambda: "health_monitor_attached" in machine.events(), 3, "the new guard")
    time.sleep(0.8)  # longer than its patience
    assert is_alive(postmaster)
    assert len(machine.starts) == 1
    os.kill(pid, signal.SIGKILL)  # nobody's child by now, and yet:
    machine.wait_monitor(2)


def test_a_new_guard_keeps_the_promise_of_one_already_frozen(machine: Machine) -> None:
    postmaster = machine.postmaster()
    guard = machine.guard()
    pid = machine.wait_monitor()
    machine.wait_heard()
    os.kill(pid, signal.SIGSTOP)
    guard.kill()
    guard.wait()
    deadline = machine.last_deadline
    machine.guard()
    wait_until(lambda: not is_alive(postmaster), 4, "the end of PostgreSQL")
    # It may remember a deadline up to 200 ms older than the last; its patience comes on top.
    assert -210 * MS < boottime() - deadline < 700 * MS
    machine.wait_monitor(2)


def test_a_guard_that_was_frozen_listens_before_it_judges(machine: Machine) -> None:
    """Its socket's queue holds the oldest feeds, so all it knows is overdue when it wakes."""
    postmaster = machine.postmaster()
    guard = machine.guard()
    pid = machine.wait_monitor()
    machine.wait_heard()
    guard.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    guard.send_signal(signal.SIGCONT)
    wait_until(lambda: "guard_was_held_up" in machine.events(), 2, "the guard's notice")
    time.sleep(0.8)
    assert is_alive(postmaster)
    assert is_alive(pid)


def test_a_second_guard_goes_away(machine: Machine) -> None:
    machine.guard()
    machine.wait_monitor()
    assert machine.guard().wait(5) == 3
    assert len(machine.starts) == 1


def test_systemd_hears_that_the_guard_lives_and_nothing_below_it_is_watched(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(machine.run_dir / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(machine.run_dir / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        machine.order(mode="ALONE")
        guard = machine.guard()
        pid = machine.wait_monitor()
        assert [listener.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in environment
        assert b"WATCHDOG_USEC" not in environment
    time.sleep(0.2)  # nobody listens any more: a beat that fails is no reason to end
    assert guard.poll() is None


def test_told_to_stop_it_asks_the_health_monitor(machine: Machine) -> None:
    machine.order(mode="ALONE")
    postmaster = machine.postmaster()
    guard = machine.guard()
    pid = machine.wait_monitor()
    guard.terminate()
    guard.wait(5)
    assert not is_alive(pid)
    assert is_alive(postmaster), "in ALONE PostgreSQL is not the guard's to touch"
    assert len(machine.starts) == 1


def test_it_ends_with_a_health_monitor_that_was_stopped_on_purpose(machine: Machine) -> None:
    machine.order(mode="ALONE")
    guard = machine.guard()
    pid = machine.wait_monitor()
    (machine.run_dir / STOPPED_NAME).touch()
    os.kill(pid, signal.SIGTERM)
    assert guard.wait(5) == 0
    assert len(machine.starts) == 1
    machine.guard()  # started again, it starts one again
    machine.wait_monitor(2)
    assert not (machine.run_dir / STOPPED_NAME).exists()


def test_told_to_stop_it_does_not_wait_for_ever(machine: Machine) -> None:
    machine.order(is_deaf=True, lease_ms=60_000)
    postmaster = machine.postmaster()
    guard = machine.guard("--stop-timeout", "0.5")
    pid = machine.wait_monitor()
    machine.wait_heard()
    guard.terminate()
    assert guard.wait(5) == 1
    assert not is_alive(pid)
    assert not is_alive(postmaster), "in SYNC nothing outlives its health monitor and its guard"


def test_orphans_of_a_dead_health_monitor_are_reaped(machine: Machine) -> None:
    machine.order(spawn=["sleep", "1000"])
    guard = machine.guard()
    pid = machine.wait_monitor()
    spawned = machine.run_dir / "spawned"
    wait_until(lambda: spawned.exists() and spawned.read_text() != "", 5, "the child")
    orphan = int(spawned.read_text())
    os.kill(pid, signal.SIGKILL)
    machine.wait_monitor(2)
    parent = Path(f"/proc/{orphan}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) == guard.pid
    os.kill(orphan, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{orphan}").exists(), 2, "the orphan to be collected")


def test_rubbish_and_forgeries_change_nothing(machine: Machine) -> None:
    postmaster = machine.postmaster()
    machine.guard()
    machine.wait_monitor()
    machine.wait_heard()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(machine.run_dir / SOCKET_NAME))
        started = start_time(postmaster) or 0
        forged = Feed(os.getpid(), 1, "SYNC", 1, 1, postmaster, started)
        for datagram in (b"", b"{", b"[]", b'{"v":9}', b'{"pid":"1","start":2}', b"[" * 5000,
                         b"\xff" * 100, encode(forged)):  # fmt: skip
            sender.send(datagram)
    machine.wait_heard()
    assert is_alive(postmaster)
    assert len(machine.starts) == 1


def test_a_command_that_does_not_exist_is_said(machine: Machine) -> None:
    guard = machine.guard(command=("/nonexistent/health-monitor",))
    assert guard.wait(5) == 1
    assert "/nonexistent" in (machine.run_dir / "log").read_text()


@pytest.mark.root
def test_the_guard_runs_before_others_and_its_children_do_not(machine: Machine) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: raising a priority")
    guard = machine.guard()
    machine.wait_monitor()
    assert os.getpriority(os.PRIO_PROCESS, guard.pid) == -10
    assert machine.starts[0][3] == 0


def test_feeding_an_absent_or_stuck_guard_neither_fails_nor_waits(tmp_path: Path) -> None:
    feed = GuardFeed(str(tmp_path))
    assert feed.send(mode="ALONE") is False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stuck:
        stuck.bind(str(tmp_path / SOCKET_NAME))
        began = time.monotonic()
        taken = [feed.send(mode="SYNC", deadline_ns=5) for _ in range(200)]
        assert time.monotonic() - began < 0.5
        assert taken[0] is True
        assert taken[-1] is False
    feed.close()


def test_there_is_one_health_monitor_only(tmp_path: Path) -> None:
    lock = HealthMonitorLock(str(tmp_path))
    with pytest.raises(StateError, match="already runs"):
        HealthMonitorLock(str(tmp_path))
    lock.release()
    HealthMonitorLock(str(tmp_path)).release()
    with pytest.raises(StateError, match="cannot be taken"):
        HealthMonitorLock(str(tmp_path / "absent"))
