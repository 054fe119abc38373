"""ICMP timestamp messages (RFC 792), and what they say of another machine's clock. Pure."""

import struct
from typing import NamedTuple

MS_PER_DAY = 86_400_000
_MESSAGE = struct.Struct("!BBHHHIII")
_REQUEST, _REPLY = 13, 14
_NONSTANDARD = 0x80000000
"""Set by a machine whose clock counts otherwise: no use to us."""


class Reply(NamedTuple):
    """Milliseconds since midnight UTC: sent by us; received and sent back by the other."""

    originated: int
    received: int
    transmitted: int


def request(identifier: int, sequence: int, now_ms: int) -> bytes:
    """A message that asks for the other machine's time."""
    body = _MESSAGE.pack(_REQUEST, 0, 0, identifier, sequence, now_ms, 0, 0)
    return _MESSAGE.pack(_REQUEST, 0, _checksum(body), identifier, sequence, now_ms, 0, 0)


def reply_in(packet: bytes, identifier: int, sequence: int) -> Reply | None:
    """The answer in an IPv4 packet; None for any other packet."""
    if len(packet) < 20:
        return None
    start = (packet[0] & 15) * 4
    if len(packet) < start + _MESSAGE.size:
        return None
    kind, _, _, who, number, *times = _MESSAGE.unpack_from(packet, start)
    if (kind, who, number) != (_REPLY, identifier, sequence):
        return None
    if any(moment & _NONSTANDARD or moment >= MS_PER_DAY for moment in times):
        return None
    return Reply(*times)


def skew_ms(reply: Reply, now_ms: int) -> float:
    """How far the other clock is ahead (RFC 5905's offset), within half a day."""
    there = _wrapped(reply.received - reply.originated)
    back = _wrapped(reply.transmitted - now_ms)
    return (there + back) / 2


def _wrapped(difference: int) -> int:
    """Over midnight, and in the range of half a day."""
    return (difference + MS_PER_DAY // 2) % MS_PER_DAY - MS_PER_DAY // 2


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
