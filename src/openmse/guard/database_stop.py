"""Stops one PostgreSQL without waiting for it: immediate shutdown first, then by force."""

import signal

from openmse.guard import processes
from openmse.guard.feed import Feed
from openmse.guard.judge import NEVER
from openmse.guard.processes import Process

FORCE_AFTER_NS = 500_000_000
"""How long an immediate shutdown may take; a postmaster that is frozen never does it."""
AGAIN_AFTER_NS = 200_000_000


class DatabaseStop:
    """The stop of the instance named by a feed. Call ``step`` until it says it is done."""

    def __init__(self, feed: Feed, now: int) -> None:
        self.group = feed.group
        self._data_dir = feed.data_dir
        self._postmaster = _postmaster(feed)
        self.pid = 0 if self._postmaster is None else self._postmaster.pid
        self._program = processes.program_of(self.pid) if self._postmaster is not None else ""
        self._family: dict[int, int] = {}
        self._force_at = now + FORCE_AFTER_NS
        self._is_postmaster_gone = self._postmaster is None
        self.is_done = self._postmaster is None
        self.was_forced = False
        if self._postmaster is not None:
            self._remember_family()
            self._postmaster.send(signal.SIGQUIT)

    @property
    def descriptor(self) -> int | None:
        """Becomes readable when the postmaster ends; None once it has."""
        if self._postmaster is None or self._is_postmaster_gone:
            return None
        return self._postmaster.descriptor

    def step(self, now: int) -> int:
        """Go on; return when to call again at the latest (NEVER once done)."""
        if self.is_done or self._postmaster is None:
            return NEVER
        self._is_postmaster_gone = self._postmaster.is_gone()
        if self._is_postmaster_gone and not self._living_family():
            self._finish()
            return NEVER
        if now >= self._force_at:
            self.was_forced = True
            self._remember_family()
            self._postmaster.send(signal.SIGKILL)
            self._kill_family()
            self._force_at = now + AGAIN_AFTER_NS
        return min(
            self._force_at, now + AGAIN_AFTER_NS // 10 if self._is_postmaster_gone else NEVER
        )

    def _finish(self) -> None:
        self.is_done = True
        if self._postmaster is not None:
            self._postmaster.close()
            self._postmaster = None

    def _remember_family(self) -> None:
        """Note children while the postmaster is still their parent: its death orphans them."""
        for pid in processes.family(self.pid, self._data_dir, self._program):
            start = processes.start_time(pid)
            if start is not None:
                self._family[pid] = start

    def _living_family(self) -> bool:
        living = False
        for pid, start in list(self._family.items()):
            process = Process.find(pid, start)
            if process is None:
                del self._family[pid]
                continue
            living |= not process.is_gone()
            process.close()
        return living

    def _kill_family(self) -> None:
        for pid, start in self._family.items():
            process = Process.find(pid, start)
            if process is not None:
                process.send(signal.SIGKILL)
                process.close()


def _postmaster(feed: Feed) -> Process | None:
    """The one that was named; or, if that has gone, one started since in the same directory (the
    health monitor may have frozen before it could tell)."""
    named = Process.find(feed.postmaster_pid, feed.postmaster_start)
    if named is not None and not named.is_gone():
        return named
    if named is not None:
        named.close()
    found = processes.postmaster_in(feed.data_dir) if feed.data_dir else None
    return None if found is None else Process.find(*found)
