"""The arithmetic of the failover wait, with the protocol's own numbers."""

import pytest

from openmse.ha.timing import timing, timing_faults
from openmse.ha.values import MILLISECOND, SECOND


@pytest.mark.parametrize(
    ("wait_s", "margin_ms", "lease_ms", "beat_ms", "sync_loss_ms"),
    [
        (2, 250, 1750, 175, 1050),
        (5, 250, 4750, 475, 2850),
        (10, 250, 9750, 500, 3000),
        (120, 1350, 118650, 500, 3000),
    ],
)
def test_everything_follows_from_the_wait(
    wait_s: int, margin_ms: int, lease_ms: int, beat_ms: int, sync_loss_ms: int
) -> None:
    t = timing(wait_s * SECOND)
    assert (t.margin_ns, t.lease_ns) == (margin_ms * MILLISECOND, lease_ms * MILLISECOND)
    assert t.rest_loss_ns == max(sync_loss_ms, 2500) * MILLISECOND
    assert (t.beat_ns, t.sync_loss_ns) == (beat_ms * MILLISECOND, sync_loss_ms * MILLISECOND)


@pytest.mark.parametrize("wait_s", [2, 5, 10, 60, 120])
def test_waits_in_the_range_work(wait_s: int) -> None:
    assert timing_faults(wait_s * SECOND) == []


@pytest.mark.parametrize(("wait_s", "number"), [(1, "1 s"), (0, "0 s"), (121, "121 s"), (-5, "-5")])
def test_an_impossible_wait_is_refused_with_its_numbers(wait_s: int, number: str) -> None:
    faults = timing_faults(wait_s * SECOND)
    assert len(faults) == 1
    assert number in faults[0]
    assert "120 s" in faults[0]


def test_one_second_is_experimental_only() -> None:
    assert timing_faults(SECOND)
    assert timing_faults(SECOND, is_experimental=True) == []
