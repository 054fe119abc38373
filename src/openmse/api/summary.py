"""The small picture of a node, for lists of many; and the settings as clients read them. Pure."""

from msgspec import Struct

from openmse import __version__
from openmse.api.errors import Fault, fault_of
from openmse.errors import MseError
from openmse.ha.timing import timing
from openmse.ha.values import SECOND, Settings
from openmse.node.control.alarms import Alarm
from openmse.node.control.snapshot import LossView, Snapshot


class Summary(Struct, frozen=True, kw_only=True):
    """Null where the health monitor is down: nothing is shown as last known."""

    node: str
    is_monitor_up: bool
    error: Fault | None = None
    made_at: str | None = None
    version: str = __version__
    configured_role: str
    state: str | None = None
    reason: str | None = None
    role: str | None = None
    sync: str | None = None
    health: str | None = None
    operation: str | None = None
    progress_percent: int | None = None
    owner: str | None = None
    mode: str | None = None
    term: int | None = None
    epoch: int | None = None
    peer: str | None = None
    is_peer_heard: bool | None = None
    witness: str | None = None
    is_witness_heard: bool | None = None
    round_trip_ms: float | None = None
    lag_bytes: int | None = None
    virtual_ips: tuple[str, ...] | None = None
    peer_address: str | None = None
    admits_clients: bool | None = None
    alarms: tuple[Alarm, ...] | None = None
    console_id: str | None = None


class SettingsView(Struct, frozen=True, kw_only=True):
    """The group's settings in seconds; the last three follow from the failover wait."""

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


class TakeoverView(Struct, frozen=True, kw_only=True):
    """What a forced takeover of this node would lose, and what must be typed for it."""

    node: str
    is_owner: bool
    loss: LossView | None
    warning: str
    why_not: str
    confirm: str


def summary_of(s: Snapshot, console_id: str | None) -> Summary:
    """The small picture of a node whose health monitor answers."""
    register, peer, witness = s.register, s.peer, s.witness
    return Summary(
        node=s.node,
        is_monitor_up=True,
        made_at=s.made_at,
        version=s.version,
        configured_role=s.configured_role,
        state=s.state.value,
        reason=s.reason,
        role=s.role.value,
        sync=s.sync.value,
        health=s.health.value,
        operation=s.operation,
        progress_percent=s.progress_percent if s.progress_percent >= 0 else None,
        owner=register.owner if register else None,
        mode=register.mode if register else None,
        term=register.term if register else None,
        epoch=register.epoch if register else None,
        peer=peer.name if peer else None,
        is_peer_heard=peer.is_heard if peer else None,
        witness=witness.name if witness else None,
        is_witness_heard=witness.is_heard if witness else None,
        round_trip_ms=peer.round_trip_ms if peer and peer.round_trip_ms >= 0 else None,
        lag_bytes=s.database.lag_bytes if s.database.lag_bytes >= 0 else None,
        virtual_ips=s.virtual_ips,
        peer_address=s.peer_address,
        admits_clients=s.admits_clients,
        alarms=s.alarms,
        console_id=console_id,
    )


def summary_down(node: str, role: str, error: MseError, console_id: str | None) -> Summary:
    """The same where it does not answer."""
    return Summary(
        node=node,
        is_monitor_up=False,
        error=fault_of(error),
        configured_role=role,
        console_id=console_id,
    )


def without_noise(summary: Summary) -> tuple[object, ...]:
    """What counts as a change of a summary: not the instant, not small moves of measurements."""
    lag = summary.lag_bytes
    return (
        *(
            getattr(summary, name)
            for name in summary.__struct_fields__
            if name not in ("made_at", "round_trip_ms", "lag_bytes", "alarms")
        ),
        tuple((alarm.kind, alarm.severity) for alarm in summary.alarms or ()),
        lag if lag is None else lag.bit_length(),
    )


def settings_view(s: Settings) -> SettingsView:
    """The settings as clients read them."""
    derived = timing(s.failover_wait_ns)
    return SettingsView(
        failover_wait_s=s.failover_wait_ns / SECOND,
        failover_type=s.failover_type.value,
        failback_type=s.failback_type.value,
        no_witness_mode=s.no_witness_mode.value,
        boot_alone=s.boot_alone.value,
        boot_patience_s=s.boot_patience_ns / SECOND,
        failback_stable_s=s.failback_stable_ns / SECOND,
        is_maintenance=s.maintenance,
        lease_s=derived.lease_ns / SECOND,
        heartbeat_s=derived.beat_ns / SECOND,
        peer_lost_after_s=derived.sync_loss_ns / SECOND,
    )


def takeover_view(s: Snapshot) -> TakeoverView:
    """What is shown before somebody types the name."""
    loss = s.loss
    if loss is None:
        is_owner = s.role == "primary"
        warning = f"{s.node} owns already." if is_owner else f"{s.node} belongs to no group."
    else:
        warning = (
            f"Possible loss: {loss.sentence} {loss.owner} will serve if it is started without "
            "seeing this node: power it off or isolate it first. What it accepts meanwhile is "
            "kept aside when it rejoins."
        )
    return TakeoverView(
        node=s.node,
        is_owner=s.role == "primary",
        loss=loss,
        warning=warning,
        why_not=s.why_not.takeover,
        confirm=s.node,
    )
