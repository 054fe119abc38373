"""The health monitor's side of the guard: signs of life, and the lock that says who it is."""

import errno
import fcntl
import os
import socket

from openmse.errors import StateError
from openmse.guard.feed import LOCK_NAME, SOCKET_NAME, Feed, encode
from openmse.guard.processes import start_time

__all__ = ["GuardFeed", "HealthMonitorLock"]


class GuardFeed:
    """Sends feeds to the guard of a run directory; never waits, never fails.

    A guard that is away (being restarted) misses some, which harms nothing: the next feed carries
    everything anew.
    """

    def __init__(self, run_dir: str) -> None:
        self._path = os.path.join(run_dir, SOCKET_NAME)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._pid = os.getpid()
        self._start = start_time(self._pid) or 0
        self._data_dir = ("", "")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(
        self,
        *,
        mode: str = "",
        deadline_ns: int | None = None,
        silence_limit_ns: int = 10_000_000_000,
        postmaster: tuple[int, int] | None = None,
        data_dir: str = "",
        group: str = "",
        groups: tuple[str, ...] = (),
    ) -> bool:
        """Send one sign of life; return whether a guard was there to take it.

        ``mode``: '' before the register is known: keeps whatever the guard was told before, so a
        health monitor that adopts must first send the lease it found (``KernelLease.until``) and
        never a ``deadline_ns`` of None in SYNC unless this node is not the owner.
        ``groups``: all groups this process looks after, if there is more than ``group``.
        ``postmaster``: (pid, start time as in /proc/<pid>/stat). Instants: CLOCK_BOOTTIME, ns.
        """
        pid, start = postmaster if postmaster is not None else (0, 0)
        feed = Feed(
            pid=self._pid,
            start=self._start,
            mode=mode,
            deadline_ns=deadline_ns,
            silence_limit_ns=silence_limit_ns,
            postmaster_pid=pid,
            postmaster_start=start,
            data_dir=self._real(data_dir),
            group=group,
            groups=groups,
        )
        try:
            self._socket.sendto(encode(feed), self._path)
        except OSError:
            return False
        return True

    def _real(self, data_dir: str) -> str:
        """The real path, looked up once: the guard itself must not touch the disk."""
        if self._data_dir[0] != data_dir:
            self._data_dir = (data_dir, os.path.realpath(data_dir) if data_dir else "")
        return self._data_dir[1]


class HealthMonitorLock:
    """Held by the one health monitor of a run directory as long as it lives."""

    def __init__(self, run_dir: str) -> None:
        """Take the lock and write down who holds it.

        Raises: StateError if another health monitor runs here, or the directory is unusable.
        """
        path = os.path.join(run_dir, LOCK_NAME)
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(self._descriptor, 0)
                pid = os.getpid()
                os.pwrite(self._descriptor, f"{pid} {start_time(pid)}\n".encode(), 0)
            except OSError:
                os.close(self._descriptor)
                raise
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise StateError(
                    f"Another health monitor already runs on {run_dir}; this one ends.",
                    "Use `mse ha status` to talk to it; two would fight over the same resources.",
                    code="MSE-STA-020",
                    is_retryable=False,
                ) from error
            raise StateError(
                f"The lock of the health monitor in {run_dir} cannot be taken: {error.strerror}.",
                "The run directory must exist and be writable for root.",
                code="MSE-STA-021",
            ) from error

    def release(self) -> None:
        """Give the lock back, as the end of the process does."""
        os.close(self._descriptor)
