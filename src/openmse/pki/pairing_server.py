"""Pairing, enrolling and re-admission, the responder's side: a machine that waits with a password.

Embedded in the health monitor or the witness. Slow arithmetic runs in a thread. A secondary and a
witness take, and everything is stored by one call of the handler's ``commit``; before it, a broken
connection changes nothing. The owner of a group gives it to a machine that is new in it.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from openmse.errors import MseError, PairingError, PeerError
from openmse.pki.names import Role
from openmse.pki.pairing_exchange import (
    Paired,
    PairingOffer,
    PairingResult,
    Progress,
    Responder,
    Taker,
    give,
    take,
)
from openmse.pki.pairing_messages import (
    PAIRING_VERSION,
    READMISSION_VERSION,
    Code,
    Done,
    Hello,
    Refuse,
    Refused,
    Share,
    code_of,
    refusal,
)
from openmse.pki.pairing_stream import SealedStream, Stream, prove_as_responder
from openmse.pki.password import PairingStore
from openmse.sockets import Address, bind, open_socket
from openmse.wire.ids import is_id
from openmse.wire.versions import common_version

__all__ = ["Giver", "Paired", "PairingServer", "Responder", "Taker"]

MAX_CONVERSATIONS = 4
CONVERSATION_TIMEOUT_S = 60.0


class Giver(Protocol):
    """What a re-admission needs of the owner around it."""

    def responder(self) -> Responder:
        """Who this machine is now."""
        ...

    def offer(self) -> tuple[str, PairingOffer]:
        """The name that the new machine gets, and the group. Raises CommandRefused where there
        is nobody to be replaced now."""
        ...

    async def admit(self, result: PairingResult) -> None:
        """The new machine has stored everything: make it the other node. Raises MseError."""
        ...


class PairingServer:
    """Listens for pairings while open, or for one re-admission.

    ``handler``: what takes, or a Giver that gives. ``is_one_shot``: the password is forgotten
    after a pairing (a node); a witness keeps its own.
    ``on_refused(error, address)``: for the event log.
    """

    def __init__(
        self,
        store: PairingStore,
        handler: Taker | Giver,
        *,
        bind: Address,
        is_one_shot: bool = True,
        clock: Callable[[], float] = time.time,
        on_refused: Callable[[MseError, str], None] | None = None,
    ) -> None:
        self._store = store
        self._handler = handler
        self._version = PAIRING_VERSION if isinstance(handler, Taker) else READMISSION_VERSION
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
            is_known = await self._exchange(sealed, theirs.id)
        except MseError as error:
            await sealed.send(Refused(error.sentence, error.hint, error.code))
            raise
        if is_known and self._is_one_shot:
            self._store.clear()

    async def _exchange(self, sealed: SealedStream, initiator: str) -> bool:
        """Whether both sides are known to know; if not, the password stays until it expires."""
        handler = self._handler
        if isinstance(handler, Taker):
            return await take(sealed, initiator, handler)
        name, offer = handler.offer()
        await handler.admit(await give(sealed, name, offer, Progress()))
        with suppress(ConnectionError, TimeoutError):  # it has stored all, and need not know
            await sealed.send(Done())
        return True

    async def _greet(self, stream: Stream, theirs: Hello, me: Responder) -> None:
        self._check_hello(theirs, me)
        armed = self._store.check(self._clock())
        version = self._version
        hello = Hello(me.id, me.role, me.software, theirs.kind, salt=armed.salt, version=version)
        await stream.send(hello)

    def _check_hello(self, theirs: Hello, me: Responder) -> None:
        if theirs.version not in (PAIRING_VERSION, READMISSION_VERSION):
            raise refusal(Code.VERSION)
        if theirs.version != self._version:
            raise refusal(Code.NOT_WAITING)
        try:
            common_version(theirs.lowest_wire, theirs.highest_wire)
        except PeerError as error:
            raise refusal(Code.VERSION) from error
        is_named = is_id(theirs.group) or self._version == READMISSION_VERSION
        if not (is_id(theirs.id) and is_named):
            raise refusal(Code.BROKEN)
        if theirs.kind is not me.role or theirs.role is not Role.NODE:
            raise refusal(Code.ROLE)
        if theirs.id == me.id:
            raise refusal(Code.SAME_ID)
        if me.role is Role.NODE and theirs.software != me.software:
            raise refusal(Code.SOFTWARE)
        is_new = theirs.group not in me.groups
        if self._version == PAIRING_VERSION and is_new and me.is_full:
            raise refusal(Code.OTHER_GROUP)


_TELLING = (Code.VERSION, Code.SOFTWARE)
