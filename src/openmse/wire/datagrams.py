"""Datagrams that cannot be forged or replayed: one ``Channel`` for each other party. Pure.

Layout: magic, layout version, kind, the sender's session, the token it believes the receiver to
listen for, a counter, lengths, group, sender, payload, zeros, and an HMAC-SHA256 cut to 128 bits
over all of it. Each direction between two parties has a key of its own.

A receiver listens for one random token of its own making, and delivers only what names it. A
datagram of an unknown session, or with another token, is never delivered: it is answered by a
``hello`` with a fresh token, which echoes the counter of what it answers, so that an old hello
means nothing. The fresh token comes into force when the first datagram that names it arrives,
and the one before dies with it. So nothing that was recorded earlier is ever accepted: not after
the receiver restarted (its tokens are new), nor after the sender did (its new session moved the
token on). A hello changes no state, is never longer than its question, and is rate limited.
"""

import hmac
from collections.abc import Callable
from enum import IntEnum, StrEnum
from struct import Struct as Format
from typing import NamedTuple

from openmse.wire.ids import is_id

LAYOUT_VERSION = 1
MAX_DATAGRAM_BYTES = 8192
"""More than a beat ever needs; beyond the MTU the kernel sends fragments."""
TAG_BYTES = 16
TOKEN_BYTES = 8
KEY_BYTES = 32
RESEND_WITHIN_NS = 500_000_000
"""A payload that met an unknown session is sent again at once if it is not older than this: by
its own sender, once, so that a restart does not cost a heartbeat."""
HELLO_BURST = 8
HELLO_INTERVAL_NS = 20_000_000
"""Between two hellos to the same party, after a burst."""

_HEADER = Format(">2sBB8s8sQHBB")
_LABEL = b"openmse datagram"
_MAGIC = b"OM"
_DATA = 1
_HELLO = 2
_NAMES_AT = _HEADER.size - 2
_UNKNOWN = bytes(TOKEN_BYTES)


class Kind(IntEnum):
    """What became of a datagram that was opened."""

    REJECTED = 0
    DELIVERED = 1
    SEND = 2
    """Not delivered; ``data`` is to be sent to the other party now."""


class Reason(StrEnum):
    """Why a datagram was not delivered; the names of the counters."""

    NONE = ""
    MALFORMED = "malformed"
    OTHER_VERSION = "other_version"
    UNKNOWN_PARTY = "unknown_party"
    FORGED = "forged"
    REPLAYED = "replayed"
    OTHER_SESSION = "other_session"
    """The sender does not know this receiver's session, or restarted; it has been told."""
    HELLO = "hello"
    """A hello that taught the other party's session."""
    STALE_HELLO = "stale_hello"


class Outcome(NamedTuple):
    """What to do about a datagram: deliver ``data``, send it, or only count ``reason``."""

    kind: Kind
    data: bytes = b""
    reason: Reason = Reason.NONE


def witness_root(group_key: bytes, witness: str) -> bytes:
    """The key a witness is given: it cannot forge what the two nodes tell each other with it."""
    return _derive(group_key, b"openmse witness root", witness)


def pair_root(group_key: bytes) -> bytes:
    """The root of the keys between the two nodes of a group."""
    return _derive(group_key, b"openmse nodes root", "")


def names_key(group: str, sender: str) -> bytes:
    """What ``peek`` gives for a datagram of this group and sender."""
    return bytes((len(group), len(sender))) + group.encode() + sender.encode()


def peek(data: bytes) -> bytes | Reason:
    """The names in the clear header of a datagram, to look its channel up; or why there is none."""
    if len(data) < _HEADER.size + TAG_BYTES or data[:2] != _MAGIC:
        return Reason.MALFORMED
    if data[2] != LAYOUT_VERSION:
        return Reason.OTHER_VERSION
    return data[_NAMES_AT : _HEADER.size + data[_NAMES_AT] + data[_NAMES_AT + 1]]


def _derive(key: bytes, label: bytes, *names: str) -> bytes:
    """HKDF-SHA256 (RFC 5869) of one block; ``key`` is uniform, so extraction has no salt."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    info = label + b"".join(b"\0" + name.encode() for name in names)
    return hmac.digest(extracted, info + b"\x01", "sha256")


def _tag(keyed: hmac.HMAC, body: bytes) -> bytes:
    mac = keyed.copy()
    mac.update(body)
    return mac.digest()[:TAG_BYTES]


class Channel:
    """Both directions between ``me`` and ``peer`` in one group.

    ``root``: the secret the two share (``pair_root`` or ``witness_root``). ``token``: gives
    ``TOKEN_BYTES`` fresh random bytes each time. Instants are of the caller's steady clock, ns.
    """

    def __init__(
        self, group: str, me: str, peer: str, *, root: bytes, token: Callable[[], bytes]
    ) -> None:
        assert is_id(group)
        assert is_id(me)
        assert is_id(peer)
        assert me != peer
        assert len(root) == KEY_BYTES
        self.peer = peer
        self.group = group
        # Keyed once and copied for each datagram: setting a key up costs more than the digest.
        self._send_mac = hmac.new(_derive(root, _LABEL, group, me, peer), digestmod="sha256")
        self._open_mac = hmac.new(_derive(root, _LABEL, group, peer, me), digestmod="sha256")
        self._names = group.encode() + me.encode()
        self._lengths = (len(group), len(me))
        self._body_at = _HEADER.size + len(group) + len(peer)
        self._token = token
        # sending
        self._session = token()
        self._counter = 0
        self._their_token = _UNKNOWN
        self._echoed = 0
        self._last_payload = b""
        self._last_sent_at = -RESEND_WITHIN_NS
        # receiving
        self._their_session = _UNKNOWN
        self._my_token = token()  # until a first session comes: known to nobody
        self._next_token = token()
        self._seen = 0
        self._answered = (_UNKNOWN, 0)
        self._hello_at = -HELLO_BURST * HELLO_INTERVAL_NS

    def seal(self, payload: bytes, at: int) -> bytes:
        """The datagram that carries ``payload``; at least as long as a hello that answers it."""
        self._last_payload = payload
        self._last_sent_at = at
        self._counter += 1
        padding = self._body_at - _HEADER.size - len(self._names) - len(payload)
        fields = (self._session, self._their_token, self._counter)
        return self._write(_DATA, *fields, payload=payload, padding=padding)

    def open(self, data: bytes, at: int) -> Outcome:
        """What a datagram with this channel's names (``peek``) is worth."""
        tagged_at = len(data) - TAG_BYTES
        if tagged_at < self._body_at:
            return Outcome(Kind.REJECTED, reason=Reason.MALFORMED)
        tag = _tag(self._open_mac, data[:tagged_at])
        if not hmac.compare_digest(tag, data[tagged_at:]):
            return Outcome(Kind.REJECTED, reason=Reason.FORGED)
        _, _, kind, session, token, counter, length, _, _ = _HEADER.unpack_from(data)
        if kind == _HELLO:
            return self._on_hello(session, token, counter, at)
        end = self._body_at + length
        if kind != _DATA or end > tagged_at:
            return Outcome(Kind.REJECTED, reason=Reason.MALFORMED)
        if token == self._my_token and session == self._their_session:
            if counter <= self._seen:
                return Outcome(Kind.REJECTED, reason=Reason.REPLAYED)
        elif token == self._next_token:
            self._their_session = session
            self._my_token = token
            self._next_token = self._token()
        else:
            return self._answer(session, counter, len(data), at)
        self._seen = counter
        return Outcome(Kind.DELIVERED, data[self._body_at : end])

    def _answer(self, session: bytes, counter: int, length: int, at: int) -> Outcome:
        """Tell a sender of another session which token is listened for, if it may be real."""
        answered_session, answered_counter = self._answered
        if session == answered_session and counter <= answered_counter:
            return Outcome(Kind.REJECTED, reason=Reason.REPLAYED)
        if session == self._their_session and counter <= self._seen:
            return Outcome(Kind.REJECTED, reason=Reason.REPLAYED)
        earliest = at - HELLO_BURST * HELLO_INTERVAL_NS
        if self._hello_at > at or length < _HEADER.size + len(self._names) + TAG_BYTES:
            return Outcome(Kind.REJECTED, reason=Reason.OTHER_SESSION)
        self._hello_at = max(self._hello_at, earliest) + HELLO_INTERVAL_NS
        self._answered = (session, counter)
        known = session == self._their_session
        token = self._my_token if known else self._next_token
        hello = self._write(_HELLO, token, session, counter)
        return Outcome(Kind.SEND, hello, Reason.OTHER_SESSION)

    def _on_hello(self, token: bytes, session: bytes, counter: int, at: int) -> Outcome:
        if session != self._session or not self._echoed < counter <= self._counter:
            return Outcome(Kind.REJECTED, reason=Reason.STALE_HELLO)
        self._echoed = counter
        is_news = token != self._their_token
        self._their_token = token
        if not is_news or at - self._last_sent_at > RESEND_WITHIN_NS:
            return Outcome(Kind.REJECTED, reason=Reason.HELLO)
        return Outcome(Kind.SEND, self.seal(self._last_payload, self._last_sent_at), Reason.HELLO)

    def _write(
        self,
        kind: int,
        *fields: bytes | int,
        payload: bytes = b"",
        padding: int = 0,
    ) -> bytes:
        """``fields``: session, token, counter."""
        header = _HEADER.pack(_MAGIC, LAYOUT_VERSION, kind, *fields, len(payload), *self._lengths)
        body = header + self._names + payload
        if padding > 0:
            body += bytes(padding)
        return body + _tag(self._send_mac, body)
