"""``/api/v1``: everything that pages do, for programs."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request, Response

from openmse.console.api import models
from openmse.console.context import Console, console_of
from openmse.console.errors import Conflict, FormError, NodeUntrusted
from openmse.console.live.actions import Order
from openmse.console.live.pairing import Pairing, PairOrder
from openmse.console.live.pairs import pair_view, pairs_of
from openmse.console.live.views import SORT_KEYS, ListQuery, engine_view, find
from openmse.console.nodes.tls import certificate_of, fingerprint
from openmse.console.pages import engines, moves, people, stop, witness
from openmse.console.pages.add_engine import Wanted, claim_engine
from openmse.console.pages.pairing import require_pair_of
from openmse.console.pages.pairs import asked_engine, require_pair
from openmse.console.pages.people import role_of
from openmse.console.people.access import Administrator, Operator, Viewer
from openmse.console.people.login import check_new_user
from openmse.console.people.roles import Principal
from openmse.console.people.secrets import hash_password
from openmse.console.store.audit import AuditQuery
from openmse.console.store.past import Action, EventQuery, new_action_id
from openmse.console.store.store import now
from openmse.errors import MseError

router = APIRouter(prefix="/api/v1", tags=["console"])


@router.get("/engines")
async def list_engines(
    request: Request,
    _principal: Viewer,
    *,
    text: str = "",
    show: str = "",
    sort: str = "trouble",
    page: int = 1,
) -> dict[str, Any]:
    """Engines, trouble first; 50 a page. ``show``: trouble, unpaired, primary or secondary."""
    now_s = time.monotonic()
    console = console_of(request)
    views = [console.topics.view(live, now_s) for live in console.fleet.all()]
    wanted = ListQuery(
        text=text, show=show, sort=sort if sort in SORT_KEYS else "trouble", page=max(1, page)
    )
    rows, count = find(views, wanted)
    return {"engines": [models.engine_out(view) for view in rows], "count": count}


@router.get("/engines/{engine_id}")
async def get_engine(request: Request, _principal: Viewer, engine_id: int) -> models.EngineOut:
    """One engine."""
    live = console_of(request).fleet.get(engine_id)
    return models.engine_out(engine_view(live, time.monotonic()))


@router.post("/engines", status_code=201)
async def add_engine(
    request: Request, principal: Administrator, body: models.EngineIn
) -> models.EngineOut:
    """Add an engine; refused before anything secret is sent if the fingerprint is another."""
    console = console_of(request)
    der = await certificate_of(body.address, body.port)
    if fingerprint(der) != body.fingerprint:
        raise NodeUntrusted(
            f"The certificate at {body.address} has the fingerprint {fingerprint(der)}, not the "
            "one that was given; nothing was sent to it.",
            "Compare it with 'mse admin fingerprint' on the engine.",
        )
    given = body.model_dump(exclude={"fingerprint"})
    claimed = await claim_engine(console, Wanted(certificate=der, **given), principal.who)
    await _note(request, principal, "add engine", body.name)
    return await get_engine(request, principal, claimed.engine_id)


@router.patch("/engines/{engine_id}")
async def change_engine(
    request: Request, principal: Administrator, engine_id: int, body: models.EngineChange
) -> models.EngineOut:
    """Rename an engine, or change its contact."""
    console = console_of(request)
    values = body.model_dump(exclude_none=True)
    console.fleet.get(engine_id)
    await asyncio.to_thread(lambda: console.engines.change(engine_id, **values))
    await console.fleet.renew(engine_id)
    await _note(request, principal, "edit engine", str(engine_id))
    return await get_engine(request, principal, engine_id)


@router.delete("/engines/{engine_id}", status_code=204)
async def delete_engine(request: Request, principal: Administrator, engine_id: int) -> Response:
    """Forget an engine; it goes on, and is told if it answers."""
    console = console_of(request)
    feed = console.fleet.feed(engine_id)
    name, detail = feed.live.engine.name, "the engine was told"
    try:
        await feed.client.send("POST", "/v1/console/release")
    except MseError as error:
        detail = f"the engine could not be told: {error.sentence}"
    await console.fleet.drop(engine_id)
    await asyncio.to_thread(console.engines.remove, engine_id)
    await _note(request, principal, "delete engine", name, detail=detail)
    return Response(status_code=204)


@router.get("/engines/{engine_id}/synchronizations")
async def synchronizations(request: Request, _principal: Viewer, engine_id: int) -> dict[str, Any]:
    """The synchronization history, newest first."""
    console = console_of(request)
    console.fleet.get(engine_id)
    found = await asyncio.to_thread(console.engines.sync_history, engine_id)
    rows = [
        {"at": e.at, "what": e.what, "outcome": e.outcome, "sentence": e.sentence} for e in found
    ]
    return {"synchronizations": rows}


@router.post("/engines/{engine_id}/synchronize")
async def synchronize(request: Request, principal: Administrator, engine_id: int) -> dict[str, Any]:
    """Read again who the engine is; what came of it is the newest of the history."""
    await engines.synchronize_engine(request, principal, engine_id)
    return await synchronizations(request, principal, engine_id)


@router.get("/pairs")
async def list_pairs(request: Request, _principal: Viewer) -> dict[str, list[models.PairOut]]:
    """All pairs."""
    now_s = time.monotonic()
    pairs = pairs_of(console_of(request).fleet.all())
    return {"pairs": [models.pair_out(pair_view(pair, now_s)) for pair in pairs]}


@router.get("/pairs/{engine_id}")
async def get_pair(request: Request, _principal: Viewer, engine_id: int) -> models.PairOut:
    """One pair, by the id of either engine."""
    return models.pair_out(require_pair(console_of(request), engine_id)[1])


@router.post("/pairs", status_code=202)
async def make_pair(
    request: Request, principal: Administrator, body: models.PairIn
) -> models.ActionOut:
    """Pair two engines of this console; follow the action."""
    console = console_of(request)
    primary = console.fleet.get(body.primary_id).engine
    secondary = console.fleet.get(body.secondary_id).engine
    if primary.group_key or secondary.group_key:
        raise Conflict("One of these engines is paired already; nothing was changed.")
    await require_pair_of(console, primary.id, secondary.id)
    action = Action(
        id=new_action_id(),
        kind="pair",
        engine_id=primary.id,
        title=f"{primary.name} + {secondary.name}",
        who=principal.who,
        state="running",
        started_at=now(),
    )
    order = PairOrder(**body.model_dump())
    await console.actions.run(action, Pairing(console.fleet, console.actions, order).run)
    await _note(request, principal, "pair", action.title, outcome="begun")
    return models.action_out(action)


@router.post("/pairs/{engine_id}/do/{kind}", status_code=202)
async def do(
    request: Request, principal: Operator, engine_id: int, kind: str, body: models.DoIn
) -> models.ActionOut:
    """switchover, failback, drill, takeover, unpair, witness_remove, readmit, rejoin,
    release_protect or confirm_alone."""
    console = console_of(request)
    move = moves.move_of(kind, principal)
    pair, view = require_pair(console, engine_id)
    form = {
        "confirm": body.confirm,
        "without_peer": "1" if body.without_peer else "",
        "password": body.password,
        "minutes": str(body.minutes),
    }
    order = moves.order_of(pair, view, move, form, principal.who)
    return await _begun(console, request, principal, order)


@router.put("/pairs/{engine_id}/witness", status_code=202)
async def replace_witness(
    request: Request, principal: Administrator, engine_id: int, body: models.WitnessIn
) -> models.ActionOut:
    """Give the third vote to another witness while the pair serves."""
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    order = witness.order_of(pair, view, body.model_dump(), principal.who)
    return await _begun(console, request, principal, order)


@router.post("/engines/{engine_id}/stop", status_code=202)
async def stop_engine(
    request: Request, principal: Administrator, engine_id: int, body: models.StopIn
) -> models.ActionOut:
    """Stop an engine on purpose, PostgreSQL included; ``confirm``: its node's name."""
    console = console_of(request)
    engine = console.fleet.get(engine_id).engine
    order = stop.order_of(engine, body.confirm, principal.who, is_handover=body.handover)
    return await _begun(console, request, principal, order)


@router.post("/pairs/{engine_id}/maintenance", status_code=202)
async def maintenance(
    request: Request, principal: Operator, engine_id: int, body: models.MaintenanceIn
) -> models.ActionOut:
    """Maintenance on or off."""
    call = ("POST", "/v1/ha/maintenance")
    return await _change(request, principal, engine_id, "maintenance", call=call, body=body)


@router.patch("/pairs/{engine_id}/settings", status_code=202)
async def settings(
    request: Request, principal: Administrator, engine_id: int, body: models.SettingsIn
) -> models.ActionOut:
    """Change the group's settings while it serves."""
    call = ("PATCH", "/v1/ha/settings")
    return await _change(request, principal, engine_id, "settings", call=call, body=body)


@router.get("/pairs/{engine_id}/events")
async def events(
    request: Request,
    _principal: Viewer,
    engine_id: int,
    *,
    severity: str = "",
    kind: str = "",
    text: str = "",
    since: str = "",
    limit: int = 200,
) -> dict[str, Any]:
    """Events of both engines, newest first; ``since``: ISO, UTC."""
    console = console_of(request)
    pair, _ = require_pair(console, engine_id)
    wanted = EventQuery(
        engine_ids=pair.engine_ids,
        severity=severity,
        kind=kind,
        text=text,
        since=since,
        limit=limit,
    )
    found = await asyncio.to_thread(console.past.events, wanted)
    names = ("at", "node", "kind", "severity", "sentence", "term", "epoch")
    return {"events": [{name: getattr(event, name) for name in names} for event in found]}


@router.get("/actions/{action_id}")
async def get_action(request: Request, _principal: Viewer, action_id: str) -> models.ActionOut:
    """A long action with its steps."""
    action = await asyncio.to_thread(console_of(request).actions.get, action_id)
    return models.action_out(action)


@router.get("/users")
async def users(request: Request, _principal: Administrator) -> dict[str, list[models.UserOut]]:
    """Everybody who may log in."""
    found = await asyncio.to_thread(console_of(request).people.all)
    rows = [
        models.UserOut(
            name=user.name,
            role=user.role.value,
            is_disabled=user.is_disabled,
            created_at=user.created_at,
            seen_at=user.seen_at or None,
        )
        for user in found
    ]
    return {"users": rows}


@router.post("/users", status_code=201)
async def add_user(
    request: Request, principal: Administrator, body: models.UserIn
) -> dict[str, str]:
    """A new user."""
    console = console_of(request)
    check_new_user(body.name, body.password)
    role = role_of({"role": body.role})
    hashed = await asyncio.to_thread(hash_password, body.password)
    await asyncio.to_thread(console.people.add, body.name, hashed, role)
    await _note(request, principal, "add user", body.name, detail=role.value)
    return {"name": body.name, "role": role.value}


@router.patch("/users/{name}", status_code=204)
async def change_user(
    request: Request, principal: Administrator, name: str, body: models.UserChange
) -> Response:
    """Another role, another password, or shut out (and let in again)."""
    form = {"role": body.role or "", "password": body.password or ""}
    if body.is_disabled is not None:
        form["disable"] = "yes" if body.is_disabled else "no"
    if not any(form.values()):
        raise FormError({}, "Nothing was given that could be changed.")
    await people.change_user(request, principal, name, form)
    return Response(status_code=204)


@router.delete("/users/{name}", status_code=204)
async def remove_user(request: Request, principal: Administrator, name: str) -> Response:
    """Remove a user; never the last administrator."""
    await asyncio.to_thread(console_of(request).people.remove, name)
    await _note(request, principal, "remove user", name)
    return Response(status_code=204)


@router.get("/audit")
async def audit(
    request: Request, _principal: Administrator, limit: int = 100, before: int = 0
) -> dict[str, Any]:
    """Who did what, newest first; ``before``: an id, for paging."""
    wanted = AuditQuery(limit=limit, before=before)
    found = await asyncio.to_thread(console_of(request).audit.find, wanted)
    names = ("id", "at", "who", "role", "address", "action", "target", "outcome", "detail")
    return {"entries": [{name: getattr(entry, name) for name in names} for entry in found]}


async def _change(
    request: Request,
    principal: Principal,
    engine_id: int,
    kind: str,
    *,
    call: tuple[str, str],
    body: Any,
) -> models.ActionOut:
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    given = body.model_dump(exclude_none=True)
    if not given:
        raise FormError({}, "Nothing was given that could be changed.")
    order = Order(
        kind=kind,
        engine_id=asked_engine(pair, view).engine.id,
        title=pair.name,
        method=call[0],
        path=call[1],
        body=given,
        who=principal.who,
    )
    return await _begun(console, request, principal, order)


async def _begun(
    console: Console, request: Request, principal: Principal, order: Order
) -> models.ActionOut:
    try:
        action = await console.actions.begin(order)
    except MseError as error:
        await _note(
            request, principal, order.kind, order.title, outcome="refused", detail=error.sentence
        )
        raise
    await _note(request, principal, order.kind, order.title, outcome="begun")
    return models.action_out(action)


async def _note(
    request: Request, principal: Principal, action: str, target: str, **more: str
) -> None:
    console = console_of(request)
    await asyncio.to_thread(lambda: console.note(request, principal, action, target=target, **more))
