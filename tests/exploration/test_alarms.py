"""What an operator is told while writes wait for the other node (protocol §8)."""

import pytest

from openmse.ha.values import NoWitnessMode
from openmse.lab.exploration import scenarios as at
from openmse.node.control.alarms import alarms_of


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (NoWitnessMode.PROTECT, "mse ha release-protect"),
        (NoWitnessMode.FENCING, "fencing agent has confirmed"),
    ],
)
def test_waiting_writes_are_an_alarm(mode: NoWitnessMode, words: str) -> None:
    world = at.pair_pinned(mode)
    owner = world.machines["a"]
    assert owner.node is not None
    assert "writes_wait" not in [alarm.kind for alarm in alarms_of(owner.node)]
    world.power_off(world.machines["b"])
    world.disconnect(world.machines["b"])
    for _ in range(8):
        world.tick()  # nobody carries out what the agent was asked for
        world.settle()
    (alarm,) = [one for one in alarms_of(owner.node) if one.kind == "writes_wait"]
    assert words in alarm.sentence


def test_who_goes_on_alone_has_nothing_that_waits() -> None:
    world = at.pair_pinned()
    world.power_off(world.machines["b"])
    at.wait(world, 12)
    owner = world.machines["a"]
    assert owner.node is not None
    assert "writes_wait" not in [alarm.kind for alarm in alarms_of(owner.node)]
