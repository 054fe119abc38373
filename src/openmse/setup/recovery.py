"""A machine that lost its configuration but not its state: what the facts of its group still say.

Pure. The facts (``group.json``) hold names, addresses, virtual IPs, the witness and the ports of
a node; with them the product's file is made anew, and the node comes back as the member it was.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from openmse import ports
from openmse.documents import document
from openmse.node.group import GroupInfo, NodeInfo
from openmse.setup import direct
from openmse.setup.values import NO, PRIMARY, SECONDARY, YES, View

NO_FACTS = (
    "Recovery mode was asked for, but no facts of a group are left on this machine, so there is "
    "nothing to restore from. Answer no; to take the place of a lost machine in its pair run 'mse "
    f"ha readmit' on the other node and 'mse setup --recover-from' here ({document('setup')})."
)


def own_name(group: GroupInfo | None, names: Iterable[str]) -> str:
    """Which of the group's nodes this machine is, the best source of ``names`` first.

    '' where it belongs to no group, or cannot tell which of two nodes it is.
    """
    if group is None:
        return ""
    known = [name for name in names if name and group.node(name) is not None]
    if known:
        return known[0]
    return group.nodes[0].name if len(group.nodes) == 1 else ""


def name_in_register(text: str | None) -> str:
    """Whose register a file is; '' where it does not say. Nothing else of it is believed."""
    try:
        stored = msgspec.json.decode(text or "", type=_Stored)
    except msgspec.MsgspecError:
        return ""
    return stored.record.me


class _Record(Struct):
    me: str = ""


class _Stored(Struct):
    record: _Record


def peers(group: GroupInfo | None, own: str) -> tuple[str, ...]:
    """The other nodes of the group; empty on an unpaired machine."""
    if group is None or len(group.nodes) < 2:
        return ()
    return tuple(node.name for node in group.nodes if node.name != own)


def first_ipv4(texts: Iterable[object]) -> tuple[str, str]:
    """Address and netmask of the first IPv4 address; '' where there is none."""
    for text in texts:
        try:
            found = ipaddress.IPv4Interface(str(text))
        except ValueError:
            continue
        return str(found.ip), str(found.netmask)
    return "", ""


def facts(group: GroupInfo | None, own: str) -> dict[str, str]:
    """What the answers must agree with."""
    node = group.node(own) if group is not None else None
    if group is None or node is None:
        return {}
    virtual, netmask = first_ipv4(group.virtual_ips)
    peer = group.peer_of(own)
    return {
        "name": own,
        "role": PRIMARY if group.primary == own else SECONDARY,
        "address": node.address,
        "peer_address": peer.address if peer is not None else "",
        "address6": _with_prefix(node.address6, group.virtual_ips),
        "virtual_ip": virtual,
        "virtual_netmask": netmask,
        "virtual_ips6": " ".join(text for text in group.virtual_ips if ":" in text),
        **direct.facts(group, node),
        **{key: str(value) for key, value in _ports(node).items()},
    }


def _with_prefix(address6: str, virtual_ips: Iterable[str]) -> str:
    """The prefix is that of the virtual IP; without one the facts do not tell it."""
    length = next((text.partition("/")[2] for text in virtual_ips if ":" in text), "")
    return f"{address6}/{length}" if address6 and length else address6


def _ports(node: NodeInfo) -> dict[str, int]:
    found = {
        "ports.node_tls": (node.tls_port, ports.NODE_TLS),
        "ports.node_udp": (node.udp_port, ports.NODE_UDP),
        "database.port": (node.database_port, ports.POSTGRESQL),
    }
    return {key: number for key, (number, usual) in found.items() if number != usual}


def settings(group: GroupInfo | None, own: str) -> dict[str, Any]:
    """What the wizard suggests instead of factory settings."""
    found = facts(group, own)
    if group is None or not found:
        return {}
    witness = group.witness
    values: dict[str, Any] = {"role": found["role"]}
    if found["role"] == PRIMARY:
        values |= {
            "virtual_ip": found["virtual_ip"],
            "virtual_netmask": found["virtual_netmask"],
        }
    if witness is not None:
        values |= {
            "witness_kind": witness.kind,
            "witness_address": witness.address,
            "witness_endpoints": witness.endpoints,
            "witness_files": (witness.ca_file, witness.cert_file, witness.key_file),
        }
    return values


def faults(view: View) -> Iterator[str]:
    """Where the answers contradict the facts, or recovery is asked for without any."""
    found: Mapping[str, str] = view.machine.founded
    wants = view.get("ha.recovery")
    if not found:
        if wants == YES and not view.machine.group_node:
            yield NO_FACTS
        return
    if not view.machine.peers:
        return  # an unpaired primary may be set up as anything
    other = ", ".join(view.machine.peers)
    if view.role != found["role"]:
        yield (
            f"This machine is the {found['role']} of a pair with {other}, although its "
            f"configuration is gone. Select that role, or unpair it on {other} first."
        )
    elif view.role == PRIMARY and wants == NO:
        yield (
            f"This primary belongs to a pair with {other}, although its configuration is gone. "
            "Answer yes to recovery mode, so that it comes back as the member it was."
        )
    address = view.address(view.health_interface)[0]
    if address and address != found["address"]:
        yield (
            f"The pair knows this machine as {found['address']}, not as {address}. Give its health "
            "monitor interface that address."
        )
    if view.role == PRIMARY and view.virtual[0] not in ("", found["virtual_ip"]):
        yield f"The virtual IP address of the pair is {found['virtual_ip']}; enter that one."
