"""Schedules that break a promise of the protocol. Each was found by reading and by simulation.

Each was seen failing before the core kept the rule.
"""

from collections.abc import Callable

from msgspec.structs import replace

from openmse.ha import events as ev
from openmse.ha import node as core
from openmse.ha.effects import Fence
from openmse.ha.invariants import Write, holds, is_healthy_sync
from openmse.ha.messages import Accept
from openmse.ha.values import (
    SECOND,
    FailoverType,
    Instant,
    Lineage,
    Mode,
    NoWitnessMode,
    Voter,
)
from openmse.lab.exploration import scenarios as at
from openmse.lab.exploration.explorer import SETTINGS, base
from openmse.lab.exploration.steps import Steps
from openmse.lab.exploration.world import KINDS


def cut(world: Steps, *pairs: str) -> None:
    """Cut ``ab`` both ways."""
    ways = {(x, y, k) for p in pairs for x, y in ((p[0], p[1]), (p[1], p[0])) for k in KINDS}
    world.cuts = world.cuts | ways
    world.cut_at = world.now


def lose(world: Steps, name: str) -> None:
    """A machine loses power, and the others notice in due time."""
    world.power_off(world.machines[name])
    world.cut_at = world.now


def work(world: Steps, ticks: int, until: Callable[[Steps], bool] | None = None) -> set[Write]:
    """A client writes at a with every tick; what was acknowledged meanwhile."""
    seen = set(world.history.acknowledged)
    for _ in range(ticks):
        world.write(world.machines["a"])
        at.wait(world, 1)
        seen |= set(world.history.acknowledged)
        if until is not None and until(world):
            break
    return seen


def answer(world: Steps) -> bool:
    """Whether the last command was done."""
    world.settle()
    return world.answers[-1][1]


def b_serves(world: Steps) -> bool:
    return world.is_serving(world.machines["b"])


# -- fencing (§8: "cut: the owner wins the race by a delay") ------------------------------------
def test_fencing_in_a_plain_cut_loses_no_acknowledged_write() -> None:
    """a goes ALONE and acknowledges; one failover wait later b has it switched off and owns."""
    world = at.pair_pinned(NoWitnessMode.FENCING)
    cut(world, "ab")
    seen = work(world, 30, b_serves)
    newest = world.machines[world.history.newest.config.owner]
    assert [write for write in seen if not holds(newest.data.wal, write)] == []


def test_a_node_that_boots_with_an_old_config_fences_nobody() -> None:
    """b was off while a went on alone; it boots, hears nobody, and kills the only good copy."""
    world = at.pair_pinned(NoWitnessMode.FENCING)
    lose(world, "b")
    seen = work(world, 20)
    cut(world, "ab")
    world.power_on(world.machines["b"])
    world.settle()
    seen |= work(world, 20, b_serves)
    newest = world.machines[world.history.newest.config.owner]
    assert [write for write in seen if not holds(newest.data.wal, write)] == []


def test_an_answer_to_another_request_counts_for_nothing() -> None:
    """Of an agent called long ago: b may have come and gone since."""
    world = at.pair_fencing_cut()
    a = world.machines["a"]
    shot = world.shots[0]
    world.shots = ()
    world.feed(a, ev.FencingAnswered(world.clock(a), True, "", Instant(shot.asked_at - 1)))
    world.settle()
    assert world.history.newest.config.mode is Mode.PINNED
    world.feed(a, ev.FencingAnswered(world.clock(a), True, "", shot.asked_at))
    world.settle()
    assert world.history.newest.config.mode is Mode.ALONE


def test_a_node_that_stood_still_fences_nobody_at_once() -> None:
    """What the other node sent meanwhile lies unread when the first timer fires."""
    node = at.pair_fencing().machines["a"].node
    assert node is not None
    later = Instant(node.now + 3 * SECOND)
    node, effects = core.step(node, ev.Ticked(later))
    assert not any(isinstance(effect, Fence) for effect in effects)
    asked: list[Fence] = []
    for number in range(1, 11):
        node, effects = core.step(node, ev.Ticked(Instant(later + number * SECOND // 10)))
        asked += [effect for effect in effects if isinstance(effect, Fence)]
    assert [one.peer for one in asked] == ["b"]


def test_a_peer_that_is_stopped_votes_before_it_goes() -> None:
    """Else a would have to have it switched off, in the midst of an upgrade."""
    world = at.pair_fencing()
    world.command(world.machines["b"], ev.StopNode())
    world.settle()
    at.wait(world, 8)
    last = world.history.newest
    assert (last.config.mode, last.config.owner) == (Mode.ALONE, "a")
    assert not last.is_forced
    assert world.machines["b"].node is None


def test_an_owner_that_waits_for_an_answer_cannot_be_told_to_serve() -> None:
    """The other node may own by now; only a forced takeover shows what that would lose."""
    world = at.pair_fencing()
    a = world.machines["a"]
    lose(world, "b")
    world.power_off(a)
    world.power_on(a)
    world.settle()
    world.command(a, ev.ConfirmAlone())
    assert not answer(world)
    at.wait(world, 100)
    assert not world.is_serving(a)
    world.command(a, ev.ForceTakeover("test"))
    at.wait(world, 8)
    assert world.is_serving(a)


# -- protect (§8: "P blocks commits until S is back or the operator releases") ------------------
def test_a_release_without_a_loss_is_refused() -> None:
    """Given while the peer streams, it voids the next protection, perhaps weeks later."""
    world = at.pair_protect()
    world.command(world.machines["a"], ev.ReleaseProtect())
    assert not answer(world)
    lose(world, "b")
    at.wait(world, 12)
    assert world.history.newest.config.mode is Mode.PINNED


def test_a_release_ends_with_the_loss_it_was_given_for() -> None:
    """Given while the owner's database starts; the peer is back before anything was released."""
    world = at.pair_protect()
    a = world.machines["a"]
    lose(world, "b")
    at.wait(world, 12)
    world.crash_database(a)
    world.settle()
    world.command(a, ev.ReleaseProtect())
    assert answer(world)
    world.power_on(world.machines["b"])
    world.settle()
    at.run(world, lambda w: is_healthy_sync(w.picture()))
    at.wait(world, 40)
    if world.history.newest.config.mode is Mode.PINNED:
        lose(world, "b")
        at.wait(world, 12)
        assert world.history.newest.config.mode is Mode.PINNED


def test_a_planned_stop_releases_nothing() -> None:
    """Writes wait for b; the machine of a is restarted in good order: they must still wait."""
    world = at.pair_protect()
    a = world.machines["a"]
    lose(world, "b")
    at.wait(world, 12)
    world.command(a, ev.StopNode())
    world.settle()
    at.wait(world, 60)
    world.power_off(a)
    at.wait(world, 2)
    world.power_on(a)
    world.settle()
    before = set(world.history.acknowledged)
    assert work(world, 100) == before


# -- limbo (L1) --------------------------------------------------------------------------------
def test_what_a_takeover_left_at_the_witness_is_cleared() -> None:
    """The witness accepted ALONE(b), b forgot it and grants a again. All is healthy, but the
    witness renews nothing for ever: when b dies later, a stops though it sees the witness."""
    world = at.takeover_limbo()
    b = world.machines["b"]
    world.deliver(next(f for f in world.flight if isinstance(f[2], Accept)))
    world.settle()
    world.flight = ()
    world.kill_monitor(b)
    world.start_monitor(b)
    world.settle()
    world.heal()
    world.settle()
    at.wait(world, 100)
    assert is_healthy_sync(world.picture())
    lose(world, "b")
    at.wait(world, 60)
    assert world.is_serving(world.machines["a"])


# -- forced terms (L1) -------------------------------------------------------------------------
def test_a_force_on_an_older_history_does_not_make_the_other_node_look_forgetful() -> None:
    """b took over (history 1.2b) and was lost; a is forced and keeps 1.1a. b rejoins, and restarts
    once. Much later a dies: b cuts its receiver, shows 1.1a where the witness remembers 1.2b, is
    called forgetful, begins anew, and nobody serves."""
    world = at.run(at.owner_cut(), b_serves)
    a, b = world.machines["a"], world.machines["b"]
    at.wait(world, 4)
    lose(world, "b")
    world.command(a, ev.ForceTakeover("test"))
    world.settle()
    at.wait(world, 20)
    world.heal()
    world.power_on(b)
    world.settle()
    at.run(world, lambda w: is_healthy_sync(w.picture()))
    at.wait(world, 20)
    incarnation = b.record.incarnation
    lose(world, "a")
    at.wait(world, 60)
    assert b.record.incarnation == incarnation
    assert b_serves(world)


def test_who_was_taken_out_of_the_group_cannot_be_forced_to_own() -> None:
    """It would own a config of which it is no voter."""
    world = at.alone()
    a, b = world.machines["a"], world.machines["b"]
    voters = world.history.newest.config.voters
    world.command(a, ev.ChangeVoters(tuple(v for v in voters if v.id != "b")))
    at.wait(world, 4)
    assert b.record.known == world.history.newest.config
    world.command(b, ev.ForceTakeover("test"))
    assert not answer(world)


def test_who_was_taken_out_of_the_group_is_no_second_copy() -> None:
    """a's health monitor restarts and knows b only from its configuration; b streams. Without a
    vote, b must not be why a goes SYNC, from where it could own."""
    world = at.alone()
    a = world.machines["a"]
    voters = world.history.newest.config.voters
    world.command(a, ev.ChangeVoters(tuple(v for v in voters if v.id != "b")))
    at.wait(world, 4)
    world.kill_monitor(a)
    world.start_monitor(a)
    world.settle()
    at.wait(world, 20)
    assert world.history.newest.config.mode is Mode.ALONE


def test_two_forces_unknown_to_each_other_are_two_configs() -> None:
    """Both nodes are forced while they are cut apart: one history wins, and nothing is in doubt."""
    world = at.pair_pinned()
    cut(world, "ab")
    for name in ("a", "b"):
        world.command(world.machines[name], ev.ForceTakeover("test"))
        world.settle()
    at.wait(world, 12)
    terms = {m.id: m.record.promised.term for m in world.nodes()}
    assert terms["a"] != terms["b"]
    assert not world.faults()
    world.heal()
    world.settle()
    at.run(world, lambda w: is_healthy_sync(w.picture()))


# -- the witness -------------------------------------------------------------------------------
def test_a_new_witness_is_given_its_time_to_answer() -> None:
    """It counted as lost since the health monitor started, so that the pair was PINNED at once."""
    world = at.sync()
    at.wait(world, 260)
    voters = world.history.newest.config.voters
    changed = (*(v for v in voters if not v.is_witness), Voter("w2", "w2-0", True))
    world.command(world.machines["a"], ev.ChangeVoters(changed))
    world.settle()
    at.wait(world, 20)
    last = world.history.newest.config
    assert last.voters == changed
    assert last.mode is Mode.SYNC
    at.wait(world, 250)
    assert world.history.newest.config.mode is Mode.PINNED


def test_a_witness_that_was_taken_out_is_not_back() -> None:
    """Known from the configuration after the health monitor's restart, it answers: "the witness
    is back" led from PINNED to PINNED, thousands of configs a second (simulator seed 736)."""
    world = at.sync()
    a = world.machines["a"]
    nodes = tuple(v for v in world.history.newest.config.voters if not v.is_witness)
    world.command(a, ev.ChangeVoters(nodes))
    world.settle()
    at.wait(world, 8)
    world.kill_monitor(a)
    world.start_monitor(a)
    world.settle()
    at.wait(world, 20)
    first = world.history.newest.config
    for _ in range(60):
        world.tick()
        world.settle()
        assert world.history.newest.config == first


# -- failover type manual ----------------------------------------------------------------------
def test_a_takeover_may_be_asked_for_when_the_owner_came_back_empty() -> None:
    """a is heard, but its memory and its data are new: b could own without any loss, if asked."""
    manual = replace(SETTINGS, failover_type=FailoverType.MANUAL)
    world = at.run(base(settings=manual), lambda w: is_healthy_sync(w.picture()))
    a = world.machines["a"]
    world.power_off(a)
    world.lose_disk(a)
    at.wait(world, 8)
    world.power_on(a)
    world.settle()
    at.wait(world, 20)
    world.command(world.machines["b"], ev.Switchover())
    at.wait(world, 20)
    assert b_serves(world)


def test_an_owner_releases_nothing_that_nobody_would_take() -> None:
    """Its database recovers for a while; the other node takes over only when asked. Each release
    cost 5 s, and the next start was as slow: an outage without end (simulator seed 1450)."""
    manual = replace(SETTINGS, failover_type=FailoverType.MANUAL)
    world = at.run(base(settings=manual), lambda w: is_healthy_sync(w.picture()))
    a = world.machines["a"]
    world.crash_database(a)
    world.settle()
    for _ in range(3):
        world.tick()
        world.settle()
    assert a.record.released is None
    at.wait(world, 12)
    assert world.is_serving(a)


def test_an_operators_wish_ends_when_the_owner_is_back() -> None:
    """Asked while a was silent; a came back at once and served on in the same epoch. It dies much
    later, and nobody has asked this time."""
    manual = replace(SETTINGS, failover_type=FailoverType.MANUAL)
    world = at.run(base(settings=manual), lambda w: is_healthy_sync(w.picture()))
    a, b = world.machines["a"], world.machines["b"]
    world.freeze_monitor(a)
    at.wait(world, 2)
    world.command(b, ev.Switchover())
    assert answer(world)
    world.thaw_monitor(a)
    world.settle()
    at.wait(world, 40)
    first = world.history.newest.config
    assert first.owner == "a"
    assert world.is_serving(a)
    lose(world, "a")
    at.wait(world, 40)
    assert world.history.newest.config == first


# -- what holds --------------------------------------------------------------------------------
def test_a_new_witness_in_the_place_of_the_old_one_is_no_way_around_a_lease() -> None:
    """a is frozen with a lease that the old witness gave; the new one knows of no grant."""
    world = at.written()
    witness = world.machines["w"]
    world.power_off(witness)
    world.lose_disk(witness)
    world.power_on(witness)
    world.settle()
    at.run(world, lambda w: Voter("w", witness.record.incarnation, True) in _voters(w))
    at.wait(world, 2)
    world.freeze_monitor(world.machines["a"])
    for _ in range(20):
        at.wait(world, 1)
        assert not world.faults()
    assert b_serves(world)
    assert world.machines["b"].data.lineage != Lineage(1, 1, "a")


def _voters(world: Steps) -> tuple[Voter, ...]:
    return world.history.newest.config.voters
