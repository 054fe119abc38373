"""Authenticated, replay-safe datagrams between the parties of one or many groups.

One socket, one reader callback that empties it in batches; no task, no future and no key
derivation per datagram. What is refused is counted by reason, never logged one by one.
"""

import asyncio
import errno
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping

from openmse.errors import NetworkError, PeerError
from openmse.node.drivers.peer.paths import Path, PathWatch
from openmse.sockets import Address, bind, open_socket
from openmse.wire.datagrams import (
    MAX_DATAGRAM_BYTES,
    TOKEN_BYTES,
    Channel,
    Kind,
    Reason,
    names_key,
    peek,
)

BATCH = 128
"""Datagrams read before the loop gets its turn again."""
RECEIVE_BUFFER_BYTES = 4 << 20
"""Two nodes of 1,000 groups may beat at the same moment."""
_OVERHEAD_BYTES = 256

OnMessage = Callable[[str, str, bytes], None]
"""Called with group, sender and payload."""


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _fresh_token() -> bytes:
    return os.urandom(TOKEN_BYTES)


class _Party:
    """One other party: its channel, which secret that was made from, and where the party is."""

    __slots__ = ("address", "channel", "direct", "is_learned", "secret", "watch")

    def __init__(
        self, channel: Channel, secret: tuple[str, bytes], address: Address | None
    ) -> None:
        self.channel = channel
        self.secret = secret
        self.address = address
        self.is_learned = address is None
        self.direct: Address | None = None
        """Where it is on the direct connection; everything goes there too."""
        self.watch: PathWatch | None = None


class DatagramTransport:
    """Sends and receives datagrams of any number of groups on one address.

    ``on_message(group, sender, payload)`` is called in the loop for each genuine datagram;
    ``on_error`` for a failure of the socket itself. ``rejected`` counts what was not delivered,
    by reason; ``send_failures`` what could not be sent, by the kernel's name of the error.
    """

    def __init__(
        self,
        bind: Address,
        on_message: OnMessage,
        on_error: Callable[[NetworkError], None] | None = None,
    ) -> None:
        self._bind = bind
        self._on_message = on_message
        self._on_error = on_error
        self._sock: socket.socket | None = None
        self._direct: socket.socket | None = None
        self._parties: dict[tuple[str, str], _Party] = {}
        self._by_names: dict[bytes, _Party] = {}
        self.rejected: Counter[str] = Counter()
        self.send_failures: Counter[str] = Counter()
        self.delivered = 0
        self.copies = 0
        """Second copies of delivered datagrams, which came on the other path."""
        self.sent = 0

    @property
    def address(self) -> Address:
        """Where it listens; the port is the real one once open."""
        if self._sock is None:
            return self._bind
        host, port = self._sock.getsockname()[:2]
        return host, port

    def open(self) -> None:
        """Bind and begin to listen, in the running loop; raises NetworkError."""
        assert self._sock is None
        sock = open_socket(self._bind[0], socket.SOCK_DGRAM)
        bind(sock, self._bind, "The heartbeat")
        _enlarge_buffer(sock)
        self._sock = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._on_readable)

    def open_direct(self, address: Address) -> None:
        """Listen on this node's end of the direct connection as well; raises NetworkError."""
        assert self._direct is None
        sock = open_socket(address[0], socket.SOCK_DGRAM)
        bind(sock, address, "The heartbeat on the direct connection")
        _enlarge_buffer(sock)
        self._direct = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._on_direct_readable)

    def close(self) -> None:
        """Stop listening; harmless when closed already."""
        self.close_direct()
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None

    @property
    def direct_address(self) -> Address | None:
        """Where it listens on the direct connection, once open."""
        if self._direct is None:
            return None
        host, port = self._direct.getsockname()[:2]
        return host, port

    def close_direct(self) -> None:
        """Stop listening on the direct connection; harmless when closed already."""
        if self._direct is not None:
            asyncio.get_running_loop().remove_reader(self._direct.fileno())
            self._direct.close()
            self._direct = None

    def set_group(
        self, group: str, me: str, parties: Mapping[str, tuple[bytes, Address | None]]
    ) -> None:
        """Know the other parties of a group: root key and address of each, replacing what was.

        ``None`` for an address: answer to where the party was last genuinely heard from.
        A party whose root key is unchanged keeps its session, and where it was heard.
        """
        before = {peer: self._parties.get((group, peer)) for peer in parties}
        self.remove_group(group)
        for peer, (root, address) in parties.items():
            known = before[peer]
            if known is not None and known.secret == (me, root):
                channel = known.channel
            else:
                channel = Channel(group, me, peer, root=root, token=_fresh_token)
            party = _Party(channel, (me, root), address)
            if address is None and known is not None:
                party.address = known.address
            self._parties[group, peer] = party
            self._by_names[names_key(group, peer)] = party

    def remove_group(self, group: str) -> None:
        """Forget a group: its datagrams are refused from now on."""
        for known, peer in [key for key in self._parties if key[0] == group]:
            del self._parties[known, peer]
            del self._by_names[names_key(known, peer)]

    def set_address(self, group: str, peer: str, address: Address) -> None:
        """The party has moved."""
        party = self._parties[group, peer]
        party.address = address
        party.is_learned = False

    def set_direct(self, group: str, peer: str, address: Address, watch: PathWatch) -> None:
        """Send to the party on the direct connection too; ``watch`` judges both paths."""
        party = self._parties[group, peer]
        party.direct, party.watch = address, watch

    def send(self, group: str, peer: str, payload: bytes) -> bool:
        """Send at once, or not at all; whether the kernel took it. Never blocks.

        Raises PeerError where the payload can never fit: that is a mistake of the caller's.
        """
        if len(payload) > MAX_DATAGRAM_BYTES - _OVERHEAD_BYTES:
            raise PeerError(f"A payload of {len(payload)} bytes does not fit into a datagram.")
        party = self._parties.get((group, peer))
        if party is None or party.address is None:
            self.send_failures["no_address"] += 1
            return False
        data = party.channel.seal(payload, _now())
        if party.direct is None:
            return self._transmit(data, party.address)
        return self._transmit_twice(data, party.address, party.direct)

    def _transmit_twice(self, data: bytes, address: Address, direct: Address) -> bool:
        """On both paths; whether either took it. An unplugged one is no failure to count."""
        is_taken = self._transmit(data, address)
        if self._direct is not None:
            try:
                self._direct.sendto(data, direct)
                is_taken = True
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0, "unknown")
                self.send_failures[f"direct_{name}"] += 1
        return is_taken

    def _transmit(self, data: bytes, address: Address) -> bool:
        if self._sock is None:
            self.send_failures["closed"] += 1
            return False
        try:
            self._sock.sendto(data, address)
        except OSError as error:
            self.send_failures[errno.errorcode.get(error.errno or 0, "unknown")] += 1
            return False
        self.sent += 1
        return True

    def _on_readable(self) -> None:
        now = _now()
        for _ in range(BATCH):
            if self._sock is None:  # a message made the owner close us
                return
            try:
                data, source = self._sock.recvfrom(MAX_DATAGRAM_BYTES + 1)
            except BlockingIOError:
                return
            except OSError as error:
                self._report(error)
                return
            self._receive(data, source, now, Path.NETWORK)

    def _on_direct_readable(self) -> None:
        now = _now()
        for _ in range(BATCH):
            if self._direct is None:
                return
            try:
                data, source = self._direct.recvfrom(MAX_DATAGRAM_BYTES + 1)
            except BlockingIOError:
                return
            except OSError as error:  # the cable's trouble is a path's, not the heartbeat's
                name = errno.errorcode.get(error.errno or 0, "unknown")
                self.rejected[f"direct_{name}"] += 1
                return
            self._receive(data, source, now, Path.DIRECT)

    def _receive(self, data: bytes, source: tuple[str, int], now: int, path: Path) -> None:
        names = peek(data)
        if isinstance(names, Reason):
            self.rejected[names] += 1
            return
        party = self._by_names.get(names)
        if party is None:
            self.rejected[Reason.UNKNOWN_PARTY] += 1
            return
        if party.watch is not None and party.watch.is_copy(data, path, now):
            self.copies += 1
            return
        if party.watch is None and path is Path.DIRECT:
            self.rejected[Reason.UNKNOWN_PARTY] += 1
            return
        kind, result, reason = party.channel.open(data, now)
        if kind is Kind.DELIVERED:
            if party.is_learned:
                party.address = source[:2]
            self.delivered += 1
            if party.watch is not None:
                party.watch.delivered(data, path, now)
            self._on_message(party.channel.group, party.channel.peer, result)
            return
        self.rejected[reason] += 1
        if kind is Kind.SEND and party.direct is not None and party.address is not None:
            self._transmit_twice(result, party.address, party.direct)
        elif kind is Kind.SEND:
            self._transmit(result, party.address or source[:2])

    def _report(self, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, "unknown")
        self.rejected[f"socket_{name}"] += 1
        if self._on_error is not None:
            self._on_error(NetworkError(f"The heartbeat's socket failed: {error.strerror}."))


def _enlarge_buffer(sock: socket.socket) -> None:
    """Ask for a buffer that holds a burst; more than the limit only where we are root."""
    force = 33  # SO_RCVBUFFORCE
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
