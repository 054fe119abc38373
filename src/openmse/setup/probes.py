"""Looking at the machine and its network for the checks: thin, and without any judgement.

Nothing is changed and nothing is claimed: address probes ask, as RFC 5227 says, without an own
address; clocks are compared by ICMP timestamps (RFC 792), which need no software on the other side.
"""

import array
import asyncio
import errno
import fcntl
import ipaddress
import os
import select
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from openmse.errors import MseError
from openmse.node.drivers.virtual_ip.addresses import Addresses
from openmse.node.drivers.virtual_ip.link import wait_claimed
from openmse.setup.timestamps import MS_PER_DAY, reply_in, request, skew_ms

PROBE_S = 1.0
SKEW_S = 1.0
REACH_S = 2.0
_SIOCGIFFLAGS, _IFF_UP = 0x8913, 1
_NFT_TRIAL = """\
table inet openmse_trial {
  chain c {
    type filter hook input priority 0; policy accept;
  }
}
"""


def live_addresses() -> dict[str, tuple[str, ...]]:
    """The IPv4 addresses of each interface with their prefix lengths. Raises NetworkError."""
    addresses = Addresses()
    try:
        entries = addresses.listed()
    finally:
        addresses.close()
    found: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        if entry.address.version == 4:
            with suppress(OSError):  # the interface has just gone
                name = socket.if_indextoname(entry.interface_index)
                found[name] = (*found.get(name, ()), f"{entry.address}/{entry.prefix_length}")
    return found


def live_gateway() -> str:
    """The default gateway of the kernel's IPv4 routes; '' where there is none."""
    try:
        lines = Path("/proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return ""
    for line in lines:
        words = line.split()
        if len(words) > 7 and words[1] == "00000000" and words[7] == "00000000":
            if int(words[3], 16) & 2:  # RTF_GATEWAY
                return socket.inet_ntoa(struct.pack("=I", int(words[2], 16)))
    return ""


def holder(interface: str, address: str) -> str:
    """The link-layer address of whoever answers for ``address``; '' if nobody within a second.

    Raises NetworkError or OSError where the link cannot be used.
    """
    wanted = (ipaddress.IPv4Address(address),)
    return asyncio.run(wait_claimed(interface, wanted, PROBE_S))


def is_up(interface: str) -> bool:
    """Whether the interface is switched on (it need not have a carrier)."""
    data = array.array("B", struct.pack("40s", interface.encode()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock.fileno(), _SIOCGIFFLAGS, data, True)
        except OSError:
            return False
    flags: int = struct.unpack_from("=H", data.tobytes(), 16)[0]
    return bool(flags & _IFF_UP)


def clock_skew_ms(peer: str) -> float | None:
    """How far the other machine's clock is ahead of ours; None where it does not answer."""
    number = os.getpid() & 0xFFFF
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
            sock.setblocking(False)
            sock.connect((peer, 0))
            ends_at = time.monotonic() + SKEW_S
            sock.send(request(number, 1, _ms_of_day()))
            while (left := ends_at - time.monotonic()) > 0:
                if not select.select([sock], [], [], left)[0]:
                    return None
                data = sock.recv(2048)
                reply = reply_in(data, number, 1)
                if reply is not None:
                    return skew_ms(reply, _ms_of_day())
    except OSError:
        return None
    return None


def _ms_of_day() -> int:
    return time.time_ns() // 1_000_000 % MS_PER_DAY


def reach(host: str, port: int) -> tuple[str, bool]:
    """Connect to a TCP port: why that failed ('' if it did not), and whether a way leads there."""
    try:
        socket.create_connection((host, port), REACH_S).close()
    except TimeoutError:
        return f"nobody answers within {REACH_S:g} s", True
    except OSError as error:
        has_way = error.errno not in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN)
        return (error.strerror or str(error)).lower(), has_way
    return "", True


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_bytes(path: Path) -> int:
    """Free space where ``path`` is, or will be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def taken_ports(ports: Mapping[str, tuple[str, int]]) -> tuple[str, ...]:
    """Of the named ports (transport, number), those that another program listens on."""
    found = []
    for name, (transport, number) in ports.items():
        kind = socket.SOCK_STREAM if transport == "TCP" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as sock:
            if kind is socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("0.0.0.0", number))
                if kind is socket.SOCK_STREAM:
                    sock.listen(1)
            except OSError:
                found.append(f"{transport} {number} ({name})")
    return tuple(found)


def nftables_fault() -> str:
    """Why the kernel or the tools cannot do nftables, in words; '' if they can. Nothing is kept."""
    command = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if command is None:
        return "the command nft is missing"
    try:
        done = subprocess.run(
            [command, "--check", "--file", "-"],
            input=_NFT_TRIAL,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (lines[0] if lines else "no reason given")


def holder_or_fault(interface: str, address: str) -> tuple[str, str]:
    """``holder``, and why the link could not be asked."""
    if not is_up(interface):
        return "", f"{interface} is down"
    try:
        return holder(interface, address), ""
    except MseError as error:
        return "", error.sentence
    except OSError as error:
        return "", str(error)
