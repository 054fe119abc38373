"""What one instance is told, and the configuration files made of it (pure rendering).

The files live outside PGDATA: a base backup and pg_rewind copy PGDATA from the peer, and this
node's own address, names and certificates must survive that.
"""

from dataclasses import dataclass
from pathlib import Path

from openmse.errors import ConfigError
from openmse.ha.timing import SIGN_INTERVAL_NS
from openmse.ha.values import SECOND

MIB = 1024 * 1024
ADMIN_ROLE = "openmse_admin"
"""Superuser of the instance; only root and PostgreSQL's own user, on the local socket."""
REPLICATION_ROLE = "openmse_replication"
CLIENT_ROLE = "openmse"
CLIENT_DATABASE = "openmse"
MONITOR_NAME = "openmse-health-monitor"
"""application_name of the health monitor's own sessions."""
GENERATION = "openmse.generation"
"""Placeholder setting that counts our changes: a session that shows it has seen the reload."""
SOCKET_PATH_BYTES_MAX = 107


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Certificates of this node: PEM files, keys readable by PostgreSQL's user alone."""

    server_cert: Path
    server_key: Path
    client_cert: Path
    """What this node shows to the peer's server when it replicates from it."""
    client_key: Path
    authority: Path
    peer_common_name: str = REPLICATION_ROLE
    """Common name in the client certificate of the peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSettings:
    """One PostgreSQL instance: the group's database on this node. Durations in seconds."""

    group: str
    node_id: str
    peer_id: str
    """'' while the primary is unpaired."""
    peer_address: str
    peer_direct_address: str = ""
    """The peer's end of the direct connection; '' where there is none."""
    peer_tls_name: str = ""
    """Name in the peer's server certificate; the peer's id if empty."""
    data_dir: Path
    """PGDATA. Its parent must be on the same file system and writable for PostgreSQL's user."""
    state_dir: Path
    """Ours alone: lineage, markers, configuration, log, what was kept aside."""
    socket_dir: Path
    port: int
    tls: TlsFiles
    listen_addresses: str = "*"
    bin_dir: str = ""
    unix_user: str = "openmse"
    client_auth: str = "scram-sha-256"
    """How clients prove themselves over TLS: ``scram-sha-256`` or ``cert``."""
    disk_reserve_bytes: int = 32 * MIB
    """Less free space than this counts as a full disk: eight segments of the write-ahead log."""
    shared_buffers_mib: int = 128
    max_connections: int = 200
    status_deadline_s: float = 2.0
    probe_interval_s: float = 1.0
    probe_deadline_s: float = 3.0
    stop_deadline_s: float = 8.0
    """After this a fast stop becomes an immediate one."""
    restart_budget: int = 3
    restart_window_s: float = 60.0
    rewind_deadline_s: float = 3600.0
    backup_deadline_s: float = 24 * 3600.0
    keep_divergent_days: int = 14
    keep_divergent_count: int = 10

    def __post_init__(self) -> None:
        """Raises: ConfigError."""
        if not 1024 <= self.port <= 65535:
            raise ConfigError(
                f"The database port {self.port} is outside 1024 to 65535.",
                "Choose a free unprivileged port; 5432 is PostgreSQL's own.",
            )
        path = str(self.socket_path)
        if len(path.encode()) > SOCKET_PATH_BYTES_MAX:
            raise ConfigError(
                f"The socket path {path} is longer than {SOCKET_PATH_BYTES_MAX} bytes.",
                "Choose a shorter socket directory.",
            )
        if self.client_auth not in ("scram-sha-256", "cert"):
            raise ConfigError(
                f"'{self.client_auth}' is no way for clients to prove themselves.",
                "Use scram-sha-256 or cert.",
            )

    @property
    def socket_path(self) -> Path:
        """The server's unix socket."""
        return self.socket_dir / f".s.PGSQL.{self.port}"

    @property
    def config_dir(self) -> Path:
        """Where the rendered files are."""
        return self.state_dir / "conf"

    @property
    def config_file(self) -> Path:
        """The main configuration file, given on the server's command line."""
        return self.config_dir / "postgresql.conf"

    @property
    def log_file(self) -> Path:
        """What the server says on stderr."""
        return self.state_dir / "postgres.log"

    @property
    def monitor_conninfo(self) -> str:
        """Connection string of the health monitor's sessions (peer authentication)."""
        return _conninfo(
            host=str(self.socket_dir),
            port=str(self.port),
            user=ADMIN_ROLE,
            dbname="postgres",
            application_name=MONITOR_NAME,
            options="-c synchronous_commit=local -c statement_timeout=0",
            sslmode="disable",
        )

    @property
    def slot_name(self) -> str:
        """The slot that keeps WAL for the peer: lower case letters, digits and underscores."""
        safe = "".join(c if c.isalnum() else "_" for c in self.peer_id.lower())
        return f"openmse_{safe}"[:63]


def _quote(value: str) -> str:
    """A value in a connection string or a configuration file line."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _conninfo(**parts: str) -> str:
    return " ".join(f"{key}={_quote(value)}" for key, value in parts.items())


def _setting(name: str, value: str | int) -> str:
    """One line of a configuration file; quotes are doubled, backslashes are escapes there too."""
    text = str(value).replace("\\", "\\\\").replace("'", "''")
    return f"{name} = '{text}'\n"


def peer_conninfo(
    settings: InstanceSettings, *, purpose: str = "", direct_first: bool = False
) -> str:
    """How this node's replication and rejoin reach the peer's server: mutual TLS, no password.

    Anything but replication names its ``purpose``: the plain node id is what synchronous commits
    wait for, and the stream of a base backup must not be taken for it. With a direct connection
    the string names both addresses, the wanted one first (libpq tries them in turn).
    """
    tls = settings.tls
    host, address = settings.peer_tls_name or settings.peer_id, settings.peer_address
    if settings.peer_direct_address:
        both = (address, settings.peer_direct_address)
        host, address = f"{host},{host}", ",".join(both[::-1] if direct_first else both)
    return _conninfo(
        host=host,
        hostaddr=address,
        port=str(settings.port),
        user=REPLICATION_ROLE,
        dbname="postgres",
        application_name=f"{settings.node_id} {purpose}".strip(),
        sslmode="verify-full",
        sslrootcert=str(tls.authority),
        sslcert=str(tls.client_cert),
        sslkey=str(tls.client_key),
        gssencmode="disable",
        connect_timeout="2",
        keepalives_idle="2",
        keepalives_interval="1",
        keepalives_count="3",
        tcp_user_timeout="4000",
    )


def sync_names(settings: InstanceSettings) -> str:
    """The value of synchronous_standby_names that makes commits wait for the peer."""
    name = settings.peer_id.replace('"', '""')
    return f'FIRST 1 ("{name}")'


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def render_main(settings: InstanceSettings) -> str:
    """postgresql.conf: an administrator's tuning first, so that ours has the last word."""
    directory = settings.config_dir
    return (
        "# Written by OpenMSE at each start. Own tuning goes into local.conf beside this file.\n"
        f"include_if_exists '{directory}/local.conf'\n"
        f"include '{directory}/openmse.conf'\n"
        f"include '{directory}/dynamic.conf'\n"
    )


_RULES: dict[str, str | int] = {
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 3,
    "password_encryption": "scram-sha-256",
    # Durability: what an acknowledgement means.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_log_hints": "on",
    "wal_level": "replica",
    "restart_after_crash": "off",
    "recovery_init_sync_method": "syncfs",
    "checkpoint_timeout": "5min",
    # Replication: quick to notice, quick to try again.
    "hot_standby": "on",
    "hot_standby_feedback": "off",
    "max_standby_streaming_delay": "2s",
    "max_wal_senders": 10,
    "max_replication_slots": 10,
    "wal_retrieve_retry_interval": "20ms",
    "wal_receiver_status_interval": f"{SIGN_INTERVAL_NS // SECOND}s",
    "wal_sender_timeout": "4s",
    "wal_receiver_timeout": "4s",
    "recovery_target_timeline": "latest",
    # The log: one file, in one language and time zone, read by the health monitor too.
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "lc_messages": "C",
    "jit": "off",
}
"""The rules of protocol §5 that are the same everywhere."""


def render_fixed(
    settings: InstanceSettings, *, major: int, directory_id: str, disk_bytes: int
) -> str:
    """openmse.conf: the rules of protocol §5 that do not change while the server runs.

    ``disk_bytes``: size of the file system of PGDATA, which bounds what WAL may take of it.
    """
    disk_mib = disk_bytes // MIB
    tls = settings.tls
    values: dict[str, str | int] = {
        "data_directory": str(settings.data_dir),
        "hba_file": str(settings.config_dir / "pg_hba.conf"),
        "ident_file": str(settings.config_dir / "pg_ident.conf"),
        "cluster_name": f"{settings.node_id}.{directory_id}"[:63],
        "listen_addresses": settings.listen_addresses,
        "port": settings.port,
        "unix_socket_directories": str(settings.socket_dir),
        "unix_socket_permissions": "0700",
        "max_connections": settings.max_connections,
        "superuser_reserved_connections": 8,
        "shared_buffers": f"{settings.shared_buffers_mib}MB",
        "ssl": "on",
        "ssl_cert_file": str(tls.server_cert),
        "ssl_key_file": str(tls.server_key),
        "ssl_ca_file": str(tls.authority),
        # A dead peer never fills the disk.
        "wal_keep_size": f"{_clamp(disk_mib // 50, 64, 512)}MB",
        "max_slot_wal_keep_size": f"{_clamp(disk_mib // 10, 128, 64 * 1024)}MB",
        "min_wal_size": f"{_clamp(disk_mib // 50, 64, 256)}MB",
        "max_wal_size": f"{_clamp(disk_mib // 10, 128, 1024)}MB",
        **_RULES,
    }
    if major >= 17:
        values["allow_alter_system"] = "off"
    return "".join(_setting(name, value) for name, value in values.items())


def render_dynamic(
    settings: InstanceSettings,
    *,
    names: bool,
    receiver: bool,
    generation: str,
    direct_first: bool = False,
) -> str:
    """dynamic.conf: what changes while the server runs, by rewriting it and SIGHUP.

    ``names``: commits wait for the peer. ``receiver``: a standby may receive WAL.
    ``generation``: shows a session which version of this file is in force.
    ``direct_first``: WAL comes over the direct connection where that can be reached.
    """
    upstream = peer_conninfo(settings, direct_first=direct_first) if receiver else ""
    return (
        _setting(GENERATION, generation)
        + _setting("synchronous_standby_names", sync_names(settings) if names else "")
        + _setting("primary_conninfo", upstream)
        + _setting("primary_slot_name", "")
    )


def render_hba(settings: InstanceSettings) -> str:
    """pg_hba.conf: the monitor by unix user, the peer by certificate, clients over TLS only."""
    client = settings.client_auth
    lines = (
        f"local all {ADMIN_ROLE} peer map=local",
        "local all all reject",
        f"hostssl replication {REPLICATION_ROLE} all cert map=nodes",
        f"hostssl postgres {REPLICATION_ROLE} all cert map=nodes",
        f"host all {ADMIN_ROLE},{REPLICATION_ROLE} all reject",
        "host replication all all reject",
        f"hostssl all all all {client}",
        "host all all all reject",
    )
    return "".join(line + "\n" for line in lines)


def render_ident(settings: InstanceSettings, *, system_users: tuple[str, ...]) -> str:
    """pg_ident.conf: which system users are the monitor, which certificate is the peer."""
    local = [f"local {_ident(user)} {ADMIN_ROLE}" for user in dict.fromkeys(system_users)]
    nodes = [f"nodes {_ident(settings.tls.peer_common_name)} {REPLICATION_ROLE}"]
    return "".join(line + "\n" for line in (*local, *nodes))


def _ident(name: str) -> str:
    """A name that is never taken for a regular expression or several words."""
    if name.startswith("/") or '"' in name or "\n" in name:
        raise ConfigError(f"The name {name!r} cannot be used in pg_ident.conf.")
    return f'"{name}"'
