"""Watches from the switch which node is present at the virtual IP.

Run by the laboratory as ``python -m openmse.lab.presence`` in the switch's network namespace, as
root. Probes are put on each node's own port of the switch, so that they arrive whatever the switch
refuses to forward; the answers are read off the same port before the switch sees them. So a node
that serves while it is cut off is found as well. What is asked, and what an answer means, is
defined in ``openmse.lab.presence_rules``.

The prober has an address and a link-layer address of its own (no machine has them) and speaks
just enough ARP and TCP: an ARP request, an answer to the node's own ARP request, a SYN, and a RST
for each SYN-ACK. Standard library and msgspec only; no connection is ever completed.
"""

import argparse
import ctypes
import ipaddress
import os
import select
import signal
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from openmse.lab import linux
from openmse.lab.ledger import now_ns
from openmse.lab.presence_rules import MS, Sign

PROBER_IP = "10.10.10.249"
PROBER_MAC = bytes.fromhex("02000a0a0af9")
BROADCAST = b"\xff" * 6
PERIOD_NS = 20 * MS
REMEMBERED_NS = 1000 * MS
"""How long an answer to a probe is still taken for one."""
ETH_ARP, ETH_IP = 0x0806, 0x0800
SYN, RST, ACK = 0x02, 0x04, 0x10
SO_ATTACH_FILTER = 26
REOPEN_NS = 100 * MS
FIRST_PORT, PORTS = 20000, 30000


@dataclass(slots=True)
class Port:
    """One node's port of the switch, and the probes that are out."""

    node: str
    interface: str
    address: str
    mac: bytes
    wire: socket.socket | None = None
    reopen_at: int = 0
    arp_sent: int = 0
    syn_sent: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Source port of a SYN that is out -> (when it left, kind)."""
    next_source: int = 0


class Monitor:
    """Probes all ports in turn and notes every sign of presence."""

    def __init__(self, ports: Sequence[Port], virtual_ip: str, tcp_port: int, ledger: int) -> None:
        self._ports = ports
        self._virtual_ip = ipaddress.ip_address(virtual_ip).packed
        self._tcp_port = tcp_port
        self._ledger = ledger
        self._ours = ipaddress.ip_address(PROBER_IP).packed
        self._encoder = msgspec.json.Encoder()
        self._running = True

    def stop(self, *_: object) -> None:
        """End :meth:`run` after the present round."""
        self._running = False

    def run(self) -> None:
        """Probe every 20 ms until stopped."""
        due = now_ns()
        while self._running:
            for port in self._ports:
                self._probe(port)
            due = max(due + PERIOD_NS, now_ns())
            self._listen_until(due)

    def _listen_until(self, due: int) -> None:
        while (left := due - now_ns()) > 0:
            wires = {p.wire: p for p in self._ports if p.wire is not None}
            ready, _, _ = select.select(list(wires), [], [], left / 1e9)
            for wire in ready:
                self._drain(wires[wire])

    def _drain(self, port: Port) -> None:
        wire = port.wire
        while wire is not None:
            try:
                frame, where = wire.recvfrom(2048, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                self._lose(port)
                return
            if where[2] != socket.PACKET_OUTGOING:
                self._hear(port, frame, now_ns())

    def _probe(self, port: Port) -> None:
        now = now_ns()
        if port.wire is None:
            if now < port.reopen_at:
                return
            self._open(port, now)
        port.arp_sent = now
        self._send(port, _arp(1, self._ours, b"\0" * 6, self._virtual_ip, BROADCAST))
        own = ipaddress.ip_address(port.address).packed
        for kind, address in (("vip", self._virtual_ip), ("own", own)):
            source = FIRST_PORT + port.next_source % PORTS
            port.next_source += 1
            port.syn_sent[source] = (now_ns(), kind)
            self._send(port, self._tcp(port, address, source, SYN, 0))
        for source, (sent, _) in list(port.syn_sent.items()):
            if sent > now - REMEMBERED_NS:
                break
            del port.syn_sent[source]

    def _open(self, port: Port, now: int) -> None:
        port.reopen_at = now + REOPEN_NS
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            _attach_filter(wire, PROBER_MAC)
            wire.bind((port.interface, 3))  # ETH_P_ALL: also what the switch would swallow
        except OSError:
            wire.close()  # the port is away while its machine has no power
            return
        port.wire = wire

    def _lose(self, port: Port) -> None:
        if port.wire is not None:
            port.wire.close()
            port.wire = None

    def _send(self, port: Port, frame: bytes) -> None:
        if port.wire is None:
            return
        try:
            port.wire.send(frame)
        except BlockingIOError:
            return
        except OSError:
            self._lose(port)

    def _hear(self, port: Port, frame: bytes, at: int) -> None:
        kind = int.from_bytes(frame[12:14], "big")
        if kind == ETH_ARP and len(frame) >= 42:
            self._hear_arp(port, frame, at)
        elif kind == ETH_IP and len(frame) >= 54 and frame[23] == socket.IPPROTO_TCP:
            self._hear_tcp(port, frame, at)

    def _hear_arp(self, port: Port, frame: bytes, at: int) -> None:
        operation = int.from_bytes(frame[20:22], "big")
        sender_mac, sender, target = frame[22:28], frame[28:32], frame[38:42]
        if operation == 1 and target == self._ours:
            self._send(port, _arp(2, self._ours, sender_mac, sender, sender_mac))
        elif operation == 2 and sender == self._virtual_ip and port.arp_sent:
            self._note(port, "arp", port.arp_sent, at, sender_mac)

    def _hear_tcp(self, port: Port, frame: bytes, at: int) -> None:
        offset = 14 + (frame[14] & 15) * 4
        if len(frame) < offset + 20 or frame[30:34] != self._ours:
            return
        source, destination = struct.unpack_from("!HH", frame, offset)
        flags = frame[offset + 13]
        sent = port.syn_sent.pop(destination, None)
        if sent is None or source != self._tcp_port or flags & (SYN | ACK) != SYN | ACK:
            return
        number = int.from_bytes(frame[offset + 8 : offset + 12], "big")
        self._send(port, self._tcp(port, frame[26:30], destination, RST, number))
        self._note(port, sent[1], sent[0], at, frame[6:12])

    def _tcp(self, port: Port, address: bytes, source: int, flags: int, number: int) -> bytes:
        segment = struct.pack(
            "!HHIIBBHHH", source, self._tcp_port, number, 0, 0x50, flags, 64240, 0, 0
        )
        pseudo = self._ours + address + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(segment))
        total = _checksum(pseudo + segment)
        segment = segment[:16] + struct.pack("!H", total) + segment[18:]
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, 6, 0)
        head += self._ours + address
        head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
        return port.mac + PROBER_MAC + ETH_IP.to_bytes(2, "big") + head + segment

    def _note(self, port: Port, kind: str, begin: int, end: int, mac: bytes) -> None:
        sign = Sign(port.node, kind, begin, end, mac.hex(":"))
        os.write(self._ledger, self._encoder.encode(sign) + b"\n")


def _arp(operation: int, ours: bytes, target_mac: bytes, target: bytes, to: bytes) -> bytes:
    head = to + PROBER_MAC + ETH_ARP.to_bytes(2, "big")
    body = struct.pack("!HHBBH", 1, ETH_IP, 6, 4, operation)
    return head + body + PROBER_MAC + ours + target_mac + target


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def _attach_filter(wire: socket.socket, mac: bytes) -> None:
    """Have the kernel pass only ARP and frames to ``mac``: the port carries the whole load."""
    high, low = int.from_bytes(mac[:4], "big"), int.from_bytes(mac[4:], "big")
    program = [
        (0x28, 0, 0, 12),  # ldh [12]
        (0x15, 4, 0, ETH_ARP),  # jeq ARP -> accept
        (0x20, 0, 0, 0),  # ld [0]
        (0x15, 0, 3, high),  # jne -> drop
        (0x28, 0, 0, 4),  # ldh [4]
        (0x15, 0, 1, low),  # jne -> drop
        (0x06, 0, 0, 0xFFFF),  # accept
        (0x06, 0, 0, 0),  # drop
    ]
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    keep = ctypes.create_string_buffer(code)
    head = struct.pack("HL", len(program), ctypes.addressof(keep))
    wire.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, head)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m openmse.lab.presence")
    parser.add_argument("--netns", type=Path, help="the switch's network namespace")
    parser.add_argument("--virtual-ip", required=True)
    parser.add_argument("--tcp-port", type=int, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("ports", nargs="+", help="NODE=INTERFACE=ADDRESS=MAC")
    return parser.parse_args()


def read(path: Path) -> list[Sign]:
    """The signs in a ledger; an unfinished last line is left out."""
    decoder = msgspec.json.Decoder(Sign)
    lines = path.read_bytes().split(b"\n")
    return [decoder.decode(line) for line in lines[:-1]]


def main() -> None:
    """Watch until SIGTERM."""
    options = _arguments()
    if options.netns:
        descriptor = os.open(options.netns, os.O_RDONLY | os.O_CLOEXEC)
        linux.setns(descriptor, linux.CLONE_NEWNET)
        os.close(descriptor)
    ports = []
    for text in options.ports:
        node, interface, address, mac = text.split("=")
        ports.append(Port(node, interface, address, bytes.fromhex(mac.replace(":", ""))))
    ledger = os.open(options.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    monitor = Monitor(ports, options.virtual_ip, options.tcp_port, ledger)
    signal.signal(signal.SIGTERM, monitor.stop)
    signal.signal(signal.SIGINT, monitor.stop)
    monitor.run()


if __name__ == "__main__":
    main()
