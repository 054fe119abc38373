"""Pairing and enrolling, the responder's side: a secondary, or a witness.

Embedded in the health monitor or the witness. Slow arithmetic runs in a thread. Everything is
stored by one call of the handler's ``commit``; before it, a broken connection changes nothing.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Protocol

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
    Refuse,
    Refused,
    Requests,
    Share,
    code_of,
    refusal,
)
from openmse.pki.pairing_stream import SealedStream, Stream, prove_as_responder
from openmse.pki.password import PairingStore
from openmse.sockets import Address, bind, open_socket
from openmse.wire.ids import is_id
from openmse.wire.versions import common_version

MAX_CONVERSATIONS = 4
CONVERSATION_TIMEOUT_S = 60.0


class Responder(Struct, frozen=True):
    """Who waits. ``groups``: those it belongs to; at most ``group_limit`` of them."""

    id: str
    role: Role
    software: str
    groups: tuple[str, ...] = ()
    group_limit: int = 1


class Paired(Struct, frozen=True):
    """Everything the responder is to store; keys and certificates are PEM.

    ``offer.authority_key`` and the replication pair are empty for a witness. A node's two
    certificates are for the same key.
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


class PairingHandler(Protocol):
    """What the server needs of the program around it."""

    def responder(self) -> Responder:
        """Who this machine is now."""
        ...

    def facts(self) -> Facts:
        """What the initiator is told, once it has proven the password."""
        ...

    def review(self, initiator: str, offer: Offer) -> None:
        """Raise CommandRefused or PairingError where this offer cannot be taken."""
        ...

    async def commit(self, paired: Paired) -> None:
        """Store it all durably, or nothing and raise an MseError. May be repeated: an initiator
        that did not hear of the first time comes again with the same group."""
        ...


class PairingServer:
    """Listens for pairings while open.

    ``is_one_shot``: the password is forgotten after a pairing (a node); a witness keeps its own.
    ``on_refused(error, address)``: for the event log.
    """

    def __init__(
        self,
        store: PairingStore,
        handler: PairingHandler,
        *,
        bind: Address,
        is_one_shot: bool = True,
        clock: Callable[[], float] = time.time,
        on_refused: Callable[[MseError, str], None] | None = None,
    ) -> None:
        self._store = store
        self._handler = handler
        self._bind = bind
        self._is_one_shot = is_one_shot
        self._clock = clock
        self._on_refused = on_refused
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> Address:
        """Where it listens; the port is the real one once open."""
        if self._server is None or not self._server.sockets:
            return self._bind
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def open(self) -> None:
        """Begin to listen; raises NetworkError."""
        assert self._server is None
        sock = open_socket(self._bind[0], socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind(sock, self._bind, "Pairing")
        self._server = await asyncio.start_server(self._accept, sock=sock)

    async def close(self) -> None:
        """Stop listening and end conversations that have not committed."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        address = str((writer.get_extra_info("peername") or ("?",))[0])
        stream = Stream(reader, writer)
        try:
            async with asyncio.timeout(CONVERSATION_TIMEOUT_S):
                await self._serve(stream, is_busy=len(self._tasks) > MAX_CONVERSATIONS)
        except MseError as error:
            self._report(error, address)
        except (ConnectionError, TimeoutError):
            self._report(refusal(Code.BROKEN), address)
        except asyncio.CancelledError:
            return  # close() was called; the connection just ends
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
                await writer.wait_closed()

    def _report(self, error: MseError, address: str) -> None:
        if self._on_refused is not None:
            self._on_refused(error, address)

    async def _serve(self, stream: Stream, *, is_busy: bool) -> None:
        try:
            me = self._handler.responder()
            theirs = await stream.receive(Hello)
            if is_busy:
                raise refusal(Code.BUSY)
            await self._greet(stream, theirs, me)
            share = await stream.receive(Share)
            armed = self._store.spend_guess(self._clock())
            sealed = await prove_as_responder(stream, armed.secret, share)
        except PairingError as error:
            code = code_of(error)
            software = self._handler.responder().software if code in _TELLING else ""
            await stream.send(Refuse(code, software))
            raise
        self._store.forgive(self._clock())
        try:
            await self._pair(sealed, theirs.id, me)
        except MseError as error:
            await sealed.send(Refused(error.sentence, error.hint, error.code))
            raise

    async def _greet(self, stream: Stream, theirs: Hello, me: Responder) -> None:
        self._check_hello(theirs, me)
        armed = self._store.check(self._clock())
        await stream.send(Hello(me.id, me.role, me.software, theirs.kind, salt=armed.salt))

    def _check_hello(self, theirs: Hello, me: Responder) -> None:
        if theirs.version != PAIRING_VERSION:
            raise refusal(Code.VERSION)
        try:
            common_version(theirs.lowest_wire, theirs.highest_wire)
        except PeerError as error:
            raise refusal(Code.VERSION) from error
        if not (is_id(theirs.id) and is_id(theirs.group)):
            raise refusal(Code.BROKEN)
        if theirs.kind is not me.role or theirs.role is not Role.NODE:
            raise refusal(Code.ROLE)
        if theirs.id == me.id:
            raise refusal(Code.SAME_ID)
        if me.role is Role.NODE and theirs.software != me.software:
            raise refusal(Code.SOFTWARE)
        is_new = theirs.group not in me.groups
        if is_new and len(me.groups) >= me.group_limit:
            raise refusal(Code.OTHER_GROUP)

    async def _pair(self, sealed: SealedStream, initiator: str, me: Responder) -> None:
        offer = await sealed.receive(Offer)
        if not is_id(offer.group) or (offer.group not in me.groups and _is_full(me)):
            raise refusal(Code.OTHER_GROUP)
        self._handler.review(initiator, offer)
        facts = self._handler.facts()
        key, requests = await asyncio.to_thread(_make_requests, facts, me.role)
        await sealed.send(requests)
        certificates = await sealed.receive(Certificates)
        paired = await asyncio.to_thread(_check, initiator, offer, me, key, certificates)
        await sealed.send(Prepared())
        await sealed.receive(Commit)
        await _to_its_end(self._handler.commit(paired))
        try:
            await sealed.send(Committed())
            await sealed.receive(Done)
        except (PairingError, ConnectionError, TimeoutError):
            return  # it may not know, and come again: the password stays until it expires
        if self._is_one_shot:
            self._store.clear()


async def _to_its_end(storing: Coroutine[None, None, None]) -> None:
    """Nothing that ends the conversation may leave half of it stored."""
    task = asyncio.ensure_future(storing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


_TELLING = (Code.VERSION, Code.SOFTWARE)


def _is_full(me: Responder) -> bool:
    return len(me.groups) >= me.group_limit


def _make_requests(facts: Facts, role: Role) -> tuple[bytes, Requests]:
    from openmse.pki.authority import REPLICATION_USER, new_key, signing_request

    key = new_key()
    if role is Role.WITNESS:
        return key, Requests(facts, signing_request(key, facts.id))
    client = signing_request(key, REPLICATION_USER)
    return key, Requests(facts, signing_request(key, facts.id), client)


def _check(
    initiator: str,
    offer: Offer,
    me: Responder,
    key: bytes,
    certificates: Certificates,
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
        initiator,
        offer,
        key,
        certificates.node,
        key if me.role is Role.NODE else b"",
        certificates.replication,
        public_fingerprint(certificates.node),
    )
