"""Stopping an engine on purpose: PostgreSQL and the service address go with it."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse.console.context import console_of
from openmse.console.errors import FormError
from openmse.console.live.actions import Order
from openmse.console.live.pairs import pair_of
from openmse.console.live.views import engine_view
from openmse.console.pages.common import form_of, go, page
from openmse.console.people.access import Administrator
from openmse.console.people.roles import Principal
from openmse.console.store.engines import Engine
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)
KIND = "stop"


@router.get("/engines/{engine_id:int}/stop")
async def dialog(request: Request, principal: Administrator, engine_id: int) -> Response:
    """What stops with it, and what starts it again."""
    return _dialog(request, principal, engine_id)


@router.post("/engines/{engine_id:int}/stop")
async def stop(request: Request, principal: Administrator, engine_id: int) -> Response:
    """Begin it; the page of the action shows the steps."""
    console = console_of(request)
    form = await form_of(request)
    engine = console.fleet.get(engine_id).engine
    is_handover = form.get("handover") == "1"
    try:
        order = order_of(engine, form.get("confirm", ""), principal.who, is_handover=is_handover)
        action = await console.actions.begin(order)
    except MseError as error:
        sentence = error.sentence
        await asyncio.to_thread(
            lambda: console.note(
                request, principal, KIND, target=engine.name, outcome="refused", detail=sentence
            )
        )
        return _dialog(request, principal, engine_id, error=error)
    await asyncio.to_thread(
        lambda: console.note(request, principal, KIND, target=engine.name, outcome="begun")
    )
    return go(request, f"/actions/{action.id}")


def order_of(engine: Engine, confirm: str, who: str, *, is_handover: bool) -> Order:
    """What is asked of the engine; raises FormError unless its node's name was typed."""
    if confirm != engine.node:
        raise FormError(
            {"confirm": f"Type {engine.node}."},
            f"'{confirm}' is not the name that was asked for ({engine.node}); nothing was changed.",
        )
    return Order(
        kind=KIND,
        engine_id=engine.id,
        title=engine.name,
        method="POST",
        path="/v1/node/stop",
        body={"handover": is_handover, "confirm": engine.node},
        who=who,
    )


def _dialog(request: Request, principal: Principal, engine_id: int, **more: Any) -> Response:
    console = console_of(request)
    live = console.fleet.get(engine_id)
    return page(
        request,
        principal,
        "engines/stop.html",
        v=engine_view(live, time.monotonic()),
        pair=pair_of(console.fleet.all(), engine_id),
        **{"error": None, **more},
    )
