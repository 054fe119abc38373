"""Processes as the laboratory sees them: by PID namespace, identity and command line.

A pid alone may be somebody else's by the time it is used, so processes are kept as (pid, start
time) and signalled through a pidfd. Pids are those of the namespace this code runs in (the host's).
"""

import contextlib
import os
import select
import signal
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """One process, told from a later one with the same pid by its start time (clock ticks)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The process that has ``pid`` now, or None."""
        stat = _stat(pid)
        return cls(pid, int(stat[19])) if stat else None

    def is_alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        stat = _stat(self.pid)
        return bool(stat) and int(stat[19]) == self.started and stat[0] not in "ZX"

    def has_stopped(self) -> bool:
        """Whether it is stopped (SIGSTOP), or has ended: it does nothing any more."""
        stat = _stat(self.pid)
        return not stat or int(stat[19]) != self.started or stat[0] in "TtZX"

    def signal(self, number: int) -> bool:
        """Send a signal; False if the process is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if Process.of(self.pid) != self:
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    def wait_gone(self, timeout_s: float) -> bool:
        """Wait until it has ended (it may stay a zombie); False on timeout."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if Process.of(self.pid) != self:
                return True
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(timeout_s * 1000))
        finally:
            os.close(descriptor)

    def kill_and_wait(self, timeout_s: float) -> bool:
        """SIGKILL, then wait until it has ended; False on timeout."""
        return not self.signal(signal.SIGKILL) or self.wait_gone(timeout_s)


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the third field (state) on; empty for a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def all_pids() -> list[int]:
    """Every pid in this PID namespace and those below."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def parent_of(pid: int) -> int:
    """The pid of the parent, or 0."""
    stat = _stat(pid)
    return int(stat[1]) if stat else 0


def arguments_of(pid: int) -> list[str]:
    """The command line; empty for a process that is gone, a zombie or a kernel thread."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            raw = file.read()
    except OSError:
        return []
    return [part.decode(errors="replace") for part in raw.removesuffix(b"\0").split(b"\0") if raw]


def command_of(pid: int) -> str:
    """The kernel's name of the process (comm); '' for one that is gone, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
    except OSError:
        return ""
    return "" if rest.split()[0] in "ZX" else name


def namespace_of(pid: int, kind: str) -> tuple[int, int] | None:
    """(device, inode) of one of its namespaces (``pid``, ``net``, ``mnt``, …), None if gone."""
    try:
        status = os.stat(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def pids_in(kind: str, namespaces: Iterable[tuple[int, int]]) -> list[int]:
    """The pids of all processes in any of ``namespaces``, oldest pid first."""
    wanted = frozenset(namespaces)
    if not wanted:
        return []
    return sorted(pid for pid in all_pids() if namespace_of(pid, kind) in wanted)


def descendants_of(root: int) -> list[int]:
    """The pids of the children of ``root``, their children, and so on."""
    children: dict[int, list[int]] = {}
    for pid in all_pids():
        children.setdefault(parent_of(pid), []).append(pid)
    found: list[int] = []
    frontier = [root]
    while frontier:
        below = children.get(frontier.pop(), [])
        found += below
        frontier += below
    return found


def ancestors_of(pid: int) -> list[int]:
    """``pid`` and its parents up to the first process."""
    chain = []
    while pid:
        chain.append(pid)
        pid = parent_of(pid)
    return chain


def kill_all(pids: Iterable[int], timeout_s: float) -> list[int]:
    """SIGKILL ``pids``, never ourselves or our parents; return those that did not end in time."""
    spared = frozenset(ancestors_of(os.getpid()))
    victims = [p for p in map(Process.of, pids) if p is not None and p.pid not in spared]
    for process in victims:
        with contextlib.suppress(PermissionError):
            process.signal(signal.SIGKILL)
    return [process.pid for process in victims if not process.wait_gone(timeout_s)]
