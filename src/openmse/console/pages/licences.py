"""Licences: the overview of the fleet, an engine's own page, installing and removing."""

import asyncio
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile

from openmse.console import licensing
from openmse.console.context import Console, console_of
from openmse.console.errors import ConsoleError, NoLicenceFile
from openmse.console.live.licences import (
    KINDS,
    SHOWS,
    SOON_DAYS,
    TITLES,
    LicenceQuery,
    LicenceRow,
    activation,
    find_rows,
    fleet_licences,
    licence_row,
    standing,
    trouble_of,
)
from openmse.console.live.pairs import pair_of
from openmse.console.nodes.licences import MAX_BYTES, Licences, days_left
from openmse.console.pages.common import form_of, go, is_fragment, own_path, page
from openmse.console.people.access import Administrator, Viewer
from openmse.console.people.roles import Principal
from openmse.console.store.engines import SyncEntry
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)
HISTORY_MAX = 20


@router.get("/licences")
async def overview(request: Request, principal: Viewer) -> Response:
    """What is licensed on every engine, what wants attention first."""
    rows = rows_of(console_of(request))
    wanted = licence_query(request)
    shown, count = find_rows(rows, wanted)
    template = "licences/table.html" if is_fragment(request) else "licences/overview.html"
    return page(
        request,
        principal,
        template,
        section="licences",
        rows=shown,
        count=count,
        total=len(rows),
        q=wanted,
        kinds=[(kind, TITLES[kind]) for kind in KINDS],
        fleet=fleet_licences(rows),
        soon_days=SOON_DAYS,
        pages=max(1, -(-count // wanted.size)),
        url_of=lambda number: _url(request, str(number)),
    )


def rows_of(console: Console) -> list[LicenceRow]:
    """Every engine of the console."""
    now_s = time.monotonic()
    return [licence_row(live, now_s) for live in console.fleet.all()]


def licence_query(request: Request) -> LicenceQuery:
    """The query as the URL has it; what cannot be used counts as not given."""
    given = request.query_params
    show, number = given.get("show", ""), given.get("page", "1")
    return LicenceQuery(
        text=given.get("text", "")[:100],
        show=show if show in SHOWS else "",
        page=int(number) if number.isdecimal() and len(number) < 6 and int(number) else 1,
    )


def _url(request: Request, number: str) -> str:
    given = {k: v for k, v in request.query_params.items() if v} | {"page": number}
    return f"/licences?{urlencode(given)}"


@router.get("/engines/{engine_id:int}/licences")
async def engine_licences(request: Request, principal: Viewer, engine_id: int) -> Response:
    """What is licensed on one engine, read from it at this moment."""
    return await _show(request, principal, engine_id)


@router.post("/engines/{engine_id:int}/licences")
async def install(request: Request, principal: Administrator, engine_id: int) -> Response:
    """Install the licence that was uploaded; what is refused is told above the form."""
    console = console_of(request)
    try:
        text = await uploaded(request)
        await licensing.install(console, request, principal, engine_id, text)
    except MseError as error:
        return await _show(request, principal, engine_id, refused=error, status=status_of(error))
    return go(request, f"/engines/{engine_id}/licences?done=install")


def status_of(error: MseError) -> int:
    """The HTTP status of a page that shows a refusal."""
    return int(error.status) if isinstance(error, ConsoleError) else HTTPStatus.CONFLICT


async def uploaded(request: Request) -> str:
    """The text of the licence file in a form; raises NoLicenceFile."""
    file = (await request.form()).get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        raise NoLicenceFile("No file was chosen; nothing was changed.")
    return licensing.checked_text(await file.read(MAX_BYTES * 4))


@router.post("/engines/{engine_id:int}/licences/share")
async def share(request: Request, principal: Administrator, engine_id: int) -> Response:
    """Have both machines of the pair hold the same licences."""
    try:
        await licensing.share(console_of(request), request, principal, engine_id)
    except MseError as error:
        return await _show(request, principal, engine_id, refused=error, status=status_of(error))
    return go(request, f"/engines/{engine_id}/licences?done=share")


@router.get("/engines/{engine_id:int}/licences/{licence_id}/remove")
async def remove_dialog(
    request: Request, principal: Administrator, engine_id: int, licence_id: str
) -> Response:
    """Which limits would change, and what stays."""
    return await _remove_dialog(request, principal, engine_id, licence_id)


@router.post("/engines/{engine_id:int}/licences/{licence_id}/remove")
async def remove(
    request: Request, principal: Administrator, engine_id: int, licence_id: str
) -> Response:
    """Remove it from the engine, and from its peer."""
    back = (await form_of(request)).get("back", "")
    try:
        await licensing.remove(console_of(request), request, principal, engine_id, licence_id)
    except MseError as error:
        if not is_fragment(request):
            return await _show(
                request, principal, engine_id, refused=error, status=status_of(error)
            )
        more = {"error": error, "back": own_path(back, "")}
        return await _remove_dialog(request, principal, engine_id, licence_id, **more)
    return go(request, own_path(back, f"/engines/{engine_id}/licences?done=remove"))


async def _remove_dialog(
    request: Request,
    principal: Principal,
    engine_id: int,
    licence_id: str,
    **more: Any,
) -> Response:
    console = console_of(request)
    live = console.fleet.get(engine_id)
    found, removal = await licensing.removal(console, engine_id, licence_id)
    return page(
        request,
        principal,
        "licences/remove.html",
        engine=live.engine,
        pair=pair_of(console.fleet.all(), engine_id),
        found=found,
        removal=removal,
        **{"back": own_path(request.query_params.get("back", ""), ""), "error": None, **more},
    )


async def _show(request: Request, principal: Principal, engine_id: int, **more: Any) -> Response:
    console = console_of(request)
    live = console.fleet.get(engine_id)
    found: Licences | None = None
    trouble: MseError | None = None
    try:
        found = await licensing.read(console, engine_id)
    except MseError as error:
        trouble = error
    history = await asyncio.to_thread(console.engines.sync_history, engine_id, 200)
    changes = [entry for entry in history if entry.what == licensing.HISTORY][:HISTORY_MAX]
    values = {"refused": None, **more}
    status = values.pop("status", 200)
    return page(
        request,
        principal,
        "licences/engine.html",
        status=status,
        section="licences",
        engine=live.engine,
        info=live.info,
        pair=pair_of(console.fleet.all(), engine_id),
        found=found,
        trouble=trouble,
        changes=changes,
        done=_just_done(request, changes, values["refused"]),
        **shown_values(console, found),
        **values,
    )


def shown_values(console: Console, found: Licences | None) -> dict[str, Any]:
    """What the tables of limits and licences need; also for wizards."""
    return {
        "activation": activation(found),
        "trouble_word": trouble_of(found),
        "standing": standing,
        "days_left": days_left,
        "bound_to": {live.engine.udi: live.engine.name for live in console.fleet.all()},
        "max_bytes": MAX_BYTES,
    }


def _just_done(
    request: Request, changes: list[SyncEntry], refused: MseError | None
) -> SyncEntry | None:
    """The change that led here, as the history has it."""
    is_told = bool(request.query_params.get("done")) and refused is None and bool(changes)
    return changes[0] if is_told and changes[0].outcome == "done" else None
