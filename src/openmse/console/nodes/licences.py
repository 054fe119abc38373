"""What the console reads of a node's licences; tolerant of newer and older nodes. Pure."""

from datetime import date

import msgspec
from msgspec import Struct

from openmse.platform.evaluation import Group, Installed, Limits, evaluate
from openmse.platform.licence import MAX_BYTES, Licence

IN_FORCE = "in force"
OTHER_ENGINE = "other engine"
ACTIVATION = "activation"


class Limit(Struct, frozen=True):
    """How much of one thing there may be."""

    kind: str = ""
    service: str = ""
    title: str = ""
    built_in: int = 0
    by_licence: int = 0
    platform_limit: int = 0
    limit: int = 0
    type: str = ""
    used: int | None = None
    """How many are in use; None where the engine does not report it."""


class LicenceFacts(Struct, frozen=True):
    """What one file grants."""

    id: str = ""
    kind: str = ""
    type: str = ""
    udi: str = ""
    quantity: int = 0
    days: int = 0
    extends: str = ""
    issued: date | None = None
    issued_to: str = ""
    issued_by: str = ""


class Licensed(Struct, frozen=True):
    """An installed licence and its standing."""

    licence: LicenceFacts = LicenceFacts()
    first_installed: date | None = None
    standing: str = ""
    last_day: date | None = None
    installed_at: str = ""
    installed_by: str = ""


class BrokenFile(Struct, frozen=True):
    """A file that counts for nothing, and why."""

    file: str = ""
    sentence: str = ""


class Licences(Struct, frozen=True):
    """Everything that a node tells of its licences."""

    udi: str = ""
    is_licensing_on: bool = True
    is_activation_needed: bool = False
    is_activated: bool = True
    limits: tuple[Limit, ...] = ()
    licences: tuple[Licensed, ...] = ()
    broken: tuple[BrokenFile, ...] = ()
    as_of: date | None = None
    is_clock_back: bool = False

    def limit(self, kind: str) -> Limit | None:
        """The limit of one kind."""
        return next((row for row in self.limits if row.kind == kind), None)

    def licence(self, identity: str) -> Licensed | None:
        """The installed licence of that id."""
        return next((one for one in self.licences if one.licence.id == identity), None)

    @property
    def needs_activation(self) -> bool:
        """Whether further licences of this machine wait for its activation."""
        return self.is_licensing_on and self.is_activation_needed and not self.is_activated


class LicencesTold(Struct, frozen=True):
    """A message of the stream: they are to be read anew when either is another than before."""

    mark: str = ""
    as_of: date | None = None


class LicenceChanged(Struct, frozen=True):
    """A licence that was installed or removed. ``exchange``: how the other node gets it."""

    sentence: str = ""
    licence: LicenceFacts = LicenceFacts()
    exchange: str = ""


class LicencesShared(Struct, frozen=True):
    """What came of having both nodes hold the same."""

    is_shared: bool = False
    taken: int = 0
    given: int = 0
    sentence: str = ""


def days_left(one: Licensed, as_of: date | None) -> int | None:
    """Days on which it still counts, that of ``as_of`` among them; None for ever or unknown."""
    if one.last_day is None or as_of is None:
        return None
    return max(0, (one.last_day - as_of).days + 1)


def without(found: Licences, identity: str) -> Limits | None:
    """The limits once a licence is removed; None where this console cannot know them.

    By the engine's own rules (``openmse.platform.evaluation``), on the day that it told.
    """
    if found.as_of is None or not found.limits:
        return None
    try:
        rest = [
            Installed(msgspec.convert(msgspec.to_builtins(one.licence), Licence), first)
            for one in found.licences
            if one.licence.id != identity and (first := one.first_installed) is not None
        ]
    except msgspec.ValidationError:
        return None  # a kind of licence that only newer engines know
    ours = {one.licence.udi for one in found.licences if one.standing != OTHER_ENGINE}
    return evaluate(
        rest,
        Group(found.udi, frozenset(ours - {found.udi})),
        dates=(found.as_of, found.as_of),
        platform_limit=found.limits[0].platform_limit,
        is_licensing_on=found.is_licensing_on,
    )


__all__ = ["MAX_BYTES", "Licences", "days_left", "without"]
