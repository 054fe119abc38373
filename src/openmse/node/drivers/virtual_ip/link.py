"""The link layer of one interface: probing for an address, and announcing one.

Packet sockets, which pass by the kernel lease in both directions: a probe therefore works before
the lease is armed, and whoever announces must have looked at the lease first.
"""

import array
import asyncio
import ipaddress
import socket
import struct
import threading
import time
from collections.abc import Callable

from openmse.errors import NetworkError
from openmse.node.drivers.virtual_ip import frames
from openmse.node.drivers.virtual_ip.frames import Claim, Ip

_Step = tuple[int, int, int, int]
_PROBES = 3
"""Sent evenly over the wait, so that one lost frame does not hide a conflict."""
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _ADD_MEMBERSHIP, _MULTICAST = 263, 1, 0
_READS_PER_CALL_MAX = 64
"""A bound, so that a flood of claims cannot keep the loop from a heartbeat."""
# Only ICMPv6 types 135 and 136, so that the probe does not read all IPv6 traffic (classic BPF).
_NEIGHBOUR_FILTER: tuple[_Step, ...] = (
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
    sender = _packet_socket(interface, 0)
    try:
        mac = _mac(sender)
        for address in addresses:
            for frame in frames.announcements(address, mac):
                _send(sender, interface, frame)
    finally:
        _close_aside(sender)


async def wait_claimed(interface: str, addresses: tuple[Ip, ...], wait_s: float) -> str:
    """Ask for ``addresses`` during ``wait_s``; return the MAC of whoever has one, '' if nobody.

    RFC 5227 in a shorter form: three probes, and a rival probe counts as a claim.
    Raises: NetworkError if the link cannot be used.
    """
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def take(claim: Claim) -> None:
        if not found.done():
            found.set_result(frames.mac_text(claim.mac))

    watch = ClaimWatch(interface, addresses, take)
    try:
        ends_at = time.monotonic() + wait_s
        for left in range(_PROBES, 0, -1):
            watch.send_probes()
            pause = max(0.0, (ends_at - time.monotonic()) / left)
            await asyncio.wait({found}, timeout=pause)
            if found.done():
                return found.result()
        return ""
    finally:
        watch.close()


class ClaimWatch:
    """Calls back, in the running loop, for each claim that another machine makes."""

    def __init__(
        self, interface: str, addresses: tuple[Ip, ...], on_claim: Callable[[Claim], None]
    ) -> None:
        """Start to listen. Raises: NetworkError if the link cannot be used."""
        self._interface = interface
        self._addresses = addresses
        self._on_claim = on_claim
        self._sockets: list[socket.socket] = []
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        four = [a for a in self._addresses if isinstance(a, ipaddress.IPv4Address)]
        six = [a for a in self._addresses if isinstance(a, ipaddress.IPv6Address)]
        if four:
            self._sockets.append(_packet_socket(self._interface, frames.ETH_ARP))
            _attach_filter(self._sockets[-1], _arp_filter(four))
        if six:
            self._sockets.append(_packet_socket(self._interface, frames.ETH_IPV6))
            _attach_filter(self._sockets[-1], _NEIGHBOUR_FILTER)
            for address in six:
                _join(self._sockets[-1], self._interface, address)
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.add_reader(sock, self._read, sock)

    def close(self) -> None:
        """Stop listening."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock)
            _close_aside(sock)
        self._sockets = []

    def send_probes(self) -> None:
        """Ask once for each address. Raises: NetworkError."""
        sender = self._sockets[0]
        for address in self._addresses:
            _send(sender, self._interface, frames.probe(address, _mac(sender)))

    def _read(self, sock: socket.socket) -> None:
        for _ in range(_READS_PER_CALL_MAX):
            try:
                frame = sock.recv(2048)
            except OSError:
                return  # nothing more; or the link went down, which the next probe says
            claim = frames.claim(frame)
            if claim is None or claim.address not in self._addresses:
                continue
            if claim.mac != _mac(sock):
                self._on_claim(claim)


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


def _close_aside(sock: socket.socket) -> None:
    """Close a packet socket in a thread of its own.

    The kernel waits for a grace period in that call (10 to 16 ms here, two sockets one after the
    other), and the caller is the loop that moves the address; nothing depends on its end.
    """
    try:
        threading.Thread(target=sock.close, name="packet-socket-close", daemon=True).start()
    except RuntimeError:
        sock.close()  # no thread to be had: late, but the address must still be given up


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


def _arp_filter(addresses: list[ipaddress.IPv4Address]) -> tuple[_Step, ...]:
    """Only ARP whose sender is one of ``addresses``, or that probes for one (classic BPF)."""
    count = len(addresses)
    accept = 2 * count + 4
    steps: list[_Step] = [(0x20, 0, 0, 28)]
    for address in addresses:
        steps.append((0x15, accept - len(steps) - 1, 0, int(address)))
    steps.append((0x15, 0, count + 1, 0))
    steps.append((0x20, 0, 0, 38))
    for address in addresses:
        steps.append((0x15, accept - len(steps) - 1, 0, int(address)))
    steps += [(0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFF)]
    return tuple(steps)


def _attach_filter(sock: socket.socket, steps: tuple[_Step, ...]) -> None:
    code = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("HP", len(steps), code.buffer_info()[0])
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
