"""The shapes of the REST API; durations end in ``_s`` or ``_ms``, sizes in ``_bytes``."""

from typing import Annotated

from pydantic import BaseModel, Field

from openmse import ports
from openmse.console.api.described import Strict
from openmse.console.live.newcomer import Newcomer
from openmse.console.live.pairs import PairView
from openmse.console.live.views import EngineView
from openmse.console.nodes.models import Alarm, TakeoverView
from openmse.console.store.past import Action


class ServiceOut(BaseModel):
    """A mobility service."""

    name: str
    version: str
    admin_status: str
    service_status: str


class AlarmOut(BaseModel):
    """Something that wants attention, as an engine says it."""

    kind: str
    severity: str = Field(description="warning or error")
    sentence: str
    action: str = Field(description="what to do about it")
    seen_by: str = Field(description="the engine that says it")


class EngineOut(BaseModel):
    """An engine; what is not known at this moment is null, never the last known."""

    id: int
    name: str
    node: str
    address: str
    port: int
    shown_address: str
    device_type: str
    role: str
    udi: str
    version: str
    contact: str
    fingerprint: str
    reachability: str = Field(description="ok, bad or off (unknown)")
    age_s: float | None
    state: str | None
    health: str = Field(description="ok, warn, bad, running or off (unknown)")
    reason: str
    peer: str | None
    error: str
    alarms: list[AlarmOut]
    services: list[ServiceOut]


class EnginesOut(BaseModel):
    """Engines of a page, and how many match on all pages."""

    engines: list[EngineOut]
    count: int


class SynchronizationOut(BaseModel):
    """Something that was sent to an engine, or read from it."""

    at: str
    what: str
    outcome: str
    sentence: str


class SynchronizationsOut(BaseModel):
    """The synchronization history, newest first."""

    synchronizations: list[SynchronizationOut]


class NewcomerOut(BaseModel):
    """A new machine in place of one that its pair has lost: waited for, then there."""

    is_waiting: bool = Field(description="end it with `POST /pairs/{id}/do/readmit_cancel`")
    owner: str = Field(description="which takes it")
    lost: str | None
    recover_from: str | None = Field(description="for `mse setup --recover-from` there")
    until: str | None
    name: str | None = Field(description="once it has come")
    came_at: str | None
    sentence: str | None
    is_known: bool = Field(description="whether it is among this console's engines")


class PairOut(BaseModel):
    """A pair at this moment."""

    id: int
    name: str
    engines: list[int]
    owner: str | None
    health: str
    state: str
    heartbeats: str
    data_replication: str
    progress_percent: int | None
    round_trip_ms: float | None
    lag_bytes: int | None
    witness: str = Field(description="Heard, Heard by one, Silent, None or Unknown")
    witness_name: str | None
    alarms: list[AlarmOut] = Field(description="each once, as the first engine says it")
    term: int | None
    epoch: int | None
    mode: str | None
    why_not_switchover: str
    why_not_failback: str
    why_not_takeover: str
    newcomer: NewcomerOut | None


class PairsOut(BaseModel):
    """All pairs, those in trouble first, then by name."""

    pairs: list[PairOut]


class StepOut(BaseModel):
    """A step of an action."""

    machine: str
    name: str
    state: str
    ms: float | None
    sentence: str


class ActionOut(BaseModel):
    """A long action."""

    id: str
    kind: str
    engine_id: int
    title: str
    who: str
    state: str
    started_at: str
    ended_at: str | None
    sentence: str
    hint: str
    progress_percent: int | None
    steps: list[StepOut]


class EngineIn(Strict):
    """An engine to be added: ``fingerprint`` must be the one that answers there."""

    name: str
    address: str
    port: int = ports.MANAGEMENT
    contact: str = ""
    fingerprint: str
    user: str
    password: str
    confirm: str = ""


class EngineChange(Strict):
    """What is to be another; what is left out stays."""

    name: str | None = None
    contact: str | None = None
    address: str | None = None
    port: int | None = None
    is_renewed: bool = Field(
        False, description="its certificate was renewed: look at it at the same address, too"
    )
    fingerprint: str = Field(
        "", description="the one that was compared, where another certificate answers"
    )


class AddressIn(Strict):
    """Where an engine's management API may be."""

    address: str
    port: int = ports.MANAGEMENT


class AnsweringOut(BaseModel):
    """Who answers there: compare the fingerprint with `mse admin fingerprint` on the engine."""

    address: str
    port: int
    fingerprint: str
    product: str


class DoIn(Strict):
    """``confirm``: the node's name where data may be lost.

    ``password`` and ``minutes`` are for readmit: what the new machine must know, and how long it
    is waited for.
    """

    confirm: str = ""
    without_peer: bool = False
    password: str = ""
    minutes: int = 60


class WitnessIn(Strict):
    """A witness as the engine's API takes it; ``password`` is the witness's own."""

    kind: str = "console"
    name: str = "witness"
    address: str = ""
    pairing_port: int = ports.PAIRING
    password: str = ""
    endpoints: list[str] = Field(default_factory=list)
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class StopIn(Strict):
    """``confirm``: the node's name; ``handover``: hand the service over first."""

    confirm: str
    handover: bool = False


class MaintenanceIn(Strict):
    """Maintenance on or off."""

    is_on: bool


Seconds = Annotated[float, Field(allow_inf_nan=False)]


class SettingsIn(Strict):
    """Only what is given changes."""

    failover_wait_s: Seconds | None = None
    failover_type: str | None = None
    failback_type: str | None = None
    no_witness_mode: str | None = None
    boot_alone: str | None = None
    boot_patience_s: Seconds | None = None
    failback_stable_s: Seconds | None = None


class SettingsOut(BaseModel):
    """The settings in force, and what follows from the failover wait."""

    failover_wait_s: float
    failover_type: str
    failback_type: str
    no_witness_mode: str
    boot_alone: str
    boot_patience_s: float
    failback_stable_s: float
    is_maintenance: bool
    lease_s: float
    heartbeat_s: float
    peer_lost_after_s: float


class PairIn(Strict):
    """Two engines of this console that are to be a pair; without ``witness`` nobody takes over by
    itself."""

    primary_id: int
    secondary_id: int
    witness: WitnessIn | None = None
    settings: SettingsIn = Field(default_factory=SettingsIn)


class LossOut(BaseModel):
    """What a takeover by force could lose; null where it is not known."""

    owner: str
    without_owner_s: float | None
    behind_bytes: int | None
    sentence: str


class TakeoverOut(BaseModel):
    """What speaks for and against a takeover by force."""

    warning: str
    why_not: str = Field(description="why the machine does not take over by itself")
    stands: str = Field(
        description="owner, alone (the owner went on without it), pinned, or empty: in step"
    )
    loss: LossOut | None


class MoveFactsOut(BaseModel):
    """What a person sees before a move is begun."""

    kind: str
    role: str = Field(description="the role that it needs")
    may_lose_data: bool
    asked: str | None = Field(description="the node that it is asked of; null: nobody answers")
    other: str = Field(description="the node that does not own")
    confirm: str | None = Field(description="what confirm has to be; null where none is needed")
    why_not: str = Field(description="why it is not possible now, or empty")
    why_not_code: str = Field(description="the same of an action for rare situations")
    last_pause_ms: int | None = Field(description="the pause of the last planned move")
    takeover: TakeoverOut | None


def engine_out(view: EngineView) -> EngineOut:
    """An engine as the API shows it."""
    engine = view.engine
    return EngineOut(
        id=engine.id,
        name=engine.name,
        node=engine.node,
        address=engine.address,
        port=engine.port,
        shown_address=view.address,
        device_type=engine.device_type,
        role=engine.role,
        udi=engine.udi,
        version=view.version,
        contact=engine.contact,
        fingerprint=engine.fingerprint,
        reachability=view.reach.kind,
        age_s=round(view.age_s, 1) if view.age_s >= 0 else None,
        state=view.state.word if view.is_fresh else None,
        health=view.state.kind,
        reason=view.reason,
        peer=view.peer or None,
        error=view.error,
        alarms=[_alarm_out(alarm, view) for alarm in view.alarms],
        services=[
            ServiceOut(
                name=s.name,
                version=s.version,
                admin_status=s.admin_status,
                service_status=s.service_status,
            )
            for s in view.services
        ],
    )


def _alarm_out(alarm: Alarm, view: EngineView) -> AlarmOut:
    return AlarmOut(
        kind=alarm.kind,
        severity=alarm.severity,
        sentence=alarm.sentence,
        action=alarm.action,
        seen_by=view.engine.name,
    )


def _alarms_of(view: PairView) -> list[AlarmOut]:
    """What both machines say, each sentence once."""
    found: dict[str, AlarmOut] = {}
    for machine in view.machines:
        for alarm in machine.alarms:
            found.setdefault(alarm.sentence, _alarm_out(alarm, machine))
    return list(found.values())


def takeover_out(view: TakeoverView, stands: str) -> TakeoverOut:
    """A takeover by force as the API shows it."""
    loss = view.loss
    return TakeoverOut(
        warning=view.warning,
        why_not=view.why_not,
        stands=stands,
        loss=LossOut(
            owner=loss.owner,
            without_owner_s=loss.without_owner_s if loss.without_owner_s >= 0 else None,
            behind_bytes=loss.behind_bytes if loss.behind_bytes >= 0 else None,
            sentence=loss.sentence,
        )
        if loss is not None
        else None,
    )


def newcomer_out(found: Newcomer | None) -> NewcomerOut | None:
    """Who is waited for or has come, as the API shows it."""
    if found is None:
        return None
    return NewcomerOut(
        is_waiting=not found.name,
        owner=found.owner,
        lost=found.lost or None,
        recover_from=found.recover_from or None,
        until=found.until or None,
        name=found.name or None,
        came_at=found.at or None,
        sentence=found.sentence or None,
        is_known=found.is_known,
    )


def pair_out(view: PairView, new: Newcomer | None) -> PairOut:
    """A pair as the API shows it."""
    register = view.register
    return PairOut(
        id=view.pair.id,
        name=view.pair.name,
        engines=list(view.pair.engine_ids),
        owner=view.owner or None,
        health=view.summary.kind,
        state=view.summary.word,
        heartbeats=view.heartbeats.word,
        data_replication=view.replication.word,
        progress_percent=view.progress_percent if view.progress_percent >= 0 else None,
        round_trip_ms=view.round_trip_ms if view.round_trip_ms >= 0 else None,
        lag_bytes=view.lag_bytes if view.lag_bytes >= 0 else None,
        witness=view.witness.word,
        witness_name=view.witness_name or None,
        alarms=_alarms_of(view),
        term=register.term if register else None,
        epoch=register.epoch if register else None,
        mode=register.mode if register else None,
        why_not_switchover=view.why_not.switchover,
        why_not_failback=view.why_not.failback,
        why_not_takeover=view.why_not.takeover,
        newcomer=newcomer_out(new),
    )


def action_out(action: Action) -> ActionOut:
    """An action as the API shows it."""
    return ActionOut(
        id=action.id,
        kind=action.kind,
        engine_id=action.engine_id,
        title=action.title,
        who=action.who,
        state=action.state,
        started_at=action.started_at,
        ended_at=action.ended_at or None,
        sentence=action.sentence,
        hint=action.hint,
        progress_percent=action.progress_percent if action.progress_percent >= 0 else None,
        steps=[
            StepOut(
                machine=s.machine,
                name=s.name,
                state=s.state,
                ms=s.ms if s.ms >= 0 else None,
                sentence=s.sentence,
            )
            for s in action.steps
        ],
    )
