"""From what engines tell of their licences to what pages show. Pure."""

from dataclasses import dataclass
from datetime import date

from openmse.console.live.state import EngineLive
from openmse.console.live.views import BAD, OFF, OK, RANK, WARN, Mark
from openmse.console.nodes.licences import (
    IN_FORCE,
    Licences,
    Licensed,
    Limit,
    days_left,
    without,
)
from openmse.console.store.engines import Engine
from openmse.platform.evaluation import COUNTED

KINDS = tuple(row.kind.value for row in COUNTED)
TITLES = {row.kind.value: row.title for row in COUNTED}
SOON_DAYS = 30
SHOWS = ("", "attention", "unactivated", "ending")


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceRow:
    """One engine in the overview."""

    engine: Engine
    activation: Mark
    limits: tuple[Limit | None, ...]
    """By KINDS; None where unknown."""
    next_end: date | None
    """The last day of the licence in force that ends first."""
    next_days: int | None
    trouble: str
    """'' or what wants attention: broken, clock, waiting, ending, full."""
    error: str
    read_at: str
    rank: int


def licence_row(live: EngineLive, now_s: float) -> LicenceRow:
    """The row of one engine; an engine that is not heard is unknown, never as last known."""
    found = live.licences if live.is_fresh(now_s) else None
    error = live.licences_error or live.error
    mark = activation(found)
    trouble = trouble_of(found)
    end = _next_end(found)
    kind = WARN if trouble else mark.kind
    return LicenceRow(
        engine=live.engine,
        activation=mark,
        limits=tuple(found.limit(one) if found else None for one in KINDS),
        next_end=end.last_day if end else None,
        next_days=days_left(end, found.as_of) if end and found else None,
        trouble=trouble,
        error=error.sentence if error is not None and found is None else "",
        read_at=live.licences_at if found else "",
        rank=RANK[kind],
    )


def activation(found: Licences | None) -> Mark:
    """Whether further licences of a machine count."""
    if found is None:
        return Mark(kind=OFF, word="Unknown")
    if not found.is_licensing_on:
        return Mark(kind=OFF, word="Licensing off")
    if not found.is_activation_needed:
        return Mark(kind=OK, word="Not needed")
    if found.is_activated:
        return Mark(kind=OK, word="Activated")
    return Mark(kind=WARN if _waiting(found) else OFF, word="Not activated")


def standing(one: Licensed, as_of: date | None) -> Mark:
    """Whether a licence counts."""
    left = days_left(one, as_of)
    if one.standing == IN_FORCE:
        is_soon = left is not None and left <= SOON_DAYS
        return Mark(kind=WARN if is_soon else OK, word=one.standing)
    return Mark(kind=OFF if one.standing == "expired" else BAD, word=one.standing)


def trouble_of(found: Licences | None) -> str:
    """What wants a person's attention, the most pressing; '' for nothing."""
    if found is None or not found.is_licensing_on:
        return ""
    if found.broken:
        return "broken"
    if found.is_clock_back:
        return "clock"
    if _waiting(found):
        return "waiting"
    if any(row.used is not None and row.used >= row.limit for row in found.limits):
        return "full"
    end = _next_end(found)
    left = days_left(end, found.as_of) if end else None
    return "ending" if left is not None and left <= SOON_DAYS else ""


def _waiting(found: Licences) -> bool:
    """Whether a licence waits for its machine to be activated."""
    return any(one.standing == "not activated" for one in found.licences)


def _next_end(found: Licences | None) -> Licensed | None:
    ending = [
        one
        for one in (found.licences if found else ())
        if one.standing == IN_FORCE and one.last_day is not None
    ]
    return min(ending, key=lambda one: one.last_day or date.max, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLicences:
    """The figures above the overview."""

    engines: int
    virtual: int
    """Virtual appliances that are known."""
    activated: int
    """Of these."""
    ending: int
    """Engines with a licence that ends within SOON_DAYS."""
    attention: int


def fleet_licences(rows: list[LicenceRow]) -> FleetLicences:
    """Counted over all engines."""
    words = [row.activation.word for row in rows]
    return FleetLicences(
        engines=len(rows),
        virtual=words.count("Activated") + words.count("Not activated"),
        activated=words.count("Activated"),
        ending=sum(1 for row in rows if _is_ending(row)),
        attention=sum(1 for row in rows if row.trouble),
    )


def _is_ending(row: LicenceRow) -> bool:
    return row.next_days is not None and row.next_days <= SOON_DAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceQuery:
    """What the overview shows, as its URL says it."""

    text: str = ""
    show: str = ""
    page: int = 1
    size: int = 50


def find_rows(rows: list[LicenceRow], wanted: LicenceQuery) -> tuple[list[LicenceRow], int]:
    """The rows of one page, what wants attention first; and how many there are on all pages."""
    needle = wanted.text.strip().lower()
    found = [row for row in rows if _is_shown(row, needle, wanted.show)]
    found.sort(key=lambda row: (row.rank, row.engine.name.lower()))
    start = (max(1, wanted.page) - 1) * wanted.size
    return found[start : start + wanted.size], len(found)


def _is_shown(row: LicenceRow, needle: str, show: str) -> bool:
    if show == "attention" and not row.trouble:
        return False
    if show == "unactivated" and row.activation.word != "Not activated":
        return False
    if show == "ending" and not _is_ending(row):
        return False
    words = (row.engine.name, row.engine.node, row.engine.udi, row.engine.address)
    return not needle or any(needle in word.lower() for word in words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What removing a licence would change."""

    one: Licensed
    changes: tuple[tuple[str, int, int], ...]
    """(title, limit before, limit after) where it changes."""
    stopped: int
    """Other licences that would no longer count."""
    is_known: bool
    """False: this console cannot tell what would follow."""


def removal_of(found: Licences, one: Licensed) -> Removal:
    """The consequences of removing a licence, by the engine's own rules."""
    after = without(found, one.licence.id)
    if after is None:
        return Removal(one=one, changes=(), stopped=0, is_known=False)
    limits = {row.kind.value: row.limit for row in after.limits}
    changes = tuple(
        (row.title, row.limit, limits[row.kind])
        for row in found.limits
        if row.kind in limits and row.limit != limits[row.kind]
    )
    counting = {v.licence.id for v in after.licences if v.standing.value == IN_FORCE}
    stopped = sum(
        1
        for other in found.licences
        if other.standing == IN_FORCE
        and other.licence.id != one.licence.id
        and other.licence.id not in counting
    )
    return Removal(one=one, changes=changes, stopped=stopped, is_known=True)
