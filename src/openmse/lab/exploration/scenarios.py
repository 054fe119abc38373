"""Where the explorer begins: each start is reached by the core itself, along a fixed path.

From SYNC alone a search finds little (protocol §11): so the starts lie in the middle of handovers,
takeovers and gates, in ALONE and PINNED, and at boots.
"""

from collections.abc import Callable

from msgspec.structs import replace

from openmse.ha import events as ev
from openmse.ha.invariants import is_healthy_sync
from openmse.ha.messages import Accept, PreVoteAnswer
from openmse.ha.values import Mode, NoWitnessMode
from openmse.lab.exploration import start
from openmse.lab.exploration.explorer import SETTINGS, Scenario, base, fair
from openmse.lab.exploration.steps import Budget, Steps
from openmse.lab.exploration.world import KINDS

LONG = 400


def run(world: Steps, until: Callable[[Steps], bool], ticks: int = LONG) -> Steps:
    """Go on without faults until a condition holds; it is an error if it never does."""
    assert fair(world, until, ticks), "the starting state of this scenario is never reached"
    return world


def wait(world: Steps, ticks: int) -> Steps:
    """Let some ticks pass."""
    fair(world, lambda _: False, ticks)
    return world


def is_mode(mode: Mode, owner: str = "a") -> Callable[[Steps], bool]:
    """The newest chosen config is of this kind, and everybody who can knows it."""

    def check(world: Steps) -> bool:
        last = world.history.newest.config
        return last.mode is mode and last.owner == owner

    return check


def flies(kind: type, mode: Mode | None = None) -> Callable[[Steps], bool]:
    """A message of this kind is in flight (an ``Accept``: of a config of this mode)."""

    def check(world: Steps) -> bool:
        for _, _, message in world.flight:
            if isinstance(message, kind):
                if mode is None or (isinstance(message, Accept) and message.value.mode is mode):
                    return True
        return False

    return check


def sync() -> Steps:
    """Healthy: SYNC(a), b streams."""
    return run(base(), lambda w: is_healthy_sync(w.picture()))


def written() -> Steps:
    """Healthy, with one acknowledged write and one that waits."""
    world = sync()
    world.write(world.machines["a"])
    world.settle()
    world.stream(world.machines["b"])
    world.settle()
    world.write(world.machines["a"])
    world.settle()
    return world


def owner_cut() -> Steps:
    """a is cut off with a write that waits; b and w see each other."""
    world = written()
    world.isolate(world.machines["a"])
    return wait(world, 2)


def takeover_asked() -> Steps:
    """b's pre-vote was answered yes."""
    return run(owner_cut(), flies(PreVoteAnswer))


def takeover_limbo() -> Steps:
    """b's Accept of ALONE(b) is in flight to w."""
    return run(owner_cut(), flies(Accept))


def takeover_done() -> Steps:
    """b owns and serves alone; a comes back with a tail that was never acknowledged."""
    world = run(owner_cut(), lambda w: w.is_serving(w.machines["b"]))
    world.write(world.machines["b"])
    world.heal()
    world.settle()
    return world


def peer_cut() -> Steps:
    """b is cut off; a and w see each other."""
    world = written()
    world.isolate(world.machines["b"])
    return world


def alone_limbo() -> Steps:
    """a's Accept of ALONE(a) is in flight."""
    return run(peer_cut(), flies(Accept))


def alone() -> Steps:
    """ALONE(a) with a write of its own; b was cut off and is back."""
    world = run(peer_cut(), is_mode(Mode.ALONE))
    world = wait(world, 2)
    world.write(world.machines["a"])
    world.heal()
    world.settle()
    return world


def gate() -> Steps:
    """The gate is passed: a's Accept of SYNC(a) is in flight."""
    return run(alone(), flies(Accept, Mode.SYNC))


def pinned() -> Steps:
    """PINNED(a): the witness is gone for long."""
    world = sync()
    world.power_off(world.machines["w"])
    run(world, is_mode(Mode.PINNED))
    return wait(world, 2)


def pinned_back() -> Steps:
    """The witness is back: a's Accept of SYNC(a) is in flight."""
    world = pinned()
    world.power_on(world.machines["w"])
    return run(world, flies(Accept, Mode.SYNC))


def handover() -> Steps:
    """A switchover past its release: PostgreSQL of a stops."""
    world = written()
    world.command(world.machines["a"], ev.Switchover())
    world.settle()
    return world


def handover_limbo() -> Steps:
    """a's Accept of SYNC(b) is in flight."""
    return run(handover(), flies(Accept, Mode.SYNC))


def handover_promoting() -> Steps:
    """SYNC(b) is chosen; b is about to promote."""
    return run(handover(), is_mode(Mode.SYNC, "b"))


def blackout() -> Steps:
    """All three machines lost power in SYNC, with a write that waited."""
    world = written()
    for m in world.machines.values():
        world.power_off(m)
    return world


def blackout_alone() -> Steps:
    """The same, in ALONE(a)."""
    world = alone()
    for m in world.machines.values():
        world.power_off(m)
    return world


def voters_restarted() -> Steps:
    """b and w restarted just now and have forgotten their grants; a is cut off."""
    world = written()
    for name in ("b", "w"):
        world.kill_monitor(world.machines[name])
        world.start_monitor(world.machines[name])
        world.settle()
    world.isolate(world.machines["a"])
    return world


def witness_renewed() -> Steps:
    """The witness came back with an empty disk; the change that admits it is in flight."""
    world = sync()
    witness = world.machines["w"]
    world.power_off(witness)
    world.lose_disk(witness)
    world.power_on(witness)
    world.settle()
    return run(world, flies(Accept))


def pair_pinned(mode: NoWitnessMode = NoWitnessMode.MANUAL) -> Steps:
    """A pair without a witness, PINNED(a)."""
    settings = replace(SETTINGS, no_witness_mode=mode)
    world = base(Mode.PINNED, has_witness=False, settings=settings)
    return run(world, lambda w: is_healthy_sync(w.picture()))


def pair_protect() -> Steps:
    """The same, whose writes wait when the other node is lost (§8)."""
    return pair_pinned(NoWitnessMode.PROTECT)


def pair_fencing() -> Steps:
    """The same, whose nodes go on alone once a fencing agent has confirmed (§8)."""
    return pair_pinned(NoWitnessMode.FENCING)


def pair_fencing_cut() -> Steps:
    """The same, cut apart: a has called the agent."""
    world = pair_fencing()
    world.write(world.machines["a"])
    world.cuts = frozenset((x, y, k) for x, y in (("a", "b"), ("b", "a")) for k in KINDS)
    world.cut_at = world.now
    return run(world, lambda w: bool(w.shots))


def pair_alone() -> Steps:
    """A pair without a witness in ALONE(a); b is back."""
    world = pair_pinned()
    world.cuts = frozenset((x, y, k) for x, y in (("a", "b"), ("b", "a")) for k in KINDS)
    run(world, is_mode(Mode.ALONE))
    world.write(world.machines["a"])
    world.heal()
    world.settle()
    return world


def scenarios() -> tuple[Scenario, ...]:
    """All of them, with what may happen from each."""
    usual = Budget()
    calm = Budget(ticks=8, losses=2, repeats=1, crashes=1, cuts=1)
    frozen = Budget(ticks=14, writes=1, losses=0, repeats=0, crashes=0, cuts=1, freezes=1)
    short = Budget(ticks=8, writes=1, losses=1, repeats=1, crashes=2, cuts=1)
    asked = Budget(ticks=8, writes=1, losses=1, repeats=0, crashes=1, cuts=1, commands=1)
    rows: list[tuple[str, Callable[[], Steps], Budget]] = [
        ("sync", written, usual),
        ("sync, frozen", written, frozen),
        ("sync, commands", sync, asked),
        ("owner cut off", owner_cut, usual),
        ("owner cut off, frozen", owner_cut, frozen),
        ("takeover asked", takeover_asked, calm),
        ("takeover in limbo", takeover_limbo, calm),
        ("takeover done", takeover_done, short),
        ("peer cut off", peer_cut, usual),
        ("going alone, in limbo", alone_limbo, calm),
        ("alone", alone, usual),
        ("gate, in limbo", gate, calm),
        ("pinned", pinned, usual),
        ("pinned, witness back", pinned_back, calm),
        ("handover", handover, calm),
        ("handover in limbo", handover_limbo, calm),
        ("handover, promoting", handover_promoting, short),
        ("blackout in sync", blackout, short),
        ("blackout in alone", blackout_alone, short),
        ("voters restarted", voters_restarted, usual),
        ("witness renewed", witness_renewed, calm),
        ("pair without witness", pair_pinned, asked),
        ("pair in protect mode", pair_protect, asked),
        ("pair without witness, alone", pair_alone, short),
        ("pair with fencing agent", pair_fencing, asked),
        ("pair with fencing agent, cut", pair_fencing_cut, short),
    ]
    return tuple(Scenario(name, build, budget) for name, build, budget in rows)


__all__ = ["SETTINGS", "scenarios", "start"]
