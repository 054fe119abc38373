"""Keeps one daemon running where no systemd does: ``python -m openmse.install.engine.keeper``.

    keeper NAME DIRECTORY LOG [--stopped-mark PATH] -- COMMAND...

Starts the command in a session of its own and starts it again when it fails; one that ends with
status 0 was stopped on purpose, and 2 or 3 (wrong call, guarded already) get no better by trying.
SIGTERM is passed on. A keeper that is killed leaves the daemon running; the next one watches it on.
Standard library only, and little of it: it must outlive what it watches.

Files in DIRECTORY, each one line "PID START-TIME" (as in /proc/PID/stat, so that a number used
again is not taken for the same process): NAME.keeper (locked while the keeper lives) and NAME.pid.
"""

import fcntl
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

from openmse.guard.processes import Process, start_time

RESTART_DELAYS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
QUICK_DEATH_S = 10.0
"""A daemon that lived less counts towards the back-off."""
FINAL = (0, 2, 3)
LOG_LIMIT_BYTES = 32 * 1024**2
"""A log that is longer when the daemon is started becomes LOG.1."""
_USAGE = "usage: keeper NAME DIRECTORY LOG [--stopped-mark PATH] -- COMMAND...\n"


def keeper_file(directory: str, name: str) -> str:
    """Where the keeper of a daemon says who it is."""
    return os.path.join(directory, f"{name}.keeper")


def daemon_file(directory: str, name: str) -> str:
    """Where the keeper says which process the daemon is."""
    return os.path.join(directory, f"{name}.pid")


def find(path: str) -> Process | None:
    """The living process that a file names, by its number and its start time; else None."""
    try:
        with open(path, encoding="ascii") as file:
            pid, start = (int(word) for word in file.read().split())
    except (OSError, ValueError):
        return None
    process = Process.find(pid, start)
    if process is not None and process.is_gone():
        process.close()
        return None
    return process


def restart_delay_s(quick_deaths: int) -> float:
    """How long to wait before the next start after so many quick deaths in a row (from 1)."""
    return RESTART_DELAYS_S[min(max(quick_deaths, 1), len(RESTART_DELAYS_S)) - 1]


class Keeper:
    """One daemon and its life."""

    def __init__(self, name: str, directory: str, log: str, stopped_mark: str = "") -> None:
        self._name = name
        self._directory = directory
        self._log = log
        self._stopped_mark = stopped_mark
        self._daemon: Process | None = None
        self._is_ours = False
        self._started_at = 0.0
        self._quick_deaths = 0
        self._is_stopping = False
        self._wakeup = _signals()

    def run(self, command: list[str]) -> int:
        """Keep the daemon until it is stopped; its last exit status."""
        self._daemon = find(daemon_file(self._directory, self._name))
        if self._daemon is not None:
            _say(f"{self._name} (pid {self._daemon.pid}) runs already: it is watched on")
        while True:
            if self._daemon is None:
                self._start(command)
            status = self._wait()
            if self._is_stopping or status in FINAL:
                with suppress(FileNotFoundError):
                    os.unlink(daemon_file(self._directory, self._name))
                return max(status, 0)
            if not self._pause():
                return 0

    def _start(self, command: list[str]) -> None:
        _rotate(self._log)
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        pid = os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD),
        )
        # Not reaped yet, whatever became of it, so the number is still its own.
        self._daemon = Process(pid, start_time(pid) or 0, os.pidfd_open(pid))
        self._is_ours = True
        self._started_at = time.monotonic()
        _write(daemon_file(self._directory, self._name), self._daemon)
        _say(f"{self._name} started as pid {pid}")

    def _wait(self) -> int:
        """Until the daemon has ended; its exit status, negative for a signal or unknown."""
        daemon = self._daemon
        assert daemon is not None
        while not daemon.is_gone():
            poll = select.poll()
            poll.register(daemon.descriptor, select.POLLIN)
            poll.register(self._wakeup, select.POLLIN)
            poll.poll()
            self._read_signals()
        status = os.waitstatus_to_exitcode(os.waitpid(daemon.pid, 0)[1]) if self._is_ours else -1
        if not self._is_ours and self._stopped_mark and os.path.exists(self._stopped_mark):
            status = 0  # not our child, so its status is lost; but it left word
        _say(f"{self._name} (pid {daemon.pid}) ended with {status}")
        daemon.close()
        self._daemon = None
        is_quick = time.monotonic() - self._started_at < QUICK_DEATH_S
        self._quick_deaths = self._quick_deaths + 1 if is_quick else 1
        return status

    def _pause(self) -> bool:
        """Wait before the next start; whether there is to be one."""
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        until = time.monotonic() + restart_delay_s(self._quick_deaths)
        while (left_s := until - time.monotonic()) > 0 and not self._is_stopping:
            poll.poll(left_s * 1000)
            self._read_signals()
        return not self._is_stopping

    def _read_signals(self) -> None:
        with suppress(BlockingIOError):
            while data := self._wakeup.recv(256):
                if {signal.SIGTERM, signal.SIGINT} & set(data):
                    self._is_stopping = True
                    if self._daemon is not None:
                        self._daemon.send(signal.SIGTERM)


def _signals() -> socket.socket:
    """A socket on which the numbers of arriving signals can be read."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return reader


def _write(path: str, process: Process) -> None:
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(f"{process.pid} {process.start}\n")
    os.replace(f"{path}.new", path)


def _rotate(log: str) -> None:
    with suppress(OSError):
        if os.path.getsize(log) > LOG_LIMIT_BYTES:
            os.replace(log, f"{log}.1")


def _say(sentence: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} keeper: {sentence}\n")
        sys.stderr.flush()


def _take(path: str) -> int:
    """The lock that says who keeps this daemon, with our name in it; -1 if another does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()} {start_time(os.getpid())}\n".encode("ascii"))
    return descriptor


def main(arguments: list[str]) -> int:
    """Keep a daemon; 2 for a wrong call, 3 if it is kept already, else the daemon's status."""
    try:
        at = arguments.index("--")
        options, command = arguments[:at], arguments[at + 1 :]
        name, directory, log = options[:3]
        mark = options[4] if options[3:4] == ["--stopped-mark"] else ""
        if not command:
            raise ValueError
    except (ValueError, IndexError):
        sys.stderr.write(_USAGE)
        return 2
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        if _take(keeper_file(directory, name)) < 0:
            return 3
        return Keeper(name, directory, log, mark).run(command)
    except OSError as error:
        _say(f"{name} cannot be kept: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
