"""Plans are drawn from the seed alone, are possible, and cover every fault."""

from collections import Counter

from openmse.lab import campaign_faults
from openmse.lab.campaign_plan import MENDED_ANYWAY, MOST_TOGETHER, draw


def test_the_same_seed_draws_the_same_plan() -> None:
    assert draw(7, 3, 5.0) == draw(7, 3, 5.0)
    assert draw(7, 3, 5.0) != draw(7, 4, 5.0)
    assert draw(7, 3, 5.0) != draw(8, 3, 5.0)


def test_every_fault_is_drawn_alone_and_together_and_can_be_carried_out() -> None:
    alone: Counter[str] = Counter()
    together: Counter[str] = Counter()
    for run in range(600):
        plan = draw(1, run, 5.0)
        assert 1 <= len(plan.steps) <= MOST_TOGETHER
        (alone if len(plan.steps) == 1 else together).update(s.fault for s in plan.steps)
        for step in plan.steps:
            assert step.until_ms > step.at_ms or step.fault in MENDED_ANYWAY
            assert step.until_ms <= 5000 * 4 + 5000
    known = {*campaign_faults.BEGINNINGS, "switchover"}
    assert set(alone) == set(together) == known
    assert set(campaign_faults.ENDS) == known - MENDED_ANYWAY


def test_no_machine_is_switched_and_frozen_at_once() -> None:
    for run in range(300):
        steps = draw(2, run, 2.0).steps
        own = [s.who for s in steps if s.fault in ("power", "freeze-all", "fill-disk")]
        assert len(own) == len(set(own))


def test_without_a_witness_nothing_is_done_to_it() -> None:
    for run in range(200):
        for step in draw(3, run, 5.0, has_witness=False).steps:
            assert "W" not in (step.who, step.other)


def test_overlapping_faults_do_overlap() -> None:
    plans = [draw(4, run, 5.0) for run in range(200)]
    overlapping = [p for p in plans if len(p.steps) > 1]
    inside = [p for p in overlapping if p.steps[1].at_ms < max(p.steps[0].until_ms, 5000)]
    assert len(inside) > len(overlapping) / 2
