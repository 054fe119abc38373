"""The seeded simulator on the production core."""

import os
from functools import cache

import pytest

from openmse.lab.exploration import simulator
from openmse.lab.exploration.simulator import Outcome, run

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "400"))


@cache
def outcome(seed: int) -> Outcome:
    """Of one seed, which is always the same."""
    return run(seed)


@pytest.mark.parametrize("first", range(0, SEEDS, 25))
def test_no_rule_breaks_and_the_pair_comes_back(first: int) -> None:
    for seed in range(first, min(first + 25, SEEDS)):
        found = outcome(seed)
        assert not found.rule, f"seed {seed}: {found.sentence}"


def test_a_seed_is_a_run() -> None:
    """The same seed gives the same run to the last step; a failure can be replayed."""
    one, other = run(7, keep_trace=True), run(7, keep_trace=True)
    assert one == other
    assert len(one.trace) > 100
    assert run(8, keep_trace=True).trace != one.trace


def test_runs_are_not_idle() -> None:
    """Faults happen, owners change and clients are served: a quiet simulator proves nothing."""
    outcomes = [outcome(seed) for seed in range(40)]
    assert sum(o.acknowledged for o in outcomes) > 1000
    assert sum(o.owner_changes for o in outcomes) > 10


def test_a_planted_fault_of_the_driver_is_found() -> None:
    """sync_state taken for proof while the checkpointer stands still (protocol §5.3)."""
    planted = frozenset({"unproven_gate"})
    assert {simulator.run(seed, planted).rule for seed in range(6)} & {"I2", "I5"}


def test_a_machine_that_is_lost_for_good_is_replaced() -> None:
    """Another one comes under a new name, and mostly the old disk works after all."""
    for seed in range(25):
        found = run(seed, replaces=True)
        assert not found.rule, f"seed {seed}: {found.sentence}"
