"""The laboratory's switch: a bridge in a namespace of its own, and the cables into it.

Cables are veth pairs made directly between two namespaces, so the host never sees a device, an
address or a route. Cuts drop frames inside the switch instead of taking a device down: a real cable
that is cut behind a switch gives a machine no carrier event either, and that is the harder case.
"""

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from openmse.errors import NetworkError
from openmse.lab import programs
from openmse.lab.state import Block, Slow
from openmse.lab.topology import PREFIX, PREFIX6, PREFIX_DIRECT, SWITCH, Machine, Places

BRIDGE: Final = "br0"
CABLE: Final = "br1"
ONLY: Final = ("heartbeats", "replication", "direct", "network")
"""What can be lost by itself: the direct connection's cable, or everything but that."""

_HEARTBEATS: Final = ", ".join(map(str, programs.HEARTBEAT_PORTS))
_RULES: Final = f"""
table bridge lab
delete table bridge lab
table bridge lab {{
  set dark {{ type ifname; }}
  set blocked {{ type ifname . ifname; }}
  set no_heartbeats {{ type ifname . ifname; }}
  set no_replication {{ type ifname . ifname; }}
  chain loss {{ }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname @dark drop
    oifname @dark drop
    iifname . oifname @blocked drop
    iifname . oifname @no_heartbeats udp dport {{ {_HEARTBEATS} }} drop
    iifname . oifname @no_heartbeats udp sport {{ {_HEARTBEATS} }} drop
    iifname . oifname @no_replication tcp dport {programs.REPLICATION_PORT} drop
    iifname . oifname @no_replication tcp sport {programs.REPLICATION_PORT} drop
    jump loss
  }}
}}
"""


def run_ip(*arguments: str, batch: str = "") -> None:
    """Run iproute2's ``ip``. Raises: NetworkError with its words."""
    command = ["ip", *arguments, *(["-batch", "-"] if batch else [])]
    done = subprocess.run(
        command, input=batch, capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode:
        raise NetworkError(
            f"'{' '.join(command)}' failed: {done.stderr.strip()}.",
            "Remove what is left of the laboratory with mse lab down, then try again.",
        )


def build(places: Places) -> None:
    """Make the switch; ``rules`` has to be applied next."""
    namespace = places.namespace(SWITCH)
    run_ip("netns", "add", namespace)
    run_ip(
        "-n",
        namespace,
        batch=(
            f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"
            f"link set {BRIDGE} addrgenmode none\n"
            f"link set {BRIDGE} up\n"
        ),
    )


def rules() -> str:
    """The switch's rules without any fault."""
    return _RULES


def plug(places: Places, machine: Machine) -> None:
    """Lay the machine's cable and give the machine its addresses.

    The machine's namespace must be new. IPv6 addresses skip duplicate address detection: they are
    ours by construction, and a boot should not wait for it.
    """
    namespace = places.namespace(machine.name)
    run_ip(
        "-n",
        places.namespace(SWITCH),
        batch=(
            f"link add {machine.name} type veth peer name eth0 address {machine.mac} "
            f"netns {namespace}\n"
            f"link set {machine.name} addrgenmode none\n"
            f"link set {machine.name} master {BRIDGE}\n"
            f"link set {machine.name} up\n"
        ),
    )
    run_ip(
        "-n",
        namespace,
        batch=(
            "link set lo up\n"
            f"address add {machine.address}/{PREFIX} brd + dev eth0\n"
            f"address add {machine.address6}/{PREFIX6} dev eth0 nodad\n"
            "link set eth0 up\n"
        ),
    )


def plug_direct(places: Places, machine: Machine) -> None:
    """Lay a node's half of the direct connection: eth1, and its end in the cable's own bridge.

    A bridge, so that the switch's rules can cut it; a cut cable gives no carrier event here
    either. The first half makes the bridge.
    """
    namespace, switch = places.namespace(machine.name), places.namespace(SWITCH)
    with suppress(NetworkError):  # the other half has made it
        run_ip("-n", switch, "link", "add", CABLE, "type", "bridge", "mcast_snooping", "0")
    run_ip(
        "-n",
        switch,
        batch=(
            f"link set {CABLE} addrgenmode none\n"
            f"link set {CABLE} up\n"
            f"link add {machine.cable} type veth peer name eth1 netns {namespace}\n"
            f"link set {machine.cable} addrgenmode none\n"
            f"link set {machine.cable} master {CABLE}\n"
            f"link set {machine.cable} up\n"
        ),
    )
    run_ip(
        "-n",
        namespace,
        batch=(
            f"address add {machine.direct_address}/{PREFIX_DIRECT} brd + dev eth1\n"
            "link set eth1 up\n"
        ),
    )


def reattach(places: Places, machine: str) -> None:
    """Put a machine's port back on the bridge, where a slow wire had taken its place."""
    run_ip("-n", places.namespace(SWITCH), "link", "set", machine, "master", BRIDGE)


def render(
    dark: Iterable[str],
    blocks: Iterable[Block],
    slow: Mapping[str, Slow],
    *,
    has_direct: bool = False,
) -> str:
    """The batch that makes the switch lose exactly what is named; one transaction.

    ``dark``: machines without power, or whose cable is being cut with their power.
    ``has_direct``: the nodes have a cable of their own, which a cut of everything cuts too.
    """
    chosen = list(blocks)
    ports = [port for name in dark for port in (*_ports(name), *_cables(name, has_direct))]
    lines = [_fill("dark", [f'"{port}"' for port in ports])]
    for table, kinds in (
        ("blocked", ("", "direct", "network")),
        ("no_heartbeats", ("heartbeats",)),
        ("no_replication", ("replication",)),
    ):
        pairs = [
            f'"{source}" . "{target}"'
            for block in chosen
            if block.only in kinds
            for source, target in _pairs_of(block, has_direct)
        ]
        lines.append(_fill(table, list(dict.fromkeys(pairs))))
    lines.append("flush chain bridge lab loss")
    for name, fault in slow.items():
        named = ", ".join(f'"{port}"' for port in _ports(name))
        share = round(fault.loss_percent * 100)
        for direction in ("iifname", "oifname") if share else ():
            lines.append(
                f"add rule bridge lab loss {direction} {{ {named} }} "
                f"numgen random mod 10000 < {share} drop"
            )
    return "\n".join(lines)


def _ports(name: str) -> tuple[str, str]:
    """The switch's names for a machine's port: plain, and behind a slow wire."""
    return (name, f"w-{name}")


def _cables(name: str, has_direct: bool) -> tuple[str, ...]:
    return (f"d-{name}",) if has_direct else ()


def _pairs_of(block: Block, has_direct: bool) -> Iterator[tuple[str, str]]:
    """The ports between which a block loses frames."""
    if block.only != "direct":
        for source in _ports(block.source):
            for target in _ports(block.target):
                yield source, target
    if has_direct and block.only != "network":
        yield f"d-{block.source}", f"d-{block.target}"


def _fill(table: str, elements: list[str]) -> str:
    lines = f"flush set bridge lab {table}\n"
    if elements:
        lines += f"add element bridge lab {table} {{ {', '.join(elements)} }}\n"
    return lines


def replace_namespace(places: Places, machine: str) -> None:
    """Give the machine a new, empty network namespace under its name.

    What the old one still had to say (segments of closed connections, retransmissions) dies with
    it, as in a machine that lost its power.
    """
    name = places.namespace(machine)
    with suppress(NetworkError):  # there is none before the first boot
        # Explicitly, as the kernel takes a dead namespace's devices away some time later.
        run_ip("-n", places.namespace(SWITCH), "link", "delete", machine)
    with suppress(NetworkError):  # only a node of a laboratory with a direct connection has one
        run_ip("-n", places.namespace(SWITCH), "link", "delete", f"d-{machine}")
    if places.netns(machine).exists():
        run_ip("netns", "delete", name)
    run_ip("netns", "add", name)
