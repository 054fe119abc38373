"""What is set on a machine now, read from its files. Pure: a world in, a Machine out."""

import ipaddress
import tomllib
from collections.abc import Mapping
from typing import Any

from openmse.node.group import GroupInfo
from openmse.setup import clocks, direct, hosts, ifupdown, networkd, recovery, resolver
from openmse.setup.modern import CONSOLE, OTHER_PRIMARY
from openmse.setup.networks import Form, form_of, ifupdown_files, networkd_files
from openmse.setup.values import INTERFACES_MAX, NONE, PRIMARY, Interface, Machine
from openmse.setup.world import HOSTNAME, HOSTS, World


def machine_of(
    world: World,
    config: str,
    *,
    group: GroupInfo | None = None,
    register_name: str = "",
    has_pairing_password: bool = False,
) -> Machine:
    """Everything the wizard shows as current; ``config`` is the path of the product's file.

    A product's file that cannot be read is treated as what can be found in it: the check of the
    answers tells its faults.
    """
    hostname = (world.text(HOSTNAME) or "mse").strip() or "mse"
    servers, search = resolver.servers_in(world)
    is_ntp_enabled, ntp_servers = clocks.ntp_in(world)
    product = _product(world.text(config))
    interfaces, gateway = _interfaces(world, product.get("node", {}))
    is_configured = world.text(config) is not None
    name = str(product.get("node", {}).get("name", ""))
    own = recovery.own_name(group, (name, register_name, hostname))
    founded = {} if is_configured else recovery.facts(group, own)
    cable = str(product.get("node", {}).get("direct_interface", "")) or NONE
    return Machine(
        hostname=hostname,
        domain=hosts.domain_of(world.text(HOSTS) or "", hostname) or search,
        interfaces=interfaces,
        gateway=gateway,
        is_dns_enabled=bool(servers),
        dns_servers=servers,
        zone=clocks.zone_of(world),
        zones=clocks.zones_in(world),
        is_ntp_enabled=is_ntp_enabled,
        ntp_servers=ntp_servers,
        direct_interface=(
            direct.holder(interfaces, founded.get("direct_address", "")) if founded else cable
        ),
        is_configured=is_configured,
        group_node=own,
        peers=recovery.peers(group, own),
        has_pairing_password=has_pairing_password,
        founded=founded,
        **(_settings(product) if is_configured else recovery.settings(group, own)),
    )


def _interfaces(world: World, node: Mapping[str, Any]) -> tuple[tuple[Interface, ...], str]:
    """What the files set, or else the kernel has, or else the product's file says."""
    found, gateway = [], ""
    configured = str(node.get("interface", ""))
    names = [*world.interfaces]
    if configured in world.other_interfaces:
        names = [*names[: INTERFACES_MAX - 1], configured]
    for name in names[:INTERFACES_MAX]:
        address, netmask, via = _set_address(world, name)
        if not address:
            address, netmask = _live_address(world, name)
        if not address and name == configured:
            address, netmask = recovery.first_ipv4([node.get("address", "")])
        gateway = gateway or via
        found.append(Interface(name=name, address=address, netmask=netmask))
    return tuple(found), gateway or world.live_gateway


def _live_address(world: World, name: str) -> tuple[str, str]:
    """What the kernel has, but for a virtual IP, which is held as a host address."""
    for text in world.live.get(name, ()):
        live = ipaddress.IPv4Interface(text)
        if live.network.prefixlen < 32:
            return str(live.ip), str(live.netmask)
    return "", ""


def _set_address(world: World, name: str) -> tuple[str, str, str]:
    if form_of(world) is Form.IFUPDOWN:
        files = ifupdown_files(world)
        return ifupdown.address_in(name, files.get(ifupdown.file_of(name, files), ""))
    files = networkd_files(world)
    return networkd.address_in(files.get(networkd.file_of(name, files), ""))


def _product(text: str | None) -> dict[str, dict[str, Any]]:
    try:
        data = tomllib.loads(text or "")
    except tomllib.TOMLDecodeError:
        return {}
    return {name: table for name, table in data.items() if isinstance(table, dict)}


def _witness_kind(witness: Mapping[str, Any]) -> str:
    """The choice that was made in setup, which tells two machines of one kind apart."""
    kind = str(witness.get("kind", NONE))
    is_other = kind == CONSOLE and witness.get("host") == OTHER_PRIMARY
    return OTHER_PRIMARY if is_other else kind


def _settings(product: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    node, group = product.get("node", {}), product.get("group", {})
    witness = product.get("witness", {})
    listed = group.get("virtual_ips")
    virtual, netmask = recovery.first_ipv4(listed if isinstance(listed, list) else [])
    wait = group.get("failover_wait_s", 5)
    endpoints = witness.get("endpoints", [])
    keys = ("ca_file", "cert_file", "key_file")
    role = str(node.get("role", PRIMARY))
    return {
        "role": role if role in (PRIMARY, "secondary") else PRIMARY,
        "health_interface": str(node.get("interface", "eth0")) if node else "",
        "virtual_ip": virtual,
        "virtual_netmask": netmask,
        "failover_wait_s": f"{wait:g}" if isinstance(wait, int | float) else "5",
        "witness_kind": _witness_kind(witness),
        "witness_address": str(witness.get("address", "")),
        "witness_endpoints": tuple(map(str, endpoints)) if isinstance(endpoints, list) else (),
        "witness_files": tuple(str(witness.get(key, "")) for key in keys),
    }
