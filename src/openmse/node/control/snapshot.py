"""Everything the status commands, the console and the laboratory show of a node, in one value.

Built by a pure function from the core's state and a few facts that the core has no need of.
Durations in a snapshot are relative to its making and end in ``_ms`` or ``_s``; -1 or null where
there is nothing to tell. Instants of the monotonic clock never leave the machine.
"""

from msgspec import UNSET, Struct, UnsetType

from openmse import __version__
from openmse.ha import facts as rules
from openmse.ha import failback
from openmse.ha.draft import is_owner, needs_lease, since, timing_of
from openmse.ha.local import DbRole
from openmse.ha.names import Health, Names, Role, State, Sync, is_heard, names
from openmse.ha.state import Node, Operation, Party
from openmse.ha.values import FOREVER, MILLISECOND, SECOND, Config, Lineage, Settings
from openmse.node.control.alarms import Alarm, alarms_of, certificate_alarms
from openmse.wire.versions import WIRE_VERSION

FORMAT = 1


class Facts(Struct, frozen=True, kw_only=True):
    """What the runtime adds to the core's state."""

    made_at: str
    """Wall clock, ISO 8601 with offset."""
    configured_role: str
    address: str
    address6: str = ""
    interface: str = ""
    group: str = ""
    """The group's id; '' while unpaired."""
    virtual_ips: tuple[str, ...] = ()
    peer_address: str = ""
    witness_kind: str = "none"
    witness_address: str = ""
    database_port: int = 0
    pids: dict[str, int | None] = {}
    """``health-monitor`` and ``postgres``, as this machine numbers them."""
    alarms: tuple[Alarm, ...] = ()
    """What drivers have to tell beyond the core's views."""
    watchdog: str = "off"
    is_pairing_open: bool = False
    loop_lag_ms: float = 0.0
    events_dropped: int = 0
    certificate_days_left: int | None = None
    """None: not known."""
    paths: "tuple[PathView, ...]" = ()


class PathView(Struct, frozen=True):
    """One of the two ways to the other node, where there is a direct connection."""

    name: str
    """network (the health monitor interface) or direct."""
    interface: str
    own_address: str
    peer_address: str
    is_up: bool
    is_used: bool
    """Control links and replication go this way; heartbeats go both ways."""
    heard_ms_ago: float
    """-1: not heard since this process started."""


class RegisterView(Struct, frozen=True):
    """The newest config that this node knows chosen."""

    term: int
    epoch: int
    owner: str
    mode: str
    primary: str
    voters: tuple[str, ...]
    lineage: str
    parent_lineage: str | None
    fork_lsn: str
    settings: Settings
    reason: str
    is_fate_unknown: bool
    """A newer value was accepted here whose fate is not known yet."""


class LeaseView(Struct, frozen=True):
    """The owner's right to serve."""

    is_needed: bool
    remaining_ms: float
    """-1 where none is held."""
    length_ms: float
    failover_wait_ms: float
    is_halted: bool


class PartyView(Struct, frozen=True):
    """Another voter as seen from here."""

    name: str
    is_heard: bool
    heard_ms_ago: float
    round_trip_ms: float
    is_link_up: bool
    term: int
    epoch: int
    software: str = ""
    is_ready: bool = False
    note: str = ""
    end_lsn: str = "0/0"
    is_streaming: bool = False
    is_primary: bool = False
    hears_witness: bool = False
    progress_percent: int = -1


class DatabaseView(Struct, frozen=True):
    """PostgreSQL on this machine."""

    process: str
    role: str
    is_healthy: bool
    is_complete: bool
    failure: str
    lineage: str | None
    end_lsn: str
    receiver: str
    is_peer_streaming: bool
    names_proven: bool
    rung_needed: str
    progress_percent: int
    lag_bytes: int
    """How far the copy is behind: the standby's flush, seen from either side; -1 if unknown."""


class StepView(Struct, frozen=True):
    """One step of an operation; ``ms`` since the operation began."""

    name: str
    ms: float


class OperationView(Struct, frozen=True):
    """What is under way."""

    kind: str
    step: str
    steps: tuple[StepView, ...]
    elapsed_ms: float
    is_final: bool


class LossView(Struct, frozen=True):
    """What a forced takeover from here could lose, as far as this node can know."""

    owner: str
    without_owner_s: float
    """Since when this node has not heard it; -1 for not since this process started."""
    behind_bytes: int
    """Behind the owner's last word; -1 if it is unknown."""
    sentence: str


class WhyNot(Struct, frozen=True):
    """Why something does not happen now; '' where nothing is in its way."""

    switchover: str
    failback: str
    takeover: str
    sync: str


class Snapshot(Struct, frozen=True, kw_only=True):
    """The whole picture."""

    format: int = FORMAT
    made_at: str
    node: str
    configured_role: str
    state: State
    reason: str
    role: Role
    sync: Sync
    health: Health
    operation: str
    progress_percent: int
    group: str
    register: RegisterView | None
    lease: LeaseView
    peer: PartyView | None
    witness: PartyView | None
    witness_kind: str
    database: DatabaseView
    address: str
    """The virtual IP on this machine: absent, probing, held or conflict."""
    admits_clients: bool
    virtual_ips: tuple[str, ...]
    node_address: str
    node_address6: str
    peer_address: str
    witness_address: str
    database_port: int
    running: OperationView | None
    why_not: WhyNot
    loss: LossView | None
    """On a node that does not own."""
    alarms: tuple[Alarm, ...]
    pids: dict[str, int | None]
    watchdog: str
    is_pairing_open: bool
    uptime_s: float
    loop_lag_ms: float
    events_dropped: int
    certificate_days_left: int | UnsetType = UNSET
    """Until the first of this node's certificates ends, negative once it has. Left out while it is
    not known, for a reader of an earlier version takes nothing but a number."""
    paths: tuple[PathView, ...] = ()
    """Both ways to the other node; empty without a direct connection."""
    version: str = __version__
    wire_version: int = WIRE_VERSION


def snapshot(n: Node, facts: Facts) -> Snapshot:
    """The picture of a node at this moment."""
    words: Names = names(n)
    config, left = n.config, facts.certificate_days_left
    return Snapshot(
        made_at=facts.made_at,
        node=n.me,
        configured_role=facts.configured_role,
        state=words.state,
        reason=words.reason,
        role=words.role,
        sync=words.sync,
        health=words.health,
        operation=words.operation,
        progress_percent=words.progress_percent,
        group=facts.group,
        register=_register(n, config) if config is not None else None,
        lease=_lease(n),
        peer=_party(n, n.peer),
        witness=_party(n, n.witness),
        witness_kind=facts.witness_kind,
        database=_database(n),
        address=n.net.address.value,
        admits_clients=n.net.admits,
        virtual_ips=facts.virtual_ips,
        node_address=facts.address,
        node_address6=facts.address6,
        peer_address=facts.peer_address,
        witness_address=facts.witness_address,
        database_port=facts.database_port,
        running=operation_view(n, n.operation),
        why_not=_why_not(n),
        loss=_loss(n, config) if config is not None else None,
        alarms=(*alarms_of(n), *facts.alarms, *certificate_alarms(left)),
        pids=facts.pids,
        watchdog=facts.watchdog,
        is_pairing_open=facts.is_pairing_open,
        uptime_s=round((n.now - n.started_at) / SECOND, 1),
        loop_lag_ms=facts.loop_lag_ms,
        events_dropped=facts.events_dropped,
        certificate_days_left=UNSET if left is None else left,
        paths=facts.paths,
    )


def lsn_text(lsn: int) -> str:
    """A position as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lineage_text(lineage: Lineage | None) -> str | None:
    """A history's name for people."""
    return None if lineage is None else f"{lineage.term}.{lineage.epoch}.{lineage.owner}"


def operation_view(n: Node, operation: Operation | None) -> OperationView | None:
    """What is under way, with milliseconds instead of instants."""
    if operation is None:
        return None
    start = operation.started_at
    steps = tuple(StepView(step.name, _ms(step.at - start)) for step in operation.steps)
    return OperationView(
        operation.kind.value, operation.step, steps, _ms(n.now - start), operation.is_final
    )


def _ms(ns: int) -> float:
    return round(ns / MILLISECOND, 1)


def _register(n: Node, config: Config) -> RegisterView:
    return RegisterView(
        term=config.term,
        epoch=config.epoch,
        owner=config.owner,
        mode=config.mode.value,
        primary=config.primary or config.owner,
        voters=tuple(voter.id for voter in config.voters),
        lineage=lineage_text(config.lineage) or "",
        parent_lineage=lineage_text(config.parent_lineage),
        fork_lsn=lsn_text(config.fork_lsn),
        settings=config.settings,
        reason=config.reason,
        is_fate_unknown=n.record.accepted > n.record.chosen,
    )


def _lease(n: Node) -> LeaseView:
    timing = timing_of(n.config)
    is_needed = is_owner(n) and needs_lease(n)
    left = n.lease_until - n.now
    is_held = is_owner(n) and left > 0 and n.lease_until < FOREVER
    return LeaseView(
        is_needed=is_needed,
        remaining_ms=_ms(left) if is_held else -1.0,
        length_ms=_ms(timing.lease_ns),
        failover_wait_ms=_ms(timing.wait_ns),
        is_halted=n.is_halted,
    )


def _party(n: Node, party: Party) -> PartyView | None:
    if not party.id:
        return None
    standing = party.standing
    return PartyView(
        name=party.id,
        is_heard=is_heard(n, party),
        heard_ms_ago=_ms(n.now - party.heard_at) if party.heard_at else -1.0,
        round_trip_ms=round(party.round_trip_ns / MILLISECOND, 3) if party.round_trip_ns else -1.0,
        is_link_up=party.is_link_up,
        term=party.version[0],
        epoch=party.version[1],
        software=standing.software,
        is_ready=standing.is_ready,
        note=standing.note,
        end_lsn=lsn_text(standing.end_lsn),
        is_streaming=standing.is_streaming,
        is_primary=standing.is_primary,
        hears_witness=standing.hears_witness,
        progress_percent=standing.progress_percent,
    )


def _database(n: Node) -> DatabaseView:
    db = n.db
    return DatabaseView(
        process=db.process.value,
        role=db.role.value if db.role is not DbRole.DOWN else "none",
        is_healthy=db.is_healthy,
        is_complete=db.is_complete,
        failure=db.failure,
        lineage=lineage_text(db.lineage),
        end_lsn=lsn_text(db.end_lsn),
        receiver=db.receiver.value,
        is_peer_streaming=db.peer_streaming,
        names_proven=db.names,
        rung_needed=db.rung_needed.value,
        progress_percent=db.progress_percent,
        lag_bytes=lag_bytes(n),
    )


def lag_bytes(n: Node) -> int:
    """How far the standby's copy is behind the owner's last known word; -1 if unknown."""
    if n.config is None or not n.peer.id:
        return -1
    if is_owner(n):
        return max(0, n.db.end_lsn - n.db.peer_flush_lsn) if n.db.peer_flush_lsn else -1
    owner = n.peer.standing
    if not owner.end_lsn or owner.lineage != n.db.lineage:
        return -1
    return max(0, owner.end_lsn - n.db.end_lsn)


def _why_not(n: Node) -> WhyNot:
    return WhyNot(
        switchover=rules.why_no_switchover(n),
        failback=failback.why_not(n),
        takeover=rules.why_no_takeover(n),
        sync=rules.why_no_gate(n) if is_owner(n) else "",
    )


def _loss(n: Node, config: Config) -> LossView | None:
    if config.owner == n.me:
        return None
    heard = n.peer.heard_at
    without_s = round(since(n.now, heard) / SECOND, 1) if heard else -1.0
    behind = lag_bytes(n)
    if not heard:
        when = f"{config.owner} has not been heard since this node's health monitor started"
    elif is_heard(n, n.peer):
        when = f"{config.owner} is heard at this moment: a planned switchover loses nothing"
    else:
        when = f"{config.owner} was last heard {without_s:.0f} s ago"
    what = _what_is_lost(config, behind, is_heard=is_heard(n, n.peer))
    return LossView(config.owner, without_s, behind, f"{when}; {what}.")


def _what_is_lost(config: Config, behind: int, *, is_heard: bool) -> str:
    known = (
        "how far this node is behind its last word is unknown"
        if behind < 0
        else f"this node is {behind} bytes of WAL behind its last word"
    )
    if config.mode.value == "ALONE":
        return f"{known}, and everything that it has acknowledged alone since then is lost"
    if is_heard:
        return f"{known}; in {config.mode.value} this node holds everything that was acknowledged"
    return (
        f"{known}; in {config.mode.value} this node holds everything that was acknowledged, but if "
        f"{config.owner} has gone on alone since, which this node cannot know, then what it "
        "acknowledged alone is lost"
    )
