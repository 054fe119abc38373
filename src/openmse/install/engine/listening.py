"""Who listens on a port already: /proc/net, and the processes that hold its sockets.

Source: proc(5), "/proc/net/tcp"; the addresses are in the byte order of the machine.
"""

import ipaddress
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from openmse.install.engine.parts import Listening

_TABLES = {"TCP": ("tcp", "tcp6"), "UDP": ("udp", "udp6")}
_TCP_LISTEN = "0A"
_UDP_BOUND = "07"


class Socket(NamedTuple):
    """A socket that listens (TCP) or is bound (UDP)."""

    transport: str
    host: str
    port: int
    inode: int


class Holder(NamedTuple):
    """Who keeps a port from us; ``pid`` 0 where it cannot be found."""

    wanted: Listening
    pid: int
    program: str


def parse(transport: str, table: str) -> Iterator[Socket]:
    """The listening sockets of one table of /proc/net."""
    state = _TCP_LISTEN if transport == "TCP" else _UDP_BOUND
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 10 or words[3] != state:
            continue
        host, _, port = words[1].partition(":")
        yield Socket(transport, _host(host), int(port, 16), int(words[9]))


def conflicts(wanted: Listening, found: Iterable[Socket]) -> list[Socket]:
    """The sockets that keep ``wanted`` from being had."""
    return [
        s
        for s in found
        if (s.transport, s.port) == (wanted.transport, wanted.port) and _overlap(wanted.host, s)
    ]


def holders(wanted: Iterable[Listening]) -> list[Holder]:
    """Who holds each of the ports that are not free on this machine."""
    sockets = list(_sockets())
    taken = [(want, s) for want in wanted for s in conflicts(want, sockets)]
    if not taken:
        return []
    owners = _owners({s.inode for _, s in taken})
    found = {}
    for want, s in taken:
        pid = owners.get(s.inode, 0)
        found[want.transport, want.port, pid] = Holder(want, pid, _program(pid))
    return list(found.values())


def _overlap(host: str, s: Socket) -> bool:
    everywhere = ("*", "0.0.0.0", "::")
    return host in everywhere or s.host in everywhere or host == s.host


def _host(text: str) -> str:
    """An address of /proc/net: words of 32 bits, each in the machine's byte order."""
    data = bytes.fromhex(text)
    if sys.byteorder == "little":
        data = b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))
    if len(data) == 4:
        return socket.inet_ntop(socket.AF_INET, data)
    address = ipaddress.IPv6Address(data)
    return str(address.ipv4_mapped or address)


def _sockets() -> Iterator[Socket]:
    for transport, tables in _TABLES.items():
        for table in tables:
            with suppress(OSError):  # a kernel without IPv6 has no tcp6
                yield from parse(transport, Path("/proc/net", table).read_text())


def _owners(inodes: set[int]) -> dict[int, int]:
    """inode -> a process that holds it."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with suppress(OSError):
            for descriptor in os.listdir(f"/proc/{name}/fd"):
                with suppress(OSError):
                    inode = wanted.get(os.readlink(f"/proc/{name}/fd/{descriptor}"))
                    if inode is not None:
                        found.setdefault(inode, int(name))
    return found


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
