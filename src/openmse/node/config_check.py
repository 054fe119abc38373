"""What no type can say about a configuration: which values cannot work together. Pure.

Each rule yields faults: the key, a sentence with the numbers, and what to do.
"""

import ipaddress
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import PurePosixPath
from typing import NamedTuple

import msgspec

from openmse.documents import document
from openmse.ha.timing import timing_faults
from openmse.ha.values import FailoverType, NoWitnessMode
from openmse.node.config import NodeConfig, Role, WitnessKind
from openmse.wire.ids import is_id

SOCKET_PATH_BYTES_MAX = 107
"""The kernel's limit for the path of a Unix socket."""

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Fault(NamedTuple):
    """One thing that is wrong: ``key`` as ``section.key``."""

    key: str
    sentence: str
    hint: str = ""


def faults_of(config: NodeConfig) -> list[Fault]:
    """Everything that is wrong with a configuration whose types are right; empty if usable."""
    unreal = list(_numbers(config))  # no sum can be made with these
    return unreal or [fault for rule in _RULES for fault in rule(config)]


def _numbers(config: NodeConfig) -> Iterator[Fault]:
    for section in msgspec.structs.fields(type(config)):
        table = getattr(config, section.name)
        for entry in msgspec.structs.fields(type(table)):
            value = getattr(table, entry.name)
            if isinstance(value, float) and not isfinite(value):
                key = f"{section.name}.{entry.name}"
                yield Fault(key, f"{key} is {value}, which is no duration.", "Write a number.")


def _names(config: NodeConfig) -> Iterator[Fault]:
    for key, value in (("node.name", config.node.name), ("witness.name", config.witness.name)):
        if not is_id(value):
            yield Fault(
                key,
                f"'{value}' cannot be a name: 1 to 63 letters, digits, '_', '.' or '-', "
                "beginning and ending with a letter or a digit.",
                "Choose a name such as the machine's host name.",
            )
    if config.node.name == config.witness.name and config.witness.kind is not WitnessKind.NONE:
        yield Fault(
            "witness.name",
            f"The witness has the name of this node, '{config.node.name}'.",
            "Give each party a name of its own.",
        )
    yield from _interface("node.interface", config.node.interface)


def _interface(key: str, name: str) -> Iterator[Fault]:
    if not 1 <= len(name) <= 15 or "/" in name or name.split() != [name]:
        yield Fault(
            key,
            f"'{name}' cannot be the name of a network interface (1 to 15 characters).",
            "'ip link' lists the interfaces of this machine.",
        )


def _own(config: NodeConfig) -> Iterator[tuple[str, Interface]]:
    """The node's own addresses that can be read."""
    for key, text in (
        ("node.address", config.node.address),
        ("node.address6", config.node.address6),
    ):
        interface = read_interface(text)
        if interface is not None:
            yield key, interface


def _addresses(config: NodeConfig) -> Iterator[Fault]:
    wanted = [("node.address", config.node.address, 4)]
    if config.node.address6:
        wanted.append(("node.address6", config.node.address6, 6))
    for key, text, version in wanted:
        interface = read_interface(text)
        if interface is None or interface.version != version:
            yield Fault(
                key,
                f"'{text}' is not an IPv{version} address with its prefix.",
                "Write it like 10.10.10.11/24." if version == 4 else "Write it like fd00::11/64.",
            )
        else:
            yield from _unusable(key, interface)


def _unusable(key: str, interface: Interface) -> Iterator[Fault]:
    ip, network = interface.ip, interface.network
    if ip.is_unspecified or ip.is_multicast or ip.is_loopback:
        yield Fault(
            key,
            f"{ip} cannot be the address of a machine that others reach.",
            "Use an address of the network that both nodes share.",
        )
    elif network.num_addresses > 2 and ip in (network.network_address, network.broadcast_address):
        yield Fault(
            key,
            f"{ip} is the first or last address of {network}, which no machine may have.",
            "Use an address inside the network.",
        )


def _virtual_ips(config: NodeConfig) -> Iterator[Fault]:
    key = "group.virtual_ips"
    if config.node.role is Role.PRIMARY and not config.group.virtual_ips:
        yield Fault(
            key,
            "The primary has no virtual IP, so clients would have nothing that survives it.",
            'Add [group] virtual_ips = ["10.10.10.10/24"].',
        )
    own = {interface.version: interface for _, interface in _own(config)}
    versions: set[int] = set()
    for text in config.group.virtual_ips:
        virtual = read_interface(text)
        if virtual is None:
            yield Fault(
                key,
                f"'{text}' is not an address with its prefix.",
                "Write it like 10.10.10.10/24.",
            )
            continue
        if virtual.version in versions:
            yield Fault(
                key,
                f"There is more than one IPv{virtual.version} virtual IP.",
                "A group has one IPv4 address, one IPv6 address, or one of each.",
            )
        versions.add(virtual.version)
        yield from _unusable(key, virtual)
        yield from _virtual_against(key, virtual, own.get(virtual.version))


def _virtual_against(key: str, virtual: Interface, own: Interface | None) -> Iterator[Fault]:
    if own is None:
        yield Fault(
            key,
            f"The virtual IP {virtual.ip} is IPv{virtual.version}, but this node has no "
            f"IPv{virtual.version} address.",
            "Set node.address6, or remove that virtual IP.",
        )
    elif virtual.ip == own.ip:
        yield Fault(
            key,
            f"The virtual IP {virtual.ip} is this node's own address.",
            "Use a free address of the same network: it moves between the nodes.",
        )
    elif virtual.ip not in own.network:
        yield Fault(
            key,
            f"The virtual IP {virtual.ip} lies outside this node's network {own.network}, so its "
            "neighbours would not find it.",
            f"Use a free address of {own.network}.",
        )
    elif virtual.network != own.network:
        yield Fault(
            key,
            f"The virtual IP {virtual} has another prefix than this node's {own}.",
            f"Write it as {virtual.ip}/{own.network.prefixlen}.",
        )


def _direct(config: NodeConfig) -> Iterator[Fault]:
    """The cable between the two nodes: both keys or none, and a network of its own."""
    node, key = config.node, "node.direct_address"
    if not node.direct_interface and not node.direct_address:
        return
    if not node.direct_interface or not node.direct_address:
        has, lacks = "direct_interface", "direct_address"
        if not node.direct_interface:
            has, lacks = lacks, has
        yield Fault(
            f"node.{lacks}",
            f"{has} is set but {lacks} is not: a direct connection needs both.",
            f"Add {lacks} ({document('configuration')}), or remove {has}.",
        )
        return
    yield from _interface("node.direct_interface", node.direct_interface)
    if node.direct_interface == node.interface:
        yield Fault(
            "node.direct_interface",
            f"The direct connect interface {node.direct_interface} is the health monitor "
            "interface, but the cable is to be a second path.",
            "Name the interface at the end of the cable, or remove both direct keys.",
        )
    direct = read_interface(node.direct_address)
    if direct is None or direct.version != 4:
        yield Fault(
            key,
            f"'{node.direct_address}' is not an IPv4 address with its prefix.",
            "Write it like 192.168.77.1/30; the other node has the other address.",
        )
        return
    yield from _unusable(key, direct)
    yield from _direct_against(config, direct)


def _direct_against(config: NodeConfig, direct: Interface) -> Iterator[Fault]:
    """The cable's network overlaps no other that this node is in."""
    key = "node.direct_address"
    if direct.network.prefixlen > 31:
        yield Fault(
            key,
            f"{direct} leaves no address for the other end of the cable.",
            "A prefix of /30 is enough for two nodes.",
        )
    others = [("health monitor address", text) for text in (config.node.address,)]
    others += [("virtual IP", text) for text in config.group.virtual_ips]
    for what, text in others:
        other = read_interface(text)
        if other is not None and direct.network.overlaps(other.network):
            yield Fault(
                key,
                f"The direct connection's network {direct.network} overlaps the network "
                f"{other.network} of the {what} {other.ip}, so packets would not know which way "
                "to take.",
                "Give the cable a network of its own, such as 192.168.77.0/30.",
            )
            return


def _timings(config: NodeConfig) -> Iterator[Fault]:
    group = config.group
    wait_ns = group.settings.failover_wait_ns
    for sentence in timing_faults(wait_ns, is_experimental=group.is_experimental):
        yield Fault(
            "group.failover_wait_s", sentence, "5 s suits most sites; 2 s needs a calm LAN."
        )
    if not group.failover_wait_s < group.boot_patience_s <= 3600:
        yield Fault(
            "group.boot_patience_s",
            f"The boot patience is {group.boot_patience_s:g} s; it must be longer than the "
            f"failover wait of {group.failover_wait_s:g} s and at most 3600 s.",
            "60 s suits machines that boot in less than a minute.",
        )
    if not 0 <= group.failback_stable_s <= 86_400:
        yield Fault(
            "group.failback_stable_s",
            f"The time before an automatic failback is {group.failback_stable_s:g} s; it must lie "
            "between 0 s and 86400 s.",
            "600 s is the default.",
        )
    if not 0 < config.fencing.timeout_s <= 300:
        yield Fault(
            "fencing.timeout_s",
            f"The fencing agent is given {config.fencing.timeout_s:g} s; it must be more than 0 s "
            "and at most 300 s.",
            "30 s is the default.",
        )


def _ports(config: NodeConfig) -> Iterator[Fault]:
    ports = config.ports
    taken: dict[tuple[str, int], str] = {}
    for transport, key, number in (
        ("TCP", "ports.node_tls", ports.node_tls),
        ("UDP", "ports.node_udp", ports.node_udp),
        ("TCP", "ports.pairing", ports.pairing),
        ("TCP", "database.port", config.database.port),
        ("TCP", "ports.witness_tls", ports.witness_tls),
        ("UDP", "ports.witness_udp", ports.witness_udp),
    ):
        if not 1 <= number <= 65_535:
            yield Fault(
                key,
                f"{number} is not a port number (1 to 65535).",
                f"Correct it; {document('ports')} lists the defaults.",
            )
            continue
        other = taken.setdefault((transport, number), key)
        if other != key:
            yield Fault(
                key,
                f"{transport} port {number} is used twice: by {other} and by {key}.",
                f"Give each its own; {document('ports')} lists the defaults.",
            )


def _witness(config: NodeConfig) -> Iterator[Fault]:
    witness = config.witness
    if witness.kind is WitnessKind.CONSOLE:
        yield from _console_address(config)
    elif witness.kind is WitnessKind.ETCD and not witness.endpoints:
        yield Fault(
            "witness.endpoints",
            "The witness is an etcd cluster, but none of its endpoints is named.",
            'Add endpoints = ["https://host:2379"].',
        )
    if (
        witness.kind is WitnessKind.NONE
        and config.group.no_witness_mode is NoWitnessMode.FENCING
        and not config.fencing.agent
    ):
        yield Fault(
            "fencing.agent",
            "Automatic takeover without a witness needs a fencing agent that confirms that the "
            "other node is off; without one, a cut network would make two owners.",
            "Name the agent, or use as witness the console's machine, the other primary, or etcd.",
        )
    if config.fencing.agent and not PurePosixPath(config.fencing.agent).is_absolute():
        yield Fault(
            "fencing.agent",
            f"'{config.fencing.agent}' is not an absolute path.",
            "Write it in full.",
        )


def _console_address(config: NodeConfig) -> Iterator[Fault]:
    key, text = "witness.address", config.witness.address
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        yield Fault(
            key, f"'{text}' is not the address of the witness's machine.", "Write 10.10.10.13."
        )
        return
    virtual = [read_interface(entry) for entry in config.group.virtual_ips]
    if address in [own.ip for _, own in _own(config)]:
        yield Fault(
            key,
            f"The witness at {address} would be this node itself: it would lose its vote together "
            "with the node.",
            "Run the witness on a third machine.",
        )
    elif address in [entry.ip for entry in virtual if entry is not None]:
        yield Fault(
            key,
            f"The witness's address {address} is the virtual IP.",
            "Run the witness on a third machine with an address of its own.",
        )


def _paths(config: NodeConfig) -> Iterator[Fault]:
    paths = config.paths
    for key, text, may_be_empty in (
        ("paths.state_dir", paths.state_dir, False),
        ("paths.run_dir", paths.run_dir, False),
        ("database.bin_dir", config.database.bin_dir, True),
        ("database.data_dir", config.database.data_dir, True),
        ("watchdog.device", config.watchdog.device, False),
    ):
        if not (PurePosixPath(text).is_absolute() or (may_be_empty and not text)):
            yield Fault(key, f"'{text}' is not an absolute path.", "Write the path from '/' on.")
    if paths.state_dir == paths.run_dir:
        yield Fault(
            "paths.run_dir",
            "The state and run directories are the same, but only the first survives a boot.",
            "Keep the defaults unless there is a reason.",
        )


def _database(config: NodeConfig) -> Iterator[Fault]:
    if config.database.user in ("", "root"):
        yield Fault(
            "database.user",
            "PostgreSQL refuses to run as root.",
            "Keep the default user openmse.",
        )
    yield from _database_limits(config)
    socket = config.places.run_dir / "postgres" / f".s.PGSQL.{config.database.port}"
    if len(str(socket).encode()) > SOCKET_PATH_BYTES_MAX:
        yield Fault(
            "paths.run_dir",
            f"PostgreSQL's socket {socket} would have a path of more than "
            f"{SOCKET_PATH_BYTES_MAX} bytes, which no socket may have.",
            "Choose a shorter directory.",
        )


def _database_limits(config: NodeConfig) -> Iterator[Fault]:
    database = config.database
    for key, value, least, most, hint in (
        ("port", database.port, 1024, 65_535, "PostgreSQL runs without root; 5432 is its own."),
        ("shared_buffers_mib", database.shared_buffers_mib, 16, 1 << 20, "128 is the default."),
        ("max_connections", database.max_connections, 20, 10_000, "200 is the default."),
        ("keep_divergent_days", database.keep_divergent_days, 0, 3650, "14 is the default."),
    ):
        if not least <= value <= most:
            sentence = f"{key} is {value}; it must lie between {least} and {most}."
            yield Fault(f"database.{key}", sentence, hint)


def _automatic(config: NodeConfig) -> Iterator[Fault]:
    group = config.group
    if group.failback_type is FailoverType.AUTOMATIC and group.failback_stable_s == 0:
        yield Fault(
            "group.failback_stable_s",
            "Automatic failback without any time of stability would move the service to and fro.",
            "Set it to at least a minute, or failback_type to manual.",
        )


def read_interface(text: str) -> Interface | None:
    """``text`` as an address with its prefix; None where it is not one (a prefix is required)."""
    if "/" not in text:
        return None
    try:
        return ipaddress.ip_interface(text)
    except ValueError:
        return None


_RULES: tuple[Callable[[NodeConfig], Iterator[Fault]], ...] = (
    _names,
    _addresses,
    _virtual_ips,
    _direct,
    _timings,
    _ports,
    _witness,
    _paths,
    _database,
    _automatic,
)
