"""``/api/v1`` for licences: what the pages do, for programs, with the same roles."""

from datetime import date

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from openmse.console import licensing
from openmse.console.api.described import ERRORS, SECURITY, Strict
from openmse.console.context import console_of
from openmse.console.live.licences import (
    KINDS,
    SHOWS,
    LicenceQuery,
    LicenceRow,
    find_rows,
)
from openmse.console.nodes.licences import (
    MAX_BYTES,
    LicenceChanged,
    LicenceFacts,
    Licences,
    Licensed,
    Limit,
    days_left,
)
from openmse.console.pages.licences import rows_of
from openmse.console.people.access import Administrator, Viewer

router = APIRouter(prefix="/api/v1", tags=["licences"], responses=ERRORS, dependencies=SECURITY)


class LimitOut(BaseModel):
    """How much of one thing there may be."""

    kind: str
    service: str
    title: str
    used: int | None = Field(description="null where the engine does not report it")
    limit: int
    built_in: int
    by_licence: int
    platform_limit: int
    type: str


class LicenceOut(BaseModel):
    """An installed licence."""

    id: str
    kind: str
    type: str
    quantity: int
    days: int
    extends: str
    udi: str
    standing: str = Field(description="in force, expired, other engine, not activated, …")
    last_day: date | None
    days_left: int | None
    first_installed: date | None
    installed_at: str | None
    installed_by: str | None
    issued: date | None
    issued_to: str
    issued_by: str


class BrokenOut(BaseModel):
    """A file that counts for nothing, and why."""

    file: str
    sentence: str


class LicencesOut(BaseModel):
    """What is licensed on one engine at this moment."""

    engine_id: int
    udi: str
    is_licensing_on: bool
    is_activation_needed: bool
    is_activated: bool
    as_of: date | None
    is_clock_back: bool
    limits: list[LimitOut]
    licences: list[LicenceOut]
    broken: list[BrokenOut]


class LicenceRowOut(BaseModel):
    """One engine in the overview; null is unknown, never the last known."""

    engine_id: int
    name: str
    udi: str
    activation: str
    limits: dict[str, int | None]
    used: dict[str, int | None]
    next_end: date | None
    next_days: int | None
    trouble: str = Field(description="'' or broken, clock, waiting, full, ending")
    read_at: str | None
    error: str


class OverviewOut(BaseModel):
    """Engines, what wants attention first; 50 a page."""

    engines: list[LicenceRowOut]
    count: int


class LicenceIn(Strict):
    """The text of the signed file, byte for byte."""

    text: str = Field(max_length=4 * MAX_BYTES)


class ChangedOut(BaseModel):
    """What was installed or removed; ``exchange``: how the other machine of a pair gets it."""

    sentence: str
    exchange: str
    id: str
    kind: str
    quantity: int


class LimitChangeOut(BaseModel):
    """A limit that would be another."""

    title: str
    before: int
    after: int


class RemovalOut(BaseModel):
    """What removing a licence would change, by the engine's own rules."""

    is_known: bool = Field(description="false: this console cannot tell what would follow")
    changes: list[LimitChangeOut]
    stopped: int = Field(description="other licences that would no longer count")


class SharedOut(BaseModel):
    """What came of having both machines hold the same."""

    is_shared: bool
    taken: int
    given: int
    sentence: str


@router.get("/licences")
async def overview(
    request: Request, _principal: Viewer, *, text: str = "", show: str = "", page: int = 1
) -> OverviewOut:
    """What is licensed on every engine. ``show``: attention, unactivated or ending."""
    rows = rows_of(console_of(request))
    wanted = LicenceQuery(text=text, show=show if show in SHOWS else "", page=max(1, page))
    found, count = find_rows(rows, wanted)
    return OverviewOut(engines=[_row_out(row) for row in found], count=count)


@router.get("/engines/{engine_id}/licences")
async def look(request: Request, _principal: Viewer, engine_id: int) -> LicencesOut:
    """What is licensed on one engine, read from it at this moment."""
    return _licences_out(engine_id, await licensing.read(console_of(request), engine_id))


@router.post("/engines/{engine_id}/licences", status_code=201)
async def install(
    request: Request, principal: Administrator, engine_id: int, body: LicenceIn
) -> ChangedOut:
    """Install a licence; what is refused changes nothing and says why."""
    console = console_of(request)
    text = licensing.checked_text(body.text.encode("utf-8", "surrogatepass"))
    return _changed_out(await licensing.install(console, request, principal, engine_id, text))


@router.get("/engines/{engine_id}/licences/{licence_id}/removal")
async def look_before_removal(
    request: Request, _principal: Administrator, engine_id: int, licence_id: str
) -> RemovalOut:
    """What removing a licence would change; nothing is changed."""
    _, found = await licensing.removal(console_of(request), engine_id, licence_id)
    changes = [
        LimitChangeOut(title=title, before=before, after=after)
        for title, before, after in found.changes
    ]
    return RemovalOut(is_known=found.is_known, changes=changes, stopped=found.stopped)


@router.delete("/engines/{engine_id}/licences/{licence_id}")
async def remove(
    request: Request, principal: Administrator, engine_id: int, licence_id: str
) -> ChangedOut:
    """Remove a licence from an engine, and from its peer."""
    console = console_of(request)
    done = await licensing.remove(console, request, principal, engine_id, licence_id)
    return _changed_out(done)


@router.post("/engines/{engine_id}/licences/share")
async def share(request: Request, principal: Administrator, engine_id: int) -> SharedOut:
    """Have both machines of a pair hold the same licences."""
    done = await licensing.share(console_of(request), request, principal, engine_id)
    return SharedOut(
        is_shared=done.is_shared, taken=done.taken, given=done.given, sentence=done.sentence
    )


def _row_out(row: LicenceRow) -> LicenceRowOut:
    limits = dict(zip(KINDS, row.limits, strict=True))
    return LicenceRowOut(
        engine_id=row.engine.id,
        name=row.engine.name,
        udi=row.engine.udi,
        activation=row.activation.word,
        limits={kind: limit.limit if limit else None for kind, limit in limits.items()},
        used={kind: limit.used if limit else None for kind, limit in limits.items()},
        next_end=row.next_end,
        next_days=row.next_days,
        trouble=row.trouble,
        read_at=row.read_at or None,
        error=row.error,
    )


def _licences_out(engine_id: int, found: Licences) -> LicencesOut:
    return LicencesOut(
        engine_id=engine_id,
        udi=found.udi,
        is_licensing_on=found.is_licensing_on,
        is_activation_needed=found.is_activation_needed,
        is_activated=found.is_activated,
        as_of=found.as_of,
        is_clock_back=found.is_clock_back,
        limits=[_limit_out(row) for row in found.limits],
        licences=[_licence_out(one, found) for one in found.licences],
        broken=[BrokenOut(file=one.file, sentence=one.sentence) for one in found.broken],
    )


def _limit_out(row: Limit) -> LimitOut:
    names = LimitOut.model_fields
    return LimitOut(**{name: getattr(row, name) for name in names})


def _licence_out(one: Licensed, found: Licences) -> LicenceOut:
    facts = {name: getattr(one.licence, name) for name in LicenceFacts.__struct_fields__}
    return LicenceOut(
        **facts,
        standing=one.standing,
        last_day=one.last_day,
        days_left=days_left(one, found.as_of),
        first_installed=one.first_installed,
        installed_at=one.installed_at or None,
        installed_by=one.installed_by or None,
    )


def _changed_out(done: LicenceChanged) -> ChangedOut:
    facts = done.licence
    return ChangedOut(
        sentence=done.sentence,
        exchange=done.exchange,
        id=facts.id,
        kind=facts.kind,
        quantity=facts.quantity,
    )
