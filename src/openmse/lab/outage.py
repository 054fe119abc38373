"""How long nobody could write: gaps between acknowledged writes, and their distribution.

Pure. Units: instants in CLOCK_BOOTTIME nanoseconds, results in milliseconds where named so.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Gap:
    """Nothing was acknowledged between two instants. ``is_open``: nor ever after."""

    begin: int
    end: int
    is_open: bool = False

    @property
    def ms(self) -> float:
        """Its length in milliseconds."""
        return (self.end - self.begin) / MS


def longest_gap(acknowledged_at: Sequence[int], begin: int, end: int) -> Gap:
    """The longest time without an acknowledged write that touches [begin, end].

    ``acknowledged_at`` is sorted. A gap that had begun before ``begin`` counts in full; one that
    lasts beyond ``end`` is counted to the first write after it, or up to ``end`` and open.
    """
    first = bisect_right(acknowledged_at, begin)
    before = acknowledged_at[first - 1] if first else begin
    longest = Gap(before, before)
    for at in acknowledged_at[first:]:
        if at - before > longest.end - longest.begin:
            longest = Gap(before, at)
        before = at
        if at >= end:
            return longest
    if end - before > longest.end - longest.begin:
        return Gap(before, end, is_open=True)
    return longest


def gaps_over(acknowledged_at: Sequence[int], threshold_ms: float) -> list[Gap]:
    """Every gap of at least ``threshold_ms`` between acknowledged writes, in order."""
    limit = threshold_ms * MS
    pairs = pairwise(acknowledged_at)
    return [Gap(before, after) for before, after in pairs if after - before >= limit]


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest value that ``percent`` % do not exceed.

    Raises: ValueError for an empty sequence.
    """
    if not values:
        raise ValueError("no values to take a percentile of")
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]
