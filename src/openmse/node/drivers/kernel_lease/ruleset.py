"""The nftables rules of the kernel lease as text; pure, so that it is tested without a kernel.

Two tables per group, because ARP is a family of its own: ``inet openmse_<group>`` and
``arp openmse_<group>``. In each a set ``lease`` holds one element per protocol while the lease
lives. Everything the virtual IPs do, in both directions, and the service ports on every local
address (except loopback and the peer's replication) pass only while the element is there. All
chains are base chains of their own at priority -300: they run before connection tracking, and no
other table's "accept established" can let a packet past them.
Source: protocol §4.2; nft(8).
"""

import hashlib
import ipaddress
import re

from msgspec import Struct

from openmse.errors import ConfigError

PRIORITY = -300
_GROUP_NAME = re.compile(r"[A-Za-z0-9_]{1,32}")
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class LeaseConfig(Struct, frozen=True):
    """What the kernel lease of one group guards.

    ``virtual_ips`` and ``peer_addresses``: IPv4 or IPv6 in their usual text form, no prefix.
    """

    group: str
    virtual_ips: tuple[str, ...]
    service_ports: tuple[int, ...]
    peer_addresses: tuple[str, ...] = ()
    direct_interface: str = ""
    """The direct connection: only the peer's own addresses are heard on it; '' for none."""


class Ruleset(Struct, frozen=True):
    """The two tables of a group, ready for nft, and how to recognise them later."""

    table: str
    text: str
    fingerprint: str
    """Kept as the tables' comment: equal fingerprints mean equal rules."""
    inet_rules: int
    arp_rules: int


def build(config: LeaseConfig) -> Ruleset:
    """The rules for ``config``.

    Raises: ConfigError for a group name, address or port that cannot be used.
    """
    _check(config)
    table = table_name(config.group)
    virtual = [ipaddress.ip_address(a) for a in config.virtual_ips]
    peers = [ipaddress.ip_address(a) for a in config.peer_addresses]
    direct = config.direct_interface
    inet = _inet_body(virtual, peers, config.service_ports, direct)
    arp = _arp_body(virtual, direct)
    fingerprint = hashlib.sha256(f"{inet}\n{arp}".encode()).hexdigest()[:16]
    text = "".join(
        f'table {family} {table} {{\n comment "openmse {fingerprint}";\n{body}}}\n'
        for family, body in (("inet", inet), ("arp", arp))
    )
    return Ruleset(table, text, fingerprint, _count_rules(inet), _count_rules(arp))


def table_name(group: str) -> str:
    """The name of both tables of a group."""
    return f"openmse_{group}"


def _check(config: LeaseConfig) -> None:
    if not _GROUP_NAME.fullmatch(config.group):
        raise ConfigError(
            f"The group name {config.group!r} cannot be part of a table name of nftables.",
            "Use 1 to 32 letters, digits and underscores.",
        )
    for address in (*config.virtual_ips, *config.peer_addresses):
        try:
            ipaddress.ip_address(address)
        except ValueError as error:
            raise ConfigError(
                f"{address!r} is not an IPv4 or IPv6 address.",
                "Write it without a prefix length, for example 10.10.10.16 or fd00::16.",
            ) from error
    for port in config.service_ports:
        if not 0 < port < 65536:
            raise ConfigError(f"{port} is not a TCP port.", "Use a number from 1 to 65535.")
    if not re.fullmatch(r'[^\s"/]{0,15}', config.direct_interface):
        raise ConfigError(
            f"'{config.direct_interface}' cannot be the name of a network interface.",
            "'ip link' lists the interfaces of this machine.",
        )
    if set(config.virtual_ips) & set(config.peer_addresses):
        raise ConfigError(
            "A virtual IP is also given as the peer's own address, so the rules would let it pass.",
            "Give the virtual IP an address of its own.",
        )


def _count_rules(body: str) -> int:
    return sum(1 for line in body.splitlines() if line.startswith("  ") and "hook" not in line)


def _set(name: str, kind: str, elements: list[str], flags: str = "") -> str:
    flagged = f" flags {flags};" if flags else ""
    listed = f" elements = {{ {', '.join(elements)} }};" if elements else ""
    return f" set {name} {{ type {kind};{flagged}{listed} }}\n"


def _chain(name: str, rules: list[str], hook: str = "") -> str:
    head = f"  type filter hook {hook} priority {PRIORITY}; policy accept;\n" if hook else ""
    return f" chain {name} {{\n{head}" + "".join(f"  {rule}\n" for rule in rules) + " }\n"


def _inet_body(virtual: list[Ip], peers: list[Ip], ports: tuple[int, ...], direct: str) -> str:
    clients = [
        "jump gate",
        "meta nfproto @admit accept",
        # A reset rather than silence: a client that is told "no" tries again at once.
        "meta l4proto tcp reject with tcp reset",
    ]
    return (
        _set("lease", "nf_proto", [], "timeout")
        + _set("admit", "nf_proto", [])
        + _set("vips4", "ipv4_addr", _texts(4, virtual))
        + _set("vips6", "ipv6_addr", _texts(6, virtual))
        + _set("peers4", "ipv4_addr", _texts(4, peers))
        + _set("peers6", "ipv6_addr", _texts(6, peers))
        + _set("ports", "inet_service", sorted({str(p) for p in ports}))
        + _chain("gate", ["meta nfproto @lease return", "drop"])
        + _chain("clients", clients)
        + _chain("inward", [*_on_the_cable(direct), *_inward(virtual)], "prerouting")
        + _chain("service", _service(), "input")
        + _chain("outward", _outward(virtual), "output")
    )


def _texts(version: int, addresses: list[Ip]) -> list[str]:
    return sorted({str(a) for a in addresses if a.version == version})


def _about(virtual: list[Ip]) -> list[str]:
    """Rules that match the target of a neighbour solicitation or advertisement.

    It is eight bytes into ICMPv6; nft 1.0.6 has no name for it.
    """
    targets = sorted({a for a in virtual if a.version == 6}, key=str)
    return [f"@th,64,128 {int(a):#034x} jump gate" for a in targets]


def _on_the_cable(direct: str) -> list[str]:
    """Clients are served on the health monitor interface: here only the peer speaks, to us."""
    if not direct:
        return []
    name = f'iifname "{direct}"'
    return [
        f"{name} ip daddr @vips4 drop",
        f"{name} ip saddr != @peers4 drop",
        f"{name} meta nfproto ipv6 drop",
    ]


def _inward(virtual: list[Ip]) -> list[str]:
    return [
        "ip daddr @vips4 jump gate",
        "ip6 daddr @vips6 jump gate",
        *(f"icmpv6 type nd-neighbor-solicit {rule}" for rule in _about(virtual)),
    ]


def _service() -> list[str]:
    return [
        "meta l4proto != tcp accept",
        "tcp dport != @ports accept",
        "ip daddr @vips4 goto clients",
        "ip6 daddr @vips6 goto clients",
        "iif lo accept",
        "ip saddr @peers4 accept",
        "ip6 saddr @peers6 accept",
        "goto clients",
    ]


def _outward(virtual: list[Ip]) -> list[str]:
    return [
        "ip saddr @vips4 jump gate",
        "ip6 saddr @vips6 jump gate",
        *(f"icmpv6 type nd-neighbor-advert {rule}" for rule in _about(virtual)),
        "tcp sport != @ports accept",
        "oif lo accept",
        "ip daddr @peers4 accept",
        "ip6 daddr @peers6 accept",
        "meta l4proto tcp jump gate",
    ]


def _arp_body(virtual: list[Ip], direct: str) -> str:
    cable = [f'iifname "{direct}" arp daddr ip @vips4 drop'] if direct else []
    addresses = sorted({str(a) for a in virtual if a.version == 4})
    return (
        _set("lease", "ether_type", [], "timeout")
        + _set("vips4", "ipv4_addr", addresses)
        + _chain("gate", ["arp ptype @lease return", "drop"])
        + _chain("inward", [*cable, "arp daddr ip @vips4 jump gate"], "input")
        + _chain("outward", ["arp saddr ip @vips4 jump gate"], "output")
    )
