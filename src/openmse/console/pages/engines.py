"""The list of engines, an engine's own page, editing and deleting."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from openmse.console.context import console_of
from openmse.console.errors import FormError, OtherIdentity
from openmse.console.live.pairs import pair_of
from openmse.console.live.views import ListQuery, engine_view, find
from openmse.console.managing import (
    Change,
    change_engine,
    checked_address,
    checked_name,
    forget_engine,
    synchronize_engine,
)
from openmse.console.pages.common import (
    form_of,
    go,
    is_fragment,
    language_of,
    list_query,
    list_url,
    page,
)
from openmse.console.people.access import Administrator, Viewer
from openmse.console.people.roles import Principal
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)
COLUMNS = (
    ("name", "Device name"),
    ("type", "Device type"),
    ("address", "IP address"),
    ("version", "Version"),
    ("reach", "Reachability"),
    ("state", "State"),
    ("secondary", "Secondary server"),
    ("", "Mobility services"),
)


@router.get("/")
async def start() -> Response:
    """There is one start."""
    return RedirectResponse("/engines", status_code=303)


@router.get("/engines")
async def engines_page(request: Request, principal: Viewer) -> Response:
    """The list, sorted and filtered by the server; the query is in the URL."""
    console = console_of(request)
    wanted = list_query(request)
    now_s = time.monotonic()
    views = [console.topics.view(live, now_s) for live in console.fleet.all()]
    rows, count = find(views, wanted)
    language = language_of(request, principal)
    cells: dict[str, str] = {}
    for row in rows:
        cells |= console.topics.row(row.id, language)
    # Also of no row: the page is connected, and follows what another filter finds.
    topics = [f"rows:{'-'.join(str(row.id) for row in rows)}"] if views else []
    values: dict[str, Any] = {
        "section": "engines",
        "rows": rows,
        "cells": cells,
        "count": count,
        "total": len(views),
        "trouble": sum(1 for view in views if view.rank <= 1),
        "q": wanted,
        "columns": [(key, label, _sort_url(request, wanted, key)) for key, label in COLUMNS],
        "pages": max(1, -(-count // wanted.size)),
        "url_of": lambda number: list_url(request, page=str(number)),
    }
    template = "engines/table.html" if is_fragment(request) else "engines/list.html"
    return page(request, principal, template, topics=topics, **values)


def _sort_url(request: Request, wanted: ListQuery, key: str) -> str:
    if not key:
        return ""
    down = "1" if wanted.sort == key and not wanted.is_descending else ""
    return list_url(request, sort=key, down=down, page="")


@router.get("/engines/{engine_id:int}")
async def engine_page(request: Request, principal: Viewer, engine_id: int) -> Response:
    """One engine: who it is, what runs on it, what was synchronized."""
    console = console_of(request)
    live = console.fleet.get(engine_id)
    console.fleet.watch(engine_id)
    pair = pair_of(console.fleet.all(), engine_id)
    history = await asyncio.to_thread(console.engines.sync_history, engine_id)
    cells = console.topics.engine(str(engine_id), language_of(request, principal))
    return page(
        request,
        principal,
        "engines/engine.html",
        topics=[f"engine:{engine_id}"],
        section="engines",
        v=engine_view(live, time.monotonic()),
        info=live.info,
        pair=pair,
        cells=cells,
        history=history,
    )


@router.post("/engines/{engine_id:int}/synchronize")
async def synchronize(request: Request, principal: Administrator, engine_id: int) -> Response:
    """Read again who the engine is; what comes of it is in the history."""
    await synchronize_engine(console_of(request), request, principal, engine_id)
    return go(request, f"/engines/{engine_id}")


@router.get("/engines/{engine_id:int}/edit")
async def edit_page(request: Request, principal: Administrator, engine_id: int) -> Response:
    """The form, with what is kept."""
    engine = console_of(request).fleet.get(engine_id).engine
    form = {
        "name": engine.name,
        "address": engine.address,
        "port": str(engine.port),
        "contact": engine.contact,
    }
    return _edit(request, principal, engine_id, form)


@router.post("/engines/{engine_id:int}/edit")
async def edit(request: Request, principal: Administrator, engine_id: int) -> Response:
    """Keep the changes; a new address must show a certificate that the person confirms."""
    console = console_of(request)
    console.fleet.get(engine_id)
    form = dict.fromkeys(("name", "address", "port", "contact"), "") | await form_of(request)
    try:
        name = checked_name(form)
        address, port = checked_address(form)
        change = Change(
            name=name,
            contact=form["contact"],
            address=address,
            port=port,
            is_renewed=bool(form.get("repin")),
            confirmed=form.get("confirmed", ""),
        )
        await change_engine(console, request, principal, engine_id, change)
    except FormError as error:
        return _edit(request, principal, engine_id, form, errors=error.fields, status=422)
    except OtherIdentity as error:
        return _edit(request, principal, engine_id, form, new_fingerprint=error.fingerprint)
    except MseError as error:
        return _edit(request, principal, engine_id, form, error=error, status=409)
    return go(request, f"/engines/{engine_id}")


def _edit(
    request: Request,
    principal: Principal,
    engine_id: int,
    form: dict[str, str],
    **more: Any,
) -> Response:
    live = console_of(request).fleet.get(engine_id)
    values = {"errors": {}, "error": None, "new_fingerprint": "", **more}
    status = values.pop("status", 200)
    return page(
        request,
        principal,
        "engines/edit.html",
        status=status,
        section="engines",
        engine=live.engine,
        form=form,
        **values,
    )


@router.get("/engines/{engine_id:int}/delete")
async def delete_dialog(request: Request, principal: Administrator, engine_id: int) -> Response:
    """What deleting means, and what it does not."""
    console = console_of(request)
    live = console.fleet.get(engine_id)
    return page(
        request,
        principal,
        "engines/delete.html",
        v=engine_view(live, time.monotonic()),
        pair=pair_of(console.fleet.all(), engine_id),
        error=None,
    )


@router.post("/engines/{engine_id:int}/delete")
async def delete(request: Request, principal: Administrator, engine_id: int) -> Response:
    """Give the engine back and forget it; works although it is dead."""
    await forget_engine(console_of(request), request, principal, engine_id)
    return go(request, "/engines")
