"""Addresses of an interface over rtnetlink: add, remove, list, and notices of changes.

The virtual IP is added as a host address (/32, /128): removing it can then never take the node's
own address along, as removing the first address of a subnet does. IPv6 gets ``nodad`` (the probe
was made before) and preferred lifetime 0, so that nothing picks it as a source by itself.
Source: rtnetlink(7), linux/if_addr.h.
"""

import errno
import ipaddress
import socket
import struct
import time

from msgspec import Struct

from openmse.errors import NetworkError
from openmse.node.drivers import netlink
from openmse.node.drivers.virtual_ip.frames import Ip

_NEW_LINK, _DEL_LINK = 16, 17
_NEW_ADDRESS, _DEL_ADDRESS, _GET_ADDRESS = 20, 21, 22
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_GET_ROUTE, _RTA_DST, _RTN_LOCAL = 26, 1, 2
_F_NODAD, _F_DADFAILED, _F_TENTATIVE, _F_NOPREFIXROUTE = 0x02, 0x08, 0x40, 0x200
_GROUPS = 0x001 | 0x010 | 0x100  # link, IPv4 addresses, IPv6 addresses
_LIFE_FOREVER = 0xFFFFFFFF
_ANSWERS_WITHIN_S = 0.5
_HEAD = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")


class Entry(Struct, frozen=True):
    """One address as the kernel lists it."""

    address: Ip
    prefix_length: int
    interface_index: int
    is_usable: bool
    """Not awaiting, and not failed in, duplicate address detection."""


class Addresses:
    """Changes and lists addresses in this network namespace.

    Calls may wait for the kernel's lock on its network configuration: not for the event loop's
    thread. Use from one thread at a time.
    """

    def __init__(self) -> None:
        self._socket = netlink.NetlinkSocket(socket.NETLINK_ROUTE)

    def close(self) -> None:
        """Close the netlink socket; addresses stay."""
        self._socket.close()

    def add(self, interface: str, address: Ip, valid_lft_s: int | None = None) -> None:
        """Add ``address`` to ``interface``; no error if it is there already.

        ``valid_lft_s``: let the kernel remove it after that many seconds (it may be late; this
        only tidies up). Raises: NetworkError.
        """
        index = interface_index(interface)
        is_v6 = address.version == 6
        flags = _F_NODAD | _F_NOPREFIXROUTE if is_v6 else 0
        valid = _LIFE_FOREVER if valid_lft_s is None else valid_lft_s
        lives = struct.pack("=IIII", 0 if is_v6 else valid, valid, 0, 0)
        payload = (
            _HEAD.pack(_family(address), address.max_prefixlen, flags & 0xFF, 0, index)
            + netlink.attribute(_IFA_LOCAL, address.packed)
            + netlink.attribute(_IFA_ADDRESS, address.packed)
            + netlink.attribute(_IFA_FLAGS, struct.pack("=I", flags))
            + netlink.attribute(_IFA_CACHEINFO, lives)
        )
        try:
            self._socket.request(
                _NEW_ADDRESS, netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE, payload
            )
        except netlink.NetlinkError as error:
            raise _refused(f"add {address} to {interface}", error) from error
        if isinstance(address, ipaddress.IPv6Address):
            self._wait_answers(address)

    def _wait_answers(self, address: ipaddress.IPv6Address) -> None:
        """Until the kernel answers neighbours who ask for ``address``, a little after the call.

        Whoever asks before is not answered, and asks again only after a second. The local route
        comes last, after the group in which neighbours ask.
        """
        ends_at = time.monotonic() + _ANSWERS_WITHIN_S
        while not self._is_local(address) and time.monotonic() < ends_at:
            time.sleep(0.001)

    def _is_local(self, address: ipaddress.IPv6Address) -> bool:
        request = _ROUTE.pack(socket.AF_INET6, 128, 0, 0, 0, 0, 0, 0, 0)
        request += netlink.attribute(_RTA_DST, address.packed)
        try:
            routes = self._socket.dump(_GET_ROUTE, request, flags=0)
        except netlink.NetlinkError:
            return False  # no way to it at all yet
        return any(_ROUTE.unpack_from(route)[7] == _RTN_LOCAL for route in routes)

    def remove(self, address: Ip) -> bool:
        """Remove every occurrence of ``address``; return whether there was one.

        Raises: NetworkError.
        """
        entries = [entry for entry in self.listed() if entry.address == address]
        for entry in entries:
            payload = _HEAD.pack(
                _family(address), entry.prefix_length, 0, 0, entry.interface_index
            ) + netlink.attribute(_IFA_LOCAL, address.packed)
            try:
                self._socket.request(_DEL_ADDRESS, 0, payload)
            except netlink.NetlinkError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                    raise _refused(f"remove {address}", error) from error
        return bool(entries)

    def listed(self) -> list[Entry]:
        """All addresses of the machine. Raises: NetworkError."""
        try:
            bodies = self._socket.dump(_GET_ADDRESS, _HEAD.pack(0, 0, 0, 0, 0))
        except netlink.NetlinkError as error:
            raise _refused("list the addresses", error) from error
        return [entry for body in bodies if (entry := _parsed(body)) is not None]

    def is_held(self, interface: str, address: Ip) -> bool:
        """Whether ``interface`` has ``address``, ready for use. Raises: NetworkError."""
        try:
            index = interface_index(interface)
        except NetworkError:
            return False
        return any(
            e.address == address and e.interface_index == index and e.is_usable
            for e in self.listed()
        )


class ChangeMonitor:
    """A socket that becomes readable when an address or a link of the machine changes."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, _GROUPS))

    def fileno(self) -> int:
        """For the event loop's reader."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def is_concerned(self, addresses: tuple[Ip, ...]) -> bool:
        """Read all notices; return whether one may concern ``addresses`` (or was lost)."""
        is_concerned = False
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return is_concerned
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                is_concerned = True  # notices were lost: look
                continue
            for kind, _sequence, body in netlink.iter_messages(data):
                if kind in (_NEW_LINK, _DEL_LINK):
                    is_concerned = True
                elif kind in (_NEW_ADDRESS, _DEL_ADDRESS):
                    entry = _parsed(body)
                    is_concerned |= entry is not None and entry.address in addresses


def interface_index(interface: str) -> int:
    """The kernel's number of ``interface``. Raises: NetworkError if there is none."""
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        raise NetworkError(
            f"There is no network interface {interface!r}, so the virtual IP cannot be held.",
            "Check the name in the configuration, and that the interface exists (ip link).",
            code="MSE-NET-020",
        ) from error


def _family(address: Ip) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _parsed(body: bytes) -> Entry | None:
    _family_number, length, short_flags, _scope, index = _HEAD.unpack_from(body)
    fields = netlink.attributes(body[_HEAD.size :])
    packed = fields.get(_IFA_LOCAL) or fields.get(_IFA_ADDRESS)
    if packed is None or len(packed) not in (4, 16):
        return None
    flags = short_flags
    if _IFA_FLAGS in fields:
        flags = struct.unpack("=I", fields[_IFA_FLAGS])[0]
    usable = not flags & (_F_TENTATIVE | _F_DADFAILED)
    return Entry(ipaddress.ip_address(packed), length, index, usable)


def _refused(what: str, error: netlink.NetlinkError) -> NetworkError:
    return NetworkError(
        f"The kernel refused to {what}: {error.strerror}.",
        "See whether the interface is up and the daemon has CAP_NET_ADMIN.",
        code="MSE-NET-021",
    )
