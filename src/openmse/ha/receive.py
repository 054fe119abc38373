"""What a node makes of each message: who may speak, and what is answered.

Only members with their full memory vote (protocol §2.6); everybody else may learn and follow.
"""

from typing import assert_never

from msgspec.structs import replace

from openmse.ha import acceptor, commands, leases, proposer, takeover
from openmse.ha.draft import Draft, is_owner, is_stopped
from openmse.ha.effects import Reincarnate
from openmse.ha.messages import (
    Accept,
    Accepted,
    Beat,
    BeatAck,
    Learn,
    Message,
    Order,
    OrderAnswer,
    Prepare,
    PreVote,
    PreVoteAnswer,
    Promise,
    Read,
    Refusal,
    Refused,
    Released,
)
from openmse.ha.state import Node
from openmse.ha.values import MILLISECOND, Ballot, Instant

FINISHED_WITHIN_NS = 300 * MILLISECOND
"""How long another's proposal of this node is left to its proposer, who hands over."""


def receive(d: Draft, message: Message) -> None:
    n = d.n
    if acceptor.is_forgetful(n.record, message.stamp, n.record.known):
        _receive_forgetful(d, message)
        return
    standing = message.standing if isinstance(message, Beat) else None
    n.record = acceptor.remember(n.record, message.stamp, standing)
    match message:
        case Beat():
            leases.on_beat(d, message)
        case BeatAck():
            _on_ack(d, message)
        case PreVoteAnswer():
            takeover.on_prevote_answer(d, message)
        case Prepare():
            _on_prepare(d, message)
        case Accept():
            _on_accept(d, message)
        case Promise():
            proposer.on_promise(d, message)
        case Accepted():
            proposer.on_accepted(d, message)
        case Refused():
            proposer.on_refused(d, message)
        case Learn():
            n.record = acceptor.on_learn(n.record, message)
        case Released():
            n.bond = acceptor.with_release(n.bond, message.release)
        case Read():
            told = acceptor.learn_for(n.record, message.chosen)
            if told is not None:
                d.send(message.stamp.id, told)
        case Order():
            commands.on_order(d, message)
        case OrderAnswer(id=order, is_done=is_done, sentence=sentence):
            d.answer(order, is_done, sentence)
        case PreVote():
            pass  # nodes are not asked: the peer's own grants answer for it
        case _:
            assert_never(message)


def _receive_forgetful(d: Draft, message: Message) -> None:
    """It does not vote; but it may learn, follow, and be re-admitted by a config change."""
    n = d.n
    refusal = Refusal.FORGETFUL
    match message:
        case Beat():
            n.peer = replace(
                leases.heard(n, n.peer, message.stamp),
                standing=message.standing,
                version=(message.term, message.epoch),
            )
            version = n.record.known.version if n.record.known else (0, 0)
            d.send(
                message.stamp.id,
                BeatAck(d.stamp, message.nonce, False, *version, n.record.chosen, refusal),
            )
            told = acceptor.learn_for(n.record, message.chosen)
            if told is not None:
                d.send(message.stamp.id, told)
        case BeatAck():
            _note_stamp(n, message)
            told = acceptor.learn_for(n.record, message.chosen)
            if told is not None:
                d.send(message.stamp.id, told)
        case Prepare() | Accept():
            no = Refused(d.stamp, message.ballot, n.record.promised, refusal)
            d.send(message.stamp.id, no)
        case Learn():
            n.record = acceptor.on_learn(n.record, message)
        case _:
            pass


def _note_stamp(n: Node, ack: BeatAck) -> None:
    if ack.nonce < n.started_at:
        return
    if ack.stamp.id == n.witness.id:
        n.witness = leases.heard(n, n.witness, ack.stamp, ack.nonce)
    elif ack.stamp.id == n.peer.id:
        n.peer = leases.heard(n, n.peer, ack.stamp, ack.nonce)


def _on_ack(d: Draft, ack: BeatAck) -> None:
    n = d.n
    leases.on_ack(d, ack)
    if ack.refusal is not Refusal.FORGETFUL or ack.nonce < n.started_at:
        return
    known = n.record.known
    if known is None or (ack.term, ack.epoch) < known.version:
        return  # it may only not have learnt yet of the config that admits this memory
    mine = next((v for v in known.voters if v.id == n.me), None)
    if mine is not None and mine.incarnation == n.record.incarnation:
        begin_anew(d, ack.stamp.id)


def begin_anew(d: Draft, witness_of_it: str) -> None:
    d.n.is_halted = True
    d.n.proposal = None
    d.note(
        "memory_lost",
        "error",
        f"{witness_of_it} remembers more of this node than it does itself: its disk went back "
        "in time. It begins anew, without a vote until the owner re-admits it.",
    )
    d.extra.append(Reincarnate())


def _on_prepare(d: Draft, message: Prepare) -> None:
    n = d.n
    if is_owner(n) and not is_stopped(n):
        no = Refused(d.stamp, message.ballot, n.record.promised, Refusal.SERVING)
        d.send(message.stamp.id, no)
        told = acceptor.learn_for(n.record, Ballot())
        if told is not None:
            d.send(message.stamp.id, told)
        return
    n.record, reply = acceptor.on_prepare(n.record, message)
    d.send(message.stamp.id, reply)


def _on_accept(d: Draft, message: Accept) -> None:
    n = d.n
    if is_owner(n) and not is_stopped(n) and message.value.owner != n.me:
        no = Refused(d.stamp, message.ballot, n.record.promised, Refusal.SERVING)
        d.send(message.stamp.id, no)
        return
    if leases.is_taking_over(n) and message.value.owner != n.me:
        no = Refused(d.stamp, message.ballot, n.record.promised, Refusal.TAKING_OVER)
        d.send(message.stamp.id, no)
        return
    n.record, reply = acceptor.on_accept(n.record, n.bond, message, n.now)
    d.send(message.stamp.id, reply)
    if isinstance(reply, Accepted) and message.value.owner == n.me:
        # Its proposer is about to say that it is chosen: a rival attempt would only cost time.
        n.next_attempt_at = Instant(n.now + FINISHED_WITHIN_NS)
