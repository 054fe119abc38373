"""What the model's PostgreSQL does in a planned move: its walsender ends last, as the real one's.

A model that hangs up sooner lets no switchover end but by the lease's expiry: nothing is lost, so
no rule breaks, and the handover itself is not explored.
"""

from random import Random

import pytest
from msgspec.structs import replace

from openmse.ha import events as ev
from openmse.ha.values import MILLISECOND, SECOND, Mode, Settings
from openmse.lab.exploration import start
from openmse.lab.exploration.database import Op
from openmse.lab.exploration.virtual import Virtual


def _pair(seed: int) -> Virtual:
    """A pair in SYNC whose machines are not slow; ``a`` owns and serves."""
    settings = Settings(failover_wait_ns=2 * SECOND)
    past = start.history(Mode.SYNC, settings)
    world = Virtual(start.machines(Mode.SYNC, settings), past, Random(seed))
    world.slow_share = 0.0
    for m in world.machines.values():
        world.power_on(m)
    world.live()
    assert world.run(3 * SECOND)
    assert world.is_serving(world.machines["a"])
    return world


@pytest.mark.parametrize("seed", range(5))
def test_a_switchover_and_the_way_back_are_handovers(seed: int) -> None:
    """Each in a second, from SYNC to SYNC, and everything is on both machines."""
    world = _pair(seed)
    for owner, other in (("a", "b"), ("b", "a")):
        epoch = world.history.newest.config.epoch
        world.command(world.machines[owner], ev.Switchover())
        assert world.run(world.now + SECOND), world.found
        last = world.history.newest.config
        assert (last.mode, last.owner, last.epoch) == (Mode.SYNC, other, epoch + 1)
        assert world.is_serving(world.machines[other])
        assert world.run(world.now + SECOND), world.found


def test_who_hung_up_during_a_stop_is_not_let_in_again() -> None:
    """The server is shutting down: the record that it ends with stays with it. The service goes on
    all the same, from what both hold."""
    world = _pair(1)
    a, b = world.machines["a"], world.machines["b"]
    world.command(a, ev.Switchover())
    assert world.run(world.now + 5 * MILLISECOND)
    assert a.data.op is Op.STOP_FAST
    b.data = replace(b.data, is_connected=False)  # its receiver died; the walsender waits for it
    world.finish(a)
    assert a.data.is_clean
    assert len(b.data.wal) == len(a.data.wal) - 1
    assert world.run(world.now + 10 * SECOND), world.found
    last = world.history.newest.config
    assert last.mode is Mode.SYNC
    assert world.is_serving(world.machines[last.owner])
