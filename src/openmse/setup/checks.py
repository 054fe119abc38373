"""The checks before applying: facts in, green or red out, each with what to do. Pure."""

import ipaddress
import textwrap
from collections.abc import Iterator, Mapping
from enum import StrEnum
from urllib.parse import urlsplit

from msgspec import Struct

from openmse.documents import document
from openmse.setup.modern import ETCD
from openmse.setup.values import NONE, PRIMARY, View

MEMORY_BYTES_MIN = 900_000_000
"""What a machine of 1 GiB has left after the kernel's own."""
DISK_BYTES_MIN = 2_000_000_000
SKEW_MS_MAX = 2_000.0


class Colour(StrEnum):
    """What came of a check."""

    GREEN = "green"
    RED = "red"
    UNKNOWN = "not checked"


class Check(Struct, frozen=True):
    """One check; ``action`` says what to do about a red one."""

    name: str
    colour: Colour
    sentence: str
    action: str = ""


class Claim(Struct, frozen=True):
    """Who answered for an address on the wire: a link-layer address; or why it was not asked."""

    mac: str = ""
    fault: str = ""


class Reached(Struct, frozen=True):
    """What came of a connection to a port: why it failed, '' where it did not."""

    host: str
    port: int
    fault: str = ""
    has_way: bool = True
    """This machine's network leads there at all."""


class Found(Struct, frozen=True, kw_only=True):
    """What was seen of the machine and its network. Sizes in bytes."""

    interfaces: tuple[str, ...]
    own: frozenset[str] = frozenset()
    """Addresses that this machine has at the moment."""
    gateway: Claim = Claim()
    claims: Mapping[str, Claim] = {}
    """By address: those that this machine shall get and does not have yet."""
    peer: str = ""
    skew_ms: float | None = None
    memory_bytes: int
    free_bytes: int
    taken_ports: tuple[str, ...] = ()
    missing_files: tuple[str, ...] = ()
    """Files for etcd that the answers name and that are not there."""
    witness: tuple[Reached, ...] = ()
    """Each of ``witness_places``."""
    is_running: bool = False
    """The engine runs, so that its ports are in use by itself."""
    nftables_fault: str = ""
    has_watchdog: bool = False
    watchdog: str = "off"
    """[watchdog] mode of the configuration file."""
    clock_keeper: str = "chrony.service"
    """The unit that keeps the clock by NTP; '' where none is installed."""


def is_red(checks: tuple[Check, ...]) -> bool:
    """Whether one is red."""
    return any(check.colour is Colour.RED for check in checks)


def as_lines(checks: tuple[Check, ...]) -> list[str]:
    """For a terminal."""
    lines = []
    for check in checks:
        text = f"[{check.colour.value:^11}] {check.name}: {check.sentence}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent=INDENT)
        if check.action and check.colour is Colour.RED:
            text = f"What to do: {check.action}"
            lines += textwrap.wrap(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    return lines


WIDTH, INDENT = 80, " " * 14


def judge(view: View, found: Found) -> tuple[Check, ...]:
    """Every check that concerns these answers."""
    return (
        *_interface(view, found),
        *_gateway(view, found),
        *_free(found),
        *_virtual(view),
        *_clocks(view, found),
        *_witness_files(found),
        *_witness(view, found),
        _memory(found),
        _disk(found),
        _ports(found),
        _nftables(found),
        _watchdog(found),
    )


def addresses_to_probe(view: View, own: frozenset[str]) -> dict[str, str]:
    """The addresses that this machine shall get and does not have yet, with their interfaces.

    The virtual IP of a pair to which this machine belongs (recovery) is rightly in use.
    """
    wanted = {view.get(f"{i.name}.address"): i.name for i in view.machine.interfaces}
    if view.get("ha.role") and not view.machine.peers:
        wanted.setdefault(view.virtual[0], view.health_interface)
    return {address: name for address, name in wanted.items() if address and address not in own}


def witness_places(view: View, port: int) -> tuple[tuple[str, int], ...]:
    """Hosts and ports at which the third vote of this primary listens; ``port``: a witness's own.

    None for a secondary, which takes its primary's witness when they are paired.
    """
    if view.role != PRIMARY:
        return ()
    machine = view.machine
    if view.witness_kind == ETCD:
        urls = view.get("witness.endpoints").split() or machine.witness_endpoints
        parts = [urlsplit(url) for url in urls]
        return tuple((p.hostname or "", p.port or _URL_PORTS[p.scheme]) for p in parts)
    address = view.get("witness.address") or machine.witness_address
    return ((address, port),) if view.witness_kind != NONE and address else ()


_URL_PORTS = {"https": 443, "http": 80}


def _check(name: str, is_green: bool, good: str, bad: str, action: str) -> Check:
    if is_green:
        return Check(name, Colour.GREEN, good)
    return Check(name, Colour.RED, bad, action)


def _interface(view: View, found: Found) -> Iterator[Check]:
    name = view.health_interface
    listed = ", ".join(found.interfaces) or "none at all"
    yield _check(
        "Interface",
        name in found.interfaces,
        f"{name} exists.",
        f"There is no network interface '{name}' on this machine ({listed}).",
        "Choose one of those, or connect the adapter.",
    )


def _gateway(view: View, found: Found) -> Iterator[Check]:
    gateway = view.gateway
    if gateway in ("", NONE):
        return
    if found.gateway.fault:
        yield Check("Gateway", Colour.UNKNOWN, f"{found.gateway.fault}.")
        return
    yield _check(
        "Gateway",
        bool(found.gateway.mac),
        f"{gateway} answers ({found.gateway.mac}).",
        f"Nobody answers for the default gateway {gateway}.",
        "Check the address, the cable and the VLAN.",
    )


def _free(found: Found) -> Iterator[Check]:
    for address, claim in found.claims.items():
        if claim.fault:
            yield Check("Address", Colour.UNKNOWN, f"{address}: {claim.fault}.")
            continue
        yield _check(
            "Address",
            not claim.mac,
            f"{address} is free.",
            f"{address} is in use by {claim.mac}.",
            "Choose a free address, or switch that machine off.",
        )


def _virtual(view: View) -> Iterator[Check]:
    virtual, _ = view.virtual
    address, netmask = view.address(view.health_interface)
    if not (virtual and address and netmask):
        return
    network = ipaddress.IPv4Interface(f"{address}/{netmask}").network
    is_inside = ipaddress.IPv4Address(virtual) in network
    yield _check(
        "Virtual IP",
        is_inside and virtual != address,
        f"{virtual} lies in {network} and differs from {address}.",
        f"{virtual} must lie in {network} and differ from {address}.",
        "Choose another virtual IP address.",
    )


def _clocks(view: View, found: Found) -> Iterator[Check]:
    if view.get("ntp.enable") == "yes":
        yield _check(
            "NTP",
            bool(found.clock_keeper),
            f"{found.clock_keeper.removesuffix('.service')} is installed.",
            "Neither chrony nor systemd-timesyncd is installed, so nothing would keep the clock.",
            "'apt-get install chrony', then run setup again.",
        )
    if not found.peer:
        return
    if found.skew_ms is None:
        yield Check("Time", Colour.UNKNOWN, f"{found.peer} does not answer.")
        return
    way = "ahead of" if found.skew_ms > 0 else "behind"
    seen = f"The clock of {found.peer} is {abs(found.skew_ms) / 1000:.3f} s {way} this one's."
    yield _check(
        "Time",
        abs(found.skew_ms) <= SKEW_MS_MAX,
        seen,
        seen,
        "Use the same NTP servers on both, and wait until their clocks agree.",
    )


def _memory(found: Found) -> Check:
    return _check(
        "Memory",
        found.memory_bytes >= MEMORY_BYTES_MIN,
        f"{found.memory_bytes / 1e9:.1f} GB.",
        f"{found.memory_bytes / 1e9:.1f} GB is too little; {MEMORY_BYTES_MIN / 1e9:g} GB is the "
        "least.",
        "Give this machine more memory.",
    )


def _disk(found: Found) -> Check:
    return _check(
        "Disk",
        found.free_bytes >= DISK_BYTES_MIN,
        f"{found.free_bytes / 1e9:.1f} GB are free.",
        f"Only {found.free_bytes / 1e9:.1f} GB are free; {DISK_BYTES_MIN / 1e9:g} GB is the least.",
        "Make room, or enlarge the disk of the state directory.",
    )


def _ports(found: Found) -> Check:
    if found.is_running:
        return Check("Ports", Colour.UNKNOWN, "The engine runs and uses its ports itself.")
    return _check(
        "Ports",
        not found.taken_ports,
        "All are free.",
        f"In use by another program: {', '.join(found.taken_ports)}.",
        "Stop that program ('ss -lntup' shows it), or change the port in the configuration file.",
    )


def _witness_files(found: Found) -> Iterator[Check]:
    if found.missing_files:
        yield Check(
            "Witness",
            Colour.RED,
            f"There is no file {', '.join(found.missing_files)}, so etcd cannot be asked.",
            "Put the files of the etcd cluster there, the same on both servers.",
        )


def _witness(view: View, found: Found) -> Iterator[Check]:
    """One answering endpoint of etcd is enough, as it is for the engine."""
    if not found.witness:
        return
    faults = [f"{at.host} port {at.port}: {at.fault}." for at in found.witness if at.fault]
    if len(faults) < len(found.witness):
        good = [f"{at.host} port {at.port} answers." for at in found.witness if not at.fault]
        yield Check("Witness", Colour.GREEN, " ".join((*good, *faults)))
    elif not any(at.has_way for at in found.witness):
        yield Check("Witness", Colour.UNKNOWN, " ".join(faults))
    else:
        what = "Make the witness there ('mse witness init') and start its service"
        if view.witness_kind == ETCD:
            what = "Start etcd there"
        yield Check(
            "Witness",
            Colour.RED,
            " ".join(faults),
            f"{what}, or mend the way to it ({document('ports')}). It may come later, but must "
            "answer when the two are paired.",
        )


def _nftables(found: Found) -> Check:
    return _check(
        "nftables",
        not found.nftables_fault,
        "The kernel takes its rules.",
        f"The virtual IP cannot be guarded: {found.nftables_fault}.",
        "Install the package nftables, and use a kernel that has nf_tables.",
    )


def _watchdog(found: Found) -> Check:
    if found.watchdog != "required":
        word = "There is one" if found.has_watchdog else "There is none"
        return Check("Watchdog", Colour.GREEN, f"{word}; the configuration does not require it.")
    return _check(
        "Watchdog",
        found.has_watchdog,
        "The required device is there.",
        "The configuration requires a watchdog, but there is no such device.",
        "Load a driver ('modprobe softdog'), or set [watchdog] mode to auto.",
    )
