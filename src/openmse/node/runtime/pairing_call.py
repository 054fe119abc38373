"""The asking side of pairing: a primary calls its secondary, an owner enrols a witness."""

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from openmse import __version__
from openmse.errors import PairingError, UsageError
from openmse.node.config import NodeConfig, WitnessKind
from openmse.node.control.commands import PairArgs, WitnessArgs
from openmse.node.group import GroupInfo, NodeInfo, WitnessInfo
from openmse.node.identity import keyring
from openmse.node.runtime.pairing_desk import write_witness_key
from openmse.pki.files import read_file
from openmse.pki.names import Role as Party

if TYPE_CHECKING:
    from openmse.pki.pairing import PairingResult


async def enrol(config: NodeConfig, group: GroupInfo, args: WitnessArgs) -> WitnessInfo:
    """Have a witness keep the group, and the key for it; raises PairingError, UsageError."""
    if args.kind == WitnessKind.ETCD:
        from openmse.node.drivers.witness.wiring import etcd_witness

        info = WitnessInfo(
            name=args.name,
            kind=args.kind,
            endpoints=args.endpoints,
            ca_file=args.ca_file,
            cert_file=args.cert_file,
            key_file=args.key_file,
        )
        driver = etcd_witness(info, group.group, config.node.name, lambda _: None)
        return replace(info, incarnation=(await driver.identity()).incarnation)
    if args.address in addresses(group):
        raise UsageError(
            f"A witness at {args.address} would be lost together with that node; nothing was "
            "changed.",
            "Run the witness on a third machine.",
        )
    result = await _converse(config, group, Party.WITNESS, args.address, args)
    write_witness_key(config, result.facts.id)
    return WitnessInfo(
        name=result.facts.id,
        kind=WitnessKind.CONSOLE.value,
        address=args.address,
        tls_port=config.ports.witness_tls,
        udp_port=config.ports.witness_udp,
        incarnation=result.facts.incarnation,
    )


async def call_secondary(config: NodeConfig, group: GroupInfo, args: PairArgs) -> NodeInfo:
    """Give the group to the secondary at ``args.peer``; raises PairingError."""
    result = await _converse(config, group, Party.NODE, args.peer, args)
    try:
        peer = msgspec.json.decode(result.facts.info, type=NodeInfo)
    except msgspec.MsgspecError as error:
        raise PairingError(
            "The secondary has stored the pairing, but what it says of itself cannot be read.",
            "'mse ha unpair --without-peer' there; then pair two machines of one version.",
        ) from error
    return replace(peer, name=result.facts.id, incarnation=result.facts.incarnation)


async def _converse(
    config: NodeConfig, group: GroupInfo, kind: Party, address: str, args: PairArgs | WitnessArgs
) -> "PairingResult":
    from openmse.pki.pairing import PairingOffer, pair_with

    ring = keyring(config)
    offer = PairingOffer(
        kind=kind,
        me=config.node.name,
        software=__version__,
        group=group.group,
        authority_certificate=read_file(ring.authority),
        authority_key=read_file(ring.authority_key),
        heartbeat_key=read_file(ring.heartbeat),
        virtual_ips=tuple(ip.partition("/")[0] for ip in group.virtual_ips),
        group_info=msgspec.json.encode(group),
        settings=msgspec.json.encode(config.group.settings),
    )
    return await pair_with(address, args.pairing_port, args.password, offer)


def addresses(group: GroupInfo) -> set[str]:
    """The addresses of the group's nodes, and the virtual ones."""
    own = {a for node in group.nodes for a in (node.address, node.address6, node.direct)}
    return (own | {ip.partition("/")[0] for ip in group.virtual_ips}) - {""}
