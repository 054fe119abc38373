"""Which of the two paths to the other node carries, judged by the copies of each datagram. Pure.

Every datagram is sent on both paths. The first copy that comes is delivered, the second proves only
that its path carries: it is the same bytes, so nothing of it needs to be opened again. A path on
which some datagrams in a row did not follow those of the other is down; silence on both says
nothing about either. Instants are nanoseconds of the caller's steady clock.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

MISSED_MAX = 2
"""Datagrams in a row whose copy did not come, before the newest, whose copy may be on its way: one
may be lost on a good cable."""
MISSED_NS = 150_000_000
"""The first of them must be as old as this: a burst comes on one path before the other."""
RETURN_NS = 5_000_000_000
"""A path that was down must carry everything for so long before it counts as up."""
RETURN_NS_MAX = 300_000_000_000
SETTLED_NS = 60_000_000_000
"""A path that is lost again sooner than this after its return has to wait twice as long."""
REMEMBERED = 16
"""Delivered datagrams whose copies are waited for."""


class Path(IntEnum):
    """A way to the other node."""

    NETWORK = 0
    """The health monitor interface."""
    DIRECT = 1
    """The cable between the nodes."""


@dataclass(slots=True)
class Side:
    """What is known of one path."""

    is_up: bool | None = None
    """None: not judged yet."""
    heard_at: int = 0
    missed: int = 0
    missed_since: int = 0
    clean_since: int = 0
    hold_ns: int = 0
    """How long it must be clean before it is up: at first not at all."""
    returned_at: int = 0


@dataclass(slots=True)
class _Delivered:
    data: bytes
    path: Path
    is_matched: bool = False


class PathWatch:
    """Both paths to one party. ``on_change``: a path came up or went down."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.sides = (Side(), Side())
        self._on_change = on_change
        self._recent: deque[_Delivered] = deque(maxlen=REMEMBERED)

    def preferred(self) -> Path | None:
        """The path to use: the direct one unless it is down; None while nothing is known."""
        network, direct = self.sides
        if direct.is_up:
            return Path.DIRECT
        if direct.is_up is None:
            return None
        is_only_way = network.is_up is False and network.missed > 0
        return Path.DIRECT if is_only_way else Path.NETWORK

    def is_silent(self, path: Path, at: int) -> bool:
        """Whether the other path carries at this moment and this one does not."""
        side = self.sides[path]
        return side.missed > MISSED_MAX and at - side.missed_since >= MISSED_NS

    def is_copy(self, data: bytes, path: Path, at: int) -> bool:
        """Whether these are the bytes of a datagram that the other path has delivered already."""
        for known in reversed(self._recent):
            if known.path is not path and not known.is_matched and known.data == data:
                known.is_matched = True
                self._hear(self.sides[path], at)
                return True
        return False

    def delivered(self, data: bytes, path: Path, at: int) -> None:
        """A genuine datagram came first on ``path``."""
        self._recent.append(_Delivered(data, path))
        other = self.sides[Path(1 - path)]
        other.missed += 1
        if other.missed == 1:
            other.missed_since = at
        if self.is_silent(Path(1 - path), at):
            other.clean_since = 0
            if other.is_up is not False:
                self._lose(other, at)
        self._hear(self.sides[path], at)

    def _hear(self, side: Side, at: int) -> None:
        side.heard_at, side.missed = at, 0
        if side.is_up:
            return
        if not side.clean_since:
            side.clean_since = at
        if at - side.clean_since >= side.hold_ns:
            side.is_up, side.returned_at = True, at
            self._on_change()

    def _lose(self, side: Side, at: int) -> None:
        is_again = side.hold_ns > 0 and at - side.returned_at < SETTLED_NS
        side.hold_ns = min(2 * side.hold_ns, RETURN_NS_MAX) if is_again else RETURN_NS
        side.is_up = False
        self._on_change()
