"""The peer takes over: pre-vote, cut, propose; forced and fenced takeovers (protocol §2, §3, §8).

A hopeless attempt costs the owner nothing: nothing is recorded and nothing cut before a yes.
"""

from msgspec.structs import replace

from openmse.ha import acceptor, proposer
from openmse.ha.acceptor import holds_release
from openmse.ha.draft import Draft, is_owner, since
from openmse.ha.effects import Fence
from openmse.ha.facts import is_peer_silent, post_of, why_no_takeover, why_not_own
from openmse.ha.local import DbRole, Receiver
from openmse.ha.messages import Learn, PreVote, PreVoteAnswer
from openmse.ha.state import Aim, Operation, OperationKind, Poll, Step
from openmse.ha.transitions import Post, Verdict, row
from openmse.ha.values import (
    MILLISECOND,
    SECOND,
    Ballot,
    BootAlone,
    Config,
    Instant,
    Lineage,
    Mode,
    NoWitnessMode,
)

ASK_AGAIN_NS = 100 * MILLISECOND
ASK_AT_LEAST_NS = 1 * SECOND
CUT_BUDGET_NS = 3 * SECOND
FENCE_AGAIN_NS = 10 * SECOND


def advance(d: Draft) -> None:
    """Go on with a takeover, begin one, or drop one that has lost its reason."""
    n = d.n
    known = n.record.known
    if n.poll is not None and (known is None or n.poll.version != known.version):
        _drop(d)
    if post_of(n) is Post.PEER_PINNED:
        _advance_fencing(d)
    if post_of(n) is not Post.PEER_SYNC or known is None:
        return
    if n.poll is not None and n.poll.sent_accept:
        _attempt(d, known)  # what became of it must be found out, whatever has changed since
        return
    if why_no_takeover(n):
        _drop(d)
        return
    if n.poll is None:
        n.poll = Poll(n.next_poll, known.version)
        n.next_poll += 1
        _show(d, "ask_witness")
    _ask_or_cut(d, known)


def _ask_or_cut(d: Draft, known: Config) -> None:
    n, poll = d.n, d.n.poll
    assert poll is not None
    if not poll.is_yes:
        if n.now >= poll.retry_at:
            n.poll = replace(poll, asked_at=n.now, retry_at=Instant(n.now + ASK_AGAIN_NS))
            d.send(n.witness.id, _prevote(d, poll, known))
    elif n.db.receiver is Receiver.CUT and not n.db_wanted.receiver:
        _attempt(d, known)
    elif since(n.now, poll.yes_at) > CUT_BUDGET_NS:
        _drop(d)


def _prevote(d: Draft, poll: Poll, known: Config) -> PreVote:
    release = d.n.bond.release if holds_release(d.n.record, d.n.bond) else None
    return PreVote(d.stamp, poll.number, known.term, known.epoch, d.n.me, release)


def on_prevote_answer(d: Draft, answer: PreVoteAnswer) -> None:
    """A yes lets the cut begin; a no tells when to ask again."""
    n, poll = d.n, d.n.poll
    known = n.record.known
    if poll is None or known is None or answer.poll != poll.number or poll.is_yes:
        return
    if not answer.is_yes:
        wait = min(max(answer.retry_ns, 10 * MILLISECOND), ASK_AT_LEAST_NS)
        n.poll = replace(poll, retry_at=Instant(n.now + wait))
        return
    if not (answer.owner_heard or n.bond.owner_heard) and n.asked_version != known.version:
        ready_at = Instant(n.started_at + known.settings.boot_patience_ns)
        if n.now < ready_at:  # a cold boot of the whole site: the recorded owner goes first
            n.poll = replace(poll, retry_at=Instant(min(ready_at, n.now + ASK_AT_LEAST_NS)))
            return
    n.poll = replace(poll, is_yes=True, yes_at=n.now)
    _show(d, "cut_receiver")


def _attempt(d: Draft, known: Config) -> None:
    """Propose ALONE(self), the witness first, the own record last."""
    n = d.n
    if n.proposal is not None or n.now < n.next_attempt_at or why_not_own(n, known):
        return
    _show(d, "choose")
    target = replace(
        known,
        epoch=known.epoch + 1,
        mode=Mode.ALONE,
        owner=n.me,
        lineage=Lineage(known.term, known.epoch + 1, n.me),
        parent_lineage=n.db.lineage,
        fork_lsn=n.db.end_lsn,
        reason=row(Post.PEER_SYNC, Verdict.OWNER_LOST).sentence,
    )
    release = n.bond.release if holds_release(n.record, n.bond) else None
    proposer.begin(d, Aim.MOVE, target, release=release, self_last=True)


def _drop(d: Draft) -> None:
    n = d.n
    if n.poll is not None:
        n.poll = None
        if n.proposal is not None and n.proposal.self_last:
            n.proposal = None
    if n.operation is not None and n.operation.kind is OperationKind.TAKEOVER and not is_owner(n):
        n.operation = None


def _show(d: Draft, step: str) -> None:
    """Keep the steps of a takeover with their instants, for people and for the timeline."""
    n = d.n
    if n.operation is None:
        n.operation = Operation(
            OperationKind.TAKEOVER, f"takeover-{n.next_poll}", step, n.now, (Step(step, n.now),)
        )
    elif n.operation.kind is OperationKind.TAKEOVER and n.operation.step != step:
        n.operation = replace(n.operation, step=step, steps=(*n.operation.steps, Step(step, n.now)))


def force(
    d: Draft, verdict: Verdict, reason: str, *, boot_alone: BootAlone | None = BootAlone.ASK
) -> None:
    """Own under a new term, valid with this node's own record alone (protocol §2.5)."""
    n = d.n
    known = n.record.known
    assert known is not None
    found = row(post_of(n), verdict)
    assert found.is_forced
    term = max(known.term, n.record.promised.term) + 1
    keeps = (
        acceptor.is_member(n.record)
        and n.db.role is DbRole.PRIMARY
        and n.db.lineage == known.lineage
    )
    target = replace(
        known,
        term=term,
        epoch=known.epoch + 1,
        mode=Mode.ALONE,
        owner=n.me,
        voters=tuple(
            replace(v, incarnation=n.record.incarnation) if v.id == n.me else v
            for v in known.voters
        ),
        lineage=known.lineage if keeps else Lineage(term, known.epoch + 1, n.me),
        parent_lineage=known.parent_lineage if keeps else n.db.lineage,
        fork_lsn=known.fork_lsn if keeps else n.db.end_lsn,
        settings=replace(known.settings, boot_alone=boot_alone or BootAlone.ASK),
        reason=reason or found.sentence,
    )
    ballot = Ballot(term, 1, n.me)
    d.record(
        promised=ballot, accepted=ballot, value=target, parent=None, chosen=ballot, known=target
    )
    n.proposal = None
    n.poll = None
    n.operation = None
    n.alone_confirmed = True
    n.is_halted = False
    for party in (n.peer, n.witness):
        d.send(party.id, Learn(d.stamp, ballot, target))


def why_no_force(d: Draft) -> str:
    """Why even a forced takeover is impossible; '' if it can be done."""
    n = d.n
    if n.record.known is None:
        return "This node has never been paired: there is nothing to take over."
    if not n.db.is_complete:
        return "This node's copy of the database is not complete; it cannot serve."
    return ""


def _advance_fencing(d: Draft) -> None:
    """No witness, fencing mode: the owner is silent for the whole wait: have it switched off."""
    n, known = d.n, d.n.record.known
    assert known is not None
    if n.witness.id or known.settings.no_witness_mode is not NoWitnessMode.FENCING:
        return
    if known.settings.maintenance or n.peer.standing.is_stopping or why_not_own(n, known):
        return
    if not is_peer_silent(n) or since(n.now, n.peer.heard_at) < d.timing.wait_ns:
        return
    if since(n.now, n.started_at) < d.timing.wait_ns or n.db.receiver is Receiver.STREAMING:
        return
    if since(n.now, n.fencing_asked_at) >= FENCE_AGAIN_NS:
        n.fencing_asked_at = n.now
        d.extra.append(Fence(n.peer.id))
        d.note(
            "fencing_started",
            "warning",
            f"{n.peer.id} is silent; the fencing agent was asked to switch it off.",
        )


def on_fenced(d: Draft, is_confirmed: bool, sentence: str) -> None:
    """The fencing agent answered: own if it confirmed, and only while all still holds."""
    n, known = d.n, d.n.record.known
    if not is_confirmed:
        d.note("fencing_failed", "error", f"The fencing agent did not confirm: {sentence}")
        return
    if post_of(n) is not Post.PEER_PINNED or why_not_own(n, known) or not is_peer_silent(n):
        d.note("fencing_needless", "warning", "The fencing came too late to matter.")
        return
    d.note("fencing_confirmed", "warning", f"{n.peer.id} is confirmed to be switched off.")
    force(d, Verdict.OWNER_FENCED, "", boot_alone=known.settings.boot_alone if known else None)
