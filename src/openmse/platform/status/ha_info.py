"""``gethainfo``: its values and its screen, line by line as the guide prints it. Pure.

The guide's slips are not copied (``spec/ha-guide.md`` §8); that the peer's ``Health Monitor IP
Address`` has no colon, and that replication is called Dataguard, is.
"""

from msgspec import Struct

RULE = "-----"
NOT_FOR_SECONDARY = "Not Applicable for a secondary"
UNKNOWN = "Not known yet"
"""Ours: what only the peer can tell, and has not told so far."""


class FourFields(Struct, frozen=True):
    """Ours: what is so right now, beneath the one word (protocol §10)."""

    role: str
    sync: str
    health: str
    operation: str


class PeerInfo(Struct, frozen=True, kw_only=True):
    """One paired peer. Texts are '' where the value is not known."""

    address: str
    virtual_ip: str
    version: str
    udi: str
    failover_type: str
    """manual or automatic."""
    failback_type: str
    failover_wait_s: float
    instance_name: str
    instance_port: int
    replication_name: str
    primary_alias: str
    is_direct: bool = False
    is_heartbeat_up: bool | None = None
    """Null while the health monitor is stopped."""


class HaInfo(Struct, frozen=True, kw_only=True):
    """Everything on the screen."""

    format: int = 1
    is_running: bool
    """Whether the health monitor runs; if not, all below is what was saved last."""
    role: str
    """primary or secondary, as configured."""
    address: str
    virtual_ip: str
    """'' on a secondary: there it is not applicable."""
    version: str
    udi: str
    state: str
    """The current state, or the last one before the health monitor was stopped."""
    reason: str = ""
    """Ours: the sentence behind the state; '' while the health monitor is stopped."""
    fields: FourFields | None = None
    """Null while the health monitor is stopped."""
    peers: tuple[PeerInfo, ...]


def render(info: HaInfo) -> list[str]:
    """The lines of the screen."""
    lines = [
        "",
        "Health Monitor is running. Retrieving HA related information"
        if info.is_running
        else "Health Monitor is not running. Following information is from the last saved "
        "configuration",
        *_title("Base high availability configuration for this server"),
        f"Server role: {info.role.capitalize()}",
        f"Health Monitor IP Address: {info.address}",
        f"Virtual IP Address: {_virtual_ip(info)}",
        f"Version: {info.version}",
        f"UDI: {info.udi or UNKNOWN}",
        f"Number of paired peers: {len(info.peers)}",
    ]
    for number, peer in enumerate(info.peers, 1):
        lines += _title(f"Peer configuration#: {number}")
        lines += _peer(peer)
        lines += _state(info, peer)
    if not info.peers:  # the guide shows a state only below a peer
        lines += ["", *_state(info, None)]
    return [*lines, ""]


def _title(text: str) -> list[str]:
    return ["", RULE, text, RULE, ""]


def _virtual_ip(info: HaInfo) -> str:
    if info.role == "secondary":
        return NOT_FOR_SECONDARY
    return info.virtual_ip or UNKNOWN


def _peer(peer: PeerInfo) -> list[str]:
    return [
        f"Health Monitor IP Address {peer.address}",
        f"Virtual IP Address: {peer.virtual_ip or UNKNOWN}",
        f"Version: {peer.version or UNKNOWN}",
        f"UDI: {peer.udi or UNKNOWN}",
        f"Failover type: {peer.failover_type.capitalize()}",
        f"Failback type: {peer.failback_type.capitalize()}",
        f"Failover wait time (seconds): {peer.failover_wait_s:g}",
        f"Instance database name: {peer.instance_name}",
        f"Instance database port: {peer.instance_port}",
        f"Dataguard configuration name: {peer.replication_name}",
        f"Primary database alias: {peer.primary_alias}",
        f"Direct connect used: {'Yes' if peer.is_direct else 'No'}",
    ]


def _state(info: HaInfo, peer: PeerInfo | None) -> list[str]:
    if not info.is_running:
        return [f"Last shutdown state: {info.state}"]
    lines = []
    if peer is not None:
        lines.append(f"Heartbeat status: {'Up' if peer.is_heartbeat_up else 'Down'}")
    lines.append(f"Current state: {info.state}")
    if info.fields is not None:
        lines += [
            f"Current role: {info.fields.role}",
            f"Synchronization: {info.fields.sync}",
            f"Health: {info.fields.health}",
            f"Operation: {info.fields.operation}",
        ]
    return lines
