"""Directed starts: each lies near the counterexample that one rule of the protocol closes.

The core as it is must come through all of them; a mutant must not (``mutants``). An attack first
runs without further faults, judged at every tick, then is explored from where it began.
"""

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from openmse.ha import effects as fx
from openmse.ha import events as ev
from openmse.ha.local import DbRole
from openmse.ha.messages import Accept, Accepted, Prepare, PreVoteAnswer, Promise
from openmse.ha.values import Mode
from openmse.lab.exploration import scenarios as at
from openmse.lab.exploration.explorer import Scenario, comes_back, explore, fair
from openmse.lab.exploration.steps import Budget, Steps
from openmse.lab.exploration.world import KINDS, Machine

CALM = Budget(ticks=6, writes=1, losses=0, repeats=0, crashes=0, cuts=0)


def _always(_: Steps) -> bool:
    return True


class Attack(Struct, frozen=True):
    """A start; what must hold at every tick from there; what else may happen."""

    name: str
    build: Callable[[], Steps]
    holds: Callable[[Steps], bool] = _always
    act: Callable[[Steps], object] = _always
    """What clients do at every tick."""
    ticks: int = 30
    budget: Budget = CALM
    states: int = 400
    recovers: bool = True
    """Once all is healed the pair must find back by itself (L3); without that an operator must."""


def assault(attack: Attack, planted: frozenset[str] = frozenset()) -> str:
    """The rule that breaks under the attack, or '' for none."""
    Steps.plants = planted
    try:
        world = attack.build()
    except AssertionError as error:
        return f"unreachable: {error}"
    finally:
        Steps.plants = frozenset()
    rule = _watch(attack, world.fork())
    if not rule and attack.recovers and not comes_back(world):
        rule = "L3"
    if rule or not attack.states:
        return rule
    scenario = Scenario(attack.name, lambda: world.fork(), attack.budget)
    report = explore(scenario, attack.states, planted=planted, deep_share=0.3)
    return report.found.violation.rule if report.found is not None else ""


def _watch(attack: Attack, world: Steps) -> str:
    world.instant = []
    for _ in range(attack.ticks):
        attack.act(world)
        fair(world, lambda w: bool(w.faults()), 1)
        faults = world.faults()
        if faults:
            return faults[0].rule
        if not attack.holds(world):
            return "L1"
    return ""


def _lose_flight(world: Steps) -> None:
    world.flight = ()


def _cut(world: Steps, *pairs: str, kinds: tuple[str, ...] = KINDS) -> None:
    """Cut ``a>b`` one way each."""
    cuts = {(p[0], p[2], kind) for p in pairs for kind in kinds}
    world.cuts = world.cuts | cuts
    world.cut_at = world.now


def _restart(world: Steps, m: Machine) -> None:
    world.kill_monitor(m)
    world.start_monitor(m)
    world.settle()


def stale_alone() -> Steps:
    """a recorded ALONE(a), nobody heard of it; b took over; a is back (§2.2)."""
    world = at.alone_limbo()
    _lose_flight(world)
    world.isolate(world.machines["a"])
    at.run(world, at.is_mode(Mode.ALONE, "b"))
    at.wait(world, 3)
    _lose_flight(world)
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
    _lose_flight(world)
    world.power_off(a)
    at.wait(world, 3)
    _lose_flight(world)
    world.power_on(a)
    world.settle()
    fair(world, lambda w: w.is_serving(a) and not a.data.flag, 8)
    world.write(a)
    world.settle()
    world.power_off(a)
    _lose_flight(world)
    at.wait(world, 3)
    _cut(world, "a>b", "b>a", "a>w", "w>a", kinds=("udp", "wal"))
    world.power_on(a)
    world.settle()
    return world


def heartbeats_lost() -> Steps:
    """Heartbeats between the nodes are lost, WAL flows, w grants: no failover (§6)."""
    world = at.written()
    _cut(world, "a>b", "b>a", kinds=("udp",))
    return world


def follows(world: Steps) -> bool:
    """b's receiver was never cut, and a serves."""
    return world.machines["b"].data.receives and world.is_serving(world.machines["a"])


def witness_forgot() -> Steps:
    """w granted, restarted, and does not hear a any more; b has not heard a for long (§3)."""
    world = heartbeats_lost()
    at.wait(world, 6)
    _restart(world, world.machines["w"])
    _cut(world, "a>w", "w>a", "a>b", "b>a")
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


def _pass(world: Steps, kind: type, source: str, to: str) -> None:
    """Deliver what is in flight of this kind on this way."""
    for flight in world.flight:
        if flight[:2] == (source, to) and isinstance(flight[2], kind):
            world.deliver(flight)
            world.settle()


def voted_away() -> Steps:
    """a, stopped, has voted for b's takeover, and boots; w would renew its lease (§3)."""
    world = at.takeover_asked()
    world.heal()
    world.settle()
    for m in world.nodes():
        if m.data.op is not None:
            world.finish(m)
            world.settle()
    _pass(world, PreVoteAnswer, "w", "b")
    for kind, source, to in ((Prepare, "b", "a"), (Promise, "a", "b"), (Accept, "b", "a")):
        _pass(world, kind, source, to)
    assert any(isinstance(f[2], Accepted) for f in world.flight), "a has not voted"
    a = world.machines["a"]
    world.power_off(a)
    world.power_on(a)
    world.settle()
    world.flight = tuple(f for f in world.flight if isinstance(f[2], Accepted))
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
    _cut(world, "a>w", "w>a")
    a.data = replace(a.data, is_sick=True)
    world.notify(a)
    at.run(world, _is_yes_in_flight, 40)
    world.kill_monitor(a)
    a.data = replace(a.data, is_sick=False)
    world.cuts = frozenset()
    _restart(world, world.machines["w"])  # forgets the release that came with b's question
    world.start_monitor(a)
    world.settle()
    yes = tuple(f for f in world.flight if isinstance(f[2], PreVoteAnswer))
    for _ in range(10):
        _lose_flight(world)
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
    _restart(world, world.machines["a"])
    return world


def gate_without_lease() -> Steps:
    """ALONE(a), the gate can be passed, but nobody hears a's renewals: it must not go SYNC (§2)."""
    world = at.alone()
    _cut(world, "a>b", "a>w", "w>a", kinds=("udp",))
    return world


def write_at_a(world: Steps) -> None:
    """A client commits through a, if it can."""
    world.write(world.machines["a"])
    world.settle()


def switchover_done() -> Steps:
    """A switchover is carried out to its end."""
    return at.run(at.handover(), lambda w: w.is_serving(w.machines["b"]), 20)


def rejoin() -> Steps:
    """b's checkpointer or a barrier decide what SYNC is worth (§5.3)."""
    return at.alone()


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
        _restart(world, b)
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
    _restart(world, a)
    at.wait(world, 16)
    a.data = replace(a.data, is_sick=True)
    world.notify(a)
    return world


def fencing_cut() -> Steps:
    """A plain cut in a pair with a fencing agent, clients at a (§8)."""
    world = at.pair_fencing()
    _cut(world, "a>b", "b>a")
    return world


def write_without_agent(world: Steps) -> None:
    """A client commits through a, whose fencing agent reaches nothing."""
    world.shots = tuple(shot for shot in world.shots if shot.by != "a")
    write_at_a(world)


def fenced_owner() -> Steps:
    """b had a switched off and owns; a boots, cut off (§8)."""
    world = at.pair_fencing()
    a, b = world.nodes()
    world.freeze_monitor(a)
    world.disconnect(b)
    _cut(world, "a>b", "b>a")
    at.run(world, lambda w: w.is_serving(b))
    world.power_on(a)
    world.settle()
    return world


def fenced_owner_restarts() -> Steps:
    """The same, and a's health monitor restarts while it waits."""
    world = fenced_owner()
    at.wait(world, 2)
    _restart(world, world.machines["a"])
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
    _cut(world, "a>b", "b>a", kinds=("wal",))
    at.run(world, at.flies(Accept))
    _pass(world, Accept, "a", "b")
    _cut(world, "a>b", "b>a", kinds=("udp", "wal"))
    _pass(world, Accepted, "b", "a")
    _lose_flight(world)
    _cut(world, "a>b", "b>a")
    return world


def late_answer() -> Steps:
    """The agent has switched b off and does not say so yet; b boots, meets a, is cut off (§8)."""
    world = at.pair_fencing_cut()
    b = world.machines["b"]
    world.shoot(world.shots[0])
    world.heal()
    world.power_on(b)
    world.settle()
    _ticks(world, 2)
    _cut(world, "a>b", "b>a")
    world.disconnect(b)
    _ticks(world, 3)
    return world


def _ticks(world: Steps, count: int) -> None:
    """Time goes on; databases finish what they do; nobody answers."""
    for _ in range(count):
        for m in world.nodes():
            while m.data.op is not None:
                world.finish(m)
                world.settle()
        world.tick()
        world.settle()


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


ATTACKS: dict[str, Attack] = {
    one.name: one
    for one in (
        Attack("stale alone", stale_alone),
        Attack("gate forgotten", gate_forgotten, states=1500),
        Attack("heartbeats lost", heartbeats_lost, follows, ticks=40, states=0),
        Attack("witness forgot", witness_forgot, states=1500),
        Attack("owner frozen", owner_frozen, states=0),
        Attack("frozen before arming", frozen_before_arming),
        Attack("thawed after takeover", thawed_after_takeover),
        Attack("voted away", voted_away, states=600),
        Attack("thawing in takeover", thawing_in_takeover),
        Attack("alone for long", alone_for_long, a_serves, ticks=40, states=0),
        Attack("release forgotten", release_forgotten, states=1500),
        Attack("release told early", release_told_early, ticks=4),
        Attack("switchover", switchover_done, states=0),
        Attack("rejoin", rejoin, act=write_at_a, states=1500, budget=Budget(ticks=6, cuts=1)),
        Attack("gate without lease", gate_without_lease, a_serves, states=0),
        Attack("going alone", at.alone_limbo, states=600, budget=Budget(ticks=6)),
        Attack("takeover in limbo", at.takeover_limbo, states=600, budget=Budget(ticks=6)),
        Attack("old disk", old_disk, states=0, recovers=False),
        Attack("reborn", reborn, states=0, recovers=False),
        Attack("old disk, forgotten", old_disk_forgotten, states=0, recovers=False),
        Attack("old standby", old_standby, states=0, ticks=60),
        Attack("unpaired", unpaired, states=0, recovers=False),
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
        Attack("late answer", late_answer, act=write_at_a, states=0, ticks=40),
    )
}
