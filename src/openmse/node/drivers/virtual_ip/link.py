"""The link layer of one interface: probing for an address, and announcing one.

Packet sockets, which pass by the kernel lease in both directions: a probe therefore works before
the lease is armed, and whoever announces must have looked at the lease first.
"""

import array
import asyncio
import ipaddress
import socket
import struct
import time

from openmse.errors import NetworkError
from openmse.node.drivers.virtual_ip import frames
from openmse.node.drivers.virtual_ip.frames import Ip

_PROBES = 3
"""Sent evenly over the wait, so that one lost frame does not hide a conflict."""
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _ADD_MEMBERSHIP, _MULTICAST = 263, 1, 0
# Only ICMPv6 types 135 and 136, so that the probe does not read all IPv6 traffic (classic BPF).
_NEIGHBOUR_FILTER = (
    (0x30, 0, 0, 20),
    (0x15, 0, 4, 58),
    (0x30, 0, 0, 54),
    (0x35, 0, 2, 135),
    (0x35, 1, 0, 137),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)


def announce(interface: str, addresses: tuple[Ip, ...]) -> None:
    """Tell the link that ``addresses`` are here. Raises: NetworkError."""
    with _packet_socket(interface, 0) as sender:
        mac = _mac(sender)
        for address in addresses:
            for frame in frames.announcements(address, mac):
                _send(sender, interface, frame)


async def wait_claimed(interface: str, addresses: tuple[Ip, ...], wait_s: float) -> str:
    """Ask for ``addresses`` during ``wait_s``; return the MAC of whoever has one, '' if nobody.

    RFC 5227 in a shorter form: three probes, and a rival probe counts as a claim.
    Raises: NetworkError if the link cannot be used.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()
    with _Listener(interface, addresses) as listener:
        for sock in listener.sockets:
            loop.add_reader(sock, listener.read, sock, found)
        try:
            ends_at = time.monotonic() + wait_s
            for left in range(_PROBES, 0, -1):
                listener.send_probes()
                pause = max(0.0, (ends_at - time.monotonic()) / left)
                await asyncio.wait({found}, timeout=pause)
                if found.done():
                    return found.result()
            return ""
        finally:
            for sock in listener.sockets:
                loop.remove_reader(sock)


class _Listener:
    """The sockets of one probe."""

    def __init__(self, interface: str, addresses: tuple[Ip, ...]) -> None:
        self._interface = interface
        self._addresses = addresses
        self.sockets: list[socket.socket] = []

    def __enter__(self) -> "_Listener":
        try:
            if any(a.version == 4 for a in self._addresses):
                self.sockets.append(_packet_socket(self._interface, frames.ETH_ARP))
            six = [a for a in self._addresses if isinstance(a, ipaddress.IPv6Address)]
            if six:
                sock = _packet_socket(self._interface, frames.ETH_IPV6)
                self.sockets.append(sock)
                _attach_filter(sock)
                for address in six:
                    _join(sock, self._interface, address)
            self._mac = _mac(self.sockets[0])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self.sockets:
            sock.close()

    def send_probes(self) -> None:
        for address in self._addresses:
            _send(self.sockets[0], self._interface, frames.probe(address, self._mac))

    def read(self, sock: socket.socket, found: "asyncio.Future[str]") -> None:
        """Take what has arrived; resolve ``found`` at the first claim by somebody else."""
        while True:
            try:
                frame = sock.recv(2048)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return  # the link went down: the next probe says so
            claim = frames.claim(frame)
            if claim is None or claim.address not in self._addresses or claim.mac == self._mac:
                continue
            if not found.done():
                found.set_result(frames.mac_text(claim.mac))


def _packet_socket(interface: str, protocol: int) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    try:
        # Protocol 0 first: nothing is received before the socket is bound to the interface.
        sock = socket.socket(socket.AF_PACKET, kind, 0)
        try:
            sock.bind((interface, protocol))
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise _unusable(interface, error) from error
    return sock


def _mac(sock: socket.socket) -> bytes:
    mac: bytes = sock.getsockname()[4]
    return mac


def _send(sock: socket.socket, interface: str, frame: bytes) -> None:
    try:
        sock.send(frame)
    except BlockingIOError:
        return  # the device's queue is full; the burst repeats
    except OSError as error:
        raise _unusable(interface, error) from error


def _attach_filter(sock: socket.socket) -> None:
    code = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in _NEIGHBOUR_FILTER))
    program = struct.pack("HP", len(_NEIGHBOUR_FILTER), code.buffer_info()[0])
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _join(sock: socket.socket, interface: str, address: ipaddress.IPv6Address) -> None:
    """Have the device pass up what neighbours send to the address's solicited-node group."""
    mac = frames.multicast_mac(frames.solicited_node(address))
    index = socket.if_nametoindex(interface)
    request = struct.pack("=iHH8s", index, _MULTICAST, len(mac), mac)
    sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)


def _unusable(interface: str, error: OSError) -> NetworkError:
    return NetworkError(
        f"Interface {interface} cannot be used to probe for or announce the virtual IP: "
        f"{error.strerror}.",
        "See whether it exists, is up, and the daemon has CAP_NET_RAW.",
        code="MSE-NET-022",
    )
