"""The configuration of one machine: one TOML file, frozen values, passed around as such.

What belongs to the group ([group], [witness]) is only the seed: pairing writes it into the
register and into ``group.json``, and from then on it is changed there (``mse ha settings``).
Durations end in ``_s`` and are seconds, sizes end in ``_mib`` and are 2^20 bytes.
"""

from enum import StrEnum
from pathlib import Path

from msgspec import Struct, field

from openmse import ports
from openmse.ha.values import SECOND, BootAlone, FailoverType, NoWitnessMode, Settings

DEFAULT_PATH = Path("/etc/openmse/openmse.toml")


class Role(StrEnum):
    """What this machine is by configuration; who owns at the moment is the register's matter."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


class WitnessKind(StrEnum):
    """What the third vote is."""

    CONSOLE = "console"
    """The product's own witness process, by default on the console's machine."""
    ETCD = "etcd"
    NONE = "none"


class WitnessHost(StrEnum):
    """On which machine the product's own witness process runs; for people, decides nothing."""

    CONSOLE = "console"
    OTHER_PRIMARY = "other primary"


class WatchdogMode(StrEnum):
    """Whether the kernel's watchdog resets this machine when nothing feeds it."""

    OFF = "off"
    AUTO = "auto"
    """Used where the device exists."""
    REQUIRED = "required"
    """Without the device this node does not become an owner in SYNC."""


class ClientAuth(StrEnum):
    """How PostgreSQL's clients prove themselves."""

    SCRAM = "scram-sha-256"
    CERTIFICATE = "cert"


class NodeSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who this machine is."""

    name: str
    """The node's name in the group, in logs and in certificates: 1 to 63 of a-z A-Z 0-9 _ . -"""
    role: Role
    address: str
    """This machine's own IPv4 address with its prefix, such as 10.10.10.11/24."""
    address6: str = ""
    """Its own IPv6 address with its prefix; '' where IPv6 is not used."""
    interface: str = "eth0"
    """The network interface that holds the address and will hold the virtual IP."""
    direct_interface: str = ""
    """The end of a cable of their own between the two nodes, such as eth1; '' for none."""
    direct_address: str = ""
    """This machine's IPv4 address on that cable, with its prefix; the other node has another."""

    @property
    def host(self) -> str:
        """The IPv4 address without its prefix."""
        return self.address.partition("/")[0]

    @property
    def host6(self) -> str:
        """The IPv6 address without its prefix, or ''."""
        return self.address6.partition("/")[0]

    @property
    def direct_host(self) -> str:
        """The address on the direct connection without its prefix, or ''."""
        return self.direct_address.partition("/")[0]


class GroupSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the pair starts with; needed on the primary, taken over by the secondary."""

    virtual_ips: tuple[str, ...] = ()
    """The addresses that move, with their prefixes: one IPv4, one IPv6, or both."""
    failover_wait_s: float = 5.0
    """From losing the owner to the other's right to serve; the one knob (2 to 120 s)."""
    is_experimental: bool = False
    """Accept a failover wait down to 1 s; not for production."""
    failover_type: FailoverType = FailoverType.AUTOMATIC
    failback_type: FailoverType = FailoverType.MANUAL
    """Manual: a second outage, however short, should be somebody's decision."""
    no_witness_mode: NoWitnessMode = NoWitnessMode.MANUAL
    boot_alone: BootAlone = BootAlone.AUTO
    boot_patience_s: float = 60.0
    """How long a cold boot waits for the recorded owner before the other may serve."""
    failback_stable_s: float = 600.0
    """How long the preferred node must have been stable before an automatic failback."""

    @property
    def settings(self) -> Settings:
        """The same, as the register keeps it."""
        return Settings(
            failover_wait_ns=round(self.failover_wait_s * SECOND),
            failover_type=self.failover_type,
            failback_type=self.failback_type,
            no_witness_mode=self.no_witness_mode,
            boot_alone=self.boot_alone,
            boot_patience_ns=round(self.boot_patience_s * SECOND),
            failback_stable_ns=round(self.failback_stable_s * SECOND),
        )


class WitnessSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The third vote; the seed for pairing, like [group]."""

    kind: WitnessKind = WitnessKind.NONE
    host: WitnessHost = WitnessHost.CONSOLE
    """console: whose machine it is, as chosen in setup."""
    name: str = "witness"
    address: str = ""
    """console: its host address. Ports are those of [ports]."""
    endpoints: tuple[str, ...] = ()
    """etcd: https://host:2379, one or more."""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    """etcd: paths; secrets never stand in this file."""


class DatabaseSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The PostgreSQL instance of the group on this machine."""

    bin_dir: str = ""
    """Where postgres and its tools are; '' takes the server that comes with the product."""
    data_dir: str = ""
    """'' means ``<state_dir>/postgres/data``."""
    port: int = ports.POSTGRESQL
    """The same on both nodes of a group."""
    user: str = "openmse"
    """The unprivileged system user that runs the server and owns its files."""
    client_auth: ClientAuth = ClientAuth.SCRAM
    """How clients prove themselves over TLS: a password, or a certificate of the group."""
    shared_buffers_mib: int = 128
    """PostgreSQL's own cache, in units of 2^20 bytes; a quarter of the memory suits most."""
    max_connections: int = 200
    keep_divergent_days: int = 14
    """How long what an old owner had beyond the group is kept aside after its rejoin."""


class WatchdogSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The kernel's watchdog."""

    mode: WatchdogMode = WatchdogMode.OFF
    """Off: arming it by default would reset machines whose owner never asked for that."""
    device: str = "/dev/watchdog"


class FencingSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fencing agent, for pairs without a witness (protocol §8)."""

    agent: str = ""
    """An executable that switches the peer off and *confirms* it by its exit status 0."""
    timeout_s: float = 30.0


class PortsSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Ports; the same on both nodes. Defaults: ``openmse.ports``."""

    node_tls: int = ports.NODE_TLS
    node_udp: int = ports.NODE_UDP
    witness_tls: int = ports.WITNESS_TLS
    witness_udp: int = ports.WITNESS_UDP
    pairing: int = ports.PAIRING


class PathsSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Directories of this machine."""

    state_dir: str = "/var/lib/openmse"
    run_dir: str = "/run/openmse"


class NodeConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    node: NodeSection
    group: GroupSection = field(default_factory=GroupSection)
    witness: WitnessSection = field(default_factory=WitnessSection)
    database: DatabaseSection = field(default_factory=DatabaseSection)
    watchdog: WatchdogSection = field(default_factory=WatchdogSection)
    fencing: FencingSection = field(default_factory=FencingSection)
    ports: PortsSection = field(default_factory=PortsSection)
    paths: PathsSection = field(default_factory=PathsSection)

    @property
    def places(self) -> "Places":
        """Where everything of this machine lives."""
        return Places(Path(self.paths.state_dir), Path(self.paths.run_dir), self.database.data_dir)


class Places(Struct, frozen=True):
    """Every path below the state and run directories, in one place."""

    state_dir: Path
    run_dir: Path
    chosen_data_dir: str = ""

    @property
    def data_dir(self) -> Path:
        """PostgreSQL's data directory."""
        if self.chosen_data_dir:
            return Path(self.chosen_data_dir)
        return self.state_dir / "postgres" / "data"

    @property
    def control_socket(self) -> Path:
        """Where the daemon answers the command line."""
        return self.run_dir / "control.sock"

    @property
    def group(self) -> Path:
        """The facts of the group, after pairing."""
        return self.state_dir / "group.json"

    @property
    def register(self) -> Path:
        """The durable record of this voter."""
        return self.state_dir / "register"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.state_dir / "pki"

    @property
    def pairing_password(self) -> Path:
        """The password that a secondary expects, while it waits for its primary (mode 0600)."""
        return self.state_dir / "pairing-password"

    @property
    def readmission(self) -> Path:
        """What an owner knows of the password with which a new machine is waited for."""
        return self.state_dir / "readmission-password"

    @property
    def readmission_names(self) -> Path:
        """The names that an owner has offered to new machines."""
        return self.state_dir / "readmission-names.json"

    @property
    def events(self) -> Path:
        """The event log."""
        return self.state_dir / "events.jsonl"

    @property
    def journal(self) -> Path:
        """The decision journal."""
        return self.state_dir / "journal"

    @property
    def drills(self) -> Path:
        """Reports of rehearsals."""
        return self.state_dir / "drills"
