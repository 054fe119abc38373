"""What successive looks at a running database say of its peer, and of its own rest. Pure."""

from openmse.ha.values import Instant
from openmse.node.drivers.postgres.session import Status

QUIET_BYTES = 1024
"""What may be written between two looks at a database at rest: the health watch's test writes."""


class Pulse:
    """Takes one look after the other."""

    def __init__(self) -> None:
        self.signed_at = Instant(0)
        """When, at the least, the peer's replication last showed life or had nothing to confirm."""
        self.is_quiet = False
        """Whether the last two looks showed a whole pair at rest."""
        self._sign = ""
        self._is_behind = False
        self._lsn: int | None = None
        self._looked_at = Instant(0)

    def take(self, status: Status, now: Instant) -> None:
        """Another look, made at ``now``.

        A sign came at some time since the look before: its beginning is what is certain, and to
        count from its end would let commits wait that much longer for a lost peer. The same holds
        for the first write that waits, before which nobody waited for the peer at all: without
        that, its last sign could be nearly ``sync_loss`` old, and it be lost for a millisecond.
        """
        is_behind = status.is_peer_streaming and status.lsn > status.peer_flush_lsn
        has_signed = bool(status.peer_sign) and status.peer_sign != self._sign
        if has_signed or (is_behind and not self._is_behind):
            self.signed_at = self._looked_at or now
        is_whole = status.is_receiving or (status.is_peer_streaming and not is_behind)
        written = status.lsn - self._lsn if self._lsn is not None else -1
        self.is_quiet = is_whole and 0 <= written <= QUIET_BYTES
        self._sign, self._is_behind = status.peer_sign, is_behind
        self._lsn, self._looked_at = status.lsn, now

    def forget(self) -> None:
        """The server has ended: no look at the next one continues these."""
        self.is_quiet = self._is_behind = False
        self._lsn = None
