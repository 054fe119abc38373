"""Actions for rare situations: of whom each is asked, and why it is not possible now. Pure.

Reasons are codes; pages tell them in the reader's language. What an engine decides it decides
again: these only keep a button from promising what cannot be.
"""

from dataclasses import dataclass

from openmse.console.live.pairs import PairView, voting_witness
from openmse.console.nodes.models import Snapshot

KINDS = (
    "rejoin",
    "confirm_alone",
    "release_protect",
    "readmit",
    "readmit_cancel",
    "witness_replace",
    "witness_remove",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Special:
    """One rare action at this moment."""

    kind: str
    node: str
    """Whom it would be asked of; '' where nobody can be asked."""
    why_not: str
    """'' where nothing speaks against it; else a code."""


def specials(view: PairView, *, is_busy: bool = False) -> dict[str, Special]:
    """All of them, by kind. ``is_busy``: an action of this pair is under way."""
    owner = view.owner_snapshot
    asked = dict.fromkeys(KINDS, owner.node if owner else "")
    aside = set_aside(view)
    asked["rejoin"] = aside.node if aside else ""
    reasons = {
        "rejoin": _why_no_rejoin(view, aside),
        "confirm_alone": _why_no_confirmation(owner),
        "release_protect": _why_no_release(owner),
        "readmit": _why_no_readmission(owner),
        "readmit_cancel": _why_no_cancelling(view, owner),
        "witness_replace": _why_no_witness_change(owner),
        "witness_remove": _why_no_witness_change(owner) or _why_no_removal(owner),
    }
    return {
        kind: Special(kind=kind, node=asked[kind], why_not=reasons[kind] or ("busy" * is_busy))
        for kind in KINDS
    }


def set_aside(view: PairView) -> Snapshot | None:
    """The machine that is set aside after failed rejoins, as far as it is heard."""
    heard = (view.owner_snapshot, view.standby_snapshot)
    return next((s for s in heard if s is not None and s.state == "QUARANTINED"), None)


def standing(view: PairView) -> str:
    """How the machine that would take over by force stands to the owner, as far as it knows:
    'owner', 'alone' (the owner went on without it), 'pinned' (the owner needs no lease, so that
    nobody takes over by itself), or '' (in step)."""
    standby = view.standby_snapshot
    register = standby.register if standby is not None else None
    if standby is None or register is None:
        return ""
    if register.owner == standby.node:
        return "owner"
    return {"ALONE": "alone", "PINNED": "pinned"}.get(register.mode, "")


def _why_no_rejoin(view: PairView, aside: Snapshot | None) -> str:
    if aside is not None:
        return ""
    heard = [s for s in (view.owner_snapshot, view.standby_snapshot) if s is not None]
    if not heard:
        return "unheard"
    return "none_aside" if len(heard) == 2 else "none_heard_aside"


def _why_no_confirmation(owner: Snapshot | None) -> str:
    """A node that boots as the owner of ALONE or PINNED serves by itself or waits to be told."""
    if owner is None:
        return "owner_unheard"
    mode = owner.register.mode if owner.register else ""
    is_its_own = mode in ("ALONE", "PINNED")
    waits = owner.state == "WAITING" and is_its_own and not owner.admits_clients
    return "" if waits else "none_waits"


def _why_no_release(owner: Snapshot | None) -> str:
    if owner is None:
        return "owner_unheard"
    if voting_witness(owner) is not None:
        return "has_witness"
    return "" if any(alarm.kind == "writes_wait" for alarm in owner.alarms) else "nothing_waits"


def _why_no_readmission(owner: Snapshot | None) -> str:
    """A new machine is taken only by an owner that goes on alone and hears nobody."""
    if owner is None:
        return "owner_unheard"
    if owner.peer is not None and owner.peer.is_heard:
        return "peer_heard"
    return "" if owner.register and owner.register.mode == "ALONE" else "not_alone"


def _why_no_cancelling(view: PairView, owner: Snapshot | None) -> str:
    """Only the owner waits for a new machine, and tells it."""
    live = view.pair.of_node(owner.node) if owner is not None else None
    if live is None:
        return "owner_unheard"
    return "" if live.readmission is not None else "none_awaited"


def _why_no_witness_change(owner: Snapshot | None) -> str:
    if owner is None:
        return "owner_unheard"
    return "" if owner.admits_clients else "owner_idle"


def _why_no_removal(owner: Snapshot | None) -> str:
    return "no_witness" if owner is None or voting_witness(owner) is None else ""
