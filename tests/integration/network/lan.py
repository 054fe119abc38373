"""A small network for tests: three machines as network namespaces on a switch of their own."""

import ctypes
import os
import secrets
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

CLONE_NEWNET = 0x40000000
VIP4, VIP6 = "10.10.10.16", "fd00:10::16"
NODE4 = {"a": "10.10.10.11", "b": "10.10.10.12", "c": "10.10.10.20"}
NODE6 = {"a": "fd00:10::11", "b": "fd00:10::12", "c": "fd00:10::20"}
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str) -> str:
    """Run a command; its output, or an error that shows what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Lan:
    """Namespaces a (the node under test), b (its peer), c (a client) and their switch."""

    def __init__(self) -> None:
        self.suffix = secrets.token_hex(3)
        self.made: list[str] = []

    def name(self, machine: str) -> str:
        return f"mset-{machine}-{self.suffix}"

    def up(self) -> None:
        switch = self.name("sw")
        run("ip", "netns", "add", switch)
        self.made.append(switch)
        run("ip", "-n", switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        run("ip", "-n", switch, "link", "set", "br0", "up")
        for machine in "abc":
            name = self.name(machine)
            run("ip", "netns", "add", name)
            self.made.append(name)
            wire = f"p{machine}"
            run("ip", "-n", switch, "link", "add", wire, "type", "veth",
                "peer", "name", "eth0", "netns", name)  # fmt: skip
            run("ip", "-n", switch, "link", "set", wire, "master", "br0", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "addr", "add", f"{NODE4[machine]}/24", "dev", "eth0")
            run("ip", "-n", name, "addr", "add", f"{NODE6[machine]}/64", "dev", "eth0", "nodad")

    def down(self) -> None:
        for name in reversed(self.made):
            subprocess.run(["ip", "netns", "del", name], check=False)

    def ip(self, machine: str, *arguments: str) -> str:
        return run("ip", "-n", self.name(machine), *arguments)

    def execute(self, machine: str, *command: str) -> str:
        return run("ip", "netns", "exec", self.name(machine), *command)

    def add_vip(self, machine: str, address: str = VIP4) -> None:
        length = "32" if "." in address else "128"
        extra = [] if "." in address else ["nodad"]
        self.ip(machine, "addr", "add", f"{address}/{length}", "dev", "eth0", *extra)

    def mac(self, machine: str) -> str:
        with self.inside(machine):
            probe = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            with probe:
                probe.bind(("eth0", 0))
                mac: bytes = probe.getsockname()[4]
        return mac.hex(":")

    @contextmanager
    def inside(self, machine: str) -> Iterator[None]:
        """Let this thread open its sockets in another machine."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name(machine)}", os.O_RDONLY)
        try:
            _setns(there)
            yield
        finally:
            _setns(before)
            os.close(there)
            os.close(before)

    def open_socket(self, machine: str, *kind: int) -> socket.socket:
        with self.inside(machine):
            return socket.socket(*kind)

    def listener(self, machine: str, port: int) -> socket.socket:
        """A listening TCP socket on all addresses of both families."""
        sock = self.open_socket(machine, socket.AF_INET6, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", port))
        sock.listen(16)
        return sock

    def connect(self, machine: str, address: str, port: int, timeout: float = 0.3) -> socket.socket:
        family = socket.AF_INET if "." in address else socket.AF_INET6
        sock = self.open_socket(machine, family, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect((address, port))
        except BaseException:
            sock.close()
            raise
        return sock


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Pinger:
    """Sends an ICMP echo request each ``every_s``; the kernels answer, so nothing here is late.

    ``sent`` and ``answered`` hold the instant (boottime, ns) of each request by its number.
    """

    def __init__(self, lan: Lan, machine: str, address: str, every_s: float = 0.002) -> None:
        self.is_v6 = ":" in address
        family = socket.AF_INET6 if self.is_v6 else socket.AF_INET
        protocol = socket.IPPROTO_ICMPV6 if self.is_v6 else socket.IPPROTO_ICMP
        self._socket = lan.open_socket(machine, family, socket.SOCK_RAW, protocol)
        self._socket.connect((address, 0))
        self._socket.setblocking(False)
        self._every_s = every_s
        self._stop = threading.Event()
        self.sent: dict[int, int] = {}
        self.answered: dict[int, int] = {}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Pinger":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._drain()
        self._socket.close()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(self._every_s):
            number += 1
            kind = 128 if self.is_v6 else 8
            body = struct.pack("!BBHHH", kind, 0, 0, 4242, number)
            if not self.is_v6:
                total = kind * 256 + 4242 + number
                total = (total & 0xFFFF) + (total >> 16)
                body = struct.pack("!BBHHH", kind, 0, ~total & 0xFFFF, 4242, number)
            self.sent[number] = boottime()
            with suppress(OSError):  # no answer to the neighbour request: simply unanswered
                self._socket.send(body)
            self._drain()

    def _drain(self) -> None:
        while True:
            try:
                data = self._socket.recv(2048)
            except BlockingIOError:
                return
            except OSError:
                continue
            body = data if self.is_v6 else data[(data[0] & 15) * 4 :]
            kind, _, _, who, number = struct.unpack_from("!BBHHH", body)
            if who == 4242 and kind in (0, 129) and number in self.sent:
                self.answered[number] = self.sent[number]

    def wait_answer(self, timeout_s: float = 2.0) -> None:
        """Wait for the first answer."""
        wait_until(lambda: bool(self.answered), timeout_s, "an answer to a ping")

    @property
    def lost(self) -> list[int]:
        """Requests without an answer."""
        return sorted(set(self.sent) - set(self.answered))


def wait_until(is_true: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll until ``is_true``; fail with ``what`` after ``timeout_s``."""
    ends_at = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < ends_at, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.002)
