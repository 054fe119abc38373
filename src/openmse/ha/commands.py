"""What operators ask for: checked against the rules, refused with the rule's sentence, or begun."""

import msgspec
from msgspec.structs import replace

from openmse.ha import fencing, operations, takeover
from openmse.ha.draft import Draft, is_owner
from openmse.ha.events import (
    ChangeSettings,
    ChangeVoters,
    Command,
    Commanded,
    ConfirmAlone,
    ForceTakeover,
    LeaveQuarantine,
    Maintenance,
    ReleaseProtect,
    StopNode,
    Switchover,
)
from openmse.ha.facts import (
    has_witness,
    is_known_voter,
    is_peer_lost,
    is_peer_silent,
    post_of,
    why_not_own,
)
from openmse.ha.messages import Order, OrderAnswer
from openmse.ha.state import Node, Pending
from openmse.ha.timing import timing_faults
from openmse.ha.transitions import Post, Verdict
from openmse.ha.values import SECOND, Instant, Mode, NoWitnessMode, Settings, Voter

PENDING_BUDGET_NS = 15 * SECOND


def on_command(d: Draft, event: Commanded, asked_by: str = "") -> None:
    """Begin what was asked, or answer why not. Owner's business is forwarded to the owner."""
    command = event.command
    if isinstance(command, Switchover | ChangeSettings | Maintenance | ChangeVoters):
        if not is_owner(d.n) and not asked_by:
            _forward(d, event)
            return
    match command:
        case Switchover():
            _switchover(d, event.id, command, asked_by)
        case ForceTakeover():
            _force(d, event.id, command)
        case ConfirmAlone():
            _confirm_alone(d, event.id)
        case ReleaseProtect():
            _release_protect(d, event.id)
        case Maintenance() | ChangeSettings() | ChangeVoters():
            _change(d, event.id, command, asked_by)
        case StopNode():
            _stop(d, event.id, command)
        case LeaveQuarantine():
            _leave_quarantine(d, event.id)


def _confirm_alone(d: Draft, command_id: str) -> None:
    n = d.n
    post = post_of(n)
    may_wait = post is Post.OWNER_ALONE or (
        post is Post.OWNER_PINNED and not fencing.is_in_force(n)
    )
    if not may_wait or n.alone_confirmed:
        sentence = "This node does not wait for a confirmation."
        if fencing.is_in_force(n) and not n.alone_confirmed:
            sentence = (
                f"{n.peer.id} may have had this node switched off and gone on, so only its answer "
                f"counts. If {n.peer.id} is lost for good: mse ha takeover --force."
            )
        d.answer(command_id, False, sentence)
        return
    n.alone_confirmed = True
    d.answer(command_id, True, "This node serves although nobody else answers.")


def _release_protect(d: Draft, command_id: str) -> None:
    """Only where writes can wait: given elsewhere, it would void the next protection unseen."""
    n, known = d.n, d.n.record.known
    mode = known.settings.no_witness_mode if known is not None else None
    if post_of(n) is not Post.OWNER_PINNED or has_witness(n) or mode is not NoWitnessMode.PROTECT:
        d.answer(
            command_id,
            False,
            "Nothing waits here: that is so on the owner of a pair without a witness whose mode "
            "is protect, while the other node is lost.",
        )
        return
    if n.db.peer_streaming and not is_peer_lost(n):
        d.answer(
            command_id,
            False,
            f"{n.peer.id} is there, or was until a moment ago, so nothing waits. A release is for "
            "one loss of the other node; it cannot be given beforehand.",
        )
        return
    n.protect_released = True
    d.answer(command_id, True, "Writes no longer wait for the other node.")


def _leave_quarantine(d: Draft, command_id: str) -> None:
    if not d.n.quarantine:
        d.answer(command_id, False, "This node is not set aside, so there is nothing to try again.")
        return
    d.n.quarantine = ""
    d.answer(command_id, True, "The rejoin is tried again.")


def _forward(d: Draft, event: Commanded) -> None:
    n, known = d.n, d.n.record.known
    if known is None:
        d.answer(event.id, False, "This node is not paired.")
    elif isinstance(event.command, Switchover) and _is_owner_gone(n):
        _ask_takeover(d, event.id)
    elif is_peer_silent(n):
        d.answer(
            event.id,
            False,
            f"{known.owner} owns and is not heard, so it cannot be asked. If it is lost for good, "
            "a forced takeover is the way: mse ha takeover --force.",
        )
    else:
        d.send(n.peer.id, Order(d.stamp, event.id, msgspec.json.encode(event.command)))


def _is_owner_gone(n: Node) -> bool:
    """Whether the owner is silent, or came back with a new memory and cannot own any more."""
    return is_peer_silent(n) or not is_known_voter(n, n.peer.id)


def _ask_takeover(d: Draft, command_id: str) -> None:
    """The owner is gone and an operator wants this node to own: without any loss if a quorum
    agrees, which is what failover type manual waits for; otherwise only force is left."""
    n, known = d.n, d.n.record.known
    assert known is not None
    refusal = why_not_own(n, known)
    if post_of(n) is not Post.PEER_SYNC or not n.witness.id:
        refusal = f"{known.owner} owns as {known.mode}, so nothing but force can replace it."
    if refusal:
        d.answer(
            command_id,
            False,
            f"{known.owner} is gone, and this node cannot take over without a possible loss: "
            f"{refusal} If {known.owner} is lost for good: mse ha takeover --force.",
        )
        return
    n.asked_version = known.version
    d.note("takeover_asked", "warning", f"An operator asked this node to own for {known.owner}.")
    d.answer(
        command_id,
        True,
        f"{known.owner} is gone. This node takes over, with nothing lost, as soon as the "
        "last lease has run out and the witness agrees; watch 'mse ha status --watch'.",
    )


def on_order(d: Draft, order: Order) -> None:
    """The other node forwards an operator's command to this one, the owner."""
    n = d.n
    try:
        command = msgspec.json.decode(order.command, type=Command)
    except msgspec.DecodeError:
        d.send(n.peer.id, OrderAnswer(d.stamp, order.id, False, "The order was not understood."))
        return
    if not is_owner(n):
        d.send(n.peer.id, OrderAnswer(d.stamp, order.id, False, f"{n.me} does not own any more."))
        return
    on_command(d, Commanded(n.now, order.id, command), asked_by=order.stamp.id)


def _switchover(d: Draft, command_id: str, command: Switchover, asked_by: str) -> None:
    known = d.n.record.known
    if known is not None and command.to and command.to == known.owner:
        operations.reply(d, command_id, asked_by, True, f"{known.owner} owns already.")
        return
    operations.start_handover(d, command_id, asked_by)


def _force(d: Draft, command_id: str, command: ForceTakeover) -> None:
    n, known = d.n, d.n.record.known
    if known is not None and is_owner(n) and known.mode is Mode.ALONE:
        n.alone_confirmed = True
        d.answer(command_id, True, "This node owns already.")
        return
    refusal = takeover.why_no_force(d)
    if refusal:
        d.answer(command_id, False, refusal)
        return
    who = f" by {command.operator}" if command.operator else ""
    takeover.force(d, Verdict.FORCED, f"Forced takeover{who}.")
    d.note(
        "forced_takeover",
        "warning",
        f"A takeover was forced{who}. The other machine will serve if it is started without seeing "
        "this one: power it off or isolate it. What it accepts is kept aside when it rejoins.",
    )
    d.answer(command_id, True, f"{n.me} owns from now on, in term {n.record.promised.term}.")


def _change(
    d: Draft,
    command_id: str,
    command: Maintenance | ChangeSettings | ChangeVoters,
    asked_by: str,
) -> None:
    n, known = d.n, d.n.record.known
    refusal = _why_no_change(d, command)
    if refusal or known is None:
        operations.reply(d, command_id, asked_by, False, refusal or "This node is not paired.")
        return
    settings: Settings = known.settings
    voters: tuple[Voter, ...] = known.voters
    match command:
        case Maintenance(is_on=is_on):
            settings = replace(settings, maintenance=is_on)
        case ChangeSettings(settings=wanted):
            settings = wanted
        case ChangeVoters(voters=changed):
            voters = changed
    if (settings, voters) == (known.settings, known.voters):
        operations.reply(d, command_id, asked_by, True, "That is the setting already.")
        return
    n.pending = Pending(settings, voters, n.now, command_id, asked_by)


def _why_no_change(d: Draft, command: Command) -> str:
    n, known = d.n, d.n.record.known
    if known is None or known.owner != n.me:
        return "Only the owner changes the register, and this node is not it."
    if n.pending is not None:
        return "Another change is under way."
    if n.is_halted:
        return "This node holds no lease at present; try again once it serves."
    if isinstance(command, ChangeSettings):
        faults = timing_faults(command.settings.failover_wait_ns, is_experimental=True)
        return " ".join(faults)
    if isinstance(command, ChangeVoters):
        return _why_no_voters(n.me, known.mode, command.voters)
    return ""


def _why_no_voters(me: str, mode: Mode, voters: tuple[Voter, ...]) -> str:
    ids = [v.id for v in voters]
    if len(set(ids)) != len(ids) or me not in ids:
        return "The voters must be different, and this node one of them."
    if sum(1 for v in voters if not v.is_witness) > 2 or sum(v.is_witness for v in voters) > 1:
        return "A group has two nodes and at most one witness."
    if mode is not Mode.ALONE and len([v for v in voters if not v.is_witness]) < 2:
        return "The other node can be removed only while this one serves ALONE."
    return ""


def _stop(d: Draft, command_id: str, command: StopNode) -> None:
    n = d.n
    n.is_stopping = True
    n.stopping_since = n.now
    d.answer(command_id, True, "This node is stopping.")
    if command.handover and post_of(n) in (Post.OWNER_SYNC, Post.OWNER_PINNED):
        operations.start_handover(d, "")


def settle_pending(d: Draft) -> None:
    """Answer a change of settings or voters once the register shows it, or it took too long."""
    n, pending, known = d.n, d.n.pending, d.n.record.known
    if pending is None or known is None:
        return
    if (known.settings, known.voters) == (pending.settings, pending.voters):
        n.pending = None
        operations.reply(d, pending.answer_to, pending.asked_by, True, "The change is in force.")
    elif known.owner != n.me or n.now - pending.asked_at > PENDING_BUDGET_NS:
        n.pending = None
        operations.reply(
            d,
            pending.answer_to,
            pending.asked_by,
            False,
            "The change found no quorum in time; it is not in force unless the status shows it.",
        )


def pending_deadline(d: Draft) -> Instant:
    """When a pending change is given up; 0 for none."""
    pending = d.n.pending
    return Instant(pending.asked_at + PENDING_BUDGET_NS) if pending else Instant(0)
