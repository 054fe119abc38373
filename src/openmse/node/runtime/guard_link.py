"""Tells the guard what it must do should this process die or freeze.

After each step, at most every 250 ms unless something changed: until when the lease lasts, in which
mode, and which postmaster is ours.
"""

from openmse.guard.processes import start_time
from openmse.ha.draft import is_owner, needs_lease, timing_of
from openmse.ha.state import Node
from openmse.ha.values import FOREVER, MILLISECOND, SECOND, Instant, Mode
from openmse.node.config import NodeConfig
from openmse.node.drivers.guard_feed import GuardFeed
from openmse.node.drivers.kernel_lease import KernelLease
from openmse.node.runtime.facts import postgres_pid

FEED_EVERY_NS = 250 * MILLISECOND
"""Far below the shortest silence that the guard minds; each change is told at once, an extended
lease too: a guard that believed in an earlier end would stop a frozen owner's database too soon."""
SILENCE_AT_LEAST_NS = 5 * SECOND


class GuardLink:
    """Feeds the guard from the core's state."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._feed = GuardFeed(config.paths.run_dir)
        self._data_dir = str(config.places.data_dir)
        self._sent_at = Instant(0)
        self._sent: tuple[str, int | None, object] | None = None
        self._postmaster: tuple[int, int] | None = None
        self._process: object = None
        self._record: object = None
        self._mode = ""
        self._is_leased = False
        self.group = ""
        self.found_until = Instant(0)
        """The kernel lease that was found at the start: what holds until the first grant."""

    def found(self, lease: KernelLease | None) -> None:
        """Note what the kernel held when this life began."""
        is_finite = lease is not None and lease.until != FOREVER
        self.found_until = lease.until if lease is not None and is_finite else Instant(0)

    def on_step(self, node: Node) -> None:
        """Send what matters, if it changed or is due. Never blocks."""
        if node.db.process is not self._process:
            self._process = node.db.process
            self._postmaster = self._look()
        if node.record is not self._record:
            self._record = node.record
            self._take(node)
        deadline = None
        if self._is_leased and not node.is_halted:
            deadline = int(node.lease_until or max(node.cutoff_at, self.found_until))
        state = (self._mode, deadline, self._postmaster)
        if state == self._sent and node.now - self._sent_at < FEED_EVERY_NS:
            return
        self._sent, self._sent_at = state, node.now
        self._feed.send(
            mode=self._mode,
            deadline_ns=deadline,
            silence_limit_ns=max(timing_of(node.record.known).lease_ns, SILENCE_AT_LEAST_NS),
            postmaster=self._postmaster,
            data_dir=self._data_dir,
            group=self.group,
        )

    def _take(self, node: Node) -> None:
        """What of it follows from the record, which seldom changes."""
        known = node.record.known
        self._is_leased = is_owner(node) and needs_lease(node)
        self._mode = known.mode.value if known is not None else ""
        if self._is_leased:
            self._mode = Mode.SYNC.value  # also while a SYNC of unknown fate is in flight

    def _look(self) -> tuple[int, int] | None:
        pid = postgres_pid(self._config)
        started = start_time(pid) if pid is not None else None
        return (pid, started) if pid is not None and started is not None else None
