"""The third vote: one small record per group, grants in memory. Pure, like the node's core.

It learns no data: configs, ballots and instants only.
"""

from msgspec import Struct
from msgspec.structs import replace

from openmse.ha import acceptor
from openmse.ha.acceptor import Bond, stamp_of
from openmse.ha.effects import Effect, Persist, Send
from openmse.ha.messages import (
    Accept,
    Beat,
    BeatAck,
    Learn,
    Message,
    Prepare,
    PreVote,
    PreVoteAnswer,
    Read,
    Refusal,
    Refused,
    Released,
)
from openmse.ha.values import Instant, Record


class WitnessGroup(Struct):
    """The witness's state for one group. ``step`` returns a new one and leaves its argument."""

    record: Record
    bond: Bond


def start(record: Record, now: Instant) -> WitnessGroup:
    """The state after a (re)start: abstains for the largest wait ever granted (protocol §3)."""
    return WitnessGroup(record, Bond(abstains_until=Instant(now + record.largest_wait_ns)))


def step(
    group: WitnessGroup, message: Message, now: Instant
) -> tuple[WitnessGroup, tuple[Effect, ...]]:
    """Answer one message; effects in the order they must happen."""
    before, bond = group.record, group.bond
    if acceptor.is_forgetful(before, message.stamp, before.known) and not isinstance(
        message, Learn | Read
    ):
        return group, _refuse_forgetful(before, message, now)
    standing = message.standing if isinstance(message, Beat) else None
    record = acceptor.remember(before, message.stamp, standing)
    record, bond, replies = _answer(record, bond, message, now)
    effects: list[Effect] = []
    if _durable(record) != _durable(before):
        effects.append(Persist(record))
    effects.extend(Send(message.stamp.id, reply) for reply in replies)
    return WitnessGroup(record, bond), tuple(effects)


def _durable(record: Record) -> Record:
    """What must be on disk before an answer; memories of others may follow with the next write."""
    return replace(record, seen=())


def _answer(
    record: Record, bond: Bond, message: Message, now: Instant
) -> tuple[Record, Bond, list[Message]]:
    match message:
        case Beat():
            return _on_beat(record, bond, message, now)
        case PreVote():
            return record, bond, [_on_prevote(record, bond, message, now)]
        case Prepare():
            record, reply = acceptor.on_prepare(record, message)
            return record, bond, [reply]
        case Accept():
            record, answer = acceptor.on_accept(record, bond, message, now)
            return record, bond, [answer]
        case Learn():
            return acceptor.on_learn(record, message), bond, []
        case Released():
            return record, acceptor.with_release(bond, message.release), []
        case Read():
            told = acceptor.learn_for(record, message.chosen)
            return record, bond, [told] if told else []
        case _:
            return record, bond, []  # answers and orders are not for a witness


def _on_beat(
    record: Record, bond: Bond, beat: Beat, now: Instant
) -> tuple[Record, Bond, list[Message]]:
    refusal = Refusal.NONE
    known = record.known
    if known is not None and beat.stamp.id == known.owner:
        bond = replace(bond, owner_heard=True)
    bond = acceptor.with_release(bond, beat.released)
    if beat.wants_grant:
        record, bond, refusal = acceptor.grant(record, bond, beat, now)
    version = known.version if known else (0, 0)
    ack = BeatAck(
        stamp_of(record),
        beat.nonce,
        beat.wants_grant and refusal is Refusal.NONE,
        *version,
        record.chosen,
        refusal,
    )
    told = acceptor.learn_for(record, beat.chosen)
    return record, bond, [ack, told] if told else [ack]


def _on_prevote(record: Record, bond: Bond, message: PreVote, now: Instant) -> PreVoteAnswer:
    bond = acceptor.with_release(bond, message.release)  # to judge by; nothing is recorded
    refusal, retry_ns = acceptor.change_refusal(record, bond, message.candidate, now)
    known = record.known
    if known is None or known.version < (message.term, message.epoch):
        refusal = Refusal.AHEAD
    elif known.version > (message.term, message.epoch):
        refusal = Refusal.BEHIND
    return PreVoteAnswer(
        stamp_of(record),
        message.poll,
        refusal is Refusal.NONE,
        bond.owner_heard or acceptor.holds_release(record, bond),
        refusal,
        retry_ns,
    )


def _refuse_forgetful(record: Record, message: Message, now: Instant) -> tuple[Effect, ...]:
    me, to = stamp_of(record), message.stamp.id
    version = record.known.version if record.known else (0, 0)
    no = Refusal.FORGETFUL
    match message:
        case Beat():
            ack = BeatAck(me, message.nonce, False, *version, record.chosen, no)
            told = acceptor.learn_for(record, message.chosen)
            return (Send(to, ack), Send(to, told)) if told else (Send(to, ack),)
        case PreVote():
            return (Send(to, PreVoteAnswer(me, message.poll, False, True, no)),)
        case Prepare() | Accept():
            return (Send(to, Refused(me, message.ballot, record.promised, no)),)
        case _:
            return ()
