"""True values for the two screens: from the health monitor's own picture, or what was saved last.

Nothing is made up: what this engine does not have, or this user may not see, stays null.
"""

from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from openmse.errors import StateError
from openmse.guard.feed import STOPPED_NAME
from openmse.ha.values import SECOND, Record, Settings
from openmse.node import group as group_file
from openmse.node.config import NodeConfig, Places, Role
from openmse.node.control.snapshot import Snapshot
from openmse.node.direct import direct_path
from openmse.node.drivers.postgres.settings import CLIENT_DATABASE
from openmse.node.drivers.store.machine import Machine as Names
from openmse.node.drivers.store.record import RecordStore
from openmse.node.group import GroupInfo
from openmse.platform import measure
from openmse.platform.machines import HW_VERSION
from openmse.platform.peers import Told
from openmse.platform.services import ServiceFacts
from openmse.platform.status import clock, database, processes
from openmse.platform.status.ha_info import UNKNOWN, FourFields, HaInfo, PeerInfo
from openmse.platform.status.last_state import last_state, saved_config
from openmse.platform.status.server_info import (
    ServerConfig,
    ServerInfo,
    ServerMonitor,
    ServicesState,
    Session,
)
from openmse.platform.udi import Udi
from openmse.platform.versions import PRODUCT_NAME, VERSION
from openmse.platform.who import Who

MIB = 1 << 20


class Saved(Struct, frozen=True):
    """What the state directory tells while the health monitor is stopped."""

    record: Record | None
    group: GroupInfo | None
    was_stopped_on_purpose: bool


def saved(places: Places) -> Saved:
    """Read the register and the group's facts; nothing is changed. Raises StateError."""
    try:
        stored = RecordStore(places.register, Names({})).load()
    except StateError as error:
        if error.code != "MSE-STA-002":
            raise
        stored = None  # this user may not look
    was_stopped = (places.run_dir / STOPPED_NAME).exists()
    return Saved(
        stored.record if stored is not None else None, group_file.load(places.group), was_stopped
    )


# ------------------------------------------------------------------------------ gethainfo


def ha_info(picture: Snapshot, who: Who) -> HaInfo:
    """The screen of a node whose health monitor answers; all of it is the health monitor's word.

    The group's facts on the disk are root's, and the screen is for every member of the group
    ``openmse``.
    """
    register = picture.register
    peers = []
    if picture.peer is not None and picture.group:
        facts = _PeerFacts(
            address=picture.peer_address,
            told=who.told_by(picture.peer.name),
            settings=register.settings if register is not None else Settings(),
            port=picture.database_port,
            group=picture.group,
            virtual_ips=picture.virtual_ips,
            primary=register.primary if register is not None else "",
        )
        software = picture.peer.software or facts.software
        found = _peer(facts, software, is_up=picture.peer.is_heard)
        peers.append(replace(found, is_direct=bool(picture.paths)))
    return HaInfo(
        is_running=True,
        role=picture.configured_role,
        address=picture.node_address,
        virtual_ip=_virtual_ip(picture.virtual_ips, picture.configured_role),
        version=picture.version,
        udi=str(who.udi or ""),
        state=picture.state.value,
        reason=picture.reason,
        fields=four_fields(picture),
        peers=tuple(peers),
    )


def saved_ha_info(kept: Saved, config: NodeConfig, who: Who) -> HaInfo:
    """The screen of a node whose health monitor is stopped."""
    me, group = config.node.name, kept.group
    known = saved_config(kept.record)
    settings = known.settings if known is not None else config.group.settings
    peers = []
    node = group.peer_of(me) if group is not None else None
    if group is not None and node is not None:
        facts = _PeerFacts(
            address=node.address,
            told=who.told_by(node.name),
            settings=settings,
            port=config.database.port,
            group=group.group,
            virtual_ips=group.virtual_ips,
            primary=group.primary,
        )
        found = _peer(facts, facts.software, is_up=None)
        peers.append(replace(found, is_direct=direct_path(config, group) is not None))
    role = config.node.role
    virtual = group.virtual_ips if group is not None else config.group.virtual_ips
    state = last_state(kept.record, was_stopped_on_purpose=kept.was_stopped_on_purpose)
    return HaInfo(
        is_running=False,
        role=role.value,
        address=config.node.host,
        virtual_ip=_virtual_ip(virtual, role.value),
        version=VERSION,
        udi=str(who.udi or ""),
        state=state.value,
        peers=tuple(peers),
    )


class _PeerFacts(Struct, frozen=True, kw_only=True):
    address: str
    told: Told | None
    settings: Settings
    port: int
    group: str
    virtual_ips: tuple[str, ...]
    primary: str

    @property
    def software(self) -> str:
        """Its version, by its own word."""
        return self.told.software if self.told is not None else ""


def _peer(facts: _PeerFacts, software: str, *, is_up: bool | None) -> PeerInfo:
    settings = facts.settings
    return PeerInfo(
        address=facts.address,
        virtual_ip=_bare(facts.virtual_ips),
        version=software,
        udi=facts.told.udi if facts.told is not None else "",
        failover_type=settings.failover_type.value,
        failback_type=settings.failback_type.value,
        failover_wait_s=settings.failover_wait_ns / SECOND,
        instance_name=CLIENT_DATABASE,
        instance_port=facts.port,
        replication_name=facts.group,
        primary_alias=facts.primary,
        is_heartbeat_up=is_up,
    )


def _bare(virtual_ips: tuple[str, ...]) -> str:
    return ", ".join(text.partition("/")[0] for text in virtual_ips)


def _virtual_ip(virtual_ips: tuple[str, ...], role: str) -> str:
    return _bare(virtual_ips) if role == Role.PRIMARY.value else ""


def four_fields(picture: Snapshot) -> FourFields:
    """What is so right now."""
    operation = picture.operation
    if picture.progress_percent >= 0:
        operation += f" {picture.progress_percent} %"
    return FourFields(picture.role.value, picture.sync.value, picture.health.value, operation)


# ------------------------------------------------------------------------------ getserverinfo


def server_info(picture: Snapshot, places: Places, who: Who, services: ServiceFacts) -> ServerInfo:
    """The screen of a node whose health monitor answers."""
    facts = database.read(places.run_dir / "postgres", picture.database_port)
    state = services_state(picture)
    is_up = state is ServicesState.UP
    return ServerInfo(
        is_running=True,
        services_state=state,
        reason=picture.reason if state is ServicesState.DOWN else "",
        state=picture.state.value,
        fields=four_fields(picture),
        config=_config(picture, who.udi),
        services=services.services(places),
        monitor=_monitor(picture, places, services, facts),
        sessions=_sessions(facts) if is_up and facts is not None else (),
        context_aware=services.context_aware(places),
        trap_destinations=services.trap_destinations(places) if is_up else (),
    )


def services_state(picture: Snapshot) -> ServicesState:
    """Whether this node serves, waits behind the one that does, or does neither. Pure."""
    if picture.admits_clients:
        return ServicesState.UP
    is_standing_by = picture.role.value == "standby" and picture.database.process == "up"
    return ServicesState.DORMANT if is_standing_by else ServicesState.DOWN


def _config(picture: Snapshot, udi: Udi | None) -> ServerConfig:
    return ServerConfig(
        product_name=PRODUCT_NAME,
        version=picture.version,
        address=picture.node_address,
        role=picture.configured_role,
        hw_version=HW_VERSION,
        product_id=udi.product_id if udi is not None else UNKNOWN,
        serial=udi.serial if udi is not None else UNKNOWN,
    )


def _monitor(
    picture: Snapshot,
    places: Places,
    services: ServiceFacts,
    facts: database.DatabaseFacts | None,
) -> ServerMonitor:
    zone, now = clock.zone_name(), datetime.now(UTC)
    monitor_pid = picture.pids.get("health-monitor") or 0
    age_s = processes.age_s(monitor_pid)
    started = now - timedelta(seconds=picture.uptime_s if age_s is None else age_s)
    used = _memory(picture, services.pids(places))
    local = clock.moment(now, zone)
    return ServerMonitor(
        started=clock.moment(started, zone),
        now=local,
        timezone=zone,
        offset_min=clock.offset_min(local),
        restarts=_restarts(places),
        used_memory_mb=used.used // MIB if used is not None else None,
        allocated_memory_mb=used.allocated // MIB if used is not None else None,
        max_memory_mb=measure.memory_bytes() // MIB,
        db_disk_mb=facts.size_bytes // MIB if facts is not None else None,
    )


def _memory(picture: Snapshot, services: tuple[int, ...]) -> processes.Memory | None:
    known = processes.parents()
    monitor = picture.pids.get("health-monitor")
    if monitor not in known:
        return None  # what this process cannot see at all is not nothing
    roots = {pid for pid in (*picture.pids.values(), *services) if pid}
    guard = processes.guard_of(monitor, known) if monitor else None
    if guard is not None:
        roots.add(guard)
    return processes.memory(processes.family(roots, known) & (known.keys() | roots))


def _restarts(places: Places) -> int | None:
    """Starts of the health monitor after its first, as its memory counts them."""
    try:
        stored = RecordStore(places.register, Names({})).load()
    except StateError:
        return None
    return stored.record.boot - 1 if stored is not None else None


def _sessions(facts: database.DatabaseFacts) -> tuple[Session, ...]:
    zone = clock.zone_name()
    return tuple(
        Session(
            id=one.id,
            user_id=one.user_id,
            address=one.address,
            started=clock.moment(one.started_at, zone),
            last_access=clock.moment(one.last_access_at, zone),
        )
        for one in facts.sessions
    )
