"""Seeing what the checks judge: asks every probe that these answers need. No judgement."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from openmse import ports
from openmse.install.engine import parts
from openmse.install.engine.launcher import launcher
from openmse.install.errors import ManagerFailed
from openmse.node.config import DEFAULT_PATH, NodeConfig
from openmse.setup import clocks, probes
from openmse.setup.checks import Claim, Found, Reached, addresses_to_probe, witness_places
from openmse.setup.modern import ETCD_FILES
from openmse.setup.values import NONE, View
from openmse.setup.world import World


def inspect(view: View, world: World, config: NodeConfig | None, *, is_running: bool) -> Found:
    """The facts for ``judge``; takes about a second, in which nobody answers for free addresses, or
    two where the witness is silent."""
    live = probes.live_addresses()
    own = frozenset(text.partition("/")[0] for texts in live.values() for text in texts)
    gateway = view.gateway
    first = view.machine.interfaces[0].name if view.machine.interfaces else view.health_interface
    is_asked = gateway not in ("", NONE)
    peer = view.get("peer.address") or view.machine.founded.get("peer_address", "")
    state = Path(config.paths.state_dir if config is not None else "/var/lib/openmse")
    device = config.watchdog.device if config is not None else "/dev/watchdog"
    addresses = addresses_to_probe(view, own)
    port = config.ports.witness_tls if config is not None else ports.WITNESS_TLS
    places = witness_places(view, port)
    with ThreadPoolExecutor(max_workers=len(addresses) + len(places) + 2) as pool:
        at_gateway = pool.submit(_claim, first, gateway) if is_asked else None
        claims = pool.map(_claim, addresses.values(), addresses)
        reached = pool.map(_reached, places)
        skew = pool.submit(probes.clock_skew_ms, peer) if peer else None
    return Found(
        interfaces=world.interfaces,
        own=own,
        gateway=at_gateway.result() if at_gateway is not None else Claim(),
        claims=dict(zip(addresses, claims, strict=True)),
        peer=peer,
        skew_ms=skew.result() if skew is not None else None,
        memory_bytes=probes.memory_bytes(),
        free_bytes=probes.free_bytes(state),
        taken_ports=() if is_running or config is None else probes.taken_ports(_ports(config)),
        missing_files=_missing(view),
        witness=tuple(reached),
        is_running=is_running,
        nftables_fault=probes.nftables_fault(),
        has_watchdog=os.path.exists(device),
        watchdog=config.watchdog.mode.value if config is not None else "off",
        clock_keeper=clocks.keeper_there(world),
    )


def _claim(interface: str, address: str) -> Claim:
    mac, fault = probes.holder_or_fault(interface, address)
    return Claim(mac, fault.rstrip("."))


def _reached(place: tuple[str, int]) -> Reached:
    fault, has_way = probes.reach(*place)
    return Reached(*place, fault, has_way)


def _missing(view: View) -> tuple[str, ...]:
    paths = (view.get(f"witness.{name}") for name, _ in ETCD_FILES)
    return tuple(path for path in paths if path not in ("", NONE) and not os.path.isfile(path))


def _ports(config: NodeConfig) -> dict[str, tuple[str, int]]:
    own = config.ports
    return {
        "ports.node_tls": ("TCP", own.node_tls),
        "ports.node_udp": ("UDP", own.node_udp),
        "ports.pairing": ("TCP", own.pairing),
        "database.port": ("TCP", config.database.port),
        **_port_of_management(config),
    }


def _port_of_management(config: NodeConfig) -> dict[str, tuple[str, int]]:
    """None where the admin process holds it, which systemd runs without the engine too."""
    admin = parts.admin(DEFAULT_PATH)
    run_by = launcher(config.places.run_dir, parts.environment(DEFAULT_PATH))
    try:
        if admin is None or run_by.pid(admin):
            return {}
    except ManagerFailed:
        return {}  # a systemd that does not answer: whose the port is cannot be told
    (wanted,) = parts.ports_of_admin(config)
    return {wanted.setting: (wanted.transport, wanted.port)}
