"""Messages to bytes and back: versioned, bounded, and deaf to garbage. Pure.

The codec does not know the messages: it is given a type for each kind, so that voters, the
daemon's own notices and certificate renewals share one envelope. It proves nothing about the
sender; that is the transports' part.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from openmse.errors import PeerError
from openmse.wire.ids import is_id
from openmse.wire.versions import LAYOUTS, MAGIC, OLDEST_VERSION, WIRE_VERSION, Parts

MAX_MESSAGE_BYTES = 1 << 20
"""An envelope in all; a datagram carries far less."""

VOTERS = 1
"""The kind of ``openmse.ha.messages.Message``."""

_GARBAGE = (msgspec.MsgspecError, ValueError, LookupError, RecursionError, OverflowError)


class Envelope(Struct, frozen=True):
    """A message that arrived, and what its sender says of itself."""

    version: int
    """The wire version it was laid out in."""
    speaks: int
    """The highest wire version that the sender reads."""
    kind: int
    group: str
    sender: str
    message: Any
    """An instance of the type that the codec was given for ``kind``."""


class Codec:
    """Encodes and decodes the messages of each kind in ``types``.

    ``highest``: the newest wire version to speak and read; below ``WIRE_VERSION`` only where a
    test plays an older party.
    """

    def __init__(self, types: Mapping[int, Any], *, highest: int = WIRE_VERSION) -> None:
        self._decoders = {kind: msgspec.msgpack.Decoder(type_) for kind, type_ in types.items()}
        self._encoder = msgspec.msgpack.Encoder()
        self._highest = highest

    def encode(
        self,
        message: Any,
        *,
        group: str,
        sender: str,
        kind: int = VOTERS,
        version: int | None = None,
    ) -> bytes:
        """The bytes of ``message`` from ``sender``; ``version``: what the receiver reads.

        Raises PeerError where the message is larger than a receiver would take.
        """
        version = self._highest if version is None else min(version, self._highest)
        assert kind in self._decoders
        assert version in LAYOUTS
        assert is_id(group)
        assert is_id(sender)
        parts = Parts(kind, group, sender, self._encoder.encode(message))
        data = bytes((MAGIC, version, self._highest)) + LAYOUTS[version].pack(parts)
        if len(data) > MAX_MESSAGE_BYTES:
            raise PeerError(f"A message of {len(data)} bytes is too long to send.")
        return data

    def decode(self, data: bytes) -> Envelope:
        """The message in ``data``; raises PeerError on anything that is not one."""
        if not 4 <= len(data) <= MAX_MESSAGE_BYTES or data[0] != MAGIC:
            raise PeerError("What arrived is not a message of this product.")
        version, speaks = data[1], data[2]
        if not OLDEST_VERSION <= version <= self._highest or speaks < version:
            raise PeerError(
                f"A message of wire version {version} arrived; this software reads "
                f"{OLDEST_VERSION} to {self._highest}.",
                "Upgrade one machine at a time and skip no release.",
            )
        try:
            parts = LAYOUTS[version].unpack(data[3:])
            message = self._decoders[parts.kind].decode(parts.body)
        except _GARBAGE as error:
            raise PeerError("A message arrived that cannot be read; it was dropped.") from error
        if not (is_id(parts.group) and is_id(parts.sender)):
            raise PeerError("A message arrived whose sender or group is not a name.")
        return Envelope(version, speaks, parts.kind, parts.group, parts.sender, message)


class Spoken:
    """Which wire version to use with each party: what it has shown to read, else the oldest."""

    def __init__(self) -> None:
        self._highest: dict[tuple[str, str], int] = {}

    def heard(self, envelope: Envelope) -> None:
        """Learn from a message; a party that was downgraded is believed at once."""
        self._highest[envelope.group, envelope.sender] = envelope.speaks

    def version_for(self, group: str, party: str) -> int:
        """The newest version that both read, as far as known."""
        return min(self._highest.get((group, party), OLDEST_VERSION), WIRE_VERSION)
