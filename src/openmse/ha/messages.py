"""The messages between the voters of one group.

``Beat``, ``BeatAck`` and ``Released`` travel as datagrams, everything else over mutual TLS; the
core treats all of them as lossy, delayed, repeated and reordered. Every message carries its
sender's ``Stamp``: who speaks, with which memory.
"""

from enum import StrEnum

from msgspec import Struct

from openmse.ha.values import Ballot, Config, Instant, Lineage, Release


class Stamp(Struct, frozen=True, array_like=True):
    """Who speaks, and how much of its memory it shows (protocol §2.6)."""

    id: str
    incarnation: str
    boot: int
    promised: Ballot = Ballot()
    lineage: Lineage | None = None
    """With ``wal_end``: the whole of its write-ahead log, shown when it is certain (a running
    primary, or a standby whose receiver is cut); a disk that went back in time shows here."""
    wal_end: int = 0
    run: str = ""
    """The random name of this run of its process, beside its boot number."""


class Refusal(StrEnum):
    """Why a voter said no."""

    NONE = ""
    BOUND = "bound"
    """It has granted a lease to another owner."""
    ABSTAINS = "abstains"
    """It restarted, and may have granted a lease that it no longer remembers."""
    OUTBID = "outbid"
    """It has promised a higher ballot."""
    BEHIND = "behind"
    """The asker's config is older than one known chosen here."""
    AHEAD = "ahead"
    """The asker's config is not known here yet."""
    UNRESOLVED = "unresolved"
    """A value of unknown fate, naming another owner, was accepted here."""
    FORGETFUL = "forgetful"
    """The asker shows less memory than it did before, or an unknown incarnation."""
    SERVING = "serving"
    """It is itself the owner and has not stopped."""
    TAKING_OVER = "taking_over"
    """It has begun to take over itself."""
    RELEASED = "released"
    """The asker has released this epoch."""


class Standing(Struct, frozen=True, array_like=True):
    """What a node says of itself in each beat: may it own next, and how far is its data."""

    lineage: Lineage | None = None
    end_lsn: int = 0
    is_complete: bool = False
    is_healthy: bool = True
    is_primary: bool = False
    is_streaming: bool = False
    """As standby: its WAL receiver streams."""
    hears_witness: bool = False
    is_stopping: bool = False
    """It announced its planned stop."""
    is_handing_over: bool = False
    """It is the owner and past the point of no return of a handover: report progress at once."""
    is_ready: bool = False
    """It could own now: complete, healthy, not quarantined, no maintenance of its own."""
    note: str = ""
    """Why it is not ready, in a sentence; or its progress."""
    progress_percent: int = -1
    software: str = ""


class Beat(Struct, frozen=True, tag="beat", tag_field="k"):
    """A heartbeat; from an owner that needs a lease it is the renewal too.

    ``nonce`` is the sender's own instant of sending, echoed back: a lease runs from there.
    """

    stamp: Stamp
    nonce: Instant
    term: int
    epoch: int
    chosen: Ballot
    owner: str
    wants_grant: bool
    wait_ns: int
    standing: Standing
    released: Release | None = None


class BeatAck(Struct, frozen=True, tag="ack", tag_field="k"):
    """The answer to a beat: whether a lease is granted (protocol §3)."""

    stamp: Stamp
    nonce: Instant
    is_granted: bool
    term: int
    epoch: int
    chosen: Ballot
    refusal: Refusal = Refusal.NONE


class PreVote(Struct, frozen=True, tag="prevote", tag_field="k"):
    """Asks "would you?" before anything is disturbed; recorded nowhere (protocol §3)."""

    stamp: Stamp
    poll: int
    term: int
    epoch: int
    candidate: str
    release: Release | None = None
    """The owner's release, if held: it may have overtaken the owner's own word to the voter."""


class PreVoteAnswer(Struct, frozen=True, tag="prevoted", tag_field="k"):
    """The answer to a pre-vote; ``retry_ns``: how long the refusal holds at the least."""

    stamp: Stamp
    poll: int
    is_yes: bool
    owner_heard: bool
    """The owner was heard since this voter started: so this is no cold boot of the site."""
    refusal: Refusal = Refusal.NONE
    retry_ns: int = 0


class Prepare(Struct, frozen=True, tag="prepare", tag_field="k"):
    """Phase one of an attempt to choose."""

    stamp: Stamp
    ballot: Ballot


class Promise(Struct, frozen=True, tag="promise", tag_field="k"):
    """No lower ballot will be accepted here; and what was accepted so far."""

    stamp: Stamp
    ballot: Ballot
    accepted: Ballot
    value: Config | None
    parent: Config | None
    chosen: Ballot


class Accept(Struct, frozen=True, tag="accept", tag_field="k"):
    """Phase two: accept ``value``, which replaces ``parent``.

    ``releases`` carries the release of the parent's owner, where the change rests on one.
    """

    stamp: Stamp
    ballot: Ballot
    value: Config
    parent: Config | None
    release: Release | None = None


class Accepted(Struct, frozen=True, tag="accepted", tag_field="k"):
    """The value of this ballot is on the sender's disk."""

    stamp: Stamp
    ballot: Ballot


class Refused(Struct, frozen=True, tag="refused", tag_field="k"):
    """A prepare or an accept was refused, and nothing recorded."""

    stamp: Stamp
    ballot: Ballot
    promised: Ballot
    refusal: Refusal
    retry_ns: int = 0


class Learn(Struct, frozen=True, tag="learn", tag_field="k"):
    """``value`` is chosen, under ``ballot``."""

    stamp: Stamp
    ballot: Ballot
    value: Config


class Read(Struct, frozen=True, tag="read", tag_field="k"):
    """Asks for what is known chosen beyond ``chosen``; answered by ``Learn`` or not at all."""

    stamp: Stamp
    chosen: Ballot


class Released(Struct, frozen=True, tag="released", tag_field="k"):
    """An owner's final word; sent when it has stopped."""

    stamp: Stamp
    release: Release


class Order(Struct, frozen=True, tag="order", tag_field="k"):
    """An operator's command, forwarded to the owner by the node that was told.

    ``command`` is the JSON of an ``openmse.ha.events`` command.
    """

    stamp: Stamp
    id: str
    command: bytes


class OrderAnswer(Struct, frozen=True, tag="answer", tag_field="k"):
    """What became of an order."""

    stamp: Stamp
    id: str
    is_done: bool
    sentence: str


Message = (
    Beat
    | BeatAck
    | PreVote
    | PreVoteAnswer
    | Prepare
    | Promise
    | Accept
    | Accepted
    | Refused
    | Learn
    | Read
    | Released
    | Order
    | OrderAnswer
)

DATAGRAMS = (Beat, BeatAck, Released)
"""The kinds that go by UDP; a lost one is replaced by the next."""
