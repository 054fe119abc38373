"""Automatic failback: the service goes back to the configured primary by itself (protocol §9).

It is a planned switchover that nobody asked for, so it is shy: what a person may order at once it
waits for, and each repeat within a day waits twice as long as the one before, so that a primary
that fails again and again does not drag the service to and fro.
"""

from openmse.ha import operations
from openmse.ha.draft import Draft, is_owner, since
from openmse.ha.facts import why_no_switchover
from openmse.ha.state import Node
from openmse.ha.values import SECOND, FailoverType, Instant, Mode

REMEMBERED_NS = 24 * 3600 * SECOND
"""For how long an automatic failback counts as the one before. Not kept over a restart."""
DOUBLINGS_MAX = 6
"""With ten minutes of stability wanted: over ten hours at the most."""
LAG_BUDGET_BYTES = 16 << 20
"""How far the primary's replay may be behind: what it replays within a moment."""


def why_not(n: Node) -> str:
    """Why an automatic failback does not start now, in a sentence for the operator; '' if it
    should."""
    known = n.record.known
    if known is None or not is_owner(n) or known.primary == n.me or not known.primary:
        return "The configured primary owns, or this node does not."
    if known.settings.failback_type is not FailoverType.AUTOMATIC:
        return "The failback type is manual."
    if known.settings.maintenance:
        return "Maintenance is on."
    if known.mode is not Mode.SYNC:
        return "The pair is not in SYNC."
    held = n.peer.standing
    if held.software != n.software:
        if not held.software:
            return f"{known.primary} does not tell which version of the software it runs."
        return f"{known.primary} runs version {held.software}, this node {n.software}."
    behind = n.db.end_lsn - held.end_lsn
    if behind > LAG_BUDGET_BYTES:
        return f"{known.primary} has {behind / (1 << 20):.0f} MiB of changes still to replay."
    return _why_not_stable(n, known.primary, known.settings.failback_stable_ns) or (
        why_no_switchover(n)
    )


def _why_not_stable(n: Node, primary: str, stable_ns: int) -> str:
    recent = _recent(n)
    began = max(n.streaming_since, recent[-1]) if recent else n.streaming_since
    stable = since(n.now, began) if n.streaming_since else 0
    left = (stable_ns << min(len(recent), DOUBLINGS_MAX)) - stable
    if left <= 0:
        return ""
    if not recent:
        return f"{primary} has to be stable for another {left / SECOND:.0f} s."
    return (
        f"{primary} has to be stable for another {left / SECOND:.0f} s: each automatic failback "
        "within a day waits twice as long as the one before."
    )


def _recent(n: Node) -> tuple[Instant, ...]:
    return tuple(at for at in n.failbacks if since(n.now, at) < REMEMBERED_NS)


def begin_if_due(d: Draft) -> None:
    """Start the switchover back, if nothing speaks against it."""
    n = d.n
    if n.operation is not None or n.proposal is not None or why_not(n):
        return
    n.failbacks = (*_recent(n)[-DOUBLINGS_MAX:], n.now)
    operations.start_handover(d, "")
