"""Stopping an engine on purpose: PostgreSQL and the service address go with it."""

import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse.console.asking import Asking, ask
from openmse.console.context import console_of
from openmse.console.errors import FormError
from openmse.console.live.actions import Order
from openmse.console.live.pairs import pair_of
from openmse.console.live.views import engine_view
from openmse.console.pages.common import form_of, go, page
from openmse.console.people.access import Administrator
from openmse.console.people.roles import Principal
from openmse.console.store.engines import Engine
from openmse.console.store.past import Action
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
    form = await form_of(request)
    confirm, is_handover = form.get("confirm", ""), form.get("handover") == "1"
    try:
        action = await begin_stop(request, principal, engine_id, confirm, is_handover=is_handover)
    except MseError as error:
        return _dialog(request, principal, engine_id, error=error)
    return go(request, f"/actions/{action.id}")


async def begin_stop(
    request: Request, principal: Principal, engine_id: int, confirm: str, *, is_handover: bool
) -> Action:
    """Begin to stop an engine. Raises MseError, and then nothing has changed."""
    console = console_of(request)
    engine = console.fleet.get(engine_id).engine
    return await ask(
        console,
        request,
        principal,
        Asking(KIND, engine.name),
        lambda: order_of(engine, confirm, principal.who, is_handover=is_handover),
    )


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
