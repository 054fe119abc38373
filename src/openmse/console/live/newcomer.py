"""A new machine in place of one that its pair has lost: waited for, then there. Pure."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from openmse.console.live.pairs import PairView
from openmse.console.live.state import EngineLive
from openmse.console.live.views import OK

NEWS_S = 86_400.0
"""For so long it is told who came, at most: later troubles of the pair have other reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """What a pair's page tells of it. ``name`` is '' while it is waited for."""

    owner: str
    lost: str = ""
    recover_from: str = ""
    until: str = ""
    left_s: float = 0.0
    """In whole minutes: a page that counted seconds would be read aloud without end."""
    name: str = ""
    at: str = ""
    sentence: str = ""
    is_known: bool = False
    """Whether this console has the new machine among its engines."""
    old_engine_id: int = 0
    """The lost machine's in this console, where it is still there; else 0."""


def newcomer(view: PairView, lives: list[EngineLive], wall_s: float) -> Newcomer | None:
    """The wait at the owner, or else who came; None where nothing is to be told. ``wall_s``: now.

    Who came is told until it is in step and among this console's engines.
    """
    owner = view.pair.of_node(view.owner)
    if owner is None or view.owner_snapshot is None:
        return None
    told, entry, peer = owner.readmission, owner.readmitted, view.owner_snapshot.peer
    if told is not None:
        return Newcomer(
            owner=view.owner,
            lost=told.lost,
            recover_from=told.recover_from,
            until=told.until,
            left_s=60.0 * max(0, math.ceil((_instant_s(told.until) - wall_s) / 60)),
        )
    if entry is None or peer is None or not entry.sentence.startswith(f"{peer.name} at "):
        return None
    is_known = view.pair.of_node(peer.name) is not None
    if is_known and view.replication.kind == OK:
        return None
    if wall_s - _instant_s(entry.at) > NEWS_S:
        return None
    return Newcomer(
        owner=view.owner,
        name=peer.name,
        at=entry.at,
        sentence=entry.sentence,
        is_known=is_known,
        old_engine_id=_at_the_same_address(view, lives),
    )


def _at_the_same_address(view: PairView, lives: list[EngineLive]) -> int:
    """An engine that has the newcomer's address: the lost one's entry is in the way of its own."""
    members = view.pair.engine_ids
    for live in lives:
        if live.engine.address == view.pair.other_address and live.engine.id not in members:
            return live.engine.id
    return 0


def _instant_s(text: str) -> float:
    """Seconds since 1970; 0.0 for what is no instant."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return 0.0
