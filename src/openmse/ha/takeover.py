"""The peer takes over: pre-vote, cut, propose; forced takeovers (protocol §2, §3).

A hopeless attempt costs the owner nothing: nothing is recorded and nothing cut before a yes.
"""

from msgspec.structs import replace

from openmse.ha import proposer
from openmse.ha.acceptor import holds_release
from openmse.ha.draft import Draft, is_owner, since
from openmse.ha.facts import post_of, why_no_takeover, why_not_own
from openmse.ha.local import Receiver
from openmse.ha.messages import Learn, PreVote, PreVoteAnswer
from openmse.ha.state import Aim, Node, Operation, OperationKind, Poll, Step
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
)

ASK_AGAIN_NS = 100 * MILLISECOND
ASK_AT_LEAST_NS = 1 * SECOND
CUT_BUDGET_NS = 3 * SECOND
FENCING_TERMS = 2
"""By how much at the most one confirmed fencing raises the term."""


def advance(d: Draft) -> None:
    """Go on with a takeover, begin one, or drop one that has lost its reason."""
    n = d.n
    known = n.record.known
    if n.poll is not None and (known is None or n.poll.version != known.version):
        _drop(d)
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
    d: Draft,
    verdict: Verdict,
    reason: str,
    *,
    boot_alone: BootAlone = BootAlone.ASK,
    keeps_history: bool = False,
) -> None:
    """Own under a new term, valid with this node's own record alone (protocol §2.5).

    ``keeps_history``: an owner goes on without its fenced peer, in the history that it serves.
    """
    n = d.n
    known = n.record.known
    assert known is not None
    found = row(post_of(n), verdict)
    assert found.is_forced
    term = _own_term(n, known, is_operator=verdict is Verdict.FORCED)
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
        # ⚠ always a history of its own: voters may have seen a later one, and histories must grow
        lineage=known.lineage if keeps_history else Lineage(term, known.epoch + 1, n.me),
        parent_lineage=known.parent_lineage if keeps_history else n.db.lineage,
        fork_lsn=known.fork_lsn if keeps_history else n.db.end_lsn,
        settings=replace(known.settings, boot_alone=boot_alone),
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


def _own_term(n: Node, known: Config, *, is_operator: bool) -> int:
    """A term that only this node takes: the two nodes of a group force in odd and in even ones, so
    that two forces which do not know of each other are two configs, never one (I3).

    An operator's is beyond any that the other node can reach by one confirmed fencing without
    knowing of it: what is acknowledged under an operator's word is never rewound by an agent's.
    """
    nodes = sorted(voter.id for voter in known.voters if not voter.is_witness)
    term = max(known.term, n.record.promised.term) + 1
    if is_operator:
        term += FENCING_TERMS  # ⚠ an agent may be at work at the other node
    return term if term % 2 == nodes.index(n.me) % 2 else term + 1


def why_no_force(d: Draft) -> str:
    """Why even a forced takeover is impossible; '' if it can be done."""
    n = d.n
    known = n.record.known
    if known is None:
        return "This node has never been paired: there is nothing to take over."
    if n.me not in [voter.id for voter in known.voters]:  # ⚠ nobody could tell that it owns
        return "This node was taken out of the group, so it cannot own; pair it again."
    if not n.db.is_complete:
        return "This node's copy of the database is not complete; it cannot serve."
    return ""
