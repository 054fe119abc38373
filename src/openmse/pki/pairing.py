"""Pairing, enrolling and re-admission, the initiator's side.

A primary pairs with a secondary, a node enrols a witness: they give, and store nothing here. A new
machine asks a group's owner to be re-admitted in place of a lost one: it takes. Should the
connection break in the one moment in between (commit sent, answer lost), repeating the same with
the same password is the remedy: so a giver has its group and authority on disk before calling.
"""

import asyncio
from contextlib import suppress

from openmse.errors import MseError, PairingError, PeerError
from openmse.pki.names import Role
from openmse.pki.pairing_exchange import (
    PairingOffer,
    PairingResult,
    Progress,
    Taker,
    give,
    take,
)
from openmse.pki.pairing_messages import (
    READMISSION_VERSION,
    Code,
    Done,
    Hello,
    Refused,
    refusal,
)
from openmse.pki.pairing_stream import SealedStream, Stream, prove_as_initiator
from openmse.pki.password import SALT_BYTES, derive
from openmse.wire.ids import is_id
from openmse.wire.versions import common_version

__all__ = ["PairingOffer", "PairingResult", "pair_with", "readmit_from"]

CONNECT_TIMEOUT_S = 5.0


async def pair_with(address: str, port: int, password: str, offer: PairingOffer) -> PairingResult:
    """Pair with, or enrol, the machine that waits there.

    Raises PairingError: nothing was changed on either side, unless its code is MSE-PAIR-009,
    whose sentence says that the other side may have stored the pairing.
    """
    hello = Hello(offer.me, Role.NODE, offer.software, offer.kind, offer.group)
    reader, writer = await _connect(address, port)
    progress = Progress()
    try:
        sealed, theirs = await _prove(Stream(reader, writer), password, hello)
        result = await give(sealed, theirs.id, offer, progress)
        with suppress(ConnectionError, TimeoutError):  # it has stored all; its password expires
            await sealed.send(Done())
        return result
    except (ConnectionError, TimeoutError) as error:
        raise progress.broken() from error
    finally:
        await _close(writer)


async def readmit_from(address: str, port: int, password: str, taker: Taker) -> bool:
    """Have the owner that waits there give its group to this machine, which is new in it.

    Returns whether the owner is known to know; if not, the same may be repeated. Raises
    PairingError, and what ``taker.commit`` raises; nothing was changed then.
    """
    me = taker.responder()
    hello = Hello(me.id, Role.NODE, me.software, Role.NODE, version=READMISSION_VERSION)
    reader, writer = await _connect(address, port)
    try:
        sealed, theirs = await _prove(Stream(reader, writer), password, hello)
        try:
            return await take(sealed, theirs.id, taker)
        except MseError as error:
            with suppress(ConnectionError, TimeoutError, PairingError):
                await sealed.send(Refused(error.sentence, error.hint, error.code))
            raise
    except (ConnectionError, TimeoutError) as error:
        raise Progress().broken() from error
    finally:
        await _close(writer)


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


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError, TimeoutError):
        await writer.wait_closed()


async def _prove(stream: Stream, password: str, hello: Hello) -> tuple[SealedStream, Hello]:
    """Greet, and prove to each other that both know the password."""
    await stream.send(hello)
    theirs = await stream.receive(Hello)
    _check_hello(theirs, hello)
    secret = await asyncio.to_thread(derive, password, theirs.salt)
    return await prove_as_initiator(stream, secret), theirs


def _check_hello(theirs: Hello, mine: Hello) -> None:
    if theirs.version != mine.version or len(theirs.salt) != SALT_BYTES:
        raise refusal(Code.VERSION)
    try:
        common_version(theirs.lowest_wire, theirs.highest_wire)
    except PeerError as error:
        raise refusal(Code.VERSION, error.sentence) from error
    if not is_id(theirs.id):
        raise refusal(Code.BROKEN)
    if theirs.role is not mine.kind:
        raise refusal(Code.ROLE)
    if theirs.id == mine.id:
        raise refusal(Code.SAME_ID)
    if mine.kind is Role.NODE and theirs.software != mine.software:
        raise refusal(Code.SOFTWARE)
