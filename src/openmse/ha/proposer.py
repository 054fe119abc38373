"""Attempts to choose a config: prepare, adopt or move, accept, learn (protocol §2).

One attempt at a time per node. Who may start one, and from what, is decided elsewhere; here is
only the law of the register: what a quorum is, whose value must be adopted, what may be concluded.
"""

from msgspec.structs import replace

from openmse.ha import acceptor
from openmse.ha.draft import Draft, is_owner, is_released, is_stopped
from openmse.ha.messages import (
    Accept,
    Accepted,
    Learn,
    Prepare,
    Promise,
    Refusal,
    Refused,
)
from openmse.ha.state import Aim, Phase, Proposal
from openmse.ha.values import (
    MILLISECOND,
    SECOND,
    Ballot,
    Config,
    Instant,
    Mode,
    Release,
    may_be_left,
    quorum_reached,
)

RESEND_NS = 100 * MILLISECOND
ATTEMPT_NS = 2 * SECOND
"""After this long without an end an attempt is given up and begun anew under a higher ballot."""


def begin(
    d: Draft,
    aim: Aim,
    move: Config | None = None,
    *,
    release: Release | None = None,
    self_last: bool = False,
) -> None:
    """Start an attempt. ``move`` must start from the config this node knows chosen."""
    n = d.n
    assert n.proposal is None
    record = n.record
    round_number = max(record.promised.round, record.accepted.round, n.rounds) + 1
    n.rounds = round_number
    ballot = Ballot(max(record.promised.term, record.accepted.term), round_number, n.me)
    n.record, own = acceptor.on_prepare(record, Prepare(d.stamp, ballot))
    assert isinstance(own, Promise)
    n.proposal = Proposal(
        ballot=ballot,
        aim=aim,
        phase=Phase.PREPARE,
        started_at=n.now,
        sent_at=n.now,
        deadline=Instant(n.now + ATTEMPT_NS),
        base=record.known,
        move=move,
        promises=(own,),
        release=release,
        self_last=self_last,
    )
    _check_promises(d)
    if n.proposal is not None and n.proposal.phase is Phase.PREPARE:
        _send_phase(d)


def others(d: Draft, proposal: Proposal) -> list[str]:
    """Every other voter that has a say in this attempt."""
    n = d.n
    configs = [c for c in (n.record.known, n.record.value, proposal.move, proposal.value) if c]
    configs += [c for c in (n.record.parent, proposal.parent) if c]
    ids = {v.id for c in configs for v in c.voters}
    ids.update(p.id for p in (n.peer, n.witness) if p.id)
    ids.discard(n.me)
    return sorted(ids)


def _send_phase(d: Draft) -> None:
    """Send (again) the present phase's message to those who have not answered it."""
    p = d.n.proposal
    assert p is not None
    if p.phase is Phase.PREPARE:
        answered = {promise.stamp.id for promise in p.promises}
        message: Prepare | Accept = Prepare(d.stamp, p.ballot)
    else:
        assert p.value is not None
        answered = set(p.accepted_by)
        message = Accept(d.stamp, p.ballot, p.value, p.parent, p.release)
        if p.self_last and d.n.poll is not None:
            d.n.poll = replace(d.n.poll, sent_accept=True)
    for to in others(d, p):
        if to not in answered:
            d.send(to, message)
    d.n.proposal = replace(p, sent_at=d.n.now)


def on_promise(d: Draft, message: Promise) -> None:
    """Count a promise; go on to the second phase once a quorum of the right configs gave one."""
    p = d.n.proposal
    if p is None or p.phase is not Phase.PREPARE or message.ballot != p.ballot:
        return
    if any(known.stamp.id == message.stamp.id for known in p.promises):
        return
    d.n.proposal = replace(p, promises=(*p.promises, message))
    _check_promises(d)


def _check_promises(d: Draft) -> None:
    n, p = d.n, d.n.proposal
    assert p is not None
    told = [promise for promise in p.promises if not _is_void(promise, p)]
    top = max(told, key=lambda promise: promise.accepted)
    if top.value is None:
        return  # nothing was ever accepted anywhere: there is nothing to start from
    is_known = n.record.known == top.value or any(
        promise.chosen >= top.accepted for promise in p.promises
    )
    ids = frozenset(promise.stamp.id for promise in p.promises)
    if not quorum_reached(top.value, ids):
        return
    if not is_known and top.parent is not None and not may_be_left(top.parent, ids):
        return  # ⚠ fate unknown: a quorum of what it replaces is needed as well
    if not is_known:
        _accept_phase(d, top.value, top.parent)
    elif n.record.known != top.value:
        n.record = acceptor.on_learn(n.record, Learn(top.stamp, top.accepted, top.value))
        n.proposal = None  # the world moved on: decide anew from there
    elif p.aim is Aim.MOVE and p.move is not None and p.base == top.value:
        if may_be_left(top.value, ids):
            _accept_phase(d, p.move, top.value)
    elif n.record.accepted > n.record.chosen:
        _accept_phase(d, top.value, top.parent)  # chosen already, yet rewritten: finish it
    else:
        n.proposal = None


def _is_void(one: Promise, p: Proposal) -> bool:
    """Whether what a voter accepted can never be chosen, and nothing came before it that could.

    Its owner, which its quorum needs, has promised the present ballot without having accepted it;
    and its parent is the config that this attempt starts from, which its own proposer found newest.
    """
    value = one.value
    if value is None or value.mode is Mode.SYNC or one.parent is None or one.parent != p.base:
        return False
    return any(o.stamp.id == value.owner and o.accepted < one.accepted for o in p.promises)


def _accept_phase(d: Draft, value: Config, parent: Config | None) -> None:
    """Second phase. Own acceptance first, except in a takeover, where it comes last."""
    n, p = d.n, d.n.proposal
    assert p is not None
    self_last = p.self_last or (value.owner == n.me and parent is not None and parent.owner != n.me)
    p = replace(p, phase=Phase.ACCEPT, value=value, parent=parent, self_last=self_last)
    n.proposal = p
    if not self_last and not _accept_own(d):
        return
    _check_accepted(d)
    if n.proposal is not None:
        _send_phase(d)


def _accept_own(d: Draft) -> bool:
    """Record the value on the own disk, unless an own grant or an own service forbids it."""
    n, p = d.n, d.n.proposal
    assert p is not None
    assert p.value is not None
    if p.value.owner != n.me and is_owner(n) and not is_stopped(n):
        n.proposal = None  # ⚠ the owner has granted to itself until it has stopped
        n.next_attempt_at = Instant(n.now + RESEND_NS)
        return False
    message = Accept(d.stamp, p.ballot, p.value, p.parent, p.release)
    n.record, reply = acceptor.on_accept(n.record, n.bond, message, n.now)
    if isinstance(reply, Refused):
        n.proposal = None
        n.next_attempt_at = Instant(n.now + max(reply.retry_ns, RESEND_NS))
        return False
    n.proposal = replace(p, accepted_by=p.accepted_by | {n.me})
    return True


def on_accepted(d: Draft, message: Accepted) -> None:
    """Count an acceptance."""
    p = d.n.proposal
    if p is None or p.phase is not Phase.ACCEPT or message.ballot != p.ballot:
        return
    d.n.proposal = replace(p, accepted_by=p.accepted_by | {message.stamp.id})
    _check_accepted(d)


def _check_accepted(d: Draft) -> None:
    n, p = d.n, d.n.proposal
    assert p is not None
    assert p.value is not None
    if not _is_joint_quorum(p, p.accepted_by | {n.me}):
        return
    if n.me not in p.accepted_by:
        if not _accept_own(d):
            return
        p = d.n.proposal
        assert p is not None
    assert p.value is not None
    n.record = replace(n.record, chosen=p.ballot, known=p.value)
    n.proposal = None
    n.attempts = 0
    n.next_attempt_at = Instant(0)
    learn = Learn(d.stamp, p.ballot, p.value)
    for to in others(d, p):
        d.send(to, learn)


def _is_joint_quorum(p: Proposal, ids: frozenset[str]) -> bool:
    """⚠ A quorum of the config itself *and* of the one that it replaces."""
    assert p.value is not None
    if not quorum_reached(p.value, ids):
        return False
    return p.parent is None or may_be_left(p.parent, ids)


def on_refused(d: Draft, message: Refused) -> None:
    """A voter said no: give the attempt up; try again later, above what it has promised."""
    n, p = d.n, d.n.proposal
    if p is None or message.ballot != p.ballot:
        return
    if message.refusal is Refusal.SERVING and p.phase is Phase.PREPARE:
        return  # the owner lives: its word is not needed where the others suffice
    n.rounds = max(n.rounds, message.promised.round)
    if message.refusal is not Refusal.OUTBID and _may_go_on_without(d, p, message.stamp.id):
        return
    n.proposal = None
    n.attempts += 1
    n.next_attempt_at = Instant(n.now + max(min(message.retry_ns, SECOND), _back_off(d)))


def _may_go_on_without(d: Draft, p: Proposal, refuser: str) -> bool:
    """Whether the attempt can still succeed without the voter that refused."""
    target = p.value or p.move
    if target is None:
        return False
    base = p.parent if p.value else p.base
    hopeful = frozenset({d.n.me, *others(d, p)} - {refuser})
    return quorum_reached(target, hopeful) and (base is None or may_be_left(base, hopeful))


def on_time(d: Draft) -> None:
    """Repeat what was lost; give up an attempt that leads nowhere."""
    n, p = d.n, d.n.proposal
    if p is None:
        return
    if n.now >= p.deadline:
        n.proposal = None
        n.attempts += 1
        n.next_attempt_at = Instant(n.now + _back_off(d))
    elif n.now >= p.sent_at + RESEND_NS:
        _send_phase(d)


def _back_off(d: Draft) -> int:
    """Rivals must not meet for ever: the owner is quicker, and each try waits a little longer."""
    n = d.n
    base = 20 if is_owner(n) and not is_released(n) else 70
    return min(base * (1 + n.attempts), 500) * MILLISECOND


def cancel(d: Draft) -> None:
    """Give the attempt up; what others accepted of it is found out by the next one."""
    d.n.proposal = None
