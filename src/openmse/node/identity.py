"""What this node keeps to prove who it is: names of the files, and their first making.

Everything lives below ``<state_dir>/pki``. PostgreSQL's copies belong to its unprivileged user.
Cryptography is imported only where something is made (the daemon's start must stay quick).
"""

import os
from pathlib import Path

from msgspec import UNSET, Struct

from openmse.errors import StateError
from openmse.node.config import NodeConfig
from openmse.node.drivers.peer.tls import TlsFiles
from openmse.node.group import GroupInfo, NodeInfo
from openmse.pki.files import PRIVATE, PUBLIC, Owner, read_file, write_file

ROOT_KEY_BYTES = 32


class Keyring(Struct, frozen=True):
    """Every file of this node's identity. Nothing is read here."""

    directory: Path

    @property
    def authority(self) -> Path:
        """The group's certificate authority."""
        return self.directory / "ca.crt"

    @property
    def authority_key(self) -> Path:
        """Its key; both nodes hold it, so that either can renew."""
        return self.directory / "ca.key"

    @property
    def certificate(self) -> Path:
        """This node's certificate."""
        return self.directory / "node.crt"

    @property
    def key(self) -> Path:
        """This node's key; it never leaves the machine."""
        return self.directory / "node.key"

    @property
    def heartbeat(self) -> Path:
        """The secret that the two nodes' datagrams are authenticated with."""
        return self.directory / "heartbeat.key"

    @property
    def witness(self) -> Path:
        """The same for datagrams between the nodes and the witness."""
        return self.directory / "witness.key"

    @property
    def database(self) -> Path:
        """PostgreSQL's copies: server.crt, server.key, replication.crt, replication.key, ca.crt."""
        return self.directory / "postgres"

    @property
    def tls(self) -> TlsFiles:
        """For the control links."""
        return TlsFiles(self.certificate, self.key, self.authority)

    def roots(self, group: GroupInfo, me: str) -> dict[str, bytes]:
        """The root key for the datagrams of each other party. Raises StateError."""
        found: dict[str, bytes] = {}
        peer = group.peer_of(me)
        if peer is not None:
            found[peer.name] = read_file(self.heartbeat)
        if group.witness is not None and group.witness.kind == "console":
            found[group.witness.name] = read_file(self.witness)
        return found


def keyring(config: NodeConfig) -> Keyring:
    """The files of this machine."""
    return Keyring(config.places.pki)


def new_root_key() -> bytes:
    """A fresh secret for datagrams."""
    return os.urandom(ROOT_KEY_BYTES)


def node_info(config: NodeConfig) -> NodeInfo:
    """How the others reach this node."""
    return NodeInfo(
        name=config.node.name,
        address=config.node.host,
        address6=config.node.host6,
        tls_port=config.ports.node_tls,
        udp_port=config.ports.node_udp,
        database_port=config.database.port,
        direct_address=config.node.direct_host or UNSET,
    )


def own_addresses(config: NodeConfig, virtual_ips: tuple[str, ...]) -> tuple[str, ...]:
    """Every address by which this node may be reached, for its certificate."""
    own = (config.node.host, config.node.host6, config.node.direct_host)
    return tuple(a for a in (*own, *(v.partition("/")[0] for v in virtual_ips)) if a)


def create_group(config: NodeConfig) -> GroupInfo:
    """A new group of this primary alone: its authority, keys and certificates.

    Returns the facts to be saved last: until then nothing counts, and it is made anew next time.
    Raises StateError.
    """
    from openmse.pki.authority import Authority

    ring = keyring(config)
    name = os.urandom(6).hex()
    authority = Authority.create(name)
    make_directories(config)
    write_file(ring.authority, authority.certificate_pem, mode=PUBLIC)
    write_file(ring.authority_key, authority.key_pem, mode=PRIVATE)
    write_file(ring.heartbeat, new_root_key(), mode=PRIVATE)
    group = GroupInfo(
        group=name,
        primary=config.node.name,
        nodes=(node_info(config),),
        virtual_ips=config.group.virtual_ips,
    )
    issue_own(config, group, authority.certificate_pem, authority.key_pem)
    return group


def issue_own(config: NodeConfig, group: GroupInfo, ca_pem: bytes, ca_key_pem: bytes) -> None:
    """Make this node's keys and certificates, or renew the certificates. Raises StateError."""
    from openmse.pki.authority import Authority, Subject, new_key, signing_request
    from openmse.pki.names import Identity, Role

    ring, me = keyring(config), config.node.name
    addresses = own_addresses(config, group.virtual_ips)
    key = read_file(ring.key) if ring.key.exists() else new_key()
    subject = Subject(Identity(group.group, Role.NODE, me), (me,), addresses)
    node = Authority(ca_pem, ca_key_pem).issue(signing_request(key, me), subject)
    make_directories(config)
    write_file(ring.key, key, mode=PRIVATE)
    write_file(ring.certificate, node, mode=PUBLIC)
    issue_database(config, group, ca_pem, ca_key_pem)


def issue_database(config: NodeConfig, group: GroupInfo, ca_pem: bytes, ca_key_pem: bytes) -> None:
    """PostgreSQL's own key and its certificates, as server and as replication client, or renewed
    certificates for the key that is there. Owned by its user. Raises StateError."""
    from openmse.pki.authority import Authority, Subject, new_key, signing_request
    from openmse.pki.names import Identity, Role

    directory, me = keyring(config).database, config.node.name
    owner, authority = database_owner(config), Authority(ca_pem, ca_key_pem)
    server_key = directory / "server.key"
    key = read_file(server_key) if server_key.exists() else new_key()
    request = signing_request(key, me)
    addresses = own_addresses(config, group.virtual_ips)
    server = Subject(Identity(group.group, Role.DATABASE, me), (me,), addresses)
    client = Subject(Identity(group.group, Role.REPLICATION, me))
    make_directories(config)
    for name, data, mode in (
        ("server.key", key, PRIVATE),
        ("server.crt", authority.issue(request, server), PUBLIC),
        ("replication.key", key, PRIVATE),
        ("replication.crt", authority.issue(request, client), PUBLIC),
        ("ca.crt", ca_pem, PUBLIC),
    ):
        write_file(directory / name, data, mode=mode, owner=owner)


def make_directories(config: NodeConfig) -> None:
    """The directories of keys; reachable, but not readable, by PostgreSQL's user."""
    ring = keyring(config)
    try:
        ring.directory.mkdir(parents=True, exist_ok=True)
        ring.database.mkdir(exist_ok=True)
        ring.directory.chmod(0o711)
        ring.database.chmod(0o711)
    except OSError as error:
        raise StateError(
            f"The directory {ring.directory} cannot be made: {error.strerror}.",
            "Run as root, and check the disk.",
        ) from error


def database_owner(config: NodeConfig) -> Owner | None:
    """Who owns PostgreSQL's files; None where this process is that user. Raises StateError."""
    import pwd

    if os.geteuid() != 0:
        return None
    try:
        found = pwd.getpwnam(config.database.user)
    except KeyError as error:
        raise StateError(
            f"There is no system user '{config.database.user}' to run PostgreSQL as.",
            f"Create it: useradd --system --no-create-home {config.database.user}",
        ) from error
    return Owner(found.pw_uid, found.pw_gid)
