"""A slow cable: a process between a machine's port and the switch that delays every frame.

Run as ``python -m openmse.lab.wire NETNS MACHINE DELAY_MS``. A kernel with ``tc netem`` could do
the same, many do not have it; this behaves alike on all. The machine's port leaves the bridge, a
tap device named ``w-MACHINE`` takes its place, and frames wait in two queues, one per direction.
Offload headers (virtio_net_hdr) pass through untouched, so large segments stay whole. Loss is the
switch's. Prints ``ready`` once frames pass; ends, with the tap device, on SIGTERM.
"""

import asyncio
import fcntl
import os
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable

from openmse.lab import linux
from openmse.lab.switch import BRIDGE, run_ip

_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_TUN_F_CSUM_TSO4_TSO6 = 0x01 | 0x02 | 0x04
_SOL_PACKET = 263
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_ETH_P_ALL = 3
_FRAME_MAX = 65536 + 64
_QUEUE_MAX = 20_000
"""Frames waiting in one direction; more are lost, as in any buffer."""


class Direction:
    """Frames of one direction, each leaving ``delay_s`` after it came."""

    def __init__(self, delay_s: float, send: Callable[[bytes], object]) -> None:
        self._delay_s = delay_s
        self._send = send
        self._waiting: deque[tuple[float, bytes]] = deque()

    def take(self, frame: bytes) -> None:
        """Accept a frame that has just come."""
        if len(self._waiting) >= _QUEUE_MAX:
            return
        due = time.monotonic() + self._delay_s
        self._waiting.append((due, frame))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_at(due, self._release)

    def _release(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            try:
                self._send(self._waiting.popleft()[1])
            except OSError:
                continue  # no room, or the port is gone: a frame is lost, as on any cable
        if self._waiting:
            asyncio.get_running_loop().call_at(self._waiting[0][0], self._release)


def _open_tap(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH14x", name.encode(), flags))
    fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _TUN_F_CSUM_TSO4_TSO6)
    return descriptor


def _open_port(name: str) -> socket.socket:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    port.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    port.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    port.setsockopt(socket.SOL_SOCKET, 33, 16 * 1024**2)  # SO_RCVBUFFORCE
    port.bind((name, _ETH_P_ALL))
    port.setblocking(False)
    return port


def _drain(read: Callable[[], bytes], direction: Direction) -> None:
    """Take every frame that is there, but let the loop breathe."""
    for _ in range(64):
        try:
            frame = read()
        except OSError:
            return
        direction.take(frame)


async def _carry(machine: str, delay_s: float) -> None:
    tap = _open_tap(f"w-{machine}")
    run_ip(
        batch=(
            f"link set w-{machine} addrgenmode none\n"
            f"link set {machine} nomaster\n"
            f"link set w-{machine} master {BRIDGE}\n"
            f"link set w-{machine} up\n"
        )
    )
    port = _open_port(machine)
    to_switch = Direction(delay_s, lambda frame: os.write(tap, frame))
    to_machine = Direction(delay_s, port.send)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(port, _drain, lambda: port.recv(_FRAME_MAX), to_switch)
    loop.add_reader(tap, _drain, lambda: os.read(tap, _FRAME_MAX), to_machine)
    print("ready", flush=True)
    await stop.wait()
    loop.remove_reader(tap)
    loop.remove_reader(port)
    os.close(tap)  # who stopped us puts the port back on the bridge, as also after a crash of ours


def main() -> int:
    """Be the cable until told to stop."""
    netns, machine, delay_ms = sys.argv[1:4]
    linux.enter_network(netns)
    asyncio.run(_carry(machine, float(delay_ms) / 1000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
