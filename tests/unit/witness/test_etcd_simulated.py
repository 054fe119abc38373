"""Whole pairs with etcd as their witness, in virtual time: troubles, then healing, all judged."""

from random import Random

import pytest
from etcd_world import EtcdWorld

from openmse.ha.invariants import is_healthy_sync
from openmse.ha.values import SECOND, Mode
from openmse.lab.exploration import simulator, start
from openmse.lab.exploration.troubles import Troubles

SETTLE_NS = 30 * SECOND
HEALED_NS = 150 * SECOND
SEEDS = (*range(10), 109, 143, 154, 187, 190)
"""The last ones once showed a re-admitted node that began anew for ever."""


def play(seed: int) -> EtcdWorld:
    """One seed: up, troubles, healed, in SYNC again; raises AssertionError with the seed."""
    rng = Random(seed)
    plan = simulator.plan_of(rng)
    made = start.machines(Mode.SYNC, plan.settings)
    world = EtcdWorld(made, start.history(Mode.SYNC, plan.settings), rng)
    for machine in world.machines.values():
        world.at(rng.randrange(SECOND), lambda m=machine: world.power_on(m))
    world.live()
    assert until_healthy(world, SETTLE_NS), told(seed, world)
    troubles = Troubles(world, plan.pace_ns)
    world.loss = plan.loss
    troubles.begin()
    assert world.run(world.now + plan.safety_ns), told(seed, world)
    troubles.heal()
    world.loss = 0.0
    assert until_healthy(world, HEALED_NS), told(seed, world)
    return world


def until_healthy(world: EtcdWorld, bound_ns: int) -> bool:
    """Whether the pair is in SYNC within the bound, and nothing was broken on the way."""
    end = world.now + bound_ns
    while world.now < end:
        if not world.run(world.now + SECOND // 4):
            return False
        if is_healthy_sync(world.picture()):
            return True
    return False


def told(seed: int, world: EtcdWorld) -> str:
    found = world.found[0].sentence if world.found else "not healthy"
    return f"seed {seed}: {found}; {simulator.summary(world)}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pair_with_etcd_loses_nothing_and_comes_back(seed: int) -> None:
    world = play(seed)
    assert world.history.acknowledged
