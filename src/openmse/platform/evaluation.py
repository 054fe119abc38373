"""What an engine may do by its licences: limits, and the standing of each licence. Pure.

Limit = built in + permanent + running evaluations, at most what the platform can carry. A licence
counts when it is bound to a machine of the group and that machine, if it is a virtual appliance,
is activated. So limits are the same on both nodes, whoever owns.
"""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from enum import StrEnum

from msgspec import Struct

from openmse.platform import udi as udis
from openmse.platform.licence import Kind, Licence, Type

CLOCK_TOLERANCE = timedelta(days=1)
"""Machines whose clocks differ by less count as having the same date."""


class Limited(Struct, frozen=True):
    """A thing that is counted: its words are those of the guide's table of licences."""

    kind: Kind
    service: str
    title: str
    built_in: int


COUNTED = (
    Limited(Kind.ELEMENTS, "CAS", "CAS Elements", 100),
    Limited(Kind.WIPS_MONITOR, "wIPS", "wIPS Monitor Mode APs", 10),
    Limited(Kind.WIPS_LOCAL, "wIPS", "wIPS Local Mode APs", 10),
    Limited(Kind.CLICKS, "MSAP", "Service Advertisement Clicks", 1000),
)


class Standing(StrEnum):
    """Whether a licence counts."""

    IN_FORCE = "in force"
    EXPIRED = "expired"
    OTHER_ENGINE = "other engine"
    """Bound to no machine of this group."""
    NOT_ACTIVATED = "not activated"
    """Its machine is a virtual appliance without an activation licence."""
    WITHOUT_BASE = "nothing to extend"
    """An extension whose evaluation licence is not installed."""


class Installed(Struct, frozen=True):
    """A proven licence, and the date of its first installation in the group."""

    licence: Licence
    first_installed: date
    installed_at: str = ""
    """When it was last installed: ISO 8601, UTC; '' where that is not known."""
    installed_by: str = ""


class Group(Struct, frozen=True):
    """The machines whose licences count together; ``me`` is this one. UDIs as text."""

    me: str
    others: frozenset[str] = frozenset()

    @property
    def udis(self) -> frozenset[str]:
        """All of them."""
        return self.others | {self.me}


class LicenceView(Struct, frozen=True):
    """One installed licence as lists show it."""

    licence: Licence
    first_installed: date
    standing: Standing
    last_day: date | None
    """The last day on which it counts; null for ever."""
    installed_at: str = ""
    """When it was last installed: ISO 8601, UTC; '' where that is not known."""
    installed_by: str = ""


class Limit(Struct, frozen=True):
    """How much of one thing there may be. ``by_licence``: what files add to the built-in."""

    kind: Kind
    service: str
    title: str
    built_in: int
    by_licence: int
    platform_limit: int
    limit: int
    """What services enforce."""
    type: str
    """built-in, permanent, evaluation, or 'permanent, evaluation'."""


class Limits(Struct, frozen=True, kw_only=True):
    """Everything that services and screens need to know of licences."""

    udi: str
    is_licensing_on: bool
    is_activation_needed: bool
    is_activated: bool
    """This machine, not its peer; true where none is needed."""
    limits: tuple[Limit, ...]
    licences: tuple[LicenceView, ...]
    as_of: date
    is_clock_back: bool
    """The clock shows a date before one that this engine has seen: ``as_of`` is that one."""


def trusted_date(today: date, latest_seen: date) -> date:
    """The date that counts: a clock that was set back does not lengthen an evaluation."""
    return max(today, latest_seen)


def is_clock_back(today: date, latest_seen: date) -> bool:
    """Whether the clock stands before a date that was seen, beyond what clocks differ."""
    return today < latest_seen - CLOCK_TOLERANCE


def last_day(one: Installed, known: Sequence[Installed]) -> date | None:
    """The last day on which a licence counts; None for ever.

    An extension adds its days to the licence that it names, and ends with it.
    """
    base = one
    if one.licence.type is Type.EXTENSION:
        base = next((other for other in known if extends(one.licence, other.licence)), one)
    if base.licence.type is not Type.EVALUATION:
        return None
    more = {e.licence.id: e.licence.days for e in known if extends(e.licence, base.licence)}
    days = base.licence.days + sum(more.values())
    return base.first_installed + timedelta(days=days - 1)


def extends(extension: Licence, base: Licence) -> bool:
    """Whether one licence lengthens the other: same engine, same kind, named by it."""
    return (
        extension.type is Type.EXTENSION
        and base.type is Type.EVALUATION
        and (extension.extends, extension.udi, extension.kind) == (base.id, base.udi, base.kind)
    )


def views(installed: Iterable[Installed], group: Group, as_of: date) -> tuple[LicenceView, ...]:
    """The standing of each licence on ``as_of``, the oldest installation first."""
    known = sorted(installed, key=lambda one: (one.first_installed, one.licence.id))
    licences = [one.licence for one in known]
    dated = {one.licence.id: last_day(one, known) for one in known}
    active = frozenset(
        one.licence.udi
        for one in known
        if one.licence.kind is Kind.ACTIVATION and is_running(dated[one.licence.id], as_of)
    )
    return tuple(
        _view(one, licences, Situation(group, active, as_of, dated[one.licence.id]))
        for one in known
    )


class Situation(Struct, frozen=True):
    """What the standing of a licence depends on beside itself."""

    group: Group
    activated: frozenset[str]
    as_of: date
    last_day: date | None


def is_running(last: date | None, as_of: date) -> bool:
    """Whether ``as_of`` is not after the last day."""
    return last is None or as_of <= last


def _view(one: Installed, licences: list[Licence], at: Situation) -> LicenceView:
    licence, last = one.licence, at.last_day
    if licence.type is Type.EXTENSION and not any(extends(licence, base) for base in licences):
        standing = Standing.WITHOUT_BASE
    elif licence.udi not in at.group.udis:
        standing = Standing.OTHER_ENGINE
    elif not is_running(last, at.as_of):
        standing = Standing.EXPIRED
    elif licence.kind is not Kind.ACTIVATION and not is_activated(licence.udi, at.activated):
        standing = Standing.NOT_ACTIVATED
    else:
        standing = Standing.IN_FORCE
    return LicenceView(
        licence, one.first_installed, standing, last, one.installed_at, one.installed_by
    )


def is_activated(udi: str, activated: frozenset[str]) -> bool:
    """Whether further licences of this engine count: activated, or no virtual appliance."""
    return not udis.parse(udi).is_virtual or udi in activated


def evaluate(
    installed: Iterable[Installed],
    group: Group,
    *,
    dates: tuple[date, date],
    platform_limit: int,
    is_licensing_on: bool = True,
) -> Limits:
    """The limits in force. ``dates``: today by this machine's clock, and the latest ever seen;
    ``platform_limit``: the most that this platform carries, of each kind."""
    today, seen = dates
    as_of = trusted_date(today, seen)
    shown = views(installed, group, as_of)
    mine = udis.parse(group.me)
    activations = frozenset(
        view.licence.udi
        for view in shown
        if view.licence.kind is Kind.ACTIVATION and view.standing is Standing.IN_FORCE
    )
    return Limits(
        udi=group.me,
        is_licensing_on=is_licensing_on,
        is_activation_needed=mine.is_virtual and is_licensing_on,
        is_activated=not is_licensing_on or is_activated(group.me, activations),
        limits=tuple(
            _limit(row, shown, platform_limit, is_licensing_on=is_licensing_on) for row in COUNTED
        ),
        licences=shown,
        as_of=as_of,
        is_clock_back=is_clock_back(today, seen),
    )


def _limit(
    row: Limited, shown: tuple[LicenceView, ...], platform_limit: int, *, is_licensing_on: bool
) -> Limit:
    counting = [
        view.licence
        for view in shown
        if view.licence.kind is row.kind and view.standing is Standing.IN_FORCE
    ]
    added = sum(licence.quantity for licence in counting)
    wanted = row.built_in + added if is_licensing_on else platform_limit
    types = sorted({e.type.value for e in counting if e.quantity}, reverse=True)
    return Limit(
        kind=row.kind,
        service=row.service,
        title=row.title,
        built_in=row.built_in,
        by_licence=added,
        platform_limit=platform_limit,
        limit=min(wanted, platform_limit),
        type=(", ".join(types) or "built-in") if is_licensing_on else "not licensed",
    )
