"""From what was observed to verdicts: who is lost, who could own, why something must wait.

Pure functions of the node's state. The lists of sentences are shown to operators as they are.
"""

from msgspec.structs import replace

from openmse.ha import acceptor
from openmse.ha.draft import (
    Draft,
    is_owner,
    is_released,
    is_unresolved,
    own_value_in_flight,
    since,
    timing_of,
)
from openmse.ha.local import DbProcess, DbRole, Receiver
from openmse.ha.state import Node, OperationKind
from openmse.ha.timing import RESET_GRACE_NS, WITNESS_BACK_NS, WITNESS_LOST_NS
from openmse.ha.transitions import Post, Verdict
from openmse.ha.values import (
    SECOND,
    Config,
    FailoverType,
    Instant,
    Mode,
    NoWitnessMode,
    peer_of,
    witness_of,
)

FLAP_WINDOW_NS = 60 * SECOND
FLAP_LIMIT = 3
GONE_BACK_NS = 3 * SECOND
FLAP_WAIT_NS = 10 * SECOND
FLAP_WAIT_MAX_NS = 300 * SECOND


def post_of(n: Node) -> Post:
    """Where this node stands under the newest config that it knows chosen."""
    known = n.record.known
    if known is None:
        return Post.UNPAIRED
    if is_owner(n):
        return _OWNER_POSTS[known.mode]
    if known.owner == n.me:
        return Post.UNPAIRED  # ⚠ another memory of this node is meant: it must not act as owner
    return _PEER_POSTS[known.mode]


_OWNER_POSTS = {
    Mode.SYNC: Post.OWNER_SYNC,
    Mode.ALONE: Post.OWNER_ALONE,
    Mode.PINNED: Post.OWNER_PINNED,
}
_PEER_POSTS = {
    Mode.SYNC: Post.PEER_SYNC,
    Mode.ALONE: Post.PEER_ALONE,
    Mode.PINNED: Post.PEER_PINNED,
}


def note_facts(d: Draft) -> None:
    """Keep the instants that later verdicts rest on."""
    n = d.n
    serves = is_owner(n) and n.db.process is DbProcess.UP and n.db.role is DbRole.PRIMARY
    if not serves:
        n.unstreamed_at = n.streaming_since = Instant(0)
    elif n.db.peer_streaming:
        n.unstreamed_at = Instant(0)
        n.streaming_since = n.streaming_since or n.now
    else:
        n.unstreamed_at = n.unstreamed_at or n.now
        n.streaming_since = Instant(0)
    n.behind_since = (n.behind_since or n.now) if _is_behind_peer(n) else Instant(0)
    if n.db.peer_streaming and not is_peer_lost(n):
        n.protect_released = False  # ⚠ the loss that it was given for is over
    _note_witness(d)
    _note_recovery(n)
    if serves and not n.db.is_healthy:
        n.db_failed_at = n.db_failed_at or n.now
    elif n.db.is_healthy:
        n.db_failed_at = Instant(0)


def _note_recovery(n: Node) -> None:
    """How long the owner's database has been starting again, as seen by clients."""
    is_wanted = n.db_wanted.role is DbRole.PRIMARY and n.db.role is DbRole.PRIMARY
    if is_wanted and is_owner(n) and n.db.process is not DbProcess.UP:
        n.db_down_at = n.db_down_at or n.now
    else:
        n.db_down_at = Instant(0)


def _note_witness(d: Draft) -> None:
    n = d.n
    if not n.witness.id:
        n.witness_lost_at = n.witness_back_at = Instant(0)
        return
    if since(n.now, n.witness.heard_at) > 4 * d.timing.beat_ns:
        if not n.witness_lost_at:
            n.witness_lost_at = n.witness.heard_at or n.now
            if n.witness.heard_at:  # else it was never there in this life
                d.note(
                    "witness_lost",
                    "warning",
                    f"The witness ({n.witness.id}) is not heard any more; without it there is no "
                    "automatic takeover.",
                )
        n.witness_back_at = Instant(0)
        return
    if n.witness_lost_at and d.before.witness.heard_at:
        d.note("witness_back", "info", f"The witness ({n.witness.id}) is heard again.")
    n.witness_lost_at = Instant(0)
    n.witness_back_at = n.witness_back_at or n.now


def is_peer_silent(n: Node) -> bool:
    """Whether the other node's health monitor is gone: silent for some beats, or it hung up."""
    if n.peer.reset_at and not n.peer.is_link_up:
        return True
    return since(n.now, n.peer.heard_at) > 4 * timing_of(n.record.known).beat_ns


def is_known_voter(n: Node, party_id: str) -> bool:
    """Whether the party's memory is the one that the config means (protocol §2.6)."""
    known = n.record.known
    party = n.peer if party_id == n.peer.id else n.witness
    if known is None or party.stamp is None:
        return True
    return all(v.incarnation == party.stamp.incarnation for v in known.voters if v.id == party_id)


def is_peer_lost(n: Node) -> bool:
    """Whether the owner must go on without its peer (protocol §3, ``sync_loss``)."""
    if n.db.process is not DbProcess.UP or n.db.role is not DbRole.PRIMARY:
        return False  # commits hang for another reason; that is not the peer's loss
    if not is_known_voter(n, n.peer.id):
        return True
    return peer_lost_at(n) <= n.now


def peer_lost_at(n: Node) -> Instant:
    """When, should nothing more be heard, the peer counts as lost."""
    t = timing_of(n.record.known)
    if n.unstreamed_at:
        if is_peer_silent(n) or n.peer.standing.is_stopping:
            return n.unstreamed_at
        return Instant(n.unstreamed_at + RESET_GRACE_NS)
    signed = n.db.peer_signed_at
    if n.db.end_lsn > n.db.peer_flush_lsn:
        return Instant(max(signed, n.streaming_since) + t.sync_loss_ns)
    return Instant(max(signed, n.peer.heard_at, n.streaming_since) + t.rest_loss_ns)


def verdict(n: Node) -> Verdict:
    """The most pressing verdict on the facts, for a node with no attempt under way."""
    post = post_of(n)
    if is_unresolved(n) and (post is Post.UNPAIRED or _should_resolve(n)):
        return Verdict.UNKNOWN_FATE
    if post in (Post.OWNER_SYNC, Post.OWNER_PINNED):
        return _owner_verdict(n)
    if post is Post.OWNER_ALONE:
        return _alone_verdict(n)
    return Verdict.STEADY


def _should_resolve(n: Node) -> bool:
    """An own value: at once. Another's: once its proposer has been silent for a while."""
    if own_value_in_flight(n) is not None or is_owner(n):
        return True
    return is_peer_silent(n) and n.poll is None


def _owner_verdict(n: Node) -> Verdict:
    known = n.record.known
    assert known is not None
    if is_released(n):
        return _released_verdict(n)
    if is_peer_lost(n) and not n.is_halted and not is_protected(n):
        if n.behind_since and not is_peer_silent(n):
            return Verdict.STEADY  # ⚠ which disk is the older one is settled first
        return Verdict.PEER_LOST
    if _wants_to_stop(n):
        return Verdict.STOP_ON_PURPOSE
    if n.pending is not None or readmitted(n) is not None:
        return Verdict.VOTERS_CHANGED
    if known.mode is Mode.SYNC and _is_vote_left_over(n):
        return Verdict.VOTE_LEFT_OVER
    if known.mode is Mode.SYNC and _is_witness_lost(n):
        return Verdict.WITNESS_LOST
    if known.mode is Mode.PINNED and has_witness(n) and _is_witness_back(n):
        return Verdict.WITNESS_BACK
    return Verdict.STEADY


def _is_vote_left_over(n: Node) -> bool:
    """Whether the witness has long refused its grant for another owner's value, and is there."""
    if not n.unresolved_since or n.witness_lost_at or n.lease_until <= n.now:
        return False
    return since(n.now, n.unresolved_since) >= SECOND


def _released_verdict(n: Node) -> Verdict:
    operation = n.operation
    if operation is None:
        return Verdict.TAKE_BACK if since(n.now, n.started_at) > 5 * SECOND else Verdict.STEADY
    if operation.step == "hand_over":
        return Verdict.HANDED_OVER
    if operation.step == "take_back":
        return Verdict.TAKE_BACK
    return Verdict.STEADY


def has_witness(n: Node) -> bool:
    """Whether the witness has a vote; one that is only heard, or configured, counts for nothing."""
    known = n.record.known
    return known is not None and bool(witness_of(known))


def is_protected(n: Node) -> bool:
    """Protect mode (protocol §8): commits wait for the peer until an operator releases them."""
    known = n.record.known
    if known is None or known.mode is not Mode.PINNED or has_witness(n) or n.protect_released:
        return False
    return known.settings.no_witness_mode is NoWitnessMode.PROTECT


def _wants_to_stop(n: Node) -> bool:
    if n.is_stopping and n.operation is None:
        return not is_protected(n)  # ⚠ a planned stop releases nothing
    return n.pending is not None and n.pending.settings.maintenance


def _is_witness_lost(n: Node) -> bool:
    return (
        n.witness_lost_at > 0
        and since(n.now, n.witness_lost_at) >= WITNESS_LOST_NS
        and n.db.peer_streaming
        and not n.peer.standing.hears_witness
        and not is_peer_silent(n)
    )


def _is_witness_back(n: Node) -> bool:
    return (
        n.witness_back_at > 0
        and since(n.now, n.witness_back_at) >= WITNESS_BACK_NS
        and n.lease_until > n.now + timing_of(n.record.known).margin_ns
        and n.db.peer_streaming
    )


def readmitted(n: Node) -> Config | None:
    """The known config with the present incarnations of voters that came back with a new memory.

    None where nothing changes. A node is re-admitted only from ALONE, since its data counts for
    nothing until the sync gate; the witness in any mode.
    """
    known = n.record.known
    if known is None:
        return None
    voters = []
    for voter in known.voters:
        party = n.witness if voter.is_witness else n.peer
        stamp = party.stamp if party.id == voter.id else None
        is_new = stamp is not None and stamp.incarnation != voter.incarnation
        if is_new and stamp and (voter.is_witness or known.mode is Mode.ALONE):
            voters.append(replace(voter, incarnation=stamp.incarnation))
        else:
            voters.append(voter)
    changed = tuple(voters)
    return None if changed == known.voters else replace(known, voters=changed)


def _alone_verdict(n: Node) -> Verdict:
    known = n.record.known
    assert known is not None
    if n.pending is not None or readmitted(n) is not None:
        return Verdict.VOTERS_CHANGED
    if not n.gate_id or n.db.barrier_id != n.gate_id or not n.db.names:
        return Verdict.STEADY
    if not n.db.peer_streaming or n.db.peer_flush_lsn < n.db.barrier_lsn:
        return Verdict.STEADY
    if not has_witness(n):
        return Verdict.PEER_IN_STEP_PINNED
    if n.lease_until <= n.now + timing_of(known).margin_ns:
        return Verdict.STEADY  # ⚠ the lease comes before the first message
    return Verdict.PEER_IN_STEP


def why_no_gate(n: Node) -> str:
    """Why the owner does not go back to SYNC yet; '' when the gate may be entered."""
    known = n.record.known
    peer = n.peer
    if known is None or not peer.id:
        return "This node is not paired."
    if peer_of(known, n.me) != peer.id:
        return f"{peer.id} is no voter of this group."  # ⚠ it could own, and nobody could tell
    if known.settings.maintenance:
        return "Maintenance is on."
    if n.is_stopping or n.quarantine:
        return "This node is stopping or set aside."
    if n.db.process is not DbProcess.UP or n.db.role is not DbRole.PRIMARY or not n.db.is_healthy:
        return "The database of this node does not serve yet."
    if is_peer_silent(n):
        return f"{peer.id} is not heard."
    if not is_known_voter(n, peer.id):
        return f"{peer.id} came back with a new memory and has to be re-admitted first."
    if peer.version != known.version:
        return f"{peer.id} does not know the present config yet."
    if not n.db.peer_streaming or not peer.standing.is_complete:
        note = peer.standing.note
        return f"{peer.id} does not stream yet." + (f" It says: {note}" if note else "")
    if peer.standing.lineage != known.lineage or peer.standing.is_stopping:
        return f"{peer.id} has not joined the present history yet."
    left = _damping_left_ns(n)
    if left > 0:
        return f"The pair was flapping; {left / SECOND:.0f} s of stability are still wanted."
    return ""


def _damping_left_ns(n: Node) -> int:
    """How long the peer must still stream steadily after repeated losses (protocol §6)."""
    recent = [at for at in n.losses if since(n.now, at) < FLAP_WAIT_MAX_NS]
    burst = [at for at in recent if since(recent[-1], at) < FLAP_WINDOW_NS] if recent else []
    if len(burst) < FLAP_LIMIT:
        return 0
    wait = min(FLAP_WAIT_NS << (len(burst) - FLAP_LIMIT), FLAP_WAIT_MAX_NS)
    if not n.streaming_since:
        return wait
    return wait - since(n.now, max(n.streaming_since, recent[-1]))


def why_not_own(n: Node, base: Config | None) -> str:
    """Why this node's data and health do not let it own after ``base``; '' if they do."""
    db = n.db
    if base is None:
        return "No config is known here."
    if not acceptor.is_member(n.record):
        return "This node is no voter of the group, or began anew and was not re-admitted yet."
    if n.quarantine:
        return n.quarantine
    if n.is_stopping:
        return "This node is being stopped."
    if not db.is_complete:
        return "Its copy of the database is not complete."
    if not db.is_healthy:
        return db.failure or "Its database is not healthy."
    if db.role is not DbRole.STANDBY:
        return "Its database is not a standby."
    if db.lineage == base.lineage:
        return ""
    if db.lineage == base.parent_lineage and db.end_lsn == base.fork_lsn:
        return ""  # ⚠ exactly the recorded parent, up to the fork: nothing later was acknowledged
    return "Its database belongs to another history."


_NO_TAKEOVER_FROM = {
    Post.UNPAIRED: "No config known here counts on this node.",
    Post.PEER_ALONE: "The owner serves alone, so this node lacks writes that it has acknowledged.",
    Post.PEER_PINNED: "Without a witness this node takes over only once the owner is fenced, or "
    "when an operator says so.",
}


def why_no_takeover(n: Node) -> str:
    """Why this node does not try to take over now; '' if it should."""
    known, post = n.record.known, post_of(n)
    if post is not Post.PEER_SYNC or known is None:
        return _NO_TAKEOVER_FROM.get(post, "This node owns already.")
    is_asked = n.asked_version == known.version
    if known.settings.failover_type is FailoverType.MANUAL and not is_asked:
        return "The failover type is manual, and nobody has asked for a takeover."
    if known.settings.maintenance:
        return "Maintenance is on."
    if not n.witness.id:
        return "There is no witness."
    held = n.bond.release
    if held is not None and (held.node, held.term, held.epoch) == (known.owner, *known.version):
        return why_not_own(n, known)
    if n.now < n.bond.until:
        return f"{known.owner} still holds a lease granted by this node."
    if n.now < n.bond.abstains_until:
        return "This health monitor restarted and abstains for one failover wait."
    return why_not_own(n, known)


def why_no_switchover(n: Node) -> str:
    """Why the owner cannot hand over now; '' if it can."""
    known = n.record.known
    if known is None or not n.peer.id:
        return "This node is not paired."
    if not is_owner(n):
        return f"{known.owner} owns; it is the one that can hand over."
    if known.mode is Mode.ALONE:
        return f"The pair is not in SYNC: {why_no_gate(n) or 'synchronization is under way.'}"
    if n.is_halted or is_released(n):
        return "This node does not serve at present."
    if n.operation is not None and n.operation.kind is not OperationKind.HANDOVER:
        return "Another operation is under way."
    if is_peer_silent(n) or not n.db.peer_streaming:
        return f"{n.peer.id} is not heard, or does not stream."
    if not n.peer.standing.is_ready:
        return f"{n.peer.id} is not ready: {n.peer.standing.note}"
    return ""


def _is_behind_peer(n: Node) -> bool:
    """Whether the other node shows more of this owner's very history than the own view does."""
    known, held = n.record.known, n.peer.standing
    if known is None or not is_owner(n) or held.is_streaming:
        return False
    return held.lineage == n.db.lineage == known.lineage and held.end_lsn > n.db.end_lsn


def has_gone_back(n: Node) -> bool:
    """Whether the own disk went back in time: the other node holds more of this very history than
    this primary, and cannot stream from it. Judged only once that has lasted: the own view is
    older than the other's word by up to its polling (a standby fresh from a base backup begins to
    stream at a segment that the owner has only just switched to)."""
    if not n.unstreamed_at or n.is_halted or is_peer_silent(n) or not n.behind_since:
        return False
    return since(n.now, n.behind_since) >= GONE_BACK_NS


def is_streaming_standby(n: Node) -> bool:
    """Whether this node follows its owner at this moment."""
    return n.db.receiver is Receiver.STREAMING
