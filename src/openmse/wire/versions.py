"""The layouts of an envelope, one for each wire version that is still understood.

Three bytes never move, whatever the version: a magic byte, the version the rest is laid out in,
and the highest version its sender can read. So each party finds out what it may send to another,
and two machines that are upgraded one after the other understand each other in between (N and
N-1). Changing the layout, or a message in a way that old readers cannot skip, means: raise
``WIRE_VERSION``, add a ``Layout`` that translates, drop the one before the last.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from openmse.errors import PeerError

WIRE_VERSION = 1
"""What this software speaks when the other side does too."""
OLDEST_VERSION = WIRE_VERSION - 1
MAGIC = 0x4D


class Parts(NamedTuple):
    """An envelope taken apart; ``body`` is the msgpack of the message in today's form."""

    kind: int
    group: str
    sender: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """How one wire version writes what follows the three fixed bytes, and reads it back.

    ``unpack`` may raise ValueError, LookupError or a msgspec error on garbage, nothing else.
    """

    pack: Callable[[Parts], bytes]
    unpack: Callable[[bytes], Parts]


def _pack_1(parts: Parts) -> bytes:
    group, sender = parts.group.encode(), parts.sender.encode()
    names = bytes((parts.kind, len(group))) + group + bytes((len(sender),)) + sender
    return names + parts.body


def _unpack_1(data: bytes) -> Parts:
    group_end = 2 + data[1]
    sender_end = group_end + 1 + data[group_end]
    if sender_end > len(data):
        raise ValueError("the names do not fit")
    group = data[2:group_end].decode("ascii")
    sender = data[group_end + 1 : sender_end].decode("ascii")
    return Parts(data[0], group, sender, data[sender_end:])


def _pack_0(parts: Parts) -> bytes:
    return msgspec.msgpack.encode((parts.kind, parts.group, parts.sender, parts.body))


_decoder_0 = msgspec.msgpack.Decoder(tuple[int, str, str, bytes])


def _unpack_0(data: bytes) -> Parts:
    return Parts(*_decoder_0.decode(data))


LAYOUTS: Mapping[int, Layout] = {
    0: Layout(_pack_0, _unpack_0),
    1: Layout(_pack_1, _unpack_1),
}
"""Version 0 came before any release; it is kept so that N-1 is real, and tested."""


def common_version(lowest: int, highest: int) -> int:
    """The version to speak with a party that reads ``lowest`` to ``highest``.

    Raises PeerError where there is none.
    """
    version = min(highest, WIRE_VERSION)
    if version < max(lowest, OLDEST_VERSION) or lowest > highest:
        raise PeerError(
            f"The other party speaks wire versions {lowest} to {highest}, this software "
            f"{OLDEST_VERSION} to {WIRE_VERSION}: they have none in common.",
            "Upgrade one machine at a time and skip no release.",
        )
    return version
