"""The answering side of pairing: a secondary that waits for its primary with a password."""

import contextlib
import ipaddress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec.structs import replace

from openmse import __version__
from openmse.errors import CommandRefused, MseError, PairingError, StateError
from openmse.ha.effects import Note
from openmse.node.config import NodeConfig, Role
from openmse.node.config_check import read_interface
from openmse.node.direct import misfit
from openmse.node.drivers.postgres.sidecar import fsync_directory
from openmse.node.group import GroupInfo
from openmse.node.identity import (
    issue_database,
    keyring,
    make_directories,
    node_info,
    own_addresses,
)
from openmse.pki.files import PRIVATE, PUBLIC, read_file, write_file
from openmse.pki.names import Role as Party
from openmse.pki.pairing_messages import Facts, Offer
from openmse.pki.pairing_server import Paired, PairingServer, Responder
from openmse.pki.password import PairingStore
from openmse.wire.datagrams import KEY_BYTES, witness_root


class Host(Protocol):
    """The daemon around it."""

    @property
    def group(self) -> GroupInfo | None:
        """The group's facts that are in force."""

    @property
    def incarnation(self) -> str:
        """Of this node's memory."""

    def note(self, note: Note) -> None:
        """An entry of the event log."""

    def take_group(self, group: GroupInfo) -> None:
        """Save the facts and live by them from now on. Raises StateError."""


class PairingDesk:
    """Listens on the pairing port of a secondary: unpaired, or with a password still set."""

    def __init__(self, config: NodeConfig, host: Host) -> None:
        self._config = config
        self._host = host
        self._store = PairingStore(config.places.pairing_password)
        self._server: PairingServer | None = None

    @property
    def is_open(self) -> bool:
        """Whether the port listens."""
        return self._server is not None

    async def refresh(self) -> None:
        """Open or close the port as the role, the group and the password ask for.

        After a pairing it stays open while the password stands: a primary that did not hear of
        its success comes again.
        """
        is_waiting = self._host.group is None or self._store.path.exists()
        is_wanted = self._config.node.role is Role.SECONDARY and is_waiting
        if is_wanted and self._server is None:
            bind = (self._config.node.host, self._config.ports.pairing)
            server = PairingServer(self._store, self, bind=bind, on_refused=self._on_refused)
            await server.open()
            self._server = server
        elif not is_wanted:
            await self.close()

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.close()

    # -- what the pairing server asks ------------------------------------------------------

    def responder(self) -> Responder:
        """Who waits."""
        group = self._host.group
        groups = (group.group,) if group is not None else ()
        return Responder(self._config.node.name, Party.NODE, __version__, groups)

    def facts(self) -> Facts:
        """What the primary is told, once it has proven the password."""
        config = self._config
        return Facts(
            id=config.node.name,
            incarnation=self._host.incarnation,
            software=__version__,
            addresses=own_addresses(config, ()),
            names=(config.node.name,),
            info=msgspec.json.encode(node_info(config)),
        )

    def review(self, initiator: str, offer: Offer) -> None:
        """Raise PairingError or CommandRefused where the two machines do not fit together."""
        info = facts_in(offer)
        primary = info.node(initiator)
        if primary is None or info.group != offer.group or len(offer.heartbeat_key) != KEY_BYTES:
            raise PairingError("The primary's facts of its group do not fit together.")
        fault = unfit(self._config, info, initiator)
        if fault:
            raise CommandRefused(fault, "Nothing was changed on either side.", code="MSE-PAIR-030")

    async def commit(self, paired: Paired) -> None:
        """Store keys and certificates, and the group's facts last. Raises StateError."""
        info, aside = keep_identity(self._config, paired, self._host.incarnation)
        if aside is not None:
            self._note(
                "data_kept",
                "warning",
                f"This node held the database of another group; it is kept aside in {aside}.",
            )
        self._note("paired", "info", f"Paired with {paired.initiator}, the primary of the group.")
        self._host.take_group(info)

    def _on_refused(self, error: MseError, address: str) -> None:
        self._note("pairing_refused", "warning", f"A pairing from {address}: {error.sentence}")

    def _note(self, kind: str, severity: str, sentence: str) -> None:
        self._host.note(Note(kind, severity, sentence))


def keep_identity(
    config: NodeConfig, paired: Paired, incarnation: str
) -> tuple[GroupInfo, Path | None]:
    """Store what makes this machine a member; the facts, to be saved last, and what was set aside.

    Raises StateError.
    """
    offer, ring = paired.offer, keyring(config)
    make_directories(config)
    aside = _set_other_group_aside(config, ring.authority, offer)
    write_file(ring.authority, offer.authority_certificate, mode=PUBLIC)
    write_file(ring.authority_key, offer.authority_key, mode=PRIVATE)
    write_file(ring.key, paired.key, mode=PRIVATE)
    write_file(ring.certificate, paired.certificate, mode=PUBLIC)
    write_file(ring.heartbeat, offer.heartbeat_key, mode=PRIVATE)
    info = facts_in(offer)
    issue_database(config, info, offer.authority_certificate, offer.authority_key)
    if info.witness is not None:
        write_witness_key(config, info.witness.name)
    me = replace(node_info(config), incarnation=incarnation)
    others = tuple(node for node in info.nodes if node.name != me.name)
    return replace(info, nodes=(*others, me), revision=info.revision + 1), aside


def _set_other_group_aside(config: NodeConfig, authority: Path, offer: Offer) -> Path | None:
    """A copy of another group's database is never followed from here, nor thrown away.

    Its histories may bear the same names: it would pass for one that is ahead. Raises
    StateError.
    """
    data_dir = config.places.data_dir
    if not authority.exists() or not data_dir.exists():
        return None
    if read_file(authority) == offer.authority_certificate:
        return None
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = data_dir.with_name(f"{data_dir.name}.left-{stamp}")
    record = config.places.state_dir / "postgres" / "directory.json"
    try:
        data_dir.rename(aside)
        with contextlib.suppress(FileNotFoundError):
            record.rename(record.with_name(f"{record.name}.left-{stamp}"))
        fsync_directory(data_dir.parent)
    except OSError as error:
        raise StateError(
            f"The database of the group this node belonged to, {data_dir}, cannot be kept "
            f"aside: {error.strerror}.",
            "Move it away by hand, then pair again.",
        ) from error
    return aside


def facts_in(offer: Offer) -> GroupInfo:
    """The group's facts in an offer; raises PairingError."""
    try:
        return msgspec.json.decode(offer.group_info, type=GroupInfo)
    except msgspec.MsgspecError as error:
        raise PairingError(
            "The primary's facts of its group cannot be read.",
            "Install the same version on both machines. Nothing was changed.",
        ) from error


def unfit(config: NodeConfig, info: GroupInfo, primary: str) -> str:
    """Why this secondary cannot be the peer of that primary, in a sentence; '' if it can. Pure."""
    me, other = config.node, info.node(primary)
    assert other is not None
    if other.database_port != config.database.port:
        return (
            f"PostgreSQL listens on port {other.database_port} of {primary} and on port "
            f"{config.database.port} of {me.name}; both nodes of a group use the same."
        )
    if {other.address, other.address6} & {me.host, me.host6} - {""}:
        return f"{primary} and {me.name} have the same address {other.address}."
    for text in info.virtual_ips:
        virtual = read_interface(text)
        own = read_interface(me.address if virtual is None or virtual.version == 4 else me.address6)
        if virtual is None or own is None:
            return f"{me.name} has no address of the kind of the virtual IP {text}."
        if virtual.ip == own.ip:
            return f"The virtual IP {virtual.ip} is the own address of {me.name}."
        if virtual.ip not in own.network:
            return (
                f"The virtual IP {virtual.ip} lies outside the network {own.network} of {me.name}."
            )
    if info.witness is not None and _is_at(info.witness.address, me.host, me.host6):
        return f"The witness at {info.witness.address} would be {me.name} itself."
    if other.direct and me.direct_address:
        return misfit(config, replace(info, nodes=(other, node_info(config))))
    return ""


def _is_at(address: str, *own: str) -> bool:
    if not address:
        return False
    return ipaddress.ip_address(address) in [ipaddress.ip_address(text) for text in own if text]


def write_witness_key(config: NodeConfig, witness: str) -> None:
    """Keep the root key of the datagrams with a witness, which follows from the pair's own."""
    ring = keyring(config)
    write_file(ring.witness, witness_root(read_file(ring.heartbeat), witness), mode=PRIVATE)
