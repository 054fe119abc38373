"""What the console reads of a node: the fields it shows, tolerant of newer and older nodes. Pure.

Fields that a node does not send keep a value that says "unknown"; fields that the console does
not know are passed over.
"""

from typing import Any

import msgspec
from msgspec import Struct

from openmse.console.errors import NodeRefused, NodeUnreachable
from openmse.console.nodes.steps import OfferedStep

TEXT_MAX = 4000
"""Characters of what an engine says that are kept; a real sentence has a few hundred."""
CODE_MAX = 64
FIELDS_MAX = 50


class Fault(Struct, frozen=True):
    """An error of the node's API."""

    code: str = ""
    sentence: str = ""
    hint: str = ""
    status: int = 0
    operation: str | None = None
    fields: tuple["FieldFault", ...] = ()


class FieldFault(Struct, frozen=True):
    """What is wrong with one field."""

    field: str = ""
    sentence: str = ""


class _FaultBody(Struct, frozen=True):
    error: Fault


class Alarm(Struct, frozen=True):
    """Something that wants attention."""

    kind: str = ""
    severity: str = "warning"
    sentence: str = ""
    action: str = ""


class Service(Struct, frozen=True):
    """A mobility service of an engine."""

    name: str = ""
    title: str = ""
    version: str = ""
    admin_status: str = ""
    service_status: str = ""


class Machine(Struct, frozen=True):
    """The size of a machine."""

    cores: int = 0
    memory_bytes: int = 0
    state_disk_bytes: int = 0
    state_disk_free_bytes: int = 0


class Info(Struct, frozen=True):
    """Who a machine is."""

    node: str = ""
    hostname: str = ""
    version: str = ""
    wire_version: int = 0
    role: str = ""
    udi: str | None = None
    product_id: str | None = None
    serial: str | None = None
    device_type: str | None = None
    health_monitor_address: str = ""
    virtual_ips: tuple[str, ...] = ()
    interface: str = ""
    fingerprint: str = ""
    machine: Machine | None = None
    machine_kind: str | None = None
    is_virtual: bool | None = None
    time: str = ""
    started_at: str = ""
    is_monitor_up: bool = False
    services: tuple[Service, ...] = ()
    offers: tuple[str, ...] = ()
    steps: tuple[OfferedStep, ...] = ()


class Summary(Struct, frozen=True):
    """A node in a list; null fields mean that the health monitor is down."""

    node: str = ""
    is_monitor_up: bool = False
    error: Fault | None = None
    made_at: str | None = None
    version: str | None = None
    configured_role: str | None = None
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


class Register(Struct, frozen=True):
    """The newest config that a node knows chosen."""

    term: int = 0
    epoch: int = 0
    owner: str = ""
    mode: str = ""
    primary: str = ""
    voters: tuple[str, ...] = ()
    lineage: str = ""
    reason: str = ""
    is_fate_unknown: bool = False


class Lease(Struct, frozen=True):
    """The owner's right to serve."""

    is_needed: bool = False
    remaining_ms: float = -1.0
    length_ms: float = 0.0
    failover_wait_ms: float = 0.0
    is_halted: bool = False


class Party(Struct, frozen=True):
    """Another voter as a node sees it."""

    name: str = ""
    is_heard: bool = False
    heard_ms_ago: float = -1.0
    round_trip_ms: float = -1.0
    is_link_up: bool = False
    software: str = ""
    note: str = ""
    progress_percent: int = -1


class Database(Struct, frozen=True):
    """PostgreSQL on a machine."""

    process: str = ""
    role: str = ""
    is_healthy: bool = True
    failure: str = ""
    end_lsn: str = ""
    receiver: str = ""
    is_peer_streaming: bool = False
    progress_percent: int = -1
    lag_bytes: int = -1


class RunningStep(Struct, frozen=True):
    """A step that an operation has reached; ``ms`` since its beginning."""

    name: str = ""
    ms: float = -1.0
    is_done: bool = False
    sentence: str = ""


class Running(Struct, frozen=True):
    """What the core has under way."""

    kind: str = ""
    step: str = ""
    steps: tuple[RunningStep, ...] = ()
    elapsed_ms: float = 0.0


class WhyNot(Struct, frozen=True):
    """Why something does not happen now; '' where nothing is in its way."""

    switchover: str = ""
    failback: str = ""
    takeover: str = ""
    sync: str = ""


class Loss(Struct, frozen=True):
    """What a forced takeover could lose."""

    owner: str = ""
    without_owner_s: float = -1.0
    behind_bytes: int = -1
    sentence: str = ""


class Snapshot(Struct, frozen=True):
    """The whole picture of a node, as far as pages show it."""

    made_at: str = ""
    node: str = ""
    configured_role: str = ""
    state: str = ""
    reason: str = ""
    role: str = ""
    sync: str = ""
    health: str = ""
    operation: str = ""
    progress_percent: int = -1
    group: str = ""
    register: Register | None = None
    lease: Lease | None = None
    peer: Party | None = None
    witness: Party | None = None
    witness_kind: str = ""
    database: Database | None = None
    address: str = ""
    admits_clients: bool = False
    virtual_ips: tuple[str, ...] = ()
    node_address: str = ""
    peer_address: str = ""
    witness_address: str = ""
    running: Running | None = None
    why_not: WhyNot = WhyNot()
    loss: Loss | None = None
    alarms: tuple[Alarm, ...] = ()
    uptime_s: float = 0.0
    loop_lag_ms: float = 0.0
    certificate_days_left: int | None = None
    version: str = ""


class Operation(Struct, frozen=True):
    """A change that takes time."""

    id: str
    kind: str = ""
    node: str = ""
    state: str = "running"
    by: str = ""
    started_at: str = ""
    ended_at: str | None = None
    elapsed_ms: float = 0.0
    steps: tuple[RunningStep, ...] = ()
    progress_percent: int | None = None
    sentence: str = ""
    error: Fault | None = None


class Operations(Struct, frozen=True):
    """What was begun with a key; engines that do not know keys here leave it out."""

    operations: tuple[Operation, ...] = ()
    key: str = ""


class LogEntry(Struct, frozen=True):
    """One line of a node's event log."""

    cursor: str
    at: str = ""
    node: str = ""
    kind: str = ""
    severity: str = "info"
    sentence: str = ""
    term: int = 0
    epoch: int = 0


class LogPage(Struct, frozen=True):
    """A part of a node's event log, oldest first."""

    events: tuple[LogEntry, ...] = ()
    is_more: bool = False


class GroupSettings(Struct, frozen=True):
    """The part of the register that an administrator sets."""

    failover_wait_s: float = 0.0
    failover_type: str = ""
    failback_type: str = ""
    no_witness_mode: str = ""
    boot_alone: str = ""
    boot_patience_s: float = 0.0
    failback_stable_s: float = 0.0
    is_maintenance: bool = False
    lease_s: float = 0.0
    heartbeat_s: float = 0.0
    peer_lost_after_s: float = 0.0


class TakeoverView(Struct, frozen=True):
    """What a forced takeover of a node would lose."""

    node: str = ""
    is_owner: bool = False
    loss: Loss | None = None
    warning: str = ""
    why_not: str = ""
    confirm: str = ""


class ConsoleClaim(Struct, frozen=True):
    """Which console manages an engine."""

    id: str = ""
    name: str = ""
    url: str = ""
    claimed_at: str = ""
    claimed_by: str = ""


class Claimed(Struct, frozen=True):
    """A claim that was granted."""

    token: str
    console: ConsoleClaim | None = None


class Claim(Struct, frozen=True):
    """The present claim."""

    console: ConsoleClaim | None = None
    is_you: bool = False


class MonitorView(Struct, frozen=True):
    """Whether the health monitor answers."""

    is_up: bool = False
    error: Fault | None = None


class Readmission(Struct, frozen=True):
    """Whether an owner waits for a new machine in place of the node ``lost``."""

    is_waiting: bool = False
    lost: str = ""
    recover_from: str = ""
    """The address for ``mse setup --recover-from``."""
    until: str = ""


class Finding(Struct, frozen=True):
    """One finding of the doctor."""

    severity: str = ""
    code: str = ""
    sentence: str = ""
    action: str = ""


class Findings(Struct, frozen=True):
    """What the doctor found."""

    worst: str = ""
    findings: tuple[Finding, ...] = ()


def read(data: bytes | str, kind: type[Any], machine: str) -> Any:
    """A value of the node's API; raises NodeUnreachable on anything else."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise NodeUnreachable(
            f"{machine} answered with something that this console does not understand.",
            "Check that the engine and the console are of versions that go together.",
        ) from error


def refusal(data: bytes, status: int, machine: str) -> NodeRefused:
    """The error that a node answered with, as the console raises it."""
    try:
        fault = msgspec.json.decode(data, type=_FaultBody).error
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return NodeRefused(
            f"{machine} refused the request with status {status} and without a reason.",
            "Look at its journal (journalctl -u openmse-admin).",
            status=status,
        )
    sentence, hint, code = fault.sentence[:TEXT_MAX], fault.hint[:TEXT_MAX], fault.code[:CODE_MAX]
    error = NodeRefused(sentence, hint, code=code, status=status)
    told = fault.fields[:FIELDS_MAX]
    error.fields = {one.field[:CODE_MAX]: one.sentence[:TEXT_MAX] for one in told}
    return error
