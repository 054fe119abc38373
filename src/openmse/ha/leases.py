"""Heartbeats, grants given and held, and the moment at which an owner must stop (protocol §3, §4).

A lease runs from the owner's own sending; a grant binds its giver from receipt. So the owner stops
first whatever the network does in between.
"""

from msgspec.structs import replace

from openmse.ha import acceptor
from openmse.ha.draft import (
    Draft,
    has_voted_away,
    is_owner,
    is_released,
    is_stopped,
    needs_lease,
    own_value_in_flight,
    timing_of,
)
from openmse.ha.local import DbProcess, DbRole, Receiver
from openmse.ha.messages import Beat, BeatAck, Refusal, Stamp, Standing
from openmse.ha.state import Node, OperationKind, Party, Phase
from openmse.ha.timing import timing
from openmse.ha.values import MILLISECOND, FailoverType, Instant, Mode

_NEVER = Instant(0)

TAKEOVER_BUDGET_NS = 500 * MILLISECOND
"""How long the other node is given to take over once all grants have run out."""


def wants_grant(n: Node) -> bool:
    """Whether this node, as owner, asks its voters for a lease with its beats."""
    if not is_owner(n) or is_released(n) or n.is_stopping or has_voted_away(n):
        return False
    if n.is_halted and n.now < n.yields_until:
        return False
    if needs_lease(n) or n.gate_id:
        return True
    known = n.record.known
    return known is not None and known.mode is Mode.PINNED and n.witness_back_at > 0


def standing(n: Node, why_not_ready: str) -> Standing:
    """What this node says of itself in its beats."""
    operation = n.operation
    return Standing(
        lineage=n.db.lineage,
        end_lsn=n.db.end_lsn,
        is_complete=n.db.is_complete,
        is_healthy=n.db.is_healthy,
        is_primary=n.db.role is DbRole.PRIMARY and n.db.process is DbProcess.UP,
        is_streaming=n.db.receiver is Receiver.STREAMING,
        hears_witness=bool(n.witness.id) and not n.witness_lost_at,
        is_stopping=n.is_stopping,
        is_handing_over=operation is not None
        and operation.kind is OperationKind.HANDOVER
        and operation.is_final,
        is_ready=not why_not_ready,
        note=why_not_ready,
        progress_percent=n.db.progress_percent,
        software=n.software,
    )


def send_beats(d: Draft, own: Standing) -> None:
    """Send a beat to each other voter now."""
    n, known = d.n, d.n.record.known
    version = known.version if known else (0, 0)
    is_over = is_released(n) and is_stopped(n)  # ⚠ nobody may act on it before all is stopped
    released = n.record.released if is_over and not own.is_handing_over else None
    beat = Beat(
        stamp=d.stamp,
        nonce=n.now,
        term=version[0],
        epoch=version[1],
        chosen=n.record.chosen,
        owner=known.owner if known else "",
        wants_grant=wants_grant(n),
        wait_ns=d.timing.wait_ns,
        standing=own,
        released=released,
    )
    d.send(n.peer.id, beat)
    d.send(n.witness.id, beat)
    n.beat_at = n.now
    n.sent_standing = own


def heard(n: Node, party: Party, stamp: Stamp, answered: Instant = _NEVER) -> Party:
    """Note a sign of life of another voter; ``answered``: the own beat that it answers.

    A stamp counts as its present one only in answer to a newer beat than any answered before: a
    message of its former memory that was on its way for long must not pass for a new one.
    """
    is_news = answered > party.answered or party.stamp is None
    gap = timing_of(n.record.known).lease_ns
    is_new = not party.heard_at or n.now - party.heard_at > gap
    return replace(
        party,
        heard_at=n.now,
        first_heard_at=n.now if is_new else party.first_heard_at,
        stamp=stamp if is_news else party.stamp,
        answered=max(answered, party.answered),
        reset_at=Instant(0),
    )


def on_beat(d: Draft, beat: Beat) -> None:
    """A beat of the other node: note its standing, decide on its renewal, teach it."""
    n = d.n
    if beat.stamp.id == n.peer.id:  # else of one that is yet to become a voter, or was one
        n.peer = replace(
            heard(n, n.peer, beat.stamp), standing=beat.standing, version=(beat.term, beat.epoch)
        )
    known = n.record.known
    if known is not None and beat.stamp.id == known.owner:
        d.hears_owner = True
        n.bond = replace(n.bond, owner_heard=True)
    n.bond = acceptor.with_release(n.bond, beat.released)
    refusal = Refusal.NONE
    if beat.wants_grant:
        refusal = _grant(d, beat)
    version = known.version if known else (0, 0)
    is_granted = beat.wants_grant and refusal is Refusal.NONE
    ack = BeatAck(d.stamp, beat.nonce, is_granted, *version, n.record.chosen, refusal)
    d.send(beat.stamp.id, ack)
    told = acceptor.learn_for(n.record, beat.chosen)
    if told is not None:
        d.send(beat.stamp.id, told)


def _grant(d: Draft, beat: Beat) -> Refusal:
    n = d.n
    if is_taking_over(n):
        return Refusal.TAKING_OVER
    n.record, n.bond, refusal = acceptor.grant(n.record, n.bond, beat, n.now)
    if refusal is Refusal.NONE:
        n.asked_version = (0, 0)  # an operator asked for it while the owner was gone
        if n.poll is not None:
            n.poll = None  # the owner is back: the attempt ends before it cost anything
            n.proposal = None
    return refusal


def is_taking_over(n: Node) -> bool:
    """Whether an own takeover may already have been accepted by somebody: no grants until it is
    known what became of it (⚠ a grant and a vote for oneself exclude each other)."""
    if n.poll is not None and n.poll.sent_accept:
        return True
    p = n.proposal
    return p is not None and p.self_last and p.phase is Phase.ACCEPT


def on_ack(d: Draft, ack: BeatAck) -> None:
    """An answer to an own beat: the lease, if granted, and what the answerer lacks."""
    n = d.n
    if not 0 <= n.now - ack.nonce <= 2 * d.timing.wait_ns:
        return  # not an answer to anything this process can stand by
    trip = n.now - ack.nonce
    if ack.stamp.id == n.witness.id:
        party = heard(n, n.witness, ack.stamp, ack.nonce)
        n.witness = replace(
            party, version=(ack.term, ack.epoch), round_trip_ns=_smooth(party, trip)
        )
        is_stuck = ack.refusal is Refusal.UNRESOLVED
        n.unresolved_since = (n.unresolved_since or n.now) if is_stuck else _NEVER
    elif ack.stamp.id == n.peer.id:
        party = heard(n, n.peer, ack.stamp, ack.nonce)
        n.peer = replace(party, version=(ack.term, ack.epoch), round_trip_ns=_smooth(party, trip))
    if ack.is_granted:
        _hold(d, ack)
    told = acceptor.learn_for(n.record, ack.chosen)
    if told is not None:
        d.send(ack.stamp.id, told)


def _smooth(party: Party, trip_ns: int) -> int:
    return trip_ns if not party.round_trip_ns else (party.round_trip_ns * 7 + trip_ns) // 8


def _hold(d: Draft, ack: BeatAck) -> None:
    """Count a granted lease from the beat's own sending, if it is for the present config."""
    n, known = d.n, d.n.record.known
    if known is None or not is_owner(n) or known.version != (ack.term, ack.epoch):
        return
    if is_released(n) or all(voter.id != ack.stamp.id for voter in known.voters):
        return  # who has no vote can keep nobody from owning
    t = timing(known.settings.failover_wait_ns)
    until = Instant(ack.nonce + t.lease_ns)
    if until > n.lease_until and until > n.now:
        n.lease_until = until
        n.cutoff_at = Instant(ack.nonce + t.cutoff_ns)


def on_time(d: Draft) -> None:
    """At 0.8 of the lease without a grant: halt. Everything is stopped by the plan that follows."""
    n = d.n
    if has_voted_away(n):
        n.is_halted = True
        n.is_admitted = False
        return
    if not is_owner(n) or n.is_halted or not needs_lease(n):
        return
    if n.now < n.cutoff_at:
        return
    n.is_halted = True
    n.is_admitted = False
    n.yields_until = yield_until(n, d.timing.wait_ns - d.timing.cutoff_ns)
    if n.cutoff_at:
        d.note(
            "lease_lost",
            "error",
            "No voter renewed the lease in time, so this node has stopped serving; it starts "
            "again as soon as a voter grants it, unless the other node has taken over.",
        )


def yield_until(n: Node, left_ns: int) -> Instant:
    """Until when a halted owner does not ask for a lease; ``left_ns``: after which the last grants
    have run out. Now, where nobody would take over anyway."""
    known = n.record.known
    if known is None or not n.witness.id:
        return n.now
    is_manual = known.settings.failover_type is FailoverType.MANUAL
    if is_manual or (n.peer.heard_at and not n.peer.standing.is_ready):
        return n.now
    return Instant(n.now + left_ns + TAKEOVER_BUDGET_NS)


def resume(d: Draft) -> None:
    """Clear the halt once a lease is held again and everything is verifiably down."""
    n = d.n
    if not n.is_halted or has_voted_away(n):
        return
    if not is_owner(n) or not needs_lease(n):
        n.is_halted = False
        return
    is_down = n.db.process is DbProcess.DOWN
    if n.now < n.cutoff_at and is_down and own_value_in_flight(n) is None:
        n.is_halted = False
        d.note("lease_regained", "info", "A voter granted the lease again; starting to serve.")
