"""The direct connection of a pair: a cable of their own between the two nodes. Pure.

Each node is the authority on its own end: the file says it, the group's facts follow, and the other
node is told it in a notice of its own. Facts of the group travel without it, so that a node of the
version before, which knows no direct connection, reads them as ever.
"""

import ipaddress

from msgspec import UNSET, Struct
from msgspec.structs import replace

from openmse.node.config import NodeConfig
from openmse.node.group import GroupInfo


class DirectPath(Struct, frozen=True):
    """A direct connection that both nodes have: addresses without prefixes."""

    interface: str
    own: str
    peer: str


def direct_path(config: NodeConfig, group: GroupInfo | None) -> DirectPath | None:
    """The direct connection, where both ends are known and fit together."""
    peer = group.peer_of(config.node.name) if group is not None else None
    if peer is None or not peer.direct or not config.node.direct_host or misfit(config, group):
        return None
    return DirectPath(config.node.direct_interface, config.node.direct_host, peer.direct)


def misfit(config: NodeConfig, group: GroupInfo | None) -> str:
    """Why a direct connection that one of the nodes has is not used, as a sentence; or ''."""
    peer = group.peer_of(config.node.name) if group is not None else None
    own = config.node.direct_address
    if peer is None or not (own or peer.direct):
        return ""
    if not own or not peer.direct:
        has, lacks = (config.node.name, peer.name) if own else (peer.name, config.node.name)
        return f"{has} has a direct connection, but {lacks} has none, so it is not used."
    mine = ipaddress.ip_interface(own)
    theirs = ipaddress.ip_address(peer.direct)
    if theirs == mine.ip:
        return f"Both nodes have the direct address {theirs}, so the connection is not used."
    if theirs not in mine.network:
        return (
            f"The direct address {theirs} of {peer.name} lies outside this node's direct network "
            f"{mine.network}, so the connection is not used."
        )
    return ""


def is_address(text: str) -> bool:
    """Whether the other node's word for its end can be one: an IPv4 address, or ''."""
    try:
        return not text or ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


def with_direct(group: GroupInfo, name: str, address: str) -> GroupInfo:
    """The facts with the direct address of the node ``name``; the same object if it is so."""
    nodes = tuple(
        replace(node, direct_address=address or UNSET)
        if node.name == name and node.direct != address
        else node
        for node in group.nodes
    )
    return group if nodes == group.nodes else replace(group, nodes=nodes)


def without_direct(group: GroupInfo) -> GroupInfo:
    """The facts as they are told to the other node."""
    for node in group.nodes:
        group = with_direct(group, node.name, "")
    return group


def keeping_direct(told: GroupInfo, mine: GroupInfo) -> GroupInfo:
    """Facts that the other node told, with what is known here of the direct connection."""
    for node in mine.nodes:
        told = with_direct(told, node.name, node.direct)
    return told


def with_own_direct(group: GroupInfo, config: NodeConfig) -> GroupInfo:
    """The facts with this node's own end as its file has it."""
    return with_direct(group, config.node.name, config.node.direct_host)
