"""What is exchanged once the password is proven: one side gives the group, the other takes it.

In a pairing and an enrolment the initiator gives; in a re-admission the responder does. The taker
makes its own key, so no private key but the authority's ever crosses the wire. Nothing is stored
on the taker before ``commit``, and the giver stores what it must after that: so a break in between
is healed by doing the same once more.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Protocol, runtime_checkable

from msgspec import Struct

from openmse.errors import MseError, PairingError
from openmse.pki.names import Identity, Role
from openmse.pki.pairing_messages import (
    Certificates,
    Code,
    Commit,
    Committed,
    Done,
    Facts,
    Offer,
    Prepared,
    Refused,
    Requests,
    refusal,
)
from openmse.pki.pairing_stream import SealedStream
from openmse.wire.datagrams import witness_root
from openmse.wire.ids import is_id


class PairingOffer(Struct, frozen=True, kw_only=True):
    """What the giver has, and wants.

    ``kind``: NODE for a peer node, WITNESS to enrol one. ``virtual_ips``: without prefixes, for
    the certificate of a node. ``group_info``, ``settings``, ``register_seed``: bytes that only
    the callers understand; a witness is not given the seed.
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


class Responder(Struct, frozen=True):
    """Who waits, or takes. ``groups``: those it belongs to; at most ``group_limit`` of them."""

    id: str
    role: Role
    software: str
    groups: tuple[str, ...] = ()
    group_limit: int = 1

    @property
    def is_full(self) -> bool:
        """Whether it may not join another group."""
        return len(self.groups) >= self.group_limit


class Paired(Struct, frozen=True):
    """Everything the taker is to store; keys and certificates are PEM.

    ``initiator``: the giver. ``offer.authority_key`` and the replication pair are empty for a
    witness. A node's two certificates are for the same key.
    """

    initiator: str
    offer: Offer
    key: bytes
    certificate: bytes
    replication_key: bytes
    replication_certificate: bytes
    fingerprint: str

    def __repr__(self) -> str:
        return f"Paired(initiator={self.initiator!r}, group={self.offer.group!r})"


@runtime_checkable
class Taker(Protocol):
    """What the taking side needs of the program around it."""

    def responder(self) -> Responder:
        """Who this machine is now; one that is re-admitted knows its name after ``review``."""
        ...

    def facts(self) -> Facts:
        """What the giver is told, once the password is proven."""
        ...

    def review(self, initiator: str, offer: Offer) -> None:
        """Raise CommandRefused or PairingError where this offer cannot be taken."""
        ...

    async def commit(self, paired: Paired) -> None:
        """Store it all durably, or nothing and raise an MseError. May be repeated: a giver that
        did not hear of the first time comes again with the same group."""
        ...


class Progress:
    """How far it came, for the sentence of a broken connection."""

    may_be_committed = False

    def broken(self) -> PairingError:
        """The error for a connection that broke."""
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


# -- giving -----------------------------------------------------------------------------------


async def give(
    sealed: SealedStream, taker: str, offer: PairingOffer, progress: Progress
) -> PairingResult:
    """Give the group to ``taker``, who has stored it all when this returns; ``Done`` is to follow.

    Raises PairingError, ConnectionError, TimeoutError.
    """
    await sealed.send(_offer_for(taker, offer))
    requests = await sealed.receive(Requests)
    certificates = await _issue(sealed, requests, taker, offer)
    await sealed.send(certificates)
    await sealed.receive(Prepared)
    progress.may_be_committed = True
    await sealed.send(Commit())
    await sealed.receive(Committed)
    return PairingResult(requests.facts, certificates.node, _fingerprint(certificates.node))


def _offer_for(taker: str, offer: PairingOffer) -> Offer:
    is_witness = offer.kind is Role.WITNESS
    key = offer.heartbeat_key
    return Offer(
        group=offer.group,
        authority_certificate=offer.authority_certificate,
        heartbeat_key=witness_root(key, taker) if is_witness else key,
        virtual_ips=() if is_witness else offer.virtual_ips,
        group_info=offer.group_info,
        settings=offer.settings,
        register_seed=b"" if is_witness else offer.register_seed,
        authority_key=b"" if is_witness else offer.authority_key,
    )


async def _issue(
    sealed: SealedStream, requests: Requests, taker: str, offer: PairingOffer
) -> Certificates:
    """Certificates for the taker; tells it of a refusal of ours."""
    try:
        if requests.facts.id != taker:
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


# -- taking -----------------------------------------------------------------------------------


async def take(sealed: SealedStream, giver: str, handler: Taker) -> bool:
    """Take the group from ``giver``; whether it confirmed that it knows. All is stored then.

    Raises MseError, ConnectionError, TimeoutError.
    """
    offer = await sealed.receive(Offer)
    me = handler.responder()
    if not is_id(offer.group) or (offer.group not in me.groups and me.is_full):
        raise refusal(Code.OTHER_GROUP)
    handler.review(giver, offer)
    me, facts = handler.responder(), handler.facts()
    key, requests = await asyncio.to_thread(_make_requests, facts, me.role)
    await sealed.send(requests)
    certificates = await sealed.receive(Certificates)
    paired = await asyncio.to_thread(_check, giver, offer, me, key, certificates)
    await sealed.send(Prepared())
    await sealed.receive(Commit)
    await _to_its_end(handler.commit(paired))
    with suppress(PairingError, ConnectionError, TimeoutError):
        await sealed.send(Committed())
        await sealed.receive(Done)
        return True
    return False  # it may not know, and come again


async def _to_its_end(storing: Coroutine[None, None, None]) -> None:
    """Nothing that ends the conversation may leave half of it stored."""
    task = asyncio.ensure_future(storing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _make_requests(facts: Facts, role: Role) -> tuple[bytes, Requests]:
    from openmse.pki.authority import REPLICATION_USER, new_key, signing_request

    key = new_key()
    if role is Role.WITNESS:
        return key, Requests(facts, signing_request(key, facts.id))
    client = signing_request(key, REPLICATION_USER)
    return key, Requests(facts, signing_request(key, facts.id), client)


def _check(
    giver: str, offer: Offer, me: Responder, key: bytes, certificates: Certificates
) -> Paired:
    """What was issued is what was asked for, so that nothing useless is ever stored."""
    from openmse.pki.authority import Authority, belongs, public_fingerprint, verify

    facts = verify(certificates.node, offer.authority_certificate)
    is_right = facts.identity == Identity(offer.group, me.role, me.id)
    is_right = is_right and belongs(certificates.node, key)
    if me.role is Role.NODE:
        client = verify(certificates.replication, offer.authority_certificate)
        is_right = is_right and client.identity == Identity(offer.group, Role.REPLICATION, me.id)
        is_right = is_right and belongs(certificates.replication, key)
        Authority(offer.authority_certificate, offer.authority_key)
    if not is_right:
        raise refusal(Code.BROKEN)
    return Paired(
        giver,
        offer,
        key,
        certificates.node,
        key if me.role is Role.NODE else b"",
        certificates.replication,
        public_fingerprint(certificates.node),
    )
