"""What the health monitor tells the guard, as one datagram; pure."""

import json
from typing import Any, NamedTuple

VERSION = 1
SOCKET_NAME = "guard.sock"
LOCK_NAME = "health-monitor.lock"
STOPPED_NAME = "stopped"
"""In the run directory: the health monitor ended as it was asked to; so does its guard."""
DATAGRAM_BYTES_MAX = 8192
SYNC = "SYNC"


class Feed(NamedTuple):
    """A sign of life, with what is to be done for one group if it is the last one.

    ``mode``: SYNC, ALONE or PINNED; '' while the health monitor does not know yet, which counts
    as a sign of life and changes nothing that the guard knew before.
    ``deadline_ns``: CLOCK_BOOTTIME at which the owner's lease ends; None: nothing times out.
    ``silence_limit_ns``: after how long without a feed a health monitor counts as stuck when no
    deadline says so earlier. ``*_start``: start time as in /proc/<pid>/stat, so that a number
    used again is not taken for the same process. ``postmaster_pid``: 0 while there is none.
    ``groups``: all groups that the sender looks after; () means ``group`` alone. What was said of
    any other group is void, so that one that was left behind cannot come due.
    """

    pid: int
    start: int
    mode: str = ""
    deadline_ns: int | None = None
    silence_limit_ns: int = 10_000_000_000
    postmaster_pid: int = 0
    postmaster_start: int = 0
    data_dir: str = ""
    group: str = ""
    groups: tuple[str, ...] = ()


def encode(feed: Feed) -> bytes:
    """The datagram for ``feed``."""
    return json.dumps({"v": VERSION, **feed._asdict()}, separators=(",", ":")).encode()


def decode(datagram: bytes) -> Feed | None:
    """The feed in ``datagram``; None for anything that is not one, whoever sent it."""
    try:
        fields = json.loads(datagram)
    except (ValueError, RecursionError):
        return None
    return from_fields(fields) if isinstance(fields, dict) else None


def from_fields(fields: dict[str, Any]) -> Feed | None:
    """A feed from decoded JSON; None if a field is missing or of another type."""
    if fields.get("v", VERSION) != VERSION:
        return None
    try:
        feed = Feed(**{name: fields[name] for name in Feed._fields if name in fields})
    except TypeError:
        return None
    numbers = (
        feed.pid,
        feed.start,
        feed.silence_limit_ns,
        feed.postmaster_pid,
        feed.postmaster_start,
        0 if feed.deadline_ns is None else feed.deadline_ns,
    )
    if any(type(number) is not int or number < 0 for number in numbers):
        return None
    if not isinstance(feed.groups, list | tuple):
        return None
    texts = (feed.mode, feed.data_dir, feed.group, *feed.groups)
    if not all(isinstance(text, str) for text in texts):
        return None
    return feed._replace(groups=tuple(feed.groups))


def updated(known: dict[str, Feed], feed: Feed) -> dict[str, Feed]:
    """What is known of each group once ``feed`` has come."""
    if not feed.mode:
        return known
    kept = (group for group in (feed.groups or (feed.group,)) if group in known)
    return {group: known[group] for group in kept} | {feed.group: feed}
