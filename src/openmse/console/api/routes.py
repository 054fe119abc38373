"""``/api/v1`` for engines and pairs: everything that pages do, for programs."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request, Response
from msgspec.structs import asdict

from openmse.console import managing
from openmse.console.api import models
from openmse.console.api.described import ERRORS, SECURITY
from openmse.console.context import Console, console_of
from openmse.console.errors import FormError
from openmse.console.live.newcomer import newcomer
from openmse.console.live.overview import find_pairs
from openmse.console.live.pairing import PairOrder
from openmse.console.live.pairs import PairView, pair_view
from openmse.console.live.views import SORT_KEYS, ListQuery, engine_view, find
from openmse.console.nodes.models import GroupSettings
from openmse.console.pages import moves, stop, witness
from openmse.console.pages.pairs import asked_engine, require_pair
from openmse.console.pairing import begin_pairing
from openmse.console.people.access import Administrator, Operator, Viewer

router = APIRouter(
    prefix="/api/v1",
    tags=["engines and pairs"],
    responses=ERRORS,
    dependencies=SECURITY,
)
WITNESS_FIELDS = {
    "witness": "kind",
    "witness_name": "name",
    "witness_address": "address",
    "witness_port": "pairing_port",
    "witness_password": "password",
    "etcd_endpoints": "endpoints",
    "etcd_ca_file": "ca_file",
    "etcd_cert_file": "cert_file",
    "etcd_key_file": "key_file",
}
"""Field of the page's form -> field of ``WitnessIn``."""


@router.get("/engines")
async def list_engines(
    request: Request,
    _principal: Viewer,
    *,
    text: str = "",
    show: str = "",
    sort: str = "trouble",
    down: bool = False,
    page: int = 1,
) -> models.EnginesOut:
    """Engines, trouble first; 50 a page. ``show``: trouble, unpaired, primary or secondary;
    ``sort``: trouble, name, type, address, version, reach, state or secondary."""
    now_s = time.monotonic()
    console = console_of(request)
    views = [console.topics.view(live, now_s) for live in console.fleet.all()]
    wanted = ListQuery(
        text=text,
        show=show,
        sort=sort if sort in SORT_KEYS else "trouble",
        is_descending=down,
        page=max(1, page),
    )
    rows, count = find(views, wanted)
    return models.EnginesOut(engines=[models.engine_out(view) for view in rows], count=count)


@router.get("/engines/{engine_id}")
async def get_engine(request: Request, _principal: Viewer, engine_id: int) -> models.EngineOut:
    """One engine."""
    return _engine_out(console_of(request), engine_id)


@router.post("/engines/check")
async def check_engine(
    _request: Request, _principal: Administrator, body: models.AddressIn
) -> models.AnsweringOut:
    """Who answers at an address, before an engine is added or moved there; nothing secret is
    sent, nothing is changed."""
    address, port = managing.checked_address(_form(body.model_dump()))
    found = await managing.who_answers(address, address, port)
    return models.AnsweringOut(
        address=address, port=port, fingerprint=found.fingerprint, product=found.product
    )


@router.post("/engines", status_code=201)
async def add_engine(
    request: Request, principal: Administrator, body: models.EngineIn
) -> models.EngineOut:
    """Add an engine; refused before anything secret is sent if the fingerprint is another."""
    console, form = console_of(request), _form(body.model_dump())
    name = managing.checked_name(form)
    address, port = managing.checked_address(form)
    await asyncio.to_thread(managing.require_new, console, name, address, port)
    wanted = managing.Wanted(
        name=name,
        address=address,
        port=port,
        certificate=await managing.confirmed_certificate(address, port, body.fingerprint),
        contact=body.contact,
        user=body.user,
        password=body.password,
        confirm=body.confirm,
    )
    claimed = await managing.add_engine(console, request, principal, wanted)
    return _engine_out(console, claimed.engine_id)


@router.patch("/engines/{engine_id}")
async def change_engine(
    request: Request, principal: Administrator, engine_id: int, body: models.EngineChange
) -> models.EngineOut:
    """Change name, contact, address or port. Where another certificate answers than the one that
    was confirmed, ``fingerprint`` must be the new one, compared on the engine."""
    console = console_of(request)
    engine = console.fleet.get(engine_id).engine
    given = body.model_dump(include={"name", "contact", "address", "port"}, exclude_none=True)
    if not given and not body.is_renewed:
        raise FormError({}, "Nothing was given that could be changed.")
    form = _form({"address": engine.address, "port": engine.port, **given})
    address, port = managing.checked_address(form)
    change = managing.Change(
        name=managing.checked_name(form) if "name" in given else engine.name,
        contact=form.get("contact", engine.contact),
        address=address,
        port=port,
        is_renewed=body.is_renewed,
        confirmed=body.fingerprint,
    )
    await managing.change_engine(console, request, principal, engine_id, change)
    return _engine_out(console, engine_id)


@router.delete("/engines/{engine_id}", status_code=204)
async def delete_engine(request: Request, principal: Administrator, engine_id: int) -> Response:
    """Forget an engine; it goes on, and is told if it answers."""
    await managing.forget_engine(console_of(request), request, principal, engine_id)
    return Response(status_code=204)


@router.get("/engines/{engine_id}/synchronizations")
async def synchronizations(
    request: Request, _principal: Viewer, engine_id: int
) -> models.SynchronizationsOut:
    """The synchronization history, newest first."""
    return await _history(console_of(request), engine_id)


@router.post("/engines/{engine_id}/synchronize")
async def synchronize(
    request: Request, principal: Administrator, engine_id: int
) -> models.SynchronizationsOut:
    """Read again who the engine is; what came of it is the newest of the history."""
    console = console_of(request)
    await managing.synchronize_engine(console, request, principal, engine_id)
    return await _history(console, engine_id)


@router.post("/engines/{engine_id}/stop", status_code=202)
async def stop_engine(
    request: Request, principal: Administrator, engine_id: int, body: models.StopIn
) -> models.ActionOut:
    """Stop an engine on purpose, PostgreSQL included; ``confirm``: its node's name."""
    action = await stop.begin_stop(
        request, principal, engine_id, body.confirm, is_handover=body.handover
    )
    return models.action_out(action)


@router.get("/pairs")
async def list_pairs(
    request: Request, _principal: Viewer, *, text: str = "", show: str = ""
) -> models.PairsOut:
    """Pairs, trouble first; ``show``: trouble."""
    console, now_s = console_of(request), time.monotonic()
    found = find_pairs(console.topics.ranked(), ListQuery(text=text, show=show))
    views = [pair_view(one.pair, now_s) for one in found]
    return models.PairsOut(pairs=[_pair_out(console, view) for view in views])


@router.get("/pairs/{engine_id}")
async def get_pair(request: Request, _principal: Viewer, engine_id: int) -> models.PairOut:
    """One pair, by the id of either engine."""
    console = console_of(request)
    return _pair_out(console, require_pair(console, engine_id)[1])


@router.post("/pairs", status_code=202)
async def make_pair(
    request: Request, principal: Administrator, body: models.PairIn
) -> models.ActionOut:
    """Pair two engines of this console; follow the action."""
    console = console_of(request)
    order = PairOrder(
        primary_id=body.primary_id,
        secondary_id=body.secondary_id,
        witness=_witness_of(body.witness, console) if body.witness is not None else None,
        settings=body.settings.model_dump(exclude_none=True),
    )
    return models.action_out(await begin_pairing(console, request, principal, order))


@router.get("/pairs/{engine_id}/do/{kind}")
async def look_before(
    request: Request, principal: Operator, engine_id: int, kind: str
) -> models.MoveFactsOut:
    """What is to be known before a move is begun, and what ``confirm`` has to be."""
    console = console_of(request)
    move = moves.move_of(kind, principal)
    pair, view = require_pair(console, engine_id)
    facts = await moves.facts_of(console, pair, view, move)
    return _facts_out(move, view, facts)


@router.post("/pairs/{engine_id}/do/{kind}", status_code=202)
async def do(
    request: Request, principal: Operator, engine_id: int, kind: str, body: models.DoIn
) -> models.ActionOut:
    """switchover, failback, drill, takeover, unpair, witness_remove, readmit, readmit_cancel,
    rejoin, release_protect or confirm_alone."""
    form = {
        "confirm": body.confirm,
        "without_peer": "1" if body.without_peer else "",
        "password": body.password,
        "minutes": str(body.minutes),
    }
    move = moves.move_of(kind, principal)
    return models.action_out(await moves.begin_move(request, principal, engine_id, move, form))


@router.put("/pairs/{engine_id}/witness", status_code=202)
async def replace_witness(
    request: Request, principal: Administrator, engine_id: int, body: models.WitnessIn
) -> models.ActionOut:
    """Give the third vote to another witness while the pair serves."""
    try:
        action = await witness.begin_witness(request, principal, engine_id, _witness_form(body))
    except FormError as error:
        raise _renamed(error) from error
    return models.action_out(action)


@router.post("/pairs/{engine_id}/maintenance", status_code=202)
async def maintenance(
    request: Request, principal: Operator, engine_id: int, body: models.MaintenanceIn
) -> models.ActionOut:
    """Maintenance on or off."""
    action = await moves.begin_maintenance(request, principal, engine_id, is_on=body.is_on)
    return models.action_out(action)


@router.get("/pairs/{engine_id}/settings")
async def get_settings(request: Request, _principal: Viewer, engine_id: int) -> models.SettingsOut:
    """The group's settings in force, read from the owner at this moment."""
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    client = console.fleet.feed(asked_engine(pair, view).engine.id).client
    found: GroupSettings = await client.get("/v1/ha/settings", GroupSettings)
    return models.SettingsOut(**asdict(found))


@router.patch("/pairs/{engine_id}/settings", status_code=202)
async def change_settings(
    request: Request, principal: Administrator, engine_id: int, body: models.SettingsIn
) -> models.ActionOut:
    """Change the group's settings while it serves."""
    given = body.model_dump(exclude_none=True)
    if not given:
        raise FormError({}, "Nothing was given that could be changed.")
    return models.action_out(await moves.begin_settings(request, principal, engine_id, given))


def _form(given: dict[str, Any]) -> dict[str, str]:
    """Values as a form has them, so that the same rules hold for both."""
    return {key: str(value) for key, value in given.items()}


def _pair_out(console: Console, view: PairView) -> models.PairOut:
    return models.pair_out(view, newcomer(view, console.fleet.all(), time.time()))


def _engine_out(console: Console, engine_id: int) -> models.EngineOut:
    return models.engine_out(engine_view(console.fleet.get(engine_id), time.monotonic()))


async def _history(console: Console, engine_id: int) -> models.SynchronizationsOut:
    console.fleet.get(engine_id)
    found = await asyncio.to_thread(console.engines.sync_history, engine_id)
    rows = [
        models.SynchronizationOut(at=e.at, what=e.what, outcome=e.outcome, sentence=e.sentence)
        for e in found
    ]
    return models.SynchronizationsOut(synchronizations=rows)


def _witness_form(body: models.WitnessIn) -> dict[str, str]:
    form = {field: str(getattr(body, name)) for field, name in WITNESS_FIELDS.items()}
    return form | {"etcd_endpoints": " ".join(body.endpoints)}


def _witness_of(body: models.WitnessIn, console: Console) -> dict[str, Any]:
    """As the engine's API wants it, by the rules of the page's form; raises FormError."""
    try:
        found = witness.witness_of(_witness_form(body), console)
        if found is None:
            raise FormError({"witness": "Choose what has the third vote."})
    except FormError as error:
        raise _renamed(error) from error
    return found


def _renamed(error: FormError) -> FormError:
    """The same with the fields as this API names them."""
    fields = {WITNESS_FIELDS.get(key, key): text for key, text in error.fields.items()}
    return FormError(fields, error.sentence)


def _facts_out(move: moves.Move, view: PairView, facts: moves.MoveFacts) -> models.MoveFactsOut:
    takeover = facts.takeover
    node = facts.asked.engine.node if facts.asked else ""
    return models.MoveFactsOut(
        kind=move.kind,
        role=move.role.value,
        may_lose_data=move.grade == 3,
        asked=node or None,
        other=facts.other,
        confirm=node if node and move.grade == 3 else None,
        why_not=facts.error.sentence if facts.error else _why_not(move, view),
        why_not_code=facts.special.why_not if facts.special else "",
        last_pause_ms=facts.last_ms if facts.last_ms >= 0 else None,
        takeover=models.takeover_out(takeover, facts.stands) if takeover else None,
    )


def _why_not(move: moves.Move, view: PairView) -> str:
    """As the pair's page says it beside the button; '' where nothing speaks against it."""
    if move.kind == "failback" and view.owner_is_primary:
        return "The configured primary owns already."
    if move.kind == "takeover":
        return view.why_not.takeover
    return view.why_not.switchover if move.kind in ("switchover", "failback", "drill") else ""
