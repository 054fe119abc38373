"""Tells the guard what it must do should this process die or freeze.

After each step at most every 50 ms: until when the lease lasts, in which mode, and which
postmaster is ours.
"""

import os
from pathlib import Path

from openmse.ha.draft import is_owner, needs_lease, timing_of
from openmse.ha.state import Node
from openmse.ha.values import MILLISECOND, SECOND, Instant
from openmse.node.config import NodeConfig
from openmse.node.drivers.guard_feed import Feed, GuardFeed

FEED_EVERY_NS = 50 * MILLISECOND
SILENCE_AT_LEAST_NS = 5 * SECOND


class GuardLink:
    """Feeds the guard from the core's state."""

    def __init__(self, config: NodeConfig) -> None:
        self._feed = GuardFeed(Path(config.paths.run_dir))
        self._data_dir = config.places.data_dir
        self._sent_at = Instant(0)
        self._sent: Feed | None = None

    def on_step(self, node: Node) -> None:
        """Send what matters, if it changed or is due. Never blocks."""
        known = node.record.known
        is_bound = is_owner(node) and needs_lease(node) and not node.is_halted
        deadline = max(node.lease_until, node.cutoff_at) if is_bound else 0
        feed = Feed(
            pid=os.getpid(),
            mode=known.mode.value if known is not None and is_owner(node) else "",
            deadline_ns=deadline,
            silence_limit_ns=max(timing_of(known).lease_ns, SILENCE_AT_LEAST_NS),
            data_dir=str(self._data_dir),
        )
        is_due = node.now - self._sent_at >= FEED_EVERY_NS
        if is_due or feed != self._sent:
            self._feed.send(feed)
            self._sent_at, self._sent = node.now, feed
