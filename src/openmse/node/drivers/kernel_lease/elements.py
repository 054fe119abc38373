"""Set elements of the kernel lease over nfnetlink: the part that must be quick.

Measured: one renewal is a single system call pair. Knows set names and keys of ``ruleset``, and
nothing of clocks. Source: linux/netfilter/nf_tables.h.
"""

import errno
import re
import struct

from msgspec import Struct

from openmse.node.drivers import netlink

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10 << 8
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_GET_TABLE, _DEL_TABLE, _GET_RULE = _SUBSYSTEM | 1, _SUBSYSTEM | 2, _SUBSYSTEM | 7
_NEW_ELEMENT, _GET_ELEMENT, _DEL_ELEMENT = _SUBSYSTEM | 12, _SUBSYSTEM | 13, _SUBSYSTEM | 14
_TABLE_USERDATA = 6
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_ELEMENT, _KEY, _VALUE, _TIMEOUT, _EXPIRATION = 1, 1, 1, 4, 5

TABLE_PREFIX = "openmse_"
INET, ARP = 1, 3
"""Families of nf_tables (NFPROTO_INET, NFPROTO_ARP)."""
_INET_KEYS = (b"\x02", b"\x0a")
"""nf_proto: IPv4 and IPv6."""
_ARP_KEYS = (b"\x08\x00",)
"""ether_type: IPv4."""
_TIMEOUT_FORMAT = struct.Struct(">Q")
_PLACEHOLDER_MS = 0x6F70656E6D736500
"""A timeout that occurs nowhere else in a datagram."""
_LEASE_SETS = ((INET, _INET_KEYS), (ARP, _ARP_KEYS))


class Lives(Struct, frozen=True):
    """What a listing of a lease set showed."""

    is_armed: bool
    remaining_ms: int | None = None
    """Of the element that expires first; None for one that never does."""


class Elements:
    """Adds, removes and lists elements of one group's sets, each change one transaction."""

    def __init__(self, table: str) -> None:
        self._table = netlink.attribute(_LIST_TABLE, table.encode() + b"\0")
        self._socket = netlink.NetlinkSocket(_NETLINK_NETFILTER)
        self._removal = [
            (_NEW_ELEMENT, family, self._list("lease", keys, 1000)) for family, keys in _LEASE_SETS
        ] + [(_DEL_ELEMENT, family, self._list("lease", keys)) for family, keys in _LEASE_SETS]
        # A renewal comes with each beat, and only its numbers differ.
        steps = self._removal + self._additions(_PLACEHOLDER_MS)
        data, self._last_at = _batch(steps, list(range(len(steps))))
        self._renewal = bytearray(data)
        mark = _TIMEOUT_FORMAT.pack(_PLACEHOLDER_MS)
        self._timeouts_at = tuple(found.start() for found in re.finditer(re.escape(mark), data))

    def close(self) -> None:
        """Close the netlink socket."""
        self._socket.close()

    def renew(self, timeout_ms: int | None) -> None:
        """Let the lease live for ``timeout_ms`` from now, None for ever.

        One transaction of add + delete + add: a plain add does not extend an element that is
        there (older kernels; newer ones have learned it), and deleting one that has expired
        fails the whole batch.
        Raises: netlink.NetlinkError; ENOENT where the tables are gone.
        """
        if timeout_ms is None:
            self._transact(self._removal + self._additions(None))
            return
        for at in self._timeouts_at:
            _TIMEOUT_FORMAT.pack_into(self._renewal, at, timeout_ms)
        sequence = self._socket.next_sequence()
        netlink.set_sequence(self._renewal, self._last_at, sequence)
        self._socket.send_acknowledged(self._renewal, sequence)

    def _additions(self, timeout_ms: int | None) -> list[tuple[int, int, bytes]]:
        return [
            (_NEW_ELEMENT, family, self._list("lease", keys, timeout_ms))
            for family, keys in _LEASE_SETS
        ]

    def remove_lease(self) -> None:
        """Let nothing pass from now on. Raises: netlink.NetlinkError."""
        self._transact(self._removal)

    def set_admit(self, is_admitting: bool) -> None:
        """Let clients reach the service ports, or have them reset. Raises: NetlinkError."""
        steps = [(_NEW_ELEMENT, INET, self._list("admit", _INET_KEYS))]
        if not is_admitting:
            steps.append((_DEL_ELEMENT, INET, self._list("admit", _INET_KEYS)))
        self._transact(steps)

    def lives(self) -> Lives:
        """Whether the lease is alive in *all* sets, and for how long.

        Raises: NetlinkError; ENOENT where the tables are gone.
        """
        remaining: list[int | None] = []
        for family, keys in _LEASE_SETS:
            found = self._listed(family, "lease")
            if len(found) < len(keys):
                return Lives(is_armed=False)
            remaining += found
        finite = [ms for ms in remaining if ms is not None]
        return Lives(is_armed=True, remaining_ms=min(finite) if finite else None)

    def is_admitting(self) -> bool:
        """Whether clients reach the service ports. Raises: NetlinkError."""
        return len(self._listed(INET, "admit")) == len(_INET_KEYS)

    def shape(self, family: int) -> tuple[bytes, int] | None:
        """(user data, number of rules) of the group's table in ``family``; None if absent.

        Raises: NetlinkError.
        """
        try:
            tables = self._socket.dump(_GET_TABLE, _family(family) + self._table, flags=0)
            rules = self._socket.dump(_GET_RULE, _family(family) + self._table)
        except netlink.NetlinkError as error:
            if error.errno in (errno.ENOENT, errno.EAFNOSUPPORT):
                return None
            raise
        return netlink.attributes(tables[0][4:]).get(_TABLE_USERDATA, b""), len(rules)

    def delete_tables(self) -> None:
        """Remove the group's tables, absent ones included. Raises: NetlinkError."""
        for family in (INET, ARP):
            if self.shape(family) is not None:
                self._transact([(_DEL_TABLE, family, self._table)])

    def _list(self, name: str, keys: tuple[bytes, ...], timeout_ms: int | None = None) -> bytes:
        timeout = b""
        if timeout_ms is not None:
            timeout = netlink.attribute(_TIMEOUT, _TIMEOUT_FORMAT.pack(timeout_ms))
        listed = [
            netlink.nested(_ELEMENT, netlink.nested(_KEY, netlink.attribute(_VALUE, key)), timeout)
            for key in keys
        ]
        return (
            self._table
            + netlink.attribute(_LIST_SET, name.encode() + b"\0")
            + netlink.nested(_LIST_ELEMENTS, *listed)
        )

    def _listed(self, family: int, name: str) -> list[int | None]:
        """The remaining time of each element of a set, None for those that stay."""
        request = (
            _family(family) + self._table + netlink.attribute(_LIST_SET, name.encode() + b"\0")
        )
        found: list[int | None] = []
        for body in self._socket.dump(_GET_ELEMENT, request):
            listed = netlink.attributes(body[4:]).get(_LIST_ELEMENTS, b"")
            for _kind, element in netlink.iter_attributes(listed):
                left = netlink.attributes(element).get(_EXPIRATION)
                found.append(None if left is None else struct.unpack(">Q", left)[0])
        return found

    def _transact(self, steps: list[tuple[int, int, bytes]]) -> None:
        _transact(self._socket, steps)


def _transact(sock: netlink.NetlinkSocket, steps: list[tuple[int, int, bytes]]) -> None:
    """Send (message, family, payload) of each step as one batch: all of it or nothing."""
    sequences = [sock.next_sequence() for _ in steps]
    sock.send_acknowledged(_batch(steps, sequences)[0], sequences[-1])


def _batch(steps: list[tuple[int, int, bytes]], sequences: list[int]) -> tuple[bytes, int]:
    """The datagram of a batch, and where the last step, which is acknowledged, begins in it."""
    data, last_at = netlink.message(_BATCH_BEGIN, netlink.NLM_F_REQUEST, 0, _batch_header()), 0
    for (kind, family, payload), sequence in zip(steps, sequences, strict=True):
        flags = netlink.NLM_F_REQUEST
        if kind == _NEW_ELEMENT:
            flags |= netlink.NLM_F_CREATE
        if sequence == sequences[-1]:
            flags |= netlink.NLM_F_ACK
        last_at = len(data)
        data += netlink.message(kind, flags, sequence, _family(family) + payload)
    return data + netlink.message(_BATCH_END, netlink.NLM_F_REQUEST, 0, _batch_header()), last_at


def remove_tables_except(kept: frozenset[str]) -> tuple[str, ...]:
    """Remove every table of ours but those named in ``kept``; return the names that were removed.

    Raises: netlink.NetlinkError.
    """
    sock = netlink.NetlinkSocket(_NETLINK_NETFILTER)
    removed = set()
    try:
        for body in sock.dump(_GET_TABLE, _family(0)):
            fields = netlink.attributes(body[4:])
            name = fields.get(_LIST_TABLE, b"").rstrip(b"\0").decode(errors="replace")
            is_ours = name.startswith(TABLE_PREFIX) and body[0] in (INET, ARP)
            if not is_ours or name in kept or b"openmse" not in fields.get(_TABLE_USERDATA, b""):
                continue
            _transact(
                sock, [(_DEL_TABLE, body[0], netlink.attribute(_LIST_TABLE, fields[_LIST_TABLE]))]
            )
            removed.add(name)
    finally:
        sock.close()
    return tuple(sorted(removed))


def _family(family: int) -> bytes:
    return struct.pack("=BBH", family, 0, 0)


def _batch_header() -> bytes:
    return struct.pack("=BB", 0, 0) + struct.pack(">H", 10)
