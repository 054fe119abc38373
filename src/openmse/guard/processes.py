"""Processes by (pid, start time) and pidfd, so that none is ever mistaken for another.

Source: proc(5), pidfd_open(2).
"""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress


def start_time(pid: int) -> int | None:
    """The start time of a process in clock ticks since boot; None if there is none (any more)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[19])


class Process:
    """One particular process, held by a pidfd."""

    def __init__(self, pid: int, start: int, descriptor: int) -> None:
        self.pid = pid
        self.start = start
        self.descriptor = descriptor

    @classmethod
    def find(cls, pid: int, start: int) -> "Process | None":
        """The process with this number *and* start time; None if it is gone."""
        if pid <= 0:
            return None
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return None
        # Read after the pidfd is open: from here on the number cannot come to mean another.
        if start_time(pid) != start:
            os.close(descriptor)
            return None
        return cls(pid, start, descriptor)

    @property
    def started_at(self) -> int:
        """When it was started: CLOCK_BOOTTIME in ns, to the clock tick."""
        return self.start * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))

    def is_gone(self) -> bool:
        """Whether it has ended (a zombie has)."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.descriptor, number)

    def close(self) -> None:
        """Let go of the pidfd; the process is not touched."""
        os.close(self.descriptor)


def program_of(pid: int) -> str:
    """The path of the program a process runs, '' if unknown."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def family(postmaster: int, data_dir: str, program: str) -> Iterator[int]:
    """Processes that belong to an instance: the postmaster's children, and orphans of it.

    An orphan is known by running the same program in the data directory; both, so that an
    administrator's shell that happens to stand in it is left alone. ``data_dir`` must be a real
    path: nothing here looks at the disk, which may hang.
    """
    for pid in _others():
        if pid == postmaster:
            continue
        is_orphan = data_dir and program and _directory(pid) == data_dir
        if _parent(pid) == postmaster or (is_orphan and program_of(pid) == program):
            yield pid


def postmaster_in(data_dir: str) -> tuple[int, int] | None:
    """(pid, start time) of the PostgreSQL that runs in ``data_dir`` (a real path), if one does."""
    here = [
        pid
        for pid in _others()
        if _directory(pid) == data_dir and os.path.basename(program_of(pid)) == "postgres"
    ]
    for pid in here:
        start = start_time(pid)
        if start is not None and _parent(pid) not in here:
            return pid, start
    return None


def _others() -> Iterator[int]:
    """Every process but this one."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            yield int(name)


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _directory(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""
