"""A pair without a witness, with a fencing agent (protocol §8): who goes on alone, and when.

Whoever goes on alone must know that the other cannot have done so. In PINNED that takes the other's
vote (``values.may_be_left``) or its confirmed end. A confirmed end counts because a machine that
was switched off does nothing on its own until the other has *answered* it: in that exchange any
request made before it becomes void (it was heard after it), and whoever went on tells of it.
"""

from openmse.ha.draft import (
    Draft,
    has_voted_away,
    is_owner,
    is_released,
    is_unresolved,
    since,
    timing_of,
)
from openmse.ha.effects import Fence
from openmse.ha.events import FencingAnswered
from openmse.ha.facts import is_known_voter, is_peer_lost, is_peer_silent, why_not_own
from openmse.ha.local import Receiver
from openmse.ha.state import Node
from openmse.ha.takeover import force
from openmse.ha.transitions import Verdict
from openmse.ha.values import SECOND, Config, Mode, is_fencing_pair

FENCE_AGAIN_NS = 10 * SECOND
HEAD_START_NS = 1 * SECOND
"""By how much the owner's request comes before the other node's, at the least."""
UNANSWERED_NS = 330 * SECOND
"""More than an agent may ever be given: after that its answer is lost."""


def is_in_force(n: Node) -> bool:
    """Whether this node is in the PINNED of a pair that goes on by fencing."""
    known = n.record.known
    return known is not None and known.mode is Mode.PINNED and is_fencing_pair(known)


def advance(d: Draft) -> None:
    """The other node is gone: have it switched off. The owner begins sooner, and wins the race."""
    n = d.n
    if why_not(n):
        return
    wait = UNANSWERED_NS if n.is_fencing else FENCE_AGAIN_NS
    if since(n.now, n.fencing_asked_at) < wait:
        return
    n.fencing_asked_at = n.now
    n.is_fencing = True
    d.extra.append(Fence(n.peer.id, n.now))
    d.note(
        "fencing_started",
        "warning",
        f"{n.peer.id} is lost; the fencing agent was asked to switch it off.",
    )


def why_not(n: Node) -> str:
    """Why this node does not have the other one switched off now; '' if it should."""
    known = n.record.known
    if known is None or not is_in_force(n):
        return "This pair does not go on by fencing from here."
    if known.settings.maintenance or n.is_stopping:
        return "Maintenance is on, or this node is being stopped."
    if is_known_voter(n, n.peer.id) and not is_peer_silent(n):
        return f"{n.peer.id} is heard."
    return _why_not_peer(n) if is_owner(n) else _why_not_owner(n, known)


def _why_not_peer(n: Node) -> str:
    """The owner's view: it must have been told, in this run, that the other has not gone on."""
    if not n.alone_confirmed or has_voted_away(n):
        return f"{n.peer.id} may own by now."
    silence = _silence(n)
    if is_known_voter(n, n.peer.id) and silence < timing_of(n.record.known).sync_loss_ns:
        return f"{n.peer.id} has not been silent for long."
    if is_released(n):
        is_back = n.operation is None or n.operation.step == "take_back"
        return "" if is_back else "A handover is under way."
    return "" if is_peer_lost(n) else f"{n.peer.id} is not lost."


def _why_not_owner(n: Node, known: Config) -> str:
    """The peer's view: the owner answered it in this run, and has not asked for its vote since."""
    owner = n.peer
    is_same = is_known_voter(n, owner.id)  # ⚠ a new memory does not know whether it went on
    if not is_same or not owner.answered or owner.version > known.version:
        return f"{owner.id} has not answered this node since it started."  # ⚠
    value = n.record.value
    if is_unresolved(n) and value is not None and value.owner != n.me:
        return f"{owner.id} may have gone on alone by this node's own vote."  # ⚠
    if owner.standing.is_stopping:
        return f"{owner.id} was being stopped on purpose."
    t = timing_of(known)
    wanted = max(t.wait_ns, t.rest_loss_ns + HEAD_START_NS)
    if _silence(n) < wanted or n.db.receiver is Receiver.STREAMING:
        return f"{owner.id} has not been silent for long."
    return why_not_own(n, known)


def _silence(n: Node) -> int:
    """For how long the other node has been silent while this one listened. Nanoseconds."""
    return since(n.now, max(n.peer.heard_at, n.started_at, n.woke_at))


def on_answer(d: Draft, answer: FencingAnswered) -> None:
    """The fencing agent answered: go on alone if it confirmed, and only while all still holds."""
    n, known = d.n, d.n.record.known
    if not n.is_fencing or answer.asked_at != n.fencing_asked_at:
        return  # of an earlier request: the other node may have come and gone since
    n.is_fencing = False
    if not answer.is_confirmed:
        d.note("fencing_failed", "error", f"The fencing agent did not confirm: {answer.sentence}")
        return
    was_heard = is_known_voter(n, n.peer.id) and n.peer.heard_at > n.fencing_asked_at
    if known is None or why_not(n) or was_heard:  # ⚠ heard since: it may have started again
        d.note("fencing_needless", "warning", "The fencing came too late to matter.")
        return
    d.note("fencing_confirmed", "warning", f"{n.peer.id} is confirmed to be switched off.")
    is_mine = is_owner(n)
    verdict = Verdict.PEER_FENCED if is_mine else Verdict.OWNER_FENCED
    force(d, verdict, "", boot_alone=known.settings.boot_alone, keeps_history=is_mine)
