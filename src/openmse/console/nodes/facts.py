"""What the console reads of a node's ``getserverinfo`` and ``gethainfo``; tolerant of newer and
older nodes. Pure."""

from msgspec import Struct


class Moment(Struct, frozen=True):
    """An instant with the name of its time zone there."""

    at: str = ""
    zone: str = ""


class FourFields(Struct, frozen=True):
    """What is so right now."""

    role: str = ""
    sync: str = ""
    health: str = ""
    operation: str = ""


class ServerConfig(Struct, frozen=True):
    """What the server is."""

    product_name: str = ""
    version: str = ""
    address: str = ""
    """The health monitor's."""
    role: str = ""
    hw_version: str = ""
    product_id: str = ""
    serial: str = ""
    https: str | None = None


class ServiceLine(Struct, frozen=True):
    """One mobility service that is installed."""

    name: str = ""
    version: str = ""
    is_enabled: bool = False
    is_up: bool = False


class ServerMonitor(Struct, frozen=True):
    """What the server uses; sizes in MB of 2^20 bytes."""

    started: Moment = Moment()
    now: Moment = Moment()
    timezone: str = ""
    offset_min: int = 0
    restarts: int | None = None
    used_memory_mb: int | None = None
    allocated_memory_mb: int | None = None
    max_memory_mb: int | None = None
    db_disk_mb: int | None = None


class Session(Struct, frozen=True):
    """One session of a client."""

    id: int = 0
    user_id: int = 0
    address: str = ""
    started: Moment = Moment()
    last_access: Moment = Moment()


class ServerInfo(Struct, frozen=True):
    """What ``getserverinfo`` shows; only ``is_running`` while the health monitor is stopped."""

    is_running: bool = False
    services_state: str = ""
    """up, dormant or down."""
    reason: str = ""
    config: ServerConfig | None = None
    services: tuple[ServiceLine, ...] = ()
    monitor: ServerMonitor | None = None
    sessions: tuple[Session, ...] = ()


class PeerInfo(Struct, frozen=True):
    """One paired peer; '' where the value is not known."""

    address: str = ""
    virtual_ip: str = ""
    version: str = ""
    udi: str = ""
    failover_type: str = ""
    failback_type: str = ""
    failover_wait_s: float = 0.0
    instance_name: str = ""
    instance_port: int = 0
    replication_name: str = ""
    primary_alias: str = ""
    is_direct: bool = False
    is_heartbeat_up: bool | None = None


class HaInfo(Struct, frozen=True):
    """What ``gethainfo`` shows; what was saved last where ``is_running`` is false."""

    is_running: bool = False
    role: str = ""
    address: str = ""
    virtual_ip: str = ""
    version: str = ""
    udi: str = ""
    state: str = ""
    reason: str = ""
    fields: FourFields | None = None
    peers: tuple[PeerInfo, ...] = ()
