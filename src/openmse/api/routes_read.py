"""Everything that is only read (scope read)."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from openmse.api.answers import (
    ClaimView,
    Drills,
    Findings,
    Hello,
    JournalFile,
    JournalView,
    JsonResponse,
    Me,
    Operations,
    ReadmissionView,
    described,
)
from openmse.api.events import DEFAULT_LIMIT, MAX_LIMIT, EventPage, instant, page
from openmse.api.events import Query as EventQuery
from openmse.api.guards import Ctx, Reader
from openmse.api.info import API_VERSION, Info, candidate_of, info_of
from openmse.api.monitor import in_thread
from openmse.api.operations import KEPT, Operation, OperationState
from openmse.api.readmission import look
from openmse.api.runner import Asked
from openmse.api.summary import (
    SettingsView,
    Summary,
    TakeoverView,
    settings_view,
    takeover_view,
)
from openmse.cli.doctor import findings
from openmse.cli.doctor_facts import gather
from openmse.cli.drill import kept
from openmse.errors import CommandRefused, DaemonDownError, MseError
from openmse.node.control.commands import JournalFlushed
from openmse.node.control.snapshot import Snapshot
from openmse.node.runtime import event_log
from openmse.node.runtime.journal import files
from openmse.platform.candidate import Candidate

router = APIRouter(prefix="/v1", tags=["reading"])
public = APIRouter(prefix="/v1", tags=["reading"])

Text = Annotated[str, Query(max_length=200)]
Cursor = Annotated[str, Query(max_length=40)]
Kinds = Annotated[list[str], Query(max_length=50)]


@public.get("/hello", **described(Hello))
async def hello(ctx: Ctx) -> JsonResponse:
    """What anybody may know: the product and the fingerprint to be pinned."""
    return JsonResponse(Hello(product="OpenMSE", api=API_VERSION, fingerprint=ctx.fingerprint))


@public.get("/candidate", **described(Candidate))
async def candidate(ctx: Ctx) -> JsonResponse:
    """What machine this secondary is, and whether it is free; told to anybody."""
    async with ctx.reading():
        return JsonResponse(await in_thread(lambda: candidate_of(ctx), "candidate"))


@router.get("/me", **described(Me))
async def me(who: Reader) -> JsonResponse:
    """Who asks."""
    return JsonResponse(
        Me(kind=who.kind, name=who.name, scope=who.scope.value, token_id=who.token_id)
    )


@router.get("/info", **described(Info))
async def info(ctx: Ctx, _who: Reader) -> JsonResponse:
    """Who this machine is, and what it offers. Works with the health monitor down."""
    return JsonResponse(await in_thread(lambda: info_of(ctx), "info"))


@router.get("/status", **described(Snapshot))
async def status(ctx: Ctx, _who: Reader) -> JsonResponse:
    """The whole picture: what ``mse ha status --json`` prints."""
    return JsonResponse(await ctx.monitor.status_json())


@router.get("/summary", **described(Summary))
async def summary(ctx: Ctx, _who: Reader) -> JsonResponse:
    """A small picture for lists, at most seconds old. Works with the health monitor down."""
    return JsonResponse(ctx.hub.summary())


@router.get("/events", **described(EventPage))
async def events(
    ctx: Ctx,
    _who: Reader,
    *,
    since: Text = "",
    until: Text = "",
    kind: Kinds = [],  # noqa: B006 - FastAPI copies it
    severity: Literal["info", "warning", "error"] = "info",
    text: Text = "",
    before: Cursor = "",
    after: Cursor = "",
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
) -> JsonResponse:
    """The event log, filtered and in pages. Works with the health monitor down."""
    now = datetime.now(UTC)
    query = EventQuery(
        since=instant(since, now),
        until=instant(until, now),
        kinds=tuple(kind),
        severity=severity,
        text=text,
        before=before,
        after=after,
        limit=limit,
    )
    path = ctx.node.places.events
    async with ctx.reading():
        found = await in_thread(lambda: page(event_log.read(path, since=query.since), query), "log")
    return JsonResponse(found)


@router.get("/doctor", **described(Findings))
async def doctor(ctx: Ctx, _who: Reader) -> JsonResponse:
    """Everything that can be checked from here, with the next action of each."""
    picture: Snapshot | None = None
    down: MseError | None = None
    try:
        picture = await ctx.monitor.status()
    except DaemonDownError as error:
        down = error
    places = ctx.node.places
    async with ctx.reading():
        facts = await in_thread(lambda: gather(ctx.node_path, places, down), "doctor")
    found = findings(picture, facts)
    return JsonResponse(Findings(worst=found[0].severity.value, findings=tuple(found)))


@router.get("/journal", **described(JournalView))
async def journal(ctx: Ctx, _who: Reader) -> JsonResponse:
    """The files of the decision journal, written up to now if the health monitor runs."""
    is_flushed = True
    try:
        await ctx.monitor.call("flush_journal", type=JournalFlushed)
    except MseError:
        is_flushed = False
    found = []
    for path in files(ctx.node.places.journal):
        try:
            seen = path.stat()
        except FileNotFoundError:
            continue  # it was rotated away just now
        changed = datetime.fromtimestamp(seen.st_mtime, UTC).isoformat(timespec="milliseconds")
        found.append(JournalFile(name=path.name, size_bytes=seen.st_size, changed_at=changed))
    return JsonResponse(JournalView(is_flushed=is_flushed, files=tuple(found)))


@router.get("/ha/settings", **described(SettingsView))
async def settings(ctx: Ctx, _who: Reader) -> JsonResponse:
    """The group's settings in force."""
    register = (await ctx.monitor.status()).register
    if register is None:
        raise CommandRefused("This node belongs to no group yet.", "Pair it from the primary.")
    return JsonResponse(settings_view(register.settings))


@router.get("/ha/takeover", **described(TakeoverView))
async def takeover_preview(ctx: Ctx, _who: Reader) -> JsonResponse:
    """What a forced takeover of this node would lose, and what must be typed for it."""
    return JsonResponse(takeover_view(await ctx.monitor.status()))


@router.get("/ha/readmit", **described(ReadmissionView))
async def readmission(ctx: Ctx, _who: Reader) -> JsonResponse:
    """Whether a new machine is waited for, in whose place, and until when."""
    async with ctx.reading():
        return JsonResponse(await in_thread(lambda: look(ctx.node), "readmission"))


@router.get("/ha/drills", **described(Drills))
async def drills(ctx: Ctx, _who: Reader) -> JsonResponse:
    """Reports of rehearsals, the newest first."""
    async with ctx.reading():
        found = await in_thread(lambda: kept(ctx.node.places.drills), "drills")
    return JsonResponse(Drills(tuple(reversed(found[-200:]))))


@router.get("/operations", **described(Operations))
async def operations(
    ctx: Ctx,
    who: Reader,
    state: OperationState | None = None,
    limit: Annotated[int, Query(ge=1, le=KEPT)] = KEPT,
    key: Annotated[str, Query(max_length=64)] = "",
) -> JsonResponse:
    """What is under way and what was done, the newest first; or what the caller began with the
    Idempotency-Key ``key``, whether or not it ever heard an answer."""
    if key:
        mine = ctx.runner.begun_by(Asked(principal=who, address="", key=key))
        return JsonResponse(Operations(tuple(mine), key))
    found = ctx.runner.newest(state.value if state is not None else "", limit)
    return JsonResponse(Operations(tuple(found)))


@router.get("/operations/{operation_id}", **described(Operation))
async def operation(ctx: Ctx, _who: Reader, operation_id: str) -> JsonResponse:
    """One operation with its steps, its progress and what came of it."""
    return JsonResponse(ctx.runner.get(operation_id))


@router.get("/console", **described(ClaimView))
async def console(ctx: Ctx, who: Reader) -> JsonResponse:
    """Which console manages this engine."""
    return JsonResponse(ctx.claim_view(who.console_id))
