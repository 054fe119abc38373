"""Long actions of the owner: handover, release of a broken owner, planned stop.

A handover's point of no return is its release: fsynced before anything stops, final for its epoch.
If it leads nowhere afterwards the service is taken back in a new epoch, never in the old one.
"""

from msgspec.structs import replace

from openmse.ha import fencing
from openmse.ha.draft import Draft, is_owner, is_released, is_stopped, since
from openmse.ha.effects import Checkpoint, Exit
from openmse.ha.facts import is_peer_silent, is_protected, post_of, why_no_switchover
from openmse.ha.local import Address, DbProcess
from openmse.ha.messages import OrderAnswer, Released
from openmse.ha.state import Node, Operation, OperationKind, Step
from openmse.ha.transitions import Post
from openmse.ha.values import MILLISECOND, SECOND, FailoverType, Instant, Release

CHECKPOINT_BUDGET_NS = 60 * SECOND
STOP_BUDGET_NS = 10 * SECOND
DRAIN_BUDGET_NS = 3 * SECOND
CHOOSE_BUDGET_NS = 5 * SECOND
PROMOTE_BUDGET_NS = 30 * SECOND
RELEASE_BUDGET_NS = 5 * SECOND
UNHEALTHY_GRACE_NS = 200 * MILLISECOND
RECOVERY_BUDGET_NS = 350 * MILLISECOND
"""A crashed database is back within this after little writing; replaying much takes seconds, while
the other node, which holds everything, serves about as long after its release: waiting for as long
as the way out takes costs twice the better of the two at the most."""


def start_handover(d: Draft, answer_to: str, asked_by: str = "") -> None:
    """Begin a switchover (or failback): everything before the release can still be dropped."""
    n = d.n
    refusal = why_no_switchover(n)
    if not refusal and n.operation is not None:
        refusal = "A switchover is under way already."
    if refusal:
        reply(d, answer_to, asked_by, False, refusal)
        return
    identity = f"handover-{n.record.boot}-{n.now}"
    n.operation = Operation(
        OperationKind.HANDOVER,
        identity,
        "checkpoint",
        n.now,
        (Step("checkpoint", n.now),),
        answer_to,
        asked_by=asked_by,
    )
    d.extra.append(Checkpoint(identity))
    d.note("switchover_started", "info", f"Handing over to {n.peer.id}; clients are served on.")


def reply(d: Draft, answer_to: str, asked_by: str, is_done: bool, sentence: str) -> None:
    """Answer a command here, or the node that forwarded it."""
    if asked_by:
        d.send(asked_by, OrderAnswer(d.stamp, answer_to, is_done, sentence))
    else:
        d.answer(answer_to, is_done, sentence)


def go_to(d: Draft, step: str) -> None:
    """Enter the next step of the operation under way, noting when."""
    n = d.n
    assert n.operation is not None
    n.operation = replace(n.operation, step=step, steps=(*n.operation.steps, Step(step, n.now)))


def finish(d: Draft, is_done: bool, sentence: str) -> None:
    """End the operation: answer whoever asked, and tell the event log how long each step took."""
    n, operation = d.n, d.n.operation
    assert operation is not None
    reply(d, operation.answer_to, operation.asked_by, is_done, sentence)
    ended = (*operation.steps, Step("", n.now))
    took = ", ".join(
        f"{step.name} {(after.at - step.at) / MILLISECOND:.0f} ms"
        for step, after in zip(operation.steps, ended[1:], strict=True)
    )
    kind = f"{operation.kind.value}_{'done' if is_done else 'failed'}"
    d.note(kind, "info" if is_done else "warning", f"{sentence} Steps: {took}.")
    n.operation = None


def advance(d: Draft) -> None:
    """Go on with the owner's operation, as far as it goes now, or begin a release if this owner is
    broken."""
    for _ in range(len(_HANDOVER_STEPS)):
        before = d.n.operation
        _advance_once(d)
        if before is None or d.n.operation is None or d.n.operation.step == before.step:
            return


def _advance_once(d: Draft) -> None:
    n, operation = d.n, d.n.operation
    if operation is None:
        _consider_release(d)
        return
    in_step = since(n.now, operation.steps[-1].at)
    if operation.kind is OperationKind.HANDOVER:
        _HANDOVER_STEPS[operation.step](d, in_step)
    elif operation.kind is OperationKind.RELEASE:
        _advance_release(d, in_step)
    elif operation.kind is OperationKind.TAKEOVER and n.is_admitted and is_owner(n):
        finish(d, True, f"{n.me} has taken over and serves.")


def on_checkpoint(d: Draft, identity: str) -> None:
    """The checkpoint is written: release the epoch, unless something changed meanwhile."""
    n, operation = d.n, d.n.operation
    if operation is None or operation.id != identity or operation.step != "checkpoint":
        return
    refusal = why_no_switchover(n)
    if refusal or n.proposal is not None:
        finish(d, False, refusal or "A change of the register came in between; try again.")
        return
    known = n.record.known
    assert known is not None
    d.record(released=Release(n.me, *known.version))
    n.operation = replace(operation, is_final=True)
    go_to(d, "stop")


def _in_checkpoint(d: Draft, in_step: int) -> None:
    if in_step > CHECKPOINT_BUDGET_NS:
        finish(d, False, "The checkpoint before the switchover took too long; nothing changed.")
    elif why_no_switchover(d.n):
        finish(d, False, f"The switchover was dropped: {why_no_switchover(d.n)}")


def _in_stop(d: Draft, in_step: int) -> None:
    n = d.n
    if n.db.process is DbProcess.DOWN and n.net.address is not Address.HELD:
        go_to(d, "drain" if n.db.is_clean else "take_back")
    elif in_step > STOP_BUDGET_NS:
        go_to(d, "take_back")


def _in_drain(d: Draft, in_step: int) -> None:
    """Wait until the peer holds the shutdown checkpoint, the last record of this history."""
    n, standing = d.n, d.n.peer.standing
    if standing.end_lsn >= n.db.end_lsn and standing.lineage == n.db.lineage:
        go_to(d, "hand_over")
    elif in_step > DRAIN_BUDGET_NS or (in_step > SECOND and is_peer_silent(n)):
        go_to(d, "take_back")


def _in_hand_over(d: Draft, in_step: int) -> None:
    n = d.n
    if not is_owner(n):
        go_to(d, "promote")
    elif in_step > CHOOSE_BUDGET_NS and n.proposal is None:
        go_to(d, "take_back")


def _in_promote(d: Draft, in_step: int) -> None:
    n = d.n
    if n.peer.standing.is_primary:
        finish(d, True, f"{n.peer.id} owns and serves now; this node follows it.")
    elif in_step > PROMOTE_BUDGET_NS:
        finish(d, False, f"{n.peer.id} was made the owner, but does not report that it serves.")


def _in_take_back(d: Draft, in_step: int) -> None:
    n = d.n
    if not is_owner(n):
        finish(d, True, f"{n.peer.id} owns and serves now.")
    elif not is_released(n):
        finish(d, False, "The switchover could not be completed; this node serves again.")


_HANDOVER_STEPS = {
    "checkpoint": _in_checkpoint,
    "stop": _in_stop,
    "drain": _in_drain,
    "hand_over": _in_hand_over,
    "promote": _in_promote,
    "take_back": _in_take_back,
}


def _consider_release(d: Draft) -> None:
    """An owner that is broken while its health monitor lives hands over at once (protocol §4)."""
    n = d.n
    if post_of(n) is not Post.OWNER_SYNC or is_released(n) or n.proposal is not None:
        return
    is_broken = n.db_failed_at and since(n.now, n.db_failed_at) > UNHEALTHY_GRACE_NS
    is_given_up = n.db.process is DbProcess.DOWN and not n.db.is_healthy
    is_slow = n.db_down_at and (is_given_up or since(n.now, n.db_down_at) > RECOVERY_BUDGET_NS)
    is_empty = not n.db.is_complete and since(n.now, n.started_at) > SECOND
    if not (is_broken or is_slow or is_empty) or is_peer_silent(n) or not n.peer.standing.is_ready:
        return
    known = n.record.known
    assert known is not None
    if known.settings.failover_type is FailoverType.MANUAL:
        return  # nobody would take over: each release would only cost its budget
    d.record(released=Release(n.me, *known.version))
    n.operation = Operation(
        OperationKind.RELEASE,
        f"release-{n.record.boot}-{n.now}",
        "stop",
        n.now,
        (Step("stop", n.now),),
        is_final=True,
    )
    why = n.db.failure or ("no usable data" if is_empty else "it has to recover for a while")
    d.note(
        "owner_broken",
        "error",
        f"The database of this node does not serve ({why}); stopping everything so that "
        f"{n.peer.id} can take over at once.",
    )


def _advance_release(d: Draft, in_step: int) -> None:
    n, operation = d.n, d.n.operation
    assert operation is not None
    if not is_owner(n):
        finish(d, True, f"{n.peer.id} owns now.")
    elif operation.step == "stop":
        if is_stopped(n):
            go_to(d, "released")
            _announce_release(d)
        elif in_step > STOP_BUDGET_NS:
            d.note("stop_slow", "error", "PostgreSQL does not stop; the lease runs out instead.")
            go_to(d, "take_back")
    elif operation.step == "released":
        if in_step > RELEASE_BUDGET_NS:
            go_to(d, "take_back")
    elif not is_released(n):
        finish(d, False, "Nobody took over; this node tries to serve again.")


def _announce_release(d: Draft) -> None:
    n = d.n
    if n.record.released is not None:
        for party in (n.peer, n.witness):
            d.send(party.id, Released(d.stamp, n.record.released))


def advance_stop(d: Draft) -> None:
    """A planned stop: down once the register says so, then the process may end."""
    n = d.n
    if n.is_stopping and may_go_down(n) and is_stopped(n) and not n.has_exited:
        if _is_handing_over(n):
            return  # only this node can propose what makes the other one the owner
        if _is_vote_needed(n):
            return
        n.has_exited = True
        d.extra.append(Exit())


def _is_vote_needed(n: Node) -> bool:
    """Whether the owner cannot go on alone without this node's vote, unless it fences it (§8)."""
    if post_of(n) is not Post.PEER_PINNED or not fencing.is_in_force(n) or is_peer_silent(n):
        return False
    return since(n.now, n.stopping_since) < STOP_BUDGET_NS


def _is_handing_over(n: Node) -> bool:
    """Whether a handover is under way and still gets on; its steps have budgets of their own."""
    if n.operation is None or n.operation.kind is not OperationKind.HANDOVER:
        return False
    return since(n.now, n.operation.steps[-1].at) < STOP_BUDGET_NS


def may_go_down(n: Node) -> bool:
    """Whether a node that is being stopped may stop its database: no owner in SYNC or PINNED does
    before the register says ALONE, or the time for that is over."""
    if not n.is_stopping:
        return False
    if post_of(n) not in (Post.OWNER_SYNC, Post.OWNER_PINNED) or is_protected(n):
        return True
    return since(n.now, n.stopping_since) > STOP_BUDGET_NS or n.is_halted or is_released(n)


def stop_deadline(n: Node) -> Instant:
    """When a planned stop goes on without the register's consent."""
    return Instant(n.stopping_since + STOP_BUDGET_NS)
