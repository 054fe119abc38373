"""The shapes of the REST API; durations end in ``_s`` or ``_ms``, sizes in ``_bytes``."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from openmse import ports
from openmse.console.live.pairs import PairView
from openmse.console.live.views import EngineView
from openmse.console.store.past import Action


class Strict(BaseModel):
    """Bodies with unknown fields are refused: a typing error must not pass for a wish."""

    model_config = ConfigDict(extra="forbid")


class ServiceOut(BaseModel):
    """A mobility service."""

    name: str
    version: str
    admin_status: str
    service_status: str


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
    services: list[ServiceOut]


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
    witness: str
    term: int | None
    epoch: int | None
    mode: str | None
    why_not_switchover: str
    why_not_failback: str
    why_not_takeover: str


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
    port: int = 8466
    contact: str = ""
    fingerprint: str
    user: str
    password: str
    confirm: str = ""


class EngineChange(Strict):
    """What may be changed without connecting anew."""

    name: str | None = None
    contact: str | None = None


class PairIn(Strict):
    """Two engines of this console that are to be a pair."""

    primary_id: int
    secondary_id: int
    witness: dict[str, Any] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)


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


class SettingsIn(Strict):
    """Only what is given changes."""

    failover_wait_s: float | None = None
    failover_type: str | None = None
    failback_type: str | None = None
    no_witness_mode: str | None = None
    boot_alone: str | None = None
    boot_patience_s: float | None = None
    failback_stable_s: float | None = None


class UserIn(Strict):
    """A new user."""

    name: str
    password: str
    role: str


class UserChange(Strict):
    """What is to be another; what is left out stays."""

    role: str | None = None
    password: str | None = None
    is_disabled: bool | None = None


class UserOut(BaseModel):
    """A user; no hash ever leaves the store."""

    name: str
    role: str
    is_disabled: bool
    created_at: str
    seen_at: str | None


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


def pair_out(view: PairView) -> PairOut:
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
        term=register.term if register else None,
        epoch=register.epoch if register else None,
        mode=register.mode if register else None,
        why_not_switchover=view.why_not.switchover,
        why_not_failback=view.why_not.failback,
        why_not_takeover=view.why_not.takeover,
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
