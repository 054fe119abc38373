"""The one table of transitions: (where this node stands, verdict) -> what becomes of the config.

Every pair has a row, "stay" included, each with a sentence for the operator. Guards are verdicts
(``facts``); how a change is carried out is ``proposer``. The diagram in docs/generated/ is drawn
from here.
"""

from enum import StrEnum

from msgspec import Struct

from openmse.ha.values import Mode


class Post(StrEnum):
    """Where this node stands under the newest config that it knows chosen."""

    UNPAIRED = "unpaired"
    """No config is known."""
    OWNER_SYNC = "owner_sync"
    OWNER_ALONE = "owner_alone"
    OWNER_PINNED = "owner_pinned"
    PEER_SYNC = "peer_sync"
    PEER_ALONE = "peer_alone"
    PEER_PINNED = "peer_pinned"


class Verdict(StrEnum):
    """What the facts amount to; one at a time, the most pressing first."""

    STEADY = "steady"
    UNKNOWN_FATE = "unknown_fate"
    """A value was accepted whose fate is unknown: find out before anything else."""
    PEER_LOST = "peer_lost"
    PEER_IN_STEP = "peer_in_step"
    """The sync gate was passed: the peer holds everything."""
    PEER_IN_STEP_PINNED = "peer_in_step_pinned"
    """The same, in a pair that has no witness."""
    WITNESS_LOST = "witness_lost"
    WITNESS_BACK = "witness_back"
    STOP_ON_PURPOSE = "stop_on_purpose"
    """A planned stop without handover, or maintenance."""
    VOTE_LEFT_OVER = "vote_left_over"
    """A takeover that led nowhere left its value at the witness, which renews nothing for it."""
    VOTERS_CHANGED = "voters_changed"
    """Settings or voters are to change, or a voter came back with a new memory."""
    HANDED_OVER = "handed_over"
    """Released, shut down cleanly, and the peer holds the shutdown checkpoint."""
    TAKE_BACK = "take_back"
    """A release led nowhere and is taken back in a new epoch."""
    OWNER_LOST = "owner_lost"
    """Grants ran out (or a release is held), the pre-vote said yes, the receiver is cut."""
    OWNER_FENCED = "owner_fenced"
    """A fencing agent confirmed that the owner is off."""
    PEER_FENCED = "peer_fenced"
    """The same of the other node, to its owner."""
    FORCED = "forced"
    """An operator forces a takeover."""


class Owner(StrEnum):
    """Who owns after a change."""

    ME = "me"
    PEER = "peer"


class Row(Struct, frozen=True):
    """One row: the target (``None``: stay), and the sentence that people read."""

    mode: Mode | None
    owner: Owner
    sentence: str
    is_forced: bool = False


def _move(mode: Mode, owner: Owner, sentence: str, *, is_forced: bool = False) -> Row:
    return Row(mode, owner, sentence, is_forced)


_ME, _PEER = Owner.ME, Owner.PEER
_FORCE = _move(
    Mode.ALONE,
    _ME,
    "An operator forced this node to own, accepting the loss that was shown.",
    is_forced=True,
)

MOVES: dict[tuple[Post, Verdict], Row] = {
    (Post.OWNER_SYNC, Verdict.PEER_LOST): _move(
        Mode.ALONE, _ME, "The other node is lost; this node goes on alone."
    ),
    (Post.OWNER_SYNC, Verdict.STOP_ON_PURPOSE): _move(
        Mode.ALONE, _ME, "A planned stop or maintenance: nobody takes over meanwhile."
    ),
    (Post.OWNER_SYNC, Verdict.HANDED_OVER): _move(
        Mode.SYNC, _PEER, "This node has handed over to the other one, which holds everything."
    ),
    (Post.OWNER_SYNC, Verdict.TAKE_BACK): _move(
        Mode.SYNC, _ME, "The handover or release led nowhere; this node takes the service back."
    ),
    (Post.OWNER_SYNC, Verdict.VOTE_LEFT_OVER): _move(
        Mode.SYNC, _ME, "A takeover that led nowhere is cleared away at the witness."
    ),
    (Post.OWNER_SYNC, Verdict.VOTERS_CHANGED): _move(
        Mode.SYNC, _ME, "Settings or voters of the group were changed."
    ),
    (Post.OWNER_SYNC, Verdict.WITNESS_LOST): _move(
        Mode.PINNED,
        _ME,
        "The witness is gone: this node owns without a lease, and there is no automatic takeover.",
    ),
    (Post.OWNER_ALONE, Verdict.PEER_IN_STEP): _move(
        Mode.SYNC, _ME, "The other node holds every acknowledged write again."
    ),
    (Post.OWNER_ALONE, Verdict.PEER_IN_STEP_PINNED): _move(
        Mode.PINNED,
        _ME,
        "The other node holds every acknowledged write; without a witness it does not take over "
        "by itself.",
    ),
    (Post.OWNER_ALONE, Verdict.VOTERS_CHANGED): _move(
        Mode.ALONE, _ME, "Settings or voters of the group were changed."
    ),
    (Post.OWNER_PINNED, Verdict.PEER_LOST): _move(
        Mode.ALONE, _ME, "The other node is lost; this node goes on alone."
    ),
    (Post.OWNER_PINNED, Verdict.STOP_ON_PURPOSE): _move(
        Mode.ALONE, _ME, "A planned stop or maintenance: nobody takes over meanwhile."
    ),
    (Post.OWNER_PINNED, Verdict.WITNESS_BACK): _move(
        Mode.SYNC, _ME, "The witness is back: automatic takeover is possible again."
    ),
    (Post.OWNER_PINNED, Verdict.HANDED_OVER): _move(
        Mode.PINNED, _PEER, "This node has handed over to the other one, which holds everything."
    ),
    (Post.OWNER_PINNED, Verdict.TAKE_BACK): _move(
        Mode.PINNED, _ME, "The handover led nowhere; this node takes the service back."
    ),
    (Post.OWNER_PINNED, Verdict.VOTERS_CHANGED): _move(
        Mode.PINNED, _ME, "Settings or voters of the group were changed."
    ),
    (Post.PEER_SYNC, Verdict.OWNER_LOST): _move(
        Mode.ALONE, _ME, "The owner is lost; this node holds every acknowledged write and owns."
    ),
    (Post.OWNER_PINNED, Verdict.PEER_FENCED): _move(
        Mode.ALONE,
        _ME,
        "The other node is lost and confirmed to be switched off; this node goes on alone.",
        is_forced=True,
    ),
    (Post.PEER_PINNED, Verdict.OWNER_FENCED): _move(
        Mode.ALONE,
        _ME,
        "The owner is lost and confirmed to be switched off; this node owns.",
        is_forced=True,
    ),
    **{(post, Verdict.FORCED): _FORCE for post in Post},
}

STAY: dict[Verdict, str] = {
    Verdict.STEADY: "All is as it should be.",
    Verdict.UNKNOWN_FATE: "What became of an earlier change is being read from a quorum first.",
    Verdict.PEER_LOST: "The other node is lost; that changes nothing from here.",
    Verdict.PEER_IN_STEP: "The other node holds everything already.",
    Verdict.PEER_IN_STEP_PINNED: "The other node holds everything already.",
    Verdict.WITNESS_LOST: "The witness is gone; that changes nothing from here.",
    Verdict.WITNESS_BACK: "The witness answers; nothing has to change.",
    Verdict.STOP_ON_PURPOSE: "This node may stop without a change of the register.",
    Verdict.VOTE_LEFT_OVER: "A vote that was left over is the owner's to clear away.",
    Verdict.VOTERS_CHANGED: "Only the owner changes settings and voters.",
    Verdict.HANDED_OVER: "Only an owner whose other node holds everything can hand over.",
    Verdict.TAKE_BACK: "There is no release of this node to take back.",
    Verdict.OWNER_LOST: "The owner is lost, but this node must not take over from here.",
    Verdict.OWNER_FENCED: "A confirmed fencing changes nothing from here.",
    Verdict.PEER_FENCED: "A confirmed fencing changes nothing from here.",
    Verdict.FORCED: "",
}


def row(post: Post, verdict: Verdict) -> Row:
    """The row for a pair; total: a pair that moves nothing stays, and says why."""
    found = MOVES.get((post, verdict))
    return found if found is not None else Row(None, Owner.ME, STAY[verdict])
