"""Attacks on memories: disks that went back, nodes that left, forced terms (§2.5, §2.6)."""

from msgspec.structs import replace

from openmse.ha import events as ev
from openmse.ha.invariants import is_healthy_sync
from openmse.ha.local import DbRole
from openmse.ha.messages import Accept, Accepted, Learn
from openmse.ha.values import Mode, Record, Voter
from openmse.lab.exploration import scenarios as at
from openmse.lab.exploration import start
from openmse.lab.exploration.assault import (
    Attack,
    cut,
    deliver,
    lose_flight,
    restart,
    write_at_a,
)
from openmse.lab.exploration.explorer import SETTINGS
from openmse.lab.exploration.steps import Budget, Steps
from openmse.lab.exploration.world import KINDS, Machine


def _older_owner(world: Steps, *, forget: bool) -> Steps:
    a, b = world.machines["a"], world.machines["b"]
    old = (a.record, a.data)
    for _ in range(2):
        world.write(a)
        world.settle()
        world.stream(b)
        world.settle()
    at.wait(world, 2)
    world.power_off(a)
    if forget:
        world.power_off(b)
    world.restore_disk(a, *old)
    if forget:
        world.power_on(b)
        b.record = replace(b.record, seen=())
        restart(world, b)
    world.power_on(a)
    world.settle()
    return world


def old_disk() -> Steps:
    """a owns PINNED, its disk went back in time, and b remembers more (§2.6)."""
    return _older_owner(at.pair_pinned(), forget=False)


def reborn() -> Steps:
    """The same, and a has begun anew."""
    world = old_disk()
    at.wait(world, 4)
    for m in world.nodes():
        world.start_monitor(m)
    world.settle()
    return world


def old_disk_forgotten() -> Steps:
    """The same, and b restarted: only its own data shows it."""
    return _older_owner(at.pair_pinned(), forget=True)


def old_standby() -> Steps:
    """SYNC(b) by a handover; a's data went back; b is lost and w restarted (§2)."""
    world = at.sync()
    a, b = world.machines["a"], world.machines["b"]
    old = a.data
    world.write(a)
    world.settle()
    world.stream(b)
    world.settle()
    world.command(a, ev.Switchover())
    world.settle()
    at.run(world, lambda w: w.is_serving(b))
    at.wait(world, 4)
    world.power_off(a)
    world.restore_disk(a, a.record, replace(old, role=DbRole.STANDBY))
    world.power_off(b)
    w = world.machines["w"]
    world.kill_monitor(w)
    w.record = replace(w.record, seen=())
    world.start_monitor(w)
    world.power_on(a)
    world.settle()
    return world


def unpaired() -> Steps:
    """b was taken out of the group, and follows on; a's health monitor restarts, and knows b only
    as the other machine of its configuration; later a is broken, and would hand over (§2.6)."""
    world = at.alone()
    a = world.machines["a"]
    voters = world.history.newest.config.voters
    world.command(a, ev.ChangeVoters(tuple(v for v in voters if v.id != "b")))
    world.settle()
    at.wait(world, 4)
    restart(world, a)
    at.wait(world, 16)
    a.data = replace(a.data, is_sick=True)
    world.notify(a)
    return world


def old_disk_cut() -> Steps:
    """The same; once it has shown, the two are cut apart."""
    world = old_disk_forgotten()
    at.wait(world, 16)
    cut(world, "a>b", "b>a")
    return world


def _write_twice(world: Steps) -> None:
    a, b = world.nodes()
    for _ in range(2):
        world.write(a)
        world.settle()
        world.stream(b)
        world.settle()
    at.wait(world, 2)


def old_disk_at_witness() -> Steps:
    """a owns SYNC, its data went back and its register did not; b is off, w remembers (§2.6)."""
    world = at.sync()
    a, b = world.nodes()
    old = a.data
    _write_twice(world)
    world.power_off(a)
    world.power_off(b)
    world.restore_disk(a, a.record, old)
    world.power_on(a)
    world.settle()
    return world


def _forget(world: Steps, m: Machine) -> None:
    m.record = replace(m.record, seen=())
    restart(world, m)


def longer_standby() -> Steps:
    """ALONE(a) for maintenance, b follows. a's disk went back, and nobody remembers: a serves with
    less until b's data shows it. What b holds must outlast that (§5.6)."""
    world = at.sync()
    a, b = world.nodes()
    world.command(a, ev.Maintenance(True))
    world.settle()
    at.run(world, at.is_mode(Mode.ALONE))
    at.wait(world, 4)
    old = (a.record, a.data)
    _write_twice(world)
    world.power_off(a)
    world.power_off(b)
    world.restore_disk(a, *old)
    world.power_on(b)
    _forget(world, b)
    _forget(world, world.machines["w"])
    world.power_on(a)
    world.settle()
    return world


def forced_older() -> Steps:
    """b took over and was lost; a is forced to own, on the older history. b rejoins; much later a
    dies (§2.5)."""
    world = at.run(at.owner_cut(), lambda w: w.is_serving(w.machines["b"]))
    a, b = world.nodes()
    at.wait(world, 4)
    world.power_off(b)
    world.cut_at = world.now
    world.command(a, ev.ForceTakeover("attack"))
    world.settle()
    at.wait(world, 20)
    world.heal()
    world.power_on(b)
    world.settle()
    at.run(world, lambda w: is_healthy_sync(w.picture()))
    at.wait(world, 20)
    world.power_off(a)
    world.cut_at = world.now
    at.wait(world, 60)
    return world


def _beside_another_witness() -> Steps:
    """SYNC(a) with the witness w; w2 runs, and is not enrolled yet."""
    made = start.machines(Mode.SYNC, SETTINGS)
    made.append(Machine("w2", Record("w2", "w2-0", boot=1), is_witness=True, is_on=False))
    world = Steps(made, start.history(Mode.SYNC, SETTINGS), Budget())
    for m in world.machines.values():
        world.power_on(m)
        world.settle()
    return at.wait(at.run(world, lambda w: is_healthy_sync(w.picture())), 8)


def old_witness() -> Steps:
    """The witness is replaced in one step; a hears of the old one only, b of the new (§2)."""
    world = _beside_another_witness()
    a = world.machines["a"]
    nodes = tuple(v for v in world.history.newest.config.voters if not v.is_witness)
    world.command(a, ev.ChangeVoters((*nodes, Voter("w2", "w2-0", is_witness=True))))
    world.settle()
    at.run(world, at.flies(Accept))
    deliver(world, Accept, "a", "b")
    deliver(world, Accept, "a", "w2")
    lose_flight(world)
    cut(world, "a>b", "b>a", "a>w2", "w2>a")
    at.run(world, lambda w: {f[0] for f in w.flight if _accepts(f)} == {"w", "w2"})
    deliver(world, Accepted, "w", "b")
    world.flight = tuple(f for f in world.flight if f[1] != "w" or not isinstance(f[2], Learn))
    deliver(world, Accepted, "w2", "b")
    world.flight = tuple(f for f in world.flight if f[1] != "w" or not isinstance(f[2], Learn))
    world.cuts |= {(x, y, kind) for x, y in (("b", "w"), ("w", "b")) for kind in KINDS}
    return world


def _accepts(flight: tuple[str, str, object]) -> bool:
    return flight[1] == "b" and isinstance(flight[2], Accepted)


def b_serves(world: Steps) -> bool:
    """b serves."""
    return world.is_serving(world.machines["b"])


def forced_outsider() -> Steps:
    """b was taken out of the group, knows it, and is forced to own (§2.5)."""
    world = at.alone()
    a, b = world.nodes()
    voters = world.history.newest.config.voters
    world.command(a, ev.ChangeVoters(tuple(v for v in voters if v.id != "b")))
    at.wait(world, 4)
    world.command(b, ev.ForceTakeover("attack"))
    world.settle()
    return world


MEMORIES = (
    Attack("old disk", old_disk, states=0, recovers=False),
    Attack("reborn", reborn, states=0, recovers=False),
    Attack("old disk, forgotten", old_disk_forgotten, states=0, recovers=False),
    Attack("old disk, cut", old_disk_cut, states=0, recovers=False),
    Attack("old disk, at the witness", old_disk_at_witness, states=0, recovers=False),
    Attack("old standby", old_standby, states=0, ticks=60),
    Attack(
        "longer standby",
        longer_standby,
        states=0,
        forgives=frozenset({"I1"}),
        recovers=False,
    ),
    Attack("old witness", old_witness, act=write_at_a, states=0, ticks=40),
    Attack("unpaired", unpaired, states=0, recovers=False),
    Attack("forced older", forced_older, b_serves, states=0),
    Attack("forced outsider", forced_outsider, states=0, recovers=False),
)
"""All of them."""
