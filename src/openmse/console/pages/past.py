"""What has been: events with filter and export, the timeline, and long actions."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse.console.context import console_of
from openmse.console.live.timeline import place
from openmse.console.lookback import (
    FILE_EVENTS_MAX,
    SPANS,
    as_csv,
    as_json,
    past_of,
    since_of,
)
from openmse.console.pages.common import is_fragment, language_of, page
from openmse.console.pages.moves import settings_before
from openmse.console.pages.pairs import require_pair
from openmse.console.people.access import Viewer
from openmse.console.store.past import EventQuery
from openmse.console.store.store import now

router = APIRouter(include_in_schema=False)


@router.get("/pairs/{engine_id:int}/events")
async def events_page(request: Request, principal: Viewer, engine_id: int) -> Response:
    """The events of both nodes, newest first."""
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    wanted = event_query(request, pair.engine_ids)
    events = await asyncio.to_thread(console.past.events, wanted)
    kinds = await asyncio.to_thread(console.past.event_kinds, pair.engine_ids)
    template = "pairs/events_table.html" if is_fragment(request) else "pairs/events.html"
    return page(
        request,
        principal,
        template,
        section="pairs",
        tab="events",
        pair=pair,
        p=view,
        events=events,
        kinds=kinds,
        q=wanted,
        span=request.query_params.get("span", ""),
        query=request.url.query,
        next_before=events[-1].at if len(events) == wanted.limit else "",
    )


def event_query(request: Request, engine_ids: tuple[int, ...], limit: int = 100) -> EventQuery:
    """The query as the URL has it."""
    given = request.query_params
    return EventQuery(
        engine_ids=engine_ids,
        severity=given.get("severity", "")[:16],
        kind=given.get("kind", "")[:64],
        text=given.get("text", "")[:100],
        since=since_of(given.get("span", "")),
        before=given.get("before", "")[:40],
        limit=limit,
    )


@router.get("/pairs/{engine_id:int}/events.{form}")
async def export(request: Request, principal: Viewer, engine_id: int, form: str) -> Response:
    """The same events as a file: csv or json."""
    console = console_of(request)
    pair, _ = require_pair(console, engine_id)
    wanted = event_query(request, pair.engine_ids, FILE_EVENTS_MAX)
    events = await asyncio.to_thread(console.past.events, wanted)
    is_json = form == "json"
    body = as_json(events) if is_json else as_csv(events)
    name = f"events-{pair.id}-{now()[:10]}.{'json' if is_json else 'csv'}"
    return Response(
        body,
        media_type="application/json" if is_json else "text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.get("/pairs/{engine_id:int}/timeline")
async def timeline_page(request: Request, principal: Viewer, engine_id: int) -> Response:
    """Who owned when, faults, and each move's phases in milliseconds."""
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    span = request.query_params.get("span", "")
    found = await asyncio.to_thread(past_of, console.past, pair.engine_ids, span)
    faults = [(event, place(event.at, found.since, found.until)) for event in found.faults]
    return page(
        request,
        principal,
        "pairs/timeline.html",
        section="pairs",
        tab="timeline",
        pair=pair,
        p=view,
        span=found.span,
        spans=list(SPANS),
        bars=found.bars,
        faults=faults,
        moves=found.moves,
        since=found.since,
        until=found.until,
    )


@router.get("/pairs/{engine_id:int}/actions")
async def actions_page(request: Request, principal: Viewer, engine_id: int) -> Response:
    """Long actions of the pair, newest first."""
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    found = await asyncio.to_thread(console.past.actions, pair.engine_ids, 100)
    return page(
        request,
        principal,
        "pairs/actions.html",
        section="pairs",
        tab="actions",
        pair=pair,
        p=view,
        actions=found,
    )


@router.get("/actions/{action_id}")
async def action_page(request: Request, principal: Viewer, action_id: str) -> Response:
    """One action: its steps on each machine, live while it goes on, kept afterwards."""
    console = console_of(request)
    action = await asyncio.to_thread(console.actions.get, action_id)
    is_live = action.state == "running" or console.actions.is_looked_at(action_id)
    found = console.topics.pair_of(action.engine_id)
    language = language_of(request, principal)
    return page(
        request,
        principal,
        "pairs/action.html",
        topics=[f"action:{action_id}"] if is_live else [],
        section="pairs",
        a=action,
        pair=found[0] if found else None,
        cells=console.topics.action_cells(action, language),
        put_back=settings_before(action) if found else {},
    )
