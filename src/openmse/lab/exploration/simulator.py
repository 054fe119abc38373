"""The seeded simulator: random faults for a while, then everything is healed and must come back.

A run is its seed. Safety is judged after every event; after the healing a healthy SYNC (PINNED in a
pair without a witness) must be reached within a bound and stay: no ping-pong.
"""

from random import Random

from msgspec import Struct
from msgspec.structs import replace

from openmse.ha import events as ev
from openmse.ha.invariants import describe, is_healthy_sync, owner_changes
from openmse.ha.values import (
    SECOND,
    BootAlone,
    FailoverType,
    Mode,
    NoWitnessMode,
    Settings,
    peer_of,
    witness_of,
)
from openmse.lab.exploration import start
from openmse.lab.exploration.replacement import Replacing
from openmse.lab.exploration.troubles import Troubles
from openmse.lab.exploration.virtual import Virtual

SETTLE_NS = 30 * SECOND
"""How long the pair may take to come up at the start of a run."""
HEALED_NS = 150 * SECOND
"""Bound of the liveness phase: the longest chain of waits (boot patience, flapping, ladder)."""
STEADY_NS = 6 * SECOND
"""For how long the healthy state must hold at the end."""
PROTECTED_NS = 12 * SECOND
"""Protect mode: for how long writes are watched to wait for a peer that is lost."""
RELEASED_NS = 8 * SECOND
"""Bound of the service's return after an operator released the protection."""


class Outcome(Struct, frozen=True):
    """How one run ended."""

    seed: int
    rule: str = ""
    """The rule that was broken; '' for none."""
    sentence: str = ""
    virtual_ns: int = 0
    steps: int = 0
    acknowledged: int = 0
    owner_changes: int = 0
    trace: tuple[str, ...] = ()


class Plan(Struct, frozen=True):
    """What a seed decides first: the shape of the run."""

    has_witness: bool
    settings: Settings
    safety_ns: int
    pace_ns: int
    """Mean time between two troubles."""
    loss: float
    is_long: bool


def plan_of(rng: Random) -> Plan:
    """Draw the shape of a run."""
    has_witness = rng.random() < 0.75
    is_long = rng.random() < 0.1
    return Plan(
        has_witness,
        settings_of(rng),
        (150 if is_long else rng.randint(8, 25)) * SECOND,
        rng.choice((800, 2000, 4000, 15_000 if is_long else 4000)) * SECOND // 1000,
        rng.choice((0.0, 0.0, 0.02, 0.1, 0.25)),
        is_long,
    )


def settings_of(rng: Random) -> Settings:
    """Draw what the administrator has set: mostly what most have."""
    automatic, manual = FailoverType.AUTOMATIC, FailoverType.MANUAL
    return Settings(
        failover_wait_ns=rng.choice((2, 2, 2, 3, 5)) * SECOND,
        failover_type=rng.choice((automatic,) * 7 + (manual,)),
        failback_type=rng.choice((manual,) * 7 + (automatic,)),
        no_witness_mode=rng.choice(list(NoWitnessMode)),
        boot_alone=rng.choice((BootAlone.AUTO,) * 3 + (BootAlone.ASK,)),
        boot_patience_ns=5 * SECOND,
        failback_stable_ns=SECOND,
    )


def build(seed: int, planted: frozenset[str] = frozenset(), *, keep_trace: bool = False) -> Virtual:
    """The world of a seed, at its start."""
    rng = Random(seed)
    plan = plan_of(rng)
    mode = Mode.SYNC if plan.has_witness else Mode.PINNED
    made = start.machines(mode, plan.settings, has_witness=plan.has_witness)
    past = start.history(mode, plan.settings, has_witness=plan.has_witness)
    world = Virtual(made, past, rng)
    world.planted = planted
    if keep_trace:
        world.trace = []
    return world


def run(
    seed: int,
    planted: frozenset[str] = frozenset(),
    *,
    keep_trace: bool = False,
    replaces: bool = False,
) -> Outcome:
    """Play one seed to its end; ``replaces``: machines are lost for good, and others come."""
    world = build(seed, planted, keep_trace=keep_trace)
    plan = plan_of(Random(seed))
    try:
        return _play(seed, world, plan, replaces=replaces)
    except AssertionError as error:
        return _outcome(seed, world, "assertion", f"The core contradicts itself: {error!r}")


def _play(seed: int, world: Virtual, plan: Plan, *, replaces: bool) -> Outcome:
    for m in world.machines.values():
        world.at(world.rng.randrange(SECOND), lambda m=m: world.power_on(m))  # type: ignore[misc]
    world.live()
    if not _run_until_healthy(world, SETTLE_NS):
        return _broken(seed, world, "L2: the pair did not come up")
    kind = Replacing if replaces else Troubles
    troubles = kind(world, plan.pace_ns, is_long=plan.is_long)
    world.loss = plan.loss
    troubles.begin()
    if not world.run(world.now + plan.safety_ns):
        return _broken(seed, world, "")
    troubles.heal()
    world.loss = 0.0
    if not _run_until_healthy(world, HEALED_NS):
        return _broken(seed, world, "L3: no healthy pair after the healing")
    changes = owner_changes(world.history.chosen)
    if not world.run(world.now + STEADY_NS):
        return _broken(seed, world, "")
    if owner_changes(world.history.chosen) != changes:
        return _broken(seed, world, "L4: the owner changed again though nothing was wrong")
    if not is_whole(world):
        return _broken(seed, world, "L4: the healthy state did not last")
    sentence = "" if has_last_word(world) else last_loss(world)
    return _broken(seed, world, sentence) if sentence or world.found else _outcome(seed, world)


def _run_until_healthy(world: Virtual, bound_ns: int) -> bool:
    end = world.now + bound_ns
    while world.now < end:
        if not world.run(world.now + SECOND // 4):
            return False
        if not is_whole(world) or world.found:
            continue
        if not world.run(world.now + 2 * SECOND):  # an order may still be on its way
            return False
        if is_whole(world):
            return True
    return False


def is_whole(world: Virtual) -> bool:
    """Whether the pair is healthy, with every machine in it; and, where an automatic failback is
    set, back where it belongs."""
    last = world.history.newest.config
    if world.calls or not is_healthy_sync(world.picture()):
        return False
    if len(last.voters) < len(world.machines) - len(world.retired()):
        return False
    is_automatic = last.settings.failback_type is FailoverType.AUTOMATIC
    return last.mode is not Mode.SYNC or not is_automatic or last.owner == last.primary


def has_last_word(world: Virtual) -> bool:
    """Whether the run ends here: what follows is for pairs in protect mode only."""
    last = world.history.newest.config
    return bool(witness_of(last)) or last.settings.no_witness_mode is not NoWitnessMode.PROTECT


def last_loss(world: Virtual) -> str:
    """Protect mode: the peer is lost; writes stop, on purpose, until an operator releases them.
    The sentence of what is wrong, or ''."""
    last = world.history.newest.config
    owner, peer = world.machines[last.owner], world.machines[peer_of(last, last.owner)]
    world.power_off(peer)
    world.held_off = peer.id
    if not world.run(world.now + 1 * SECOND):
        return ""
    before = len(world.history.acknowledged)
    if not world.run(world.now + PROTECTED_NS):
        return ""
    if len(world.history.acknowledged) > before or world.history.newest.config != last:
        return "protect: writes go on without the peer, and nobody released them"
    world.command(owner, ev.ReleaseProtect())
    if not world.run(world.now + RELEASED_NS):
        return ""
    if len(world.history.acknowledged) == before:
        return "L1: writes do not go on though an operator released them"
    return ""


def _broken(seed: int, world: Virtual, liveness: str) -> Outcome:
    if world.found:
        first = world.found[0]
        return _outcome(seed, world, first.rule, first.sentence)
    rule, _, _ = liveness.partition(":")
    return _outcome(seed, world, rule, f"{liveness}: {summary(world)}")


def _outcome(seed: int, world: Virtual, rule: str = "", sentence: str = "") -> Outcome:
    return Outcome(
        seed,
        rule,
        sentence,
        world.now,
        world.steps,
        len(world.history.acknowledged),
        owner_changes(world.history.chosen),
        tuple(world.trace or ()),
    )


def summary(world: Virtual) -> str:
    """Where everything stands, in a line."""
    parts = [describe(world.history.newest.config)]
    for m in world.nodes():
        known = m.record.known
        parts.append(
            f"{m.id}: knows {describe(known) if known else 'nothing'}, database "
            f"{m.data.role.value} {m.data.process.value} {m.data.op or ''} {len(m.data.wal)}"
            f"{'' if m.data.is_complete else ' incomplete'}"
            f"{' answering' if world.is_answering(m) else ''}"
        )
    return "; ".join(parts)


def restart_after_force(world: Virtual) -> None:
    """What an operator does when the last config's owner has lost its memory: a forced takeover."""
    last = world.history.newest.config
    if last.mode is Mode.SYNC or last.owner not in world.history.amnesic:
        return
    survivor = next((m for m in world.nodes() if m.id != last.owner), None)
    if survivor is not None and survivor.data.is_complete:
        world.command(survivor, ev.ForceTakeover("simulator"))


__all__ = ["Outcome", "build", "replace", "restart_after_force", "run"]
