"""The overview of pairs, a pair's status page, and its settings."""

import json
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from msgspec.structs import asdict

from openmse.console.context import Console, console_of
from openmse.console.errors import NotFound
from openmse.console.live.overview import Ranked, find_pairs
from openmse.console.live.pairs import Pair, PairView
from openmse.console.live.state import EngineLive
from openmse.console.live.topics import chart_points
from openmse.console.nodes.models import GroupSettings
from openmse.console.pages.common import language_of, list_query, list_url, page
from openmse.console.people.access import Viewer
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)


@router.get("/pairs")
async def overview(request: Request, principal: Viewer) -> Response:
    """Each secondary with its primaries, and how each pair is; the query is in the URL."""
    console = console_of(request)
    wanted = list_query(request)
    ranked = console.topics.ranked()
    found = find_pairs(ranked, wanted)
    number, pages = page_of(wanted.page, len(found), wanted.size)
    shown = found[(number - 1) * wanted.size : number * wanted.size]
    language = language_of(request, principal)
    groups: dict[str, list[Ranked]] = {}
    cells: dict[str, str] = {}
    for one in shown:
        groups.setdefault(one.secondary_name, []).append(one)
        cells |= console.topics.pair_row(one.pair, language)
    return page(
        request,
        principal,
        "pairs/overview.html",
        topics=[f"pairs:{'-'.join(str(one.pair.id) for one in shown)}"] if shown else [],
        section="pairs",
        groups=groups,
        cells=cells,
        q=wanted,
        number=number,
        pages=pages,
        count=len(found),
        total=len(ranked),
        trouble=sum(one.is_trouble for one in ranked),
        url_of=lambda number: list_url(request, page=str(number)),
        unpaired=[live.engine for live in console.fleet.all() if not live.engine.group_key],
    )


def page_of(asked: int, count: int, size: int) -> tuple[int, int]:
    """The page that is shown, from 1, and how many there are. Pure."""
    pages = max(1, -(-count // size))
    return min(max(asked, 1), pages), pages


@router.get("/pairs/{engine_id:int}")
async def pair_page(request: Request, principal: Viewer, engine_id: int) -> Response:
    """How the pair is, what can be done, and why not yet."""
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    await console.fleet.read_latest(pair.engine_ids)
    points = chart_points(pair, time.monotonic())
    return page(
        request,
        principal,
        "pairs/status.html",
        topics=[f"pair:{pair.id}", f"chart:{pair.id}"],
        section="pairs",
        tab="status",
        pair=pair,
        p=view,
        cells=console.topics.pair(str(pair.id), language_of(request, principal)),
        trips=json.dumps([(at, trip) for at, trip, _ in points]),
        lags=json.dumps([(at, lag) for at, _, lag in points]),
    )


@router.get("/pairs/{engine_id:int}/settings")
async def settings_page(request: Request, principal: Viewer, engine_id: int) -> Response:
    """The settings in force, read from the owner at this moment."""
    return await show_settings(request, principal, engine_id)


async def show_settings(
    request: Request, principal: Viewer, engine_id: int, **more: Any
) -> Response:
    """The settings page, also with what was wrong with a change."""
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    settings: GroupSettings | None = None
    trouble: MseError | None = None
    try:
        live = asked_engine(pair, view)
        client = console.fleet.feed(live.engine.id).client
        settings = await client.get("/v1/ha/settings", GroupSettings)
    except MseError as error:
        trouble = error
    values = {"errors": {}, "error": trouble, "form": None, **more}
    if values["form"] is not None and settings is not None:  # a form need not have every field
        values["form"] = asdict(settings) | values["form"]
    status = values.pop("status", 200)
    return page(
        request,
        principal,
        "pairs/settings.html",
        status=status,
        section="pairs",
        tab="settings",
        pair=pair,
        p=view,
        settings=settings,
        **values,
    )


def require_pair(console: Console, engine_id: int) -> tuple[Pair, PairView]:
    """The pair of an engine; raises NotFound."""
    console.fleet.get(engine_id)
    found = console.topics.pair_of(engine_id)
    if found is None:
        raise NotFound(
            "This engine is not paired, as far as this console knows.",
            "Its own page offers to pair it.",
        )
    return found


def asked_engine(pair: Pair, view: PairView, *, not_owner: bool = False) -> EngineLive:
    """Whom to ask for a change: the owner where it is heard, or (``not_owner``) the other one."""
    now_s = time.monotonic()
    fresh = [live for live in pair.lives if live.is_fresh(now_s)]
    wanted = [live for live in fresh if (live.engine.node == view.owner) != not_owner]
    if wanted:
        return wanted[0]
    if fresh and not not_owner:
        return fresh[0]
    names = ", ".join(live.engine.name for live in pair.lives)
    raise NotFound(
        f"No engine that could be asked answers at this moment ({names}); nothing was changed.",
        "On a machine itself 'mse ha' does the same, also while its management process is down.",
    )
