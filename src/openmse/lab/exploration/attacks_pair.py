"""Attacks on pairs without a witness: the fencing agent, and protect mode (protocol §8)."""

from openmse.ha import events as ev
from openmse.ha.messages import Accept, Accepted
from openmse.ha.values import Mode
from openmse.lab.exploration import scenarios as at
from openmse.lab.exploration.assault import (
    Attack,
    cut,
    deliver,
    idle,
    lose_flight,
    restart,
    write_at_a,
)
from openmse.lab.exploration.steps import Steps


def fencing_cut() -> Steps:
    """A plain cut in a pair with a fencing agent, clients at a (§8)."""
    world = at.pair_fencing()
    cut(world, "a>b", "b>a")
    return world


def write_without_agent(world: Steps) -> None:
    """A client commits through a, whose fencing agent reaches nothing."""
    world.shots = tuple(shot for shot in world.shots if shot.by != "a")
    write_at_a(world)


def _taken_over_by_fencing() -> Steps:
    """Cut apart, a's health monitor frozen: b had a switched off and owns."""
    world = at.pair_fencing()
    a, b = world.nodes()
    world.freeze_monitor(a)
    world.disconnect(b)
    cut(world, "a>b", "b>a")
    return at.run(world, lambda w: w.is_serving(b))


def fenced_owner() -> Steps:
    """b had a switched off and owns; a boots, cut off (§8)."""
    world = _taken_over_by_fencing()
    world.power_on(world.machines["a"])
    world.settle()
    return world


def fenced_owner_restarts() -> Steps:
    """The same, and a's health monitor restarts while it waits."""
    world = fenced_owner()
    at.wait(world, 2)
    restart(world, world.machines["a"])
    return world


def fenced_peer() -> Steps:
    """a had b switched off and went on alone; b boots, cut off (§8)."""
    world = fencing_cut()
    a, b = world.nodes()
    at.run(world, at.is_mode(Mode.ALONE))
    at.run(world, lambda w: a.data.is_licensed)
    world.write(a)
    world.power_on(b)
    world.settle()
    return world


def vote_then_cut() -> Steps:
    """Replication broke: a goes ALONE by b's vote, and is cut off before b learns of it (§8)."""
    world = at.pair_fencing()
    cut(world, "a>b", "b>a", kinds=("wal",))
    at.run(world, at.flies(Accept))
    deliver(world, Accept, "a", "b")
    cut(world, "a>b", "b>a", kinds=("udp", "wal"))
    deliver(world, Accepted, "b", "a")
    lose_flight(world)
    cut(world, "a>b", "b>a")
    return world


def late_answer() -> Steps:
    """The agent has switched b off and does not say so yet; b boots, meets a, is cut off (§8)."""
    world = at.pair_fencing_cut()
    b = world.machines["b"]
    world.shoot(world.shots[0])
    world.heal()
    world.power_on(b)
    world.settle()
    idle(world, 2)
    cut(world, "a>b", "b>a")
    world.disconnect(b)
    idle(world, 3)
    return world


def forced_while_fencing() -> Steps:
    """Cut apart, a calls its agent; b is forced to own, serves, is switched off; a goes on (§8).

    Not for the first time: so the next term that only a takes is above the next of b.
    """
    world = fenced_peer()
    b = world.machines["b"]
    world.heal()
    at.run(world, at.is_mode(Mode.PINNED))
    at.wait(world, 48)
    cut(world, "a>b", "b>a")
    world.disconnect(b)
    at.run(world, lambda w: any(shot.by == "a" for shot in w.shots))
    world.command(b, ev.ForceTakeover("attack"))
    world.settle()
    shots, world.shots = world.shots, ()
    at.run(world, lambda w: w.is_serving(b))
    world.write(b)
    world.settle()
    world.shots = tuple(shot for shot in shots if shot.by == "a")
    for _ in range(2):  # it strikes, and says so
        world.shoot(world.shots[0])
        world.settle()
    world.heal()
    world.power_on(b)
    world.settle()
    return world


def _alone_by_fencing() -> Steps:
    """a had b switched off, went on alone and acknowledged; it loses power and its disk."""
    world = at.run(fencing_cut(), at.is_mode(Mode.ALONE, "a"))
    a, b = world.nodes()
    at.run(world, lambda w: a.data.is_licensed)
    world.write(a)
    world.settle()
    world.power_off(a)
    world.lose_disk(a)
    world.heal()
    world.power_on(b)
    world.settle()
    return world


def answered_by_a_new_owner() -> Steps:
    """a's new memory answers b and is gone again: may b have it switched off, and own? (§8)."""
    world = _alone_by_fencing()
    a = world.machines["a"]
    world.power_on(a)
    world.settle()
    at.wait(world, 12)
    world.power_off(a)
    world.cut_at = world.now
    return world


def answered_by_a_new_peer() -> Steps:
    """b had a switched off, owned and lost its disk: does its new memory let a serve? (§8)."""
    world = _taken_over_by_fencing()
    a, b = world.nodes()
    world.write(b)
    world.settle()
    world.power_off(b)
    world.lose_disk(b)
    world.heal()
    for m in (b, a):
        world.power_on(m)
        world.settle()
    return world


def is_in_doubt(world: Steps) -> bool:
    """Nobody serves what may be the older history, until an operator says so."""
    return not any(world.is_serving(m) for m in world.nodes())


def _released_in_time() -> Steps:
    """Writes wait for b; an operator releases them while a's database starts (§8)."""
    world = at.pair_protect()
    a, b = world.nodes()
    world.power_off(b)
    world.cut_at = world.now
    at.wait(world, 12)
    world.crash_database(a)
    world.settle()
    world.command(a, ev.ReleaseProtect())
    world.settle()
    return world


def release_outlived() -> Steps:
    """b is back before anything came of a release, and is lost again later (§8)."""
    world = _released_in_time()
    b = world.machines["b"]
    world.power_on(b)
    world.settle()
    at.run(world, lambda w: w.machines["b"].data.is_connected)
    at.run(world, at.is_mode(Mode.PINNED))
    at.wait(world, 12)
    world.power_off(b)
    world.cut_at = world.now
    return world


def stopped_while_protected() -> Steps:
    """Writes wait for b, and a's machine is stopped in good order (§8)."""
    world = at.pair_protect()
    a, b = world.nodes()
    world.power_off(b)
    world.cut_at = world.now
    at.wait(world, 12)
    world.command(a, ev.StopNode())
    world.settle()
    return world


def is_protected(world: Steps) -> bool:
    """Nobody goes on alone."""
    return world.history.newest.config.mode is Mode.PINNED


PAIRS = (
    Attack("release outlived", release_outlived, is_protected, states=0),
    Attack(
        "stopped while protected",
        stopped_while_protected,
        is_protected,
        states=0,
        recovers=False,
    ),
    Attack("fencing, cut", fencing_cut, act=write_without_agent, states=600),
    Attack("fenced owner", fenced_owner, states=0, ticks=100),
    Attack("fenced owner restarts", fenced_owner_restarts, states=0),
    Attack("fenced peer", fenced_peer, states=600),
    Attack("vote, then cut", vote_then_cut, act=write_at_a, states=0, ticks=40),
    Attack("forced while fencing", forced_while_fencing, states=0, ticks=60),
    Attack(
        "answered by a new owner",
        answered_by_a_new_owner,
        is_in_doubt,
        states=0,
        ticks=60,
        recovers=False,
    ),
    Attack(
        "answered by a new peer",
        answered_by_a_new_peer,
        is_in_doubt,
        states=0,
        ticks=60,
        recovers=False,
    ),
    Attack("late answer", late_answer, act=write_at_a, states=0, ticks=40),
)
"""All of them."""
