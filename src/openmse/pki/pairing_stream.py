"""The conversation of a pairing: bounded frames, a PAKE, then sealed frames.

``spake2`` and the cipher are loaded when the first pairing begins, in a thread: they would cost
the daemon's start, and the PAKE's arithmetic would cost it a heartbeat.
"""

import asyncio
import hashlib
import hmac
from typing import Any, TypeVar

import msgspec

from openmse.errors import PairingError
from openmse.pki.pairing_messages import (
    MAX_FRAME_BYTES,
    Clear,
    Code,
    Confirm,
    Refuse,
    Refused,
    Secure,
    Share,
    refusal,
)
from openmse.wire.frames import HEADER_BYTES, frame

STEP_TIMEOUT_S = 15.0
_SEAL_BYTES = 16

M = TypeVar("M")

_clear = msgspec.msgpack.Decoder(Clear)
_secure = msgspec.msgpack.Decoder(Secure)


class Stream:
    """Frames over a connection; every one sent or received goes into the transcript."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._transcript = hashlib.sha256(b"openmse pairing 1")

    async def send(self, message: Clear) -> None:
        """Raises ConnectionError or TimeoutError."""
        await self.send_bytes(msgspec.msgpack.encode(message))

    async def receive(self, expected: type[M]) -> M:
        """The next message; raises PairingError on a refusal or on any other message."""
        data = await self.receive_bytes(MAX_FRAME_BYTES)
        try:
            message: Any = _clear.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise refusal(Code.BROKEN) from error
        if isinstance(message, Refuse):
            raise refusal(message.code, refusal_detail(message))
        if not isinstance(message, expected):
            raise refusal(Code.BROKEN)
        return message

    async def send_bytes(self, data: bytes) -> None:
        assert len(data) <= MAX_FRAME_BYTES + _SEAL_BYTES
        framed = frame(data)
        self._transcript.update(framed)
        self._writer.write(framed)
        async with asyncio.timeout(STEP_TIMEOUT_S):
            await self._writer.drain()

    async def receive_bytes(self, limit_bytes: int) -> bytes:
        async with asyncio.timeout(STEP_TIMEOUT_S):
            try:
                header = await self._reader.readexactly(HEADER_BYTES)
                length = int.from_bytes(header, "big")
                if length > limit_bytes:
                    raise refusal(Code.BROKEN)
                data = await self._reader.readexactly(length)
            except asyncio.IncompleteReadError as error:
                raise ConnectionResetError("the connection ended") from error
        self._transcript.update(header + data)
        return data

    def transcript(self) -> bytes:
        """A digest of everything said so far."""
        return self._transcript.digest()


class SealedStream:
    """Frames that only the two who know the password can read or write."""

    def __init__(self, stream: Stream, send_key: bytes, receive_key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        self._stream = stream
        self._sealer = ChaCha20Poly1305(send_key)
        self._opener = ChaCha20Poly1305(receive_key)
        self._sent = 0
        self._received = 0

    async def send(self, message: Secure) -> None:
        """Raises PairingError where the message is too long, ConnectionError, TimeoutError."""
        data = msgspec.msgpack.encode(message)
        if len(data) > MAX_FRAME_BYTES:
            raise PairingError(
                f"What was to be told the other machine is too long ({len(data)} bytes)."
            )
        nonce = self._sent.to_bytes(12, "big")
        self._sent += 1
        await self._stream.send_bytes(self._sealer.encrypt(nonce, data, None))

    async def receive(self, expected: type[M]) -> M:
        """The next message; raises PairingError on a refusal or on any other message."""
        from cryptography.exceptions import InvalidTag

        sealed = await self._stream.receive_bytes(MAX_FRAME_BYTES + _SEAL_BYTES)
        nonce = self._received.to_bytes(12, "big")
        self._received += 1
        try:
            message: Any = _secure.decode(self._opener.decrypt(nonce, sealed, None))
        except (InvalidTag, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise refusal(Code.BROKEN) from error
        if isinstance(message, Refused):
            raise PairingError(message.sentence, message.hint, code=message.code)
        if not isinstance(message, expected):
            raise refusal(Code.BROKEN)
        return message


async def prove_as_initiator(stream: Stream, secret: bytes) -> SealedStream:
    """Speak first, prove first: so the responder learns of a wrong guess, and nobody else."""
    from_us, pake = await asyncio.to_thread(_begin, secret, True)
    await stream.send(Share(from_us))
    theirs = await stream.receive(Share)
    key = await asyncio.to_thread(_finish, pake, theirs.data)
    keys = _Keys(key, stream.transcript())
    await stream.send(Confirm(keys.confirm_initiator))
    proof = await stream.receive(Confirm)
    if not hmac.compare_digest(proof.mac, keys.confirm_responder):
        raise refusal(Code.WRONG_PASSWORD)
    return await asyncio.to_thread(SealedStream, stream, keys.initiator, keys.responder)


async def prove_as_responder(stream: Stream, secret: bytes, share: Share) -> SealedStream:
    """Answer a share, which was paid for with a guess; raises WRONG_PASSWORD."""
    from_us, pake = await asyncio.to_thread(_begin, secret, False)
    key = await asyncio.to_thread(_finish, pake, share.data)
    await stream.send(Share(from_us))
    keys = _Keys(key, stream.transcript())
    proof = await stream.receive(Confirm)
    if not hmac.compare_digest(proof.mac, keys.confirm_initiator):
        raise refusal(Code.WRONG_PASSWORD)
    await stream.send(Confirm(keys.confirm_responder))
    return await asyncio.to_thread(SealedStream, stream, keys.responder, keys.initiator)


def refusal_detail(message: Refuse) -> str:
    """What may be shown of a refusal that anybody could have sent."""
    if message.code not in (Code.SOFTWARE, Code.VERSION):
        return ""
    version = "".join(c for c in message.software[:40] if c.isalnum() or c in ".-+")
    return f"The other one runs {version or 'an unknown version'}, wire {message.highest_wire}."


class _Keys:
    """Independent keys for each direction and each proof, bound to the whole conversation."""

    def __init__(self, key: bytes, transcript: bytes) -> None:
        root = hmac.digest(transcript, key, "sha256")  # HKDF-Extract (RFC 5869)

        def expand(label: bytes) -> bytes:
            return hmac.digest(root, b"openmse pairing " + label + b"\x01", "sha256")

        self.initiator = expand(b"seal initiator")
        self.responder = expand(b"seal responder")
        self.confirm_initiator = expand(b"confirm initiator")
        self.confirm_responder = expand(b"confirm responder")


def _begin(secret: bytes, is_initiator: bool) -> tuple[bytes, Any]:
    import spake2

    side = spake2.SPAKE2_A if is_initiator else spake2.SPAKE2_B
    pake = side(secret, idA=b"openmse initiator", idB=b"openmse responder")
    return pake.start(), pake


def _finish(pake: Any, share: bytes) -> bytes:
    """The library asserts, and raises many kinds, on shares that are none."""
    try:
        return bytes(pake.finish(share))
    except Exception as error:
        raise refusal(Code.BROKEN) from error
