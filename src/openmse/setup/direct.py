"""The cable between the two servers, as the facts of a lost configuration still know it. Pure.

The facts hold the address of each end, but neither the interface nor the network mask: both are
read from the interface that has the address, or else asked for.
"""

import ipaddress
from collections.abc import Iterable, Iterator

from openmse.node.direct import is_address
from openmse.node.group import GroupInfo, NodeInfo
from openmse.setup.values import NONE, Interface, View


def facts(group: GroupInfo, node: NodeInfo) -> dict[str, str]:
    """Both ends as the group knows them; '' where it knows none, or no usable one."""
    peer = group.peer_of(node.name)
    ends = {"direct_address": node.direct, "direct_peer": peer.direct if peer is not None else ""}
    return {key: text if is_address(text) else "" for key, text in ends.items()}


def holder(interfaces: Iterable[Interface], address: str) -> str:
    """The interface that has this end of the cable, or ``none``."""
    return next((i.name for i in interfaces if address and i.address == address), NONE)


def suggested(view: View) -> str:
    """The direct connect interface that is set, or that the lost configuration most likely had."""
    machine = view.machine
    if machine.direct_interface != NONE or not machine.founded.get("direct_address"):
        return machine.direct_interface
    others = (i.name for i in machine.interfaces if i.name != view.health_interface)
    return next(others, NONE)


def told(view: View) -> str:
    """What is known of it, before the question; '' where nothing is."""
    own, peer = _ends(view)
    if not own:
        return ""
    other = f", the other server's is {peer}" if peer else ""
    return f"The pair had a direct connection: this server's end was {own}{other}."


def suggested_address(view: View, interface: str) -> str:
    """The end of the cable for the interface that was chosen for it, where that has no address."""
    is_chosen = interface == view.direct_interface
    return _ends(view)[0] if is_chosen and view.get("ha.role") else ""


def suggested_netmask(view: View, interface: str) -> str:
    """A mask that holds both ends, where both are known and one of 24 bits does; else ''."""
    own, peer = _ends(view)
    if not (own and peer) or view.address(interface)[0] != own:
        return ""
    network = ipaddress.IPv4Interface(f"{own}/24").network
    return str(network.netmask) if ipaddress.IPv4Address(peer) in network else ""


def faults(view: View) -> Iterator[str]:
    """An end without an address, or one that does not fit to the other server's."""
    peer, interface = _ends(view)[1], view.direct_interface
    address, netmask = view.address(interface)
    if interface == NONE or not view.get("ha.role"):
        return
    if not address:
        known = told(view)
        yield (
            f"The direct connect interface {interface} has no IP address. Configure its interface "
            f"parameters, or answer none.{' ' if known else ''}{known}"
        )
        return
    if not (peer and netmask):
        return
    network = ipaddress.IPv4Interface(f"{address}/{netmask}").network
    if peer == address or ipaddress.IPv4Address(peer) not in network:
        yield (
            f"The other server's end of the direct connection is {peer}: this end must be another "
            f"address of the same network, which {address} with the mask {netmask} is not."
        )


def note(view: View) -> str:
    """What a recovery without the cable leaves behind; '' where nothing."""
    peer = _ends(view)[1]
    if not peer or view.direct_interface != NONE or not view.get("ha.role"):
        return ""
    return (
        f"The other server still has its end of the direct connection, {peer}: it is not used "
        "until this one has an end too, and 'mse ha doctor' says so."
    )


def _ends(view: View) -> tuple[str, str]:
    founded = view.machine.founded
    return founded.get("direct_address", ""), founded.get("direct_peer", "")
