"""The overview of pairs: what is in trouble first, found by text, a secondary's pairs together.
Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from openmse.console.live.pairs import Pair, PairView
from openmse.console.live.state import EngineLive
from openmse.console.live.views import RANK, WARN, ListQuery
from openmse.console.store.engines import Engine


@dataclass(frozen=True, slots=True)
class Ranked:
    """A pair, and how pressing it is: lower is more."""

    pair: Pair
    rank: int

    @property
    def is_trouble(self) -> bool:
        """Whether something of it is amiss, as the list of engines means it."""
        return self.rank <= RANK[WARN]

    @property
    def primary(self) -> Engine | None:
        """The configured one; None where this console does not know it."""
        return self._of(is_primary=True)

    @property
    def secondary(self) -> Engine | None:
        """The configured one; None where this console does not know it."""
        return self._of(is_primary=False)

    @property
    def secondary_name(self) -> str:
        """Also of one that this console does not know."""
        return self.secondary.name if self.secondary else self.pair.other_name

    def _of(self, *, is_primary: bool) -> Engine | None:
        found = (one.engine for one in self.pair.lives if one.engine.is_primary == is_primary)
        return next(found, None)


def rank_of(view: PairView) -> int:
    """How pressing a pair is: as the worst of what its row and both machines show."""
    marks = (view.summary, view.heartbeats, view.replication, view.witness)
    ranks = (*(RANK[mark.kind] for mark in marks), *(one.rank for one in view.machines))
    return min(ranks)


def find_pairs(pairs: Iterable[Ranked], wanted: ListQuery) -> list[Ranked]:
    """The pairs that match, trouble first; all pairs of a secondary stand where its worst does."""
    needle = wanted.text.strip().lower()
    found = [
        one
        for one in pairs
        if (wanted.show != "trouble" or one.is_trouble) and _has(one.pair, needle)
    ]
    worst: dict[str, int] = {}
    for one in found:
        name = one.secondary_name
        worst[name] = min(one.rank, worst.get(name, one.rank))

    def place(one: Ranked) -> tuple[int, str, str, int, str]:
        name = one.secondary_name
        return worst[name], name.lower(), name, one.rank, one.pair.name.lower()

    return sorted(found, key=place)


def _has(pair: Pair, needle: str) -> bool:
    words = [pair.name, pair.other_name, pair.other_address]
    for live in pair.lives:
        words += _words(live)
    return not needle or any(needle in word.lower() for word in words)


def _words(live: EngineLive) -> list[str]:
    engine, summary = live.engine, live.summary
    virtual = (summary.virtual_ips or ()) if summary else ()
    named = (engine.node, engine.address, engine.udi, engine.device_type, engine.version)
    return [*named, engine.contact, *virtual]
