"""What the guard does and when: pure, every instant passed in (protocol §4.3).

In SYNC a deadline is kept by stopping PostgreSQL, whatever became of the health monitor. In ALONE
and PINNED nothing times out and PostgreSQL is never touched. A health monitor that is merely slow
is left alone until its lease has ended: restarting it earlier would make an outage of a busy
second.
"""

from collections.abc import Iterable
from typing import NamedTuple

from openmse.guard.feed import SYNC, Feed

FROZEN_NS = 1_000_000_000
"""Silent for this long past a deadline: stuck, rather than busy with stopping by itself."""
START_LIMIT_NS = 30_000_000_000
"""How long a health monitor may take from its start to its first feed."""
RESTART_DELAYS_NS = (0, 0, 200_000_000, 500_000_000, 1_000_000_000)
QUICK_DEATH_NS = 5_000_000_000
"""A health monitor that lived less counts towards the back-off."""
NEVER = 2**62


class Monitor(NamedTuple):
    """What is known of the running health monitor. Instants: CLOCK_BOOTTIME, ns."""

    started_at: int
    """When it was started, or found by a new guard."""
    fed_at: int | None = None


class Verdict(NamedTuple):
    """What to do now, and when to look again if nothing happens before."""

    stop: tuple[Feed, ...]
    """Groups whose PostgreSQL must be stopped."""
    is_stuck: bool
    """The health monitor is to be killed (and started anew)."""
    look_again_at: int


def judge(monitor: Monitor | None, feeds: Iterable[Feed], now: int) -> Verdict:
    """Decide from the last feed of each group and the health monitor, if one is running."""
    known = tuple(feeds)
    deadlines = {feed: _deadline(feed) for feed in known}
    overdue = tuple(feed for feed in known if now >= deadlines[feed])
    stuck_at = NEVER if monitor is None else _stuck_at(monitor, known)
    later = [at for at in (*deadlines.values(), stuck_at) if at > now]
    return Verdict(overdue, now >= stuck_at, min(later, default=NEVER))


def restart_delay_ns(quick_deaths: int) -> int:
    """How long to wait before the next start after so many quick deaths in a row."""
    return RESTART_DELAYS_NS[min(quick_deaths, len(RESTART_DELAYS_NS) - 1)]


def _deadline(feed: Feed) -> int:
    """When PostgreSQL of this group must be down unless told otherwise."""
    if feed.mode != SYNC or feed.deadline_ns is None or feed.postmaster_pid == 0:
        return NEVER
    return feed.deadline_ns


def _stuck_at(monitor: Monitor, feeds: tuple[Feed, ...]) -> int:
    heard_at = monitor.started_at if monitor.fed_at is None else monitor.fed_at
    first_deadline = min((_lease_end(feed) for feed in feeds), default=NEVER)
    if monitor.fed_at is None:
        # Just started: what earlier feeds promised is kept, but it is not to blame for it.
        return heard_at + START_LIMIT_NS
    if first_deadline != NEVER:
        return max(first_deadline, heard_at + FROZEN_NS)
    limit = min((feed.silence_limit_ns for feed in feeds), default=START_LIMIT_NS)
    return heard_at + limit


def _lease_end(feed: Feed) -> int:
    if feed.mode != SYNC or feed.deadline_ns is None:
        return NEVER
    return feed.deadline_ns
