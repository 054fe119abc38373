"""A machine is lost for good, another takes its place under a new name, and the old disk works
after all (decision 60): schedules by hand, in each phase of the change."""

import pytest

from openmse.ha import events as ev
from openmse.ha.draft import is_owner
from openmse.ha.invariants import holds, is_healthy_sync
from openmse.ha.values import Mode, NoWitnessMode, Voter
from openmse.lab.exploration import scenarios as at
from openmse.lab.exploration.steps import Steps
from openmse.lab.exploration.world import KINDS, Machine


def lose(world: Steps, name: str) -> None:
    world.power_off(world.machines[name])
    world.cut_at = world.now


def isolate(world: Steps, name: str) -> None:
    others = [other for other in world.machines if other != name]
    pairs = {(name, o) for o in others} | {(o, name) for o in others}
    world.cuts = world.cuts | {(x, y, kind) for x, y in pairs for kind in KINDS}
    world.cut_at = world.now


def change(world: Steps, owner: Machine, new: Machine) -> None:
    """What the owner's runtime asks for once the facts name the new machine."""
    node = owner.node
    assert node is not None
    assert is_owner(node)
    known = node.record.known
    assert known is not None
    assert known.mode is Mode.ALONE
    kept = [v for v in known.voters if v.is_witness or v.id == owner.id]
    voters = (*kept, Voter(new.id, new.record.incarnation))
    world.command(owner, ev.ChangeVoters(voters))
    world.settle()


def readmit(world: Steps, old: str, name: str = "c") -> Machine:
    """The whole of it; the new machine is on."""
    m = world.machines[old]
    owner = world.peer(m)
    new = world.replace_machine(m, name)
    change(world, owner, new)
    world.power_on(new)
    world.settle()
    return new


def is_whole(world: Steps) -> bool:
    last = world.history.newest.config
    return "c" in {v.id for v in last.voters} and is_healthy_sync(world.picture())


def no_loss(world: Steps) -> None:
    last = world.history.newest.config
    wal = world.machines[last.owner].data.wal
    assert [w for w in world.history.acknowledged if not holds(wal, w)] == []
    assert not world.faults()


PHASES = ("facts", "voters", "copy", "sync", "later")


@pytest.mark.parametrize("has_witness", [True, False])
@pytest.mark.parametrize("phase", PHASES)
def test_the_old_disk_of_a_peer_returns_in_each_phase(phase: str, has_witness: bool) -> None:
    """It learns, or stays by itself; it never serves, and the pair comes to be whole."""
    world = at.alone() if has_witness else at.pair_alone()
    a, b = world.machines["a"], world.machines["b"]
    lose(world, "b")
    at.wait(world, 12)
    new = world.replace_machine(b, "c")
    if phase == "facts":
        world.power_on(b)
        at.wait(world, 8)
    change(world, a, new)
    if phase == "voters":
        world.power_on(b)
        at.wait(world, 8)
    world.power_on(new)
    world.settle()
    if phase == "copy":
        at.wait(world, 1)
        world.power_on(b)
    at.run(world, is_whole)
    if phase == "sync":
        world.power_on(b)
    at.wait(world, 20)
    if phase == "later":
        world.power_on(b)
    for _ in range(120):
        world.write(a)
        at.wait(world, 1)
        assert not world.is_answering(b)
    assert is_whole(world)
    no_loss(world)


@pytest.mark.parametrize("phase", ["facts", "voters", "copy"])
@pytest.mark.parametrize("has_witness", [True, False])
def test_the_owner_dies_in_mid_change_and_comes_back(phase: str, has_witness: bool) -> None:
    world = at.alone() if has_witness else at.pair_alone()
    a, b = world.machines["a"], world.machines["b"]
    lose(world, "b")
    at.wait(world, 12)
    new = world.replace_machine(b, "c")
    if phase != "facts":
        change(world, a, new)
    if phase == "copy":
        world.power_on(new)
        world.settle()
        at.wait(world, 1)
    lose(world, "a")
    world.power_on(b)
    at.wait(world, 100)
    assert not world.is_answering(b)
    world.power_on(new)
    world.power_on(a)
    world.settle()
    at.run(world, lambda w: world.is_serving(a))
    if phase == "facts":
        change(world, a, new)
    at.run(world, is_whole)
    at.wait(world, 40)
    assert not world.is_answering(b)
    no_loss(world)


@pytest.mark.parametrize("is_cut", [True, False])
def test_an_old_owner_that_went_on_alone_comes_back(is_cut: bool) -> None:
    """ALONE(a) is lost, b is forced, c comes. Then a's disk is powered on (or its cut heals)."""
    world = at.alone()
    a, b = world.machines["a"], world.machines["b"]
    if is_cut:
        isolate(world, "a")
    else:
        lose(world, "a")
    at.wait(world, 12)
    world.command(b, ev.ForceTakeover("test"))
    at.wait(world, 20)
    assert world.is_serving(b)
    readmit(world, "a")
    at.run(world, is_whole)
    if is_cut:
        world.heal()
    world.power_on(a)
    world.settle()
    at.wait(world, 160)
    assert is_whole(world)
    assert not world.is_answering(a)


@pytest.mark.parametrize("has_witness", [True, False])
def test_a_beat_of_the_new_machine_is_none_of_the_old(has_witness: bool) -> None:
    """The owner knows b, c beats. c's memory was admitted as b's, and the pair went SYNC (PINNED)
    with a voter b that no machine is: c could not own, not even by force."""
    world = at.alone() if has_witness else at.pair_alone()
    a, b = world.machines["a"], world.machines["b"]
    lose(world, "b")
    at.wait(world, 12)
    new = world.replace_machine(b, "c")
    world.power_on(new)
    world.settle()
    at.wait(world, 30)
    last = world.history.newest.config
    assert last.mode is Mode.ALONE
    assert Voter("b", new.record.incarnation) not in last.voters
    change(world, a, new)
    at.run(world, is_whole)
    no_loss(world)


@pytest.mark.parametrize("mode", list(NoWitnessMode))
def test_without_a_witness_the_old_peer_neither_serves_nor_fences(mode: NoWitnessMode) -> None:
    """PINNED(a) is what it knows, and nobody answers it."""
    world = at.pair_pinned(mode)
    a, b = world.machines["a"], world.machines["b"]
    lose(world, "b")
    at.wait(world, 12)
    world.command(a, ev.ReleaseProtect())
    for _ in range(2):
        for shot in world.shots:
            world.shoot(shot)
        at.wait(world, 4)
    at.run(world, at.is_mode(Mode.ALONE))
    readmit(world, "b")
    at.run(world, is_whole)
    world.power_on(b)
    world.settle()
    for _ in range(150):
        world.write(a)
        at.wait(world, 1)
        assert not world.is_answering(b)
        assert not world.shots
    assert is_whole(world)
    no_loss(world)
