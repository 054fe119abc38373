"""Directed starts: each lies near the counterexample that one rule of the protocol closes.

The core as it is must come through all of them; a mutant must not (``mutants``). An attack first
runs without further faults, judged at every tick, then is explored from where it began.
"""

from msgspec.structs import replace

from openmse.ha import effects as fx
from openmse.ha import events as ev
from openmse.ha.invariants import is_healthy_sync
from openmse.ha.messages import Accept, Accepted, Prepare, PreVoteAnswer, Promise
from openmse.ha.values import Mode
from openmse.lab.exploration import scenarios as at
from openmse.lab.exploration.assault import (
    Attack,
    assault,
    cut,
    deliver,
    idle,
    lose_flight,
    restart,
    write_at_a,
)
from openmse.lab.exploration.attacks_memory import MEMORIES
from openmse.lab.exploration.attacks_pair import PAIRS
from openmse.lab.exploration.explorer import fair
from openmse.lab.exploration.steps import Budget, Steps


def stale_alone() -> Steps:
    """a recorded ALONE(a), nobody heard of it; b took over; a is back (§2.2)."""
    world = at.alone_limbo()
    lose_flight(world)
    world.isolate(world.machines["a"])
    at.run(world, at.is_mode(Mode.ALONE, "b"))
    at.wait(world, 3)
    lose_flight(world)
    world.heal()
    world.settle()
    return world


def gate_forgotten() -> Steps:
    """a dies with its SYNC(a) accepted by b and w, boots, serves, dies; boots unheard (§2.1)."""
    world = at.gate()
    a = world.machines["a"]
    for flight in world.flight:
        if flight[0] == "a":
            world.receive(world.machines[flight[1]], flight[2])
    lose_flight(world)
    world.power_off(a)
    at.wait(world, 3)
    lose_flight(world)
    world.power_on(a)
    world.settle()
    fair(world, lambda w: w.is_serving(a) and not a.data.flag, 8)
    world.write(a)
    world.settle()
    world.power_off(a)
    lose_flight(world)
    at.wait(world, 3)
    cut(world, "a>b", "b>a", "a>w", "w>a", kinds=("udp", "wal"))
    world.power_on(a)
    world.settle()
    return world


def heartbeats_lost() -> Steps:
    """Heartbeats between the nodes are lost, WAL flows, w grants: no failover (§6)."""
    world = at.written()
    cut(world, "a>b", "b>a", kinds=("udp",))
    return world


def follows(world: Steps) -> bool:
    """b's receiver was never cut, and a serves."""
    return world.machines["b"].data.receives and world.is_serving(world.machines["a"])


def witness_forgot() -> Steps:
    """w granted, restarted, and does not hear a any more; b has not heard a for long (§3)."""
    world = heartbeats_lost()
    at.wait(world, 6)
    restart(world, world.machines["w"])
    cut(world, "a>w", "w>a", "a>b", "b>a")
    return world


def owner_frozen() -> Steps:
    """a's health monitor stands still with the address held (§4.2)."""
    world = at.written()
    world.freeze_monitor(world.machines["a"])
    return world


def frozen_before_arming() -> Steps:
    """a's health monitor stood still between its decision and the arming, until b served."""
    world = at.written()
    world.strike = ("a", fx.SetLease)
    at.run(world, lambda w: w.is_answering(w.machines["b"]))
    return world


def thawed_after_takeover() -> Steps:
    """a's health monitor stood still while b's Accept came in; it goes on."""
    world = at.written()
    a = world.machines["a"]
    world.freeze_monitor(a)
    at.run(world, lambda w: w.history.newest.config.owner == "b")
    world.thaw_monitor(a)
    world.settle()
    return world


def voted_away() -> Steps:
    """a, stopped, has voted for b's takeover, and boots; w would renew its lease (§3)."""
    return _voted_away()


def _voted_away(*cuts: str) -> Steps:
    world = at.takeover_asked()
    world.heal()
    world.settle()
    for m in world.nodes():
        if m.data.op is not None:
            world.finish(m)
            world.settle()
    deliver(world, PreVoteAnswer, "w", "b")
    for kind, source, to in ((Prepare, "b", "a"), (Promise, "a", "b"), (Accept, "b", "a")):
        deliver(world, kind, source, to)
    assert any(isinstance(f[2], Accepted) for f in world.flight), "a has not voted"
    a = world.machines["a"]
    world.power_off(a)
    cut(world, *cuts, kinds=("udp",))
    world.power_on(a)
    world.settle()
    world.flight = tuple(f for f in world.flight if isinstance(f[2], Accepted))
    return world


def voted_away_late() -> Steps:
    """The same; w has renewed a's lease when its vote reaches b, which does not hear it (§3)."""
    world = _voted_away("a>b")
    a = world.machines["a"]
    vote = world.flight
    for _ in range(6):
        lose_flight(world)
        idle(world, 1)
        if world.is_answering(a):
            break
    world.flight = vote
    return world


def alone_in_doubt() -> Steps:
    """a recorded ALONE(a), nobody heard of it, and its health monitor restarts (§2.3)."""
    world = at.alone_limbo()
    lose_flight(world)
    restart(world, world.machines["a"])
    return world


def thawing_in_takeover() -> Steps:
    """The same, b's Accept still open: w did not get it."""
    world = at.written()
    a = world.machines["a"]
    world.freeze_monitor(a)
    at.run(world, at.flies(Accept))
    world.flight = tuple(f for f in world.flight if f[1] == "a")
    return world


def alone_for_long() -> Steps:
    """ALONE(a), both others are off: it serves on (§4)."""
    world = at.run(at.peer_cut(), at.is_mode(Mode.ALONE))
    at.wait(world, 2)
    for name in ("b", "w"):
        world.power_off(world.machines[name])
    return world


def a_serves(world: Steps) -> bool:
    """a serves."""
    return world.is_serving(world.machines["a"])


def _is_yes_in_flight(world: Steps) -> bool:
    return any(isinstance(m, PreVoteAnswer) and m.is_yes for _, _, m in world.flight)


def release_forgotten() -> Steps:
    """a told b its release, and dies and restarts; w has said yes to b, and restarts too (§4)."""
    world = at.sync()
    a = world.machines["a"]
    cut(world, "a>w", "w>a")
    a.data = replace(a.data, is_sick=True)
    world.notify(a)
    at.run(world, _is_yes_in_flight, 40)
    world.kill_monitor(a)
    a.data = replace(a.data, is_sick=False)
    world.cuts = frozenset()
    restart(world, world.machines["w"])  # forgets the release that came with b's question
    world.start_monitor(a)
    world.settle()
    yes = tuple(f for f in world.flight if isinstance(f[2], PreVoteAnswer))
    for _ in range(10):
        lose_flight(world)
        if world.is_answering(a):
            break
        world.tick()
        world.settle()
    world.flight = yes
    return world


def release_told_early() -> Steps:
    """The health monitor dies after its release, while PostgreSQL stops; it restarts (§4)."""
    world = at.handover()
    world.stopped = frozenset({"a"})
    restart(world, world.machines["a"])
    return world


def barrier_unmet() -> Steps:
    """ALONE(a), b in step until replication breaks, which a has not noticed when the gate is
    proven: what a client wrote since, b does not have (§5.3)."""
    world = at.run(at.alone(), lambda w: w.machines["a"].data.is_sending)
    cut(world, "a>b", "b>a", kinds=("wal",))
    write_at_a(world)
    return world


def gate_without_lease() -> Steps:
    """ALONE(a), the gate can be passed, but nobody hears a's renewals: it must not go SYNC (§2)."""
    world = at.alone()
    cut(world, "a>b", "a>w", "w>a", kinds=("udp",))
    return world


def switchover_done() -> Steps:
    """A switchover is carried out to its end."""
    return at.run(at.handover(), lambda w: w.is_serving(w.machines["b"]), 20)


def rejoin() -> Steps:
    """b's checkpointer or a barrier decide what SYNC is worth (§5.3)."""
    return at.alone()


def hopeless_takeover() -> Steps:
    """b's Accept never reached w, which is w's word to a; b restarts, all is well; later
    replication breaks (§3)."""
    world = at.takeover_limbo()
    lose_flight(world)
    b = world.machines["b"]
    world.kill_monitor(b)
    world.heal()
    world.start_monitor(b)
    world.settle()
    at.run(world, lambda w: is_healthy_sync(w.picture()))
    at.wait(world, 8)
    cut(world, "a>b", "b>a", kinds=("wal",))
    return world


def few_writes_wait(world: Steps) -> bool:
    """a has gone on alone, or goes on soon: what waits is not more than two seconds' work."""
    return len(world.machines["a"].data.waiting) <= 8


def boots_in_doubt() -> Steps:
    """a recorded ALONE(a), nobody heard of it; it boots, cut off, while the others meet (§2.4)."""
    world = at.alone_limbo()
    lose_flight(world)
    a = world.machines["a"]
    world.power_off(a)
    world.heal()
    world.isolate(a)
    world.power_on(a)
    world.settle()
    return world


def frozen_in_gate() -> Steps:
    """a's Accept of SYNC(a) is out, and its health monitor stands still (§2)."""
    world = at.gate()
    world.freeze_monitor(world.machines["a"])
    world.disconnect(world.machines["b"])
    return world


def lease_refused() -> Steps:
    """The kernel of a takes no change of its lease without end, while a goes from ALONE to SYNC;
    then its health monitor stands still (§2)."""
    world = at.alone()
    a = world.machines["a"]
    world.refusing = frozenset({"a"})
    fair(world, at.is_mode(Mode.SYNC), 20)
    world.freeze_monitor(a)
    world.disconnect(world.machines["b"])
    return world


def new_owner_late() -> Steps:
    """SYNC(b) after a switchover; b is not heard for half a failover wait (§3)."""
    world = at.wait(at.sync(), 12)
    world.command(world.machines["a"], ev.Switchover())
    world.settle()
    at.run(world, at.is_mode(Mode.SYNC, "b"))
    world.freeze_monitor(world.machines["b"])
    at.wait(world, 2)
    world.thaw_monitor(world.machines["b"])
    return world


def b_owns(world: Steps) -> bool:
    """b is the owner, and stays it."""
    return world.history.newest.config.owner == "b"


ATTACKS: dict[str, Attack] = {
    one.name: one
    for one in (
        Attack("stale alone", stale_alone),
        Attack("gate forgotten", gate_forgotten, states=600),
        Attack("heartbeats lost", heartbeats_lost, follows, ticks=40, states=0),
        Attack("witness forgot", witness_forgot, states=600),
        Attack("owner frozen", owner_frozen, states=0),
        Attack("frozen before arming", frozen_before_arming),
        Attack("thawed after takeover", thawed_after_takeover),
        Attack("voted away", voted_away, states=600),
        Attack("voted away, late", voted_away_late, states=600),
        Attack("alone in doubt", alone_in_doubt, states=0),
        Attack("thawing in takeover", thawing_in_takeover),
        Attack("alone for long", alone_for_long, a_serves, ticks=40, states=0),
        Attack("release forgotten", release_forgotten, states=600),
        Attack("release told early", release_told_early, ticks=4),
        Attack("switchover", switchover_done, states=0),
        Attack("rejoin", rejoin, act=write_at_a, states=1500, budget=Budget(ticks=6, cuts=1)),
        Attack("barrier unmet", barrier_unmet, ticks=6, states=0),
        Attack("gate without lease", gate_without_lease, a_serves, states=0),
        Attack("going alone", at.alone_limbo, states=600, budget=Budget(ticks=6)),
        Attack("takeover in limbo", at.takeover_limbo, states=600, budget=Budget(ticks=6)),
        Attack("hopeless takeover", hopeless_takeover, few_writes_wait, write_at_a, 20, states=0),
        Attack("boots in doubt", boots_in_doubt, act=write_at_a, ticks=100, states=0),
        Attack("frozen in the gate", frozen_in_gate, states=0),
        Attack("lease refused", lease_refused, states=0),
        Attack("new owner late", new_owner_late, b_owns, states=0),
        *MEMORIES,
        *PAIRS,
    )
}

__all__ = ["ATTACKS", "Attack", "assault"]
