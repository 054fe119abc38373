"""The guard's loop: listens, waits for deaths and deadlines, and acts on the judge's verdict."""

import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from openmse.guard import feed as feeds_format
from openmse.guard import judge as rules
from openmse.guard.database_stop import DatabaseStop
from openmse.guard.feed import Feed
from openmse.guard.memory import Memory
from openmse.guard.notify import Notifier
from openmse.guard.processes import Process, start_time

_READS_PER_ROUND_MAX = 256
"""Feeds read before judging; a bound, so that a flood cannot keep the guard from its duty."""
_WAIT_MS_MAX = 60_000
_ABSENCE_NS = 250_000_000
"""A guard that wakes up this late was itself held up (frozen, or the machine was paused)."""
_PATIENCE_NS = 600_000_000
"""After that, how long a living health monitor gets to be heard: the socket's short queue has kept
the oldest feeds, and the newest were lost. Longer than the longest heartbeat."""


def boottime() -> int:
    """Now: CLOCK_BOOTTIME in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def log(event: str, **fields: object) -> None:
    """One JSON line on standard error."""
    line = json.dumps({"event": event, "process": "guard", "at_ns": boottime(), **fields})
    with suppress(OSError):  # a full or closed log must not end the guard
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


class AlreadyGuarded(Exception):
    """Another guard works on this run directory."""


class Supervisor:
    """Keeps one health monitor running, and its promises kept."""

    def __init__(self, run_dir: str, command: Sequence[str], *, stop_timeout_ns: int) -> None:
        """Take the run directory. Raises: AlreadyGuarded; OSError if it cannot be used."""
        self._run_dir = run_dir
        self._command = list(command)
        self._stop_timeout_ns = stop_timeout_ns
        self._lock = _lock(os.path.join(run_dir, "guard.lock"))
        self._socket = _listen(os.path.join(run_dir, feeds_format.SOCKET_NAME))
        self._memory = Memory(run_dir)
        self._feeds, self._restarts = self._memory.load()
        self._process: Process | None = None
        self._monitor: rules.Monitor | None = None
        self._is_killed = False
        self._quick_deaths = 0
        self._start_at = 0
        self._stops: dict[str, DatabaseStop] = {}
        self._expected_at = rules.NEVER
        self._patient_until = 0
        self._give_up_at = rules.NEVER
        self._has_failed = False
        self._wakeup = _signals()
        self._notifier = Notifier(os.environ)

    @property
    def is_stopping(self) -> bool:
        """Whether the guard itself was told to stop."""
        return self._give_up_at != rules.NEVER

    def run(self) -> int:
        """Work until told to stop; return the exit status."""
        if not self._memory.is_kept:
            log("run_directory_not_in_memory", run_dir=self._run_dir)
        while True:
            self._notice_absence()
            self._reap()
            self._read_feeds()
            now = boottime()
            self._notice_death(now)
            look_again_at = self._act(now)
            if self.is_stopping and self._process is None and not self._stops:
                log("guard_stopped", is_clean=not self._has_failed)
                return 1 if self._has_failed else 0
            self._notifier.beat(now)
            self._wait(min(look_again_at, self._notifier.due_at))

    def _act(self, now: int) -> int:
        """Do what is due; return when to look again."""
        look_again_at = rules.NEVER
        if self._process is None and not self.is_stopping:
            if now >= self._start_at:
                self._start_or_attach(now)
            else:
                look_again_at = self._start_at
        if self._process is not None and now < self._patient_until:
            verdict = rules.Verdict((), False, self._patient_until)
        else:
            verdict = rules.judge(self._monitor, self._feeds.values(), now)
        for feed in verdict.stop:
            self._stop_database(feed, "its lease has ended", now)
        if verdict.is_stuck:
            self._kill_monitor("it is silent")
        if self.is_stopping and now >= self._give_up_at:
            self._has_failed = True
            self._kill_monitor("it did not stop in time")
        due = [verdict.look_again_at, look_again_at, *self._step_stops(now)]
        if self.is_stopping and not self._is_killed:
            due.append(self._give_up_at)
        return min(due)

    def _notice_absence(self) -> None:
        now = boottime()
        if now > self._expected_at + _ABSENCE_NS:
            log("guard_was_held_up", late_ms=(now - self._expected_at) // 1_000_000)
            self._patient_until = now + _PATIENCE_NS

    def _start_or_attach(self, now: int) -> None:
        found = self._running_monitor()
        if found is not None:
            log("health_monitor_attached", pid=found.pid)
            self._monitor = rules.Monitor(started_at=now, fed_at=now)
            self._patient_until = now + _PATIENCE_NS  # it may have renewed while no guard heard
        else:
            try:
                found = self._start()
            except OSError as error:
                if self._restarts == 0 and not self._feeds:
                    raise  # the command was wrong from the start: say so and end
                log("health_monitor_not_started", cause=str(error))
                self._quick_deaths += 1
                self._start_at = now + rules.restart_delay_ns(self._quick_deaths)
                return
            self._monitor = rules.Monitor(started_at=now)
        self._process, self._is_killed = found, False

    def _running_monitor(self) -> Process | None:
        """A living health monitor of this run directory, according to its lock file."""
        try:
            path = os.path.join(self._run_dir, feeds_format.LOCK_NAME)
            with open(path, encoding="ascii") as file:
                pid, start = (int(word) for word in file.read().split())
        except (OSError, ValueError):
            return None
        process = Process.find(pid, start)
        if process is not None and process.is_gone():
            process.close()
            return None
        return process

    @property
    def _stopped_mark(self) -> str:
        return os.path.join(self._run_dir, feeds_format.STOPPED_NAME)

    def _start(self) -> Process:
        with suppress(FileNotFoundError):
            os.unlink(self._stopped_mark)
        environment = dict(os.environ, OPENMSE_GUARD_RESTARTS=str(self._restarts))
        pid = os.posix_spawnp(
            self._command[0],
            self._command,
            environment,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD),
        )
        log("health_monitor_started", pid=pid, restarts=self._restarts)
        # Not reaped yet, whatever became of it, so the number is still its own.
        return Process(pid, start_time(pid) or 0, os.pidfd_open(pid))

    def _notice_death(self, now: int) -> None:
        if self._process is None or self._monitor is None or not self._process.is_gone():
            return
        lived_ns = now - self._process.started_at
        log("health_monitor_died", pid=self._process.pid, lived_ms=lived_ns // 1_000_000)
        self._process.close()
        self._process = self._monitor = None
        self._quick_deaths = self._quick_deaths + 1 if lived_ns < rules.QUICK_DEATH_NS else 0
        # The first death costs no wait: the delays count deaths before this one.
        self._start_at = now + rules.restart_delay_ns(max(0, self._quick_deaths - 1))
        if not self.is_stopping and os.path.exists(self._stopped_mark):
            log("health_monitor_stopped_on_purpose")
            self._give_up_at = now + self._stop_timeout_ns  # and so is this guard
        if self.is_stopping:
            self._stop_leftovers(now)
        else:
            self._restarts += 1
            self._memory.save(self._feeds, self._restarts)

    def _kill_monitor(self, why: str) -> None:
        if self._process is not None and not self._is_killed:
            log("health_monitor_killed", pid=self._process.pid, why=why)
            self._process.send(signal.SIGKILL)
            self._is_killed = True

    def _stop_leftovers(self, now: int) -> None:
        """At our own end: in SYNC nothing may outlive the health monitor until a deadline."""
        for feed in list(self._feeds.values()):
            if feed.mode == feeds_format.SYNC and feed.deadline_ns is not None:
                self._stop_database(feed, "the guard was told to stop", now)

    def _stop_database(self, feed: Feed, why: str, now: int) -> None:
        if feed.group in self._stops:
            return
        # What was promised is being done; a feed that comes later may promise anew.
        self._feeds[feed.group] = feed._replace(postmaster_pid=0, postmaster_start=0)
        stop = DatabaseStop(feed, now)
        if not stop.is_done:
            log("database_stopping", group=feed.group, pid=stop.pid, why=why)
            self._stops[feed.group] = stop

    def _step_stops(self, now: int) -> list[int]:
        due = []
        for group, stop in list(self._stops.items()):
            due.append(stop.step(now))
            if stop.is_done:
                log("database_stopped", group=group, pid=stop.pid, was_forced=stop.was_forced)
                del self._stops[group]
        return due

    def _read_feeds(self) -> None:
        """Read what has arrived *before* judging: after a pause of the machine it is all there."""
        is_changed = False
        for _ in range(_READS_PER_ROUND_MAX):
            try:
                datagram = self._socket.recv(feeds_format.DATAGRAM_BYTES_MAX)
            except (BlockingIOError, InterruptedError):
                break
            feed = feeds_format.decode(datagram)
            if feed is not None and self._monitor is not None and self._is_from_monitor(feed):
                self._monitor = self._monitor._replace(fed_at=boottime())
                self._feeds = feeds_format.updated(self._feeds, feed)
                is_changed |= bool(feed.mode)
        if is_changed:
            self._memory.note(self._feeds, self._restarts, boottime())

    def _is_from_monitor(self, feed: Feed) -> bool:
        """Whether the running health monitor sent it, and not one that is dead by now."""
        process = self._process
        return process is not None and (feed.pid, feed.start) == (process.pid, process.start)

    def _reap(self) -> None:
        """Collect ended children, adopted ones included; read the pending signals."""
        with suppress(BlockingIOError):
            while data := self._wakeup.recv(256):
                if not self.is_stopping and {signal.SIGTERM, signal.SIGINT} & set(data):
                    self._begin_stop()
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            with suppress(ChildProcessError):
                os.waitpid(found.si_pid, os.WNOHANG)
            if self._process is not None and found.si_pid == self._process.pid:
                log("health_monitor_ended", pid=found.si_pid, code=found.si_code,
                    status=found.si_status)  # fmt: skip
                self._has_failed |= self.is_stopping and found.si_status != 0

    def _begin_stop(self) -> None:
        self._give_up_at = boottime() + self._stop_timeout_ns
        if self._process is not None:
            log("health_monitor_asked_to_stop", pid=self._process.pid)
            self._process.send(signal.SIGTERM)
        else:
            self._stop_leftovers(boottime())

    def _wait(self, until: int) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        if self._process is not None:
            poll.register(self._process.descriptor, select.POLLIN)
        for stop in self._stops.values():
            if stop.descriptor is not None:
                poll.register(stop.descriptor, select.POLLIN)
        left_ms = max(0, min((until - boottime() + 999_999) // 1_000_000, _WAIT_MS_MAX))
        self._expected_at = boottime() + left_ms * 1_000_000
        poll.poll(left_ms)


def _lock(path: str) -> int:
    """Take the lock that says who guards this directory; held until this process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AlreadyGuarded(path) from error
    return descriptor


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    with suppress(FileNotFoundError):
        os.unlink(path)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.setblocking(False)
    return listener


def _signals() -> socket.socket:
    """A socket on which the numbers of arriving signals can be read."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reader
