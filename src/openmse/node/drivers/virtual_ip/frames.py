"""Ethernet frames that probe for and announce an address; pure, bytes in and out.

Sources: RFC 826 and RFC 5227 (ARP, address conflict detection), RFC 4861 and RFC 4862 (neighbour
discovery, duplicate address detection).
"""

import ipaddress
import struct

from msgspec import Struct

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

ETH_ARP, ETH_IPV6 = 0x0806, 0x86DD
_BROADCAST = b"\xff" * 6
_ALL_NODES = ipaddress.IPv6Address("ff02::1")
_NO_MAC = b"\0" * 6
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_REQUEST, _ARP_REPLY = 1, 2
_ICMPV6, _SOLICIT, _ADVERT = 58, 135, 136
_OVERRIDE = 0x20000000
_FRAME_BYTES_MIN = 60


class Claim(Struct, frozen=True):
    """A received frame by which somebody uses, or is about to take, an address."""

    address: Ip
    mac: bytes
    is_probe: bool = False
    """Only asks whether anybody has it (RFC 5227 probe, duplicate address detection)."""


def mac_text(mac: bytes) -> str:
    """A link-layer address as people write it."""
    return mac.hex(":")


def probe(address: Ip, mac: bytes) -> bytes:
    """A frame that asks whether anybody uses ``address``, without claiming it."""
    if isinstance(address, ipaddress.IPv4Address):
        return _arp(_ARP_REQUEST, mac, _NO_MAC, sender=b"\0" * 4, target=address.packed)
    group = solicited_node(address)
    body = struct.pack("!I", 0) + address.packed
    return _icmpv6(mac, _SOLICIT, body, source=ipaddress.IPv6Address(0), to=group)


def announcements(address: Ip, mac: bytes) -> tuple[bytes, ...]:
    """Frames that tell everybody on the link that ``address`` is now at ``mac``.

    ARP in both forms, because some stacks learn from requests only and others from replies only.
    The reply carries our address as its target too: Linux takes it for gratuitous, and so passes
    over the second during which it keeps an entry unchanged, only then.
    """
    packed = address.packed
    if isinstance(address, ipaddress.IPv4Address):
        return (
            _arp(_ARP_REQUEST, mac, _NO_MAC, sender=packed, target=packed),
            _arp(_ARP_REPLY, mac, mac, sender=packed, target=packed),
        )
    link_address = struct.pack("!BB", 2, 1) + mac
    body = struct.pack("!I", _OVERRIDE) + packed + link_address
    return (_icmpv6(mac, _ADVERT, body, source=address, to=_ALL_NODES),)


def claim(frame: bytes) -> Claim | None:
    """The address that the sender of ``frame`` uses or probes for; None for any other frame."""
    if len(frame) < 14:
        return None
    protocol = struct.unpack_from("!H", frame, 12)[0]
    if protocol == ETH_ARP and len(frame) >= 14 + _ARP.size:
        return _arp_claim(frame)
    if protocol == ETH_IPV6 and len(frame) >= 14 + 40 + 24:
        return _neighbour_claim(frame)
    return None


def solicited_node(address: ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    """The multicast group in which neighbours ask for ``address`` (RFC 4291 §2.7.1)."""
    prefix = int(ipaddress.IPv6Address("ff02::1:ff00:0"))
    return ipaddress.IPv6Address(prefix | (int(address) & 0xFFFFFF))


def multicast_mac(group: ipaddress.IPv6Address) -> bytes:
    """The Ethernet address of an IPv6 multicast group (RFC 2464 §7)."""
    return b"\x33\x33" + group.packed[12:]


def _arp(operation: int, mac: bytes, target_mac: bytes, *, sender: bytes, target: bytes) -> bytes:
    head = _BROADCAST + mac + struct.pack("!H", ETH_ARP)
    body = _ARP.pack(1, 0x0800, 6, 4, operation, mac, sender, target_mac, target)
    return (head + body).ljust(_FRAME_BYTES_MIN, b"\0")


def _arp_claim(frame: bytes) -> Claim | None:
    kind, protocol, _, _, operation, mac, sender, _, target = _ARP.unpack_from(frame, 14)
    if (kind, protocol) != (1, 0x0800):
        return None
    if sender != b"\0" * 4:
        return Claim(ipaddress.IPv4Address(sender), mac)
    if operation == _ARP_REQUEST:
        return Claim(ipaddress.IPv4Address(target), mac, is_probe=True)
    return None


def _neighbour_claim(frame: bytes) -> Claim | None:
    source, kind = frame[22:38], frame[54]
    if frame[20] != _ICMPV6 or frame[21] != 255:
        return None
    target = ipaddress.IPv6Address(frame[62:78])
    is_probe = kind == _SOLICIT and source == b"\0" * 16
    if kind == _ADVERT or is_probe:
        return Claim(target, frame[6:12], is_probe)
    return None


def _icmpv6(
    mac: bytes,
    kind: int,
    body: bytes,
    *,
    source: ipaddress.IPv6Address,
    to: ipaddress.IPv6Address,
) -> bytes:
    length = 4 + len(body)
    pseudo = source.packed + to.packed + struct.pack("!I3xB", length, _ICMPV6)
    checksum = _checksum(pseudo + struct.pack("!BBH", kind, 0, 0) + body)
    message = struct.pack("!BBH", kind, 0, checksum) + body
    header = struct.pack("!IHBB", 6 << 28, length, _ICMPV6, 255) + source.packed + to.packed
    return multicast_mac(to) + mac + struct.pack("!H", ETH_IPV6) + header + message


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
