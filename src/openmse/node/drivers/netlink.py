"""The little of netlink that the product needs: messages, attributes, acknowledged requests.

Own code rather than a library because of two budgets: importing pyroute2 costs 120 ms of the
health monitor's start-up, and arming the kernel lease must take well under a millisecond.
Knows nothing of leases or addresses. Source: netlink(7), RFC 3549, linux/netlink.h.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator

NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_CREATE = 0x400
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE_BYTES = 1 << 16
_ANSWER_TIMEOUT_S = 2
_DUMP_ATTEMPTS_MAX = 16
_NLM_F_DUMP_INTERRUPTED = 0x10


class NetlinkError(OSError):
    """The kernel refused a netlink request; ``errno`` says why. Translated by the drivers."""


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    padding = b"\0" * (-len(payload) % 4)
    return _ATTRIBUTE.pack(len(payload) + 4, kind) + payload + padding


def nested(kind: int, *inner: bytes) -> bytes:
    """An attribute that contains attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(inner))


def attributes(data: bytes) -> dict[int, bytes]:
    """Parse attributes into a mapping; of repeated ones the last is kept."""
    return dict(iter_attributes(data))


def iter_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, payload) of each attribute; stops at the first malformed one."""
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            return
        yield kind & _NLA_TYPE_MASK, data[at + 4 : at + length]
        at += (length + 3) & ~3


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """One netlink message with its header."""
    return _HEADER.pack(16 + len(payload), kind, flags, sequence, 0) + payload


def set_sequence(data: bytearray, at: int, sequence: int) -> None:
    """Number anew the message that begins at ``at`` of a prepared datagram."""
    struct.pack_into("=I", data, at + 8, sequence)


def iter_messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (type, sequence, payload) of each message in a datagram."""
    for kind, _flags, sequence, payload in _iter_flagged(data):
        yield kind, sequence, payload


def _iter_flagged(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, at)
        if length < 16:
            return
        yield kind, flags, sequence, data[at + 16 : at + length]
        at += (length + 3) & ~3


class NetlinkSocket:
    """A blocking netlink socket for requests whose answer the kernel gives at once."""

    def __init__(self, family: int) -> None:
        """Open it. Raises: NetlinkError where the kernel lacks this family."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, family)
            self._socket.bind((0, 0))
        except OSError as error:
            raise NetlinkError(error.errno, error.strerror) from error
        # Not settimeout(): that makes Python poll before a read that must not wait.
        limit = struct.pack("@ll", _ANSWER_TIMEOUT_S, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._sequence = 0
        self._is_settled = True
        """Whether everything that was asked has been answered to its end."""

    def close(self) -> None:
        """Give the socket back; the object is of no use afterwards."""
        self._socket.close()

    def next_sequence(self) -> int:
        """A sequence number not used before on this socket."""
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        return self._sequence

    def request(self, kind: int, flags: int, payload: bytes) -> None:
        """Send one request and wait for its acknowledgement.

        Raises: NetlinkError with the kernel's errno.
        """
        sequence = self.next_sequence()
        self.send_acknowledged(
            message(kind, NLM_F_REQUEST | NLM_F_ACK | flags, sequence, payload), sequence
        )

    def send_acknowledged(self, data: bytes | bytearray, last: int) -> None:
        """Send a prepared datagram and wait for the answer to the message numbered ``last``.

        Raises: NetlinkError: the first error the kernel reports, whichever message it names.
        """
        self._forget_old_answers()
        self._is_settled = False
        self._socket.send(data)
        while True:
            for kind, sequence, payload in iter_messages(self._receive()):
                if kind != NLMSG_ERROR:
                    continue
                code = -struct.unpack_from("=i", payload)[0]
                if code:
                    raise NetlinkError(code, os.strerror(code))
                if sequence == last:
                    self._is_settled = True
                    return

    def dump(self, kind: int, payload: bytes, *, flags: int = NLM_F_DUMP) -> list[bytes]:
        """Ask for a listing and return the payload of each message of the answer.

        A listing that something changed in the middle of is asked for again.
        Raises: NetlinkError, with ENOENT where what is asked for does not exist.
        """
        for _ in range(_DUMP_ATTEMPTS_MAX):
            found = self._dump_once(kind, payload, flags)
            if found is not None:
                return found
        raise NetlinkError(errno.EINTR, "the listing changed again and again while it was read")

    def _dump_once(self, kind: int, payload: bytes, flags: int) -> list[bytes] | None:
        """The payloads of one listing; None if the kernel says that it is inconsistent."""
        self._forget_old_answers()
        self._is_settled = False
        request = self.next_sequence()
        self._socket.send(message(kind, NLM_F_REQUEST | flags, request, payload))
        found: list[bytes] = []
        is_consistent = True
        while True:
            for got, got_flags, sequence, body in _iter_flagged(self._receive()):
                if sequence != request:
                    continue
                is_consistent &= not got_flags & _NLM_F_DUMP_INTERRUPTED
                if got == NLMSG_DONE:
                    return found if is_consistent else None
                if got == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    raise NetlinkError(code, os.strerror(code))
                found.append(body)
                if flags & NLM_F_DUMP == 0:
                    return found

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError as error:
            raise NetlinkError(errno.ETIMEDOUT, "the kernel did not answer") from error

    def _forget_old_answers(self) -> None:
        """Drop what an earlier, failed request left unread."""
        if self._is_settled:
            return
        try:
            while True:
                self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
