"""``/api/v1`` for what has been: events and their export, timelines, actions, figures."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from openmse.console.api.described import ERRORS, FILE_ERRORS, SECURITY, CsvResponse
from openmse.console.api.models import ActionOut, action_out
from openmse.console.context import console_of
from openmse.console.live.timeline import Bar, Move
from openmse.console.live.topics import chart_points
from openmse.console.lookback import (
    FILE_EVENTS_MAX,
    PairPast,
    as_csv,
    event_row,
    instant_of,
    past_of,
    since_of,
)
from openmse.console.pages.pairs import require_pair
from openmse.console.people.access import Viewer
from openmse.console.store.past import Event, EventQuery
from openmse.console.store.store import now

router = APIRouter(prefix="/api/v1", tags=["past"], responses=ERRORS, dependencies=SECURITY)
ACTIONS_MAX = 1000


class EventFilter(BaseModel):
    """Which events; what is left out means any."""

    severity: str = Field("", description="at least this one: info, warning or error")
    kind: str = Field("", description="such as takeover_done")
    text: str = Field("", description="a part of the sentence")
    span: str = Field("", description="15m, 1h, 24h, 7d or 30d: back from now")
    since: str = Field("", description="an instant of ISO 8601; goes before span")
    before: str = Field("", description="an instant; for paging, that of the last event had")
    limit: int = Field(200, description="10000 at most")


class FileFilter(EventFilter):
    """The same for a file, which has all that match."""

    limit: int = Field(FILE_EVENTS_MAX, description="10000 at most")


class EventOut(BaseModel):
    """One line of an engine's event log."""

    at: str
    node: str
    severity: str
    kind: str
    sentence: str
    term: int
    epoch: int


class EventsOut(BaseModel):
    """Events, newest first."""

    events: list[EventOut]
    kinds: list[str] = Field(description="all kinds that this pair has told")


class ReignOut(BaseModel):
    """Somebody owned, as far as the span reaches."""

    owner: str
    mode: str
    since: str = Field(description="also where it began before the span")
    until: str | None = Field(description="null: until now")
    seconds: float = Field(description="within the span")


class PhaseOut(BaseModel):
    """A part of a move."""

    name: str
    ms: int


class MoveOut(BaseModel):
    """A switchover, a takeover or a release."""

    at: str
    node: str
    kind: str
    is_done: bool
    sentence: str
    phases: list[PhaseOut]
    total_ms: int | None = Field(description="null where no phases are told")


class TimelineOut(BaseModel):
    """The past of a pair; instants in UTC."""

    span: str
    since: str
    until: str
    owners: list[ReignOut] = Field(description="oldest first")
    faults: list[EventOut] = Field(description="within the span, oldest first")
    moves: list[MoveOut] = Field(description="the newest 50, newest first, of any time")


class PointOut(BaseModel):
    """What was measured at an instant; null where nothing was."""

    at_ms: int = Field(description="milliseconds since 1970")
    round_trip_ms: float | None
    lag_bytes: int | None


class FiguresOut(BaseModel):
    """The last minutes as the owner measured them, oldest first."""

    points: list[PointOut]


class ActionsOut(BaseModel):
    """Long actions, newest first."""

    actions: list[ActionOut]


@router.get("/pairs/{engine_id}/events")
async def events(
    request: Request, _principal: Viewer, engine_id: int, given: Annotated[EventFilter, Query()]
) -> EventsOut:
    """Events of both engines, newest first."""
    console = console_of(request)
    pair, _ = require_pair(console, engine_id)
    wanted = _query(pair.engine_ids, given)
    found = await asyncio.to_thread(console.past.events, wanted)
    kinds = await asyncio.to_thread(console.past.event_kinds, pair.engine_ids)
    return EventsOut(events=[_event_out(event) for event in found], kinds=kinds)


@router.get("/pairs/{engine_id}/events.csv", response_class=CsvResponse, responses=FILE_ERRORS)
async def events_file(
    request: Request, _principal: Viewer, engine_id: int, given: Annotated[FileFilter, Query()]
) -> Response:
    """The same as a file for spreadsheets: at, node, severity, kind, sentence, term, epoch."""
    console = console_of(request)
    pair, _ = require_pair(console, engine_id)
    found = await asyncio.to_thread(console.past.events, _query(pair.engine_ids, given))
    return CsvResponse.named(f"events-{pair.id}-{now()[:10]}.csv", as_csv(found))


@router.get("/pairs/{engine_id}/timeline")
async def timeline(
    request: Request, _principal: Viewer, engine_id: int, span: str = ""
) -> TimelineOut:
    """Who owned when, faults, and each move's phases in milliseconds. ``span``: 15m, 1h, 24h, 7d
    or 30d; else the shortest that shows a young pair whole, or a day."""
    console = console_of(request)
    pair, _ = require_pair(console, engine_id)
    return _timeline_out(await asyncio.to_thread(past_of, console.past, pair.engine_ids, span))


@router.get("/pairs/{engine_id}/figures")
async def figures(request: Request, _principal: Viewer, engine_id: int) -> FiguresOut:
    """Heartbeat response and replication lag of the last minutes, as the charts show them."""
    pair, _ = require_pair(console_of(request), engine_id)
    points = [
        PointOut(at_ms=at, round_trip_ms=trip, lag_bytes=lag)
        for at, trip, lag in chart_points(pair, time.monotonic())
    ]
    return FiguresOut(points=points)


@router.get("/pairs/{engine_id}/actions")
async def actions(
    request: Request, _principal: Viewer, engine_id: int, limit: int = 100
) -> ActionsOut:
    """Long actions of a pair, newest first, with their steps."""
    console = console_of(request)
    pair, _ = require_pair(console, engine_id)
    wanted = min(max(limit, 1), ACTIONS_MAX)
    found = await asyncio.to_thread(console.past.actions, pair.engine_ids, wanted)
    return ActionsOut(actions=[action_out(action) for action in found])


@router.get("/actions/{action_id}")
async def get_action(request: Request, _principal: Viewer, action_id: str) -> ActionOut:
    """A long action with its steps."""
    action = await asyncio.to_thread(console_of(request).actions.get, action_id)
    return action_out(action)


def _query(engine_ids: tuple[int, ...], given: EventFilter) -> EventQuery:
    """Raises FormError where an instant is none."""
    return EventQuery(
        engine_ids=engine_ids,
        severity=given.severity[:16],
        kind=given.kind[:64],
        text=given.text[:100],
        since=instant_of("since", given.since) or since_of(given.span),
        before=instant_of("before", given.before),
        limit=given.limit,
    )


def _event_out(event: Event) -> EventOut:
    row: dict[str, Any] = event_row(event)
    return EventOut(**row)


def _timeline_out(found: PairPast) -> TimelineOut:
    return TimelineOut(
        span=found.span,
        since=found.since,
        until=found.until,
        owners=[_reign_out(bar) for bar in found.bars],
        faults=[_event_out(event) for event in found.faults],
        moves=[_move_out(move) for move in found.moves],
    )


def _reign_out(bar: Bar) -> ReignOut:
    reign = bar.reign
    return ReignOut(
        owner=reign.owner,
        mode=reign.mode,
        since=reign.start,
        until=reign.end or None,
        seconds=round(bar.seconds, 3),
    )


def _move_out(move: Move) -> MoveOut:
    return MoveOut(
        at=move.at,
        node=move.node,
        kind=move.kind,
        is_done=move.is_done,
        sentence=move.sentence,
        phases=[PhaseOut(name=phase.name, ms=phase.ms) for phase in move.phases],
        total_ms=move.total_ms if move.phases else None,
    )
