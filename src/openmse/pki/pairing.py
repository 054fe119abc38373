"""Pairing and enrolling, the initiator's side: the primary, or a node that wants a witness.

Nothing is stored here, and nothing on the other side before its ``commit``. Should the connection
break in the one moment in between (commit sent, answer lost), repeating the same pairing with the
same group, authority and password is the remedy: so have those on disk before calling.
"""

import asyncio
from contextlib import suppress

from msgspec import Struct

from openmse.errors import MseError, PairingError, PeerError
from openmse.pki.names import Identity, Role
from openmse.pki.pairing_messages import (
    PAIRING_VERSION,
    Certificates,
    Code,
    Commit,
    Committed,
    Done,
    Facts,
    Hello,
    Offer,
    Prepared,
    Refused,
    Requests,
    refusal,
)
from openmse.pki.pairing_stream import SealedStream, Stream, prove_as_initiator
from openmse.pki.password import SALT_BYTES, derive
from openmse.wire.datagrams import witness_root
from openmse.wire.ids import is_id
from openmse.wire.versions import common_version

CONNECT_TIMEOUT_S = 5.0


class PairingOffer(Struct, frozen=True, kw_only=True):
    """What the initiator has, and wants.

    ``kind``: NODE to pair with a secondary, WITNESS to enrol one. ``virtual_ips``: without
    prefixes, for the certificate of a node. ``group_info``, ``settings``, ``register_seed``:
    bytes that only the callers understand; a witness is not given the seed.
    """

    kind: Role
    me: str
    software: str
    group: str
    authority_certificate: bytes
    authority_key: bytes
    heartbeat_key: bytes
    virtual_ips: tuple[str, ...] = ()
    group_info: bytes = b""
    settings: bytes = b""
    register_seed: bytes = b""

    def __repr__(self) -> str:
        return f"PairingOffer(kind={self.kind!r}, me={self.me!r}, group={self.group!r})"


class PairingResult(Struct, frozen=True):
    """The other machine, now of the group. ``fingerprint`` of its key is shown on both sides."""

    facts: Facts
    certificate: bytes
    fingerprint: str


async def pair_with(address: str, port: int, password: str, offer: PairingOffer) -> PairingResult:
    """Pair with, or enrol, the machine that waits there.

    Raises PairingError: nothing was changed on either side, unless its code is MSE-PAIR-009,
    whose sentence says that the other side may have stored the pairing.
    """
    reader, writer = await _connect(address, port)
    state = _Progress()
    try:
        return await _converse(Stream(reader, writer), password, offer, state)
    except (ConnectionError, TimeoutError) as error:
        raise state.broken() from error
    finally:
        writer.close()
        with suppress(ConnectionError, TimeoutError):
            await writer.wait_closed()


class _Progress:
    """How far it came, for the sentence of a broken connection."""

    may_be_committed = False

    def broken(self) -> PairingError:
        if self.may_be_committed:
            return PairingError(
                "The connection broke while the other machine was storing the pairing: it may "
                "have done so or not.",
                "Repeat the same command with the same password; that is safe in both cases.",
                code="MSE-PAIR-009",
            )
        return PairingError(
            "The connection to the other machine broke during the pairing.",
            "Nothing was changed on either side. Check the network, then try again.",
            code="MSE-PAIR-011",
        )


async def _connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await asyncio.open_connection(address, port)
    except (OSError, TimeoutError) as error:
        raise PairingError(
            f"Nobody answers at {address} port {port}.",
            "Check the address, that the other machine waits for a pairing, and that no firewall "
            "is in between. Nothing was changed.",
            code="MSE-PAIR-012",
        ) from error


async def _converse(
    stream: Stream, password: str, offer: PairingOffer, state: _Progress
) -> PairingResult:
    await stream.send(Hello(offer.me, Role.NODE, offer.software, offer.kind, offer.group))
    theirs = await stream.receive(Hello)
    _check_hello(theirs, offer)
    secret = await asyncio.to_thread(derive, password, theirs.salt)
    sealed = await prove_as_initiator(stream, secret)
    await sealed.send(_offer_for(theirs.id, offer))
    requests = await sealed.receive(Requests)
    certificates = await _issue(sealed, requests, theirs, offer)
    await sealed.send(certificates)
    await sealed.receive(Prepared)
    state.may_be_committed = True
    await sealed.send(Commit())
    await sealed.receive(Committed)
    with suppress(ConnectionError, TimeoutError):  # it has stored all; its password only expires
        await sealed.send(Done())
    return PairingResult(requests.facts, certificates.node, _fingerprint(certificates.node))


def _check_hello(theirs: Hello, offer: PairingOffer) -> None:
    if theirs.version != PAIRING_VERSION or len(theirs.salt) != SALT_BYTES:
        raise refusal(Code.VERSION)
    try:
        common_version(theirs.lowest_wire, theirs.highest_wire)
    except PeerError as error:
        raise refusal(Code.VERSION, error.sentence) from error
    if not is_id(theirs.id):
        raise refusal(Code.BROKEN)
    if theirs.role is not offer.kind:
        raise refusal(Code.ROLE)
    if theirs.id == offer.me:
        raise refusal(Code.SAME_ID)
    if offer.kind is Role.NODE and theirs.software != offer.software:
        raise refusal(Code.SOFTWARE)


def _offer_for(responder: str, offer: PairingOffer) -> Offer:
    is_witness = offer.kind is Role.WITNESS
    key = offer.heartbeat_key
    return Offer(
        group=offer.group,
        authority_certificate=offer.authority_certificate,
        heartbeat_key=witness_root(key, responder) if is_witness else key,
        virtual_ips=() if is_witness else offer.virtual_ips,
        group_info=offer.group_info,
        settings=offer.settings,
        register_seed=b"" if is_witness else offer.register_seed,
        authority_key=b"" if is_witness else offer.authority_key,
    )


async def _issue(
    sealed: SealedStream, requests: Requests, theirs: Hello, offer: PairingOffer
) -> Certificates:
    """Certificates for the responder; tells it of a refusal of ours."""
    try:
        if requests.facts.id != theirs.id:
            raise refusal(Code.BROKEN)
        return await asyncio.to_thread(_issue_now, requests, offer)
    except MseError as error:
        await sealed.send(Refused(error.sentence, error.hint, error.code))
        if isinstance(error, PairingError):
            raise
        raise PairingError(error.sentence, f"{error.hint} Nothing was changed.".strip()) from error


def _issue_now(requests: Requests, offer: PairingOffer) -> Certificates:
    from openmse.pki.authority import Authority, Subject

    authority = Authority(offer.authority_certificate, offer.authority_key)
    facts = requests.facts
    virtual_ips = offer.virtual_ips if offer.kind is Role.NODE else ()
    identity = Identity(offer.group, offer.kind, facts.id)
    subject = Subject(identity, facts.names, (*facts.addresses, *virtual_ips))
    try:
        node = authority.issue(requests.node, subject)
        replication = b""
        if offer.kind is Role.NODE:
            client = Identity(offer.group, Role.REPLICATION, facts.id)
            replication = authority.issue(requests.replication, Subject(client))
    except ValueError as error:  # an address that is none
        raise PairingError("The other machine's addresses or names cannot be certified.") from error
    return Certificates(node, replication)


def _fingerprint(certificate: bytes) -> str:
    from openmse.pki.authority import public_fingerprint

    return public_fingerprint(certificate)
