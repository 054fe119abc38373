"""Moving the service, changing the pair, dissolving it: dialogs, and what they begin."""

import asyncio
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from msgspec.structs import asdict

from openmse.console.asking import Asking, ask
from openmse.console.context import Console, console_of
from openmse.console.errors import FormError, NodeRefused, NotFound, RoleTooLow
from openmse.console.live.actions import Order
from openmse.console.live.pairs import Pair, PairView
from openmse.console.live.specials import Special, set_aside, specials, standing
from openmse.console.live.state import EngineLive
from openmse.console.live.timeline import timeline
from openmse.console.nodes.models import GroupSettings, TakeoverView
from openmse.console.pages.common import form_of, go, page
from openmse.console.pages.pairs import asked_engine, require_pair, show_settings
from openmse.console.people.access import Administrator, Operator
from openmse.console.people.roles import Principal, Role
from openmse.console.store.past import Action, EventQuery, Step
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)


_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""None that is taken for another one when it is read aloud."""
SETTINGS_BEFORE = "settings before"
"""The step of a change of settings that keeps what was there."""
MINUTES_MAX = 1440
"""A day, at most, is waited for a new machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A change that has a dialog. ``grade`` 2 interrupts the service, 3 may lose data."""

    kind: str
    path: str
    role: Role
    grade: int
    method: str = "POST"
    asks_other: bool = False
    is_rare: bool = False
    """Not for every day: see ``live.specials``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveFacts:
    """What a person sees before a move is begun."""

    asked: EngineLive | None
    """Whom it is asked of; None where nobody can be asked: ``error`` says why."""
    other: str
    """The node that does not own."""
    takeover: TakeoverView | None
    settings: GroupSettings | None
    special: Special | None
    """For rare ones."""
    stands: str
    """Of a takeover by force: see ``live.specials.standing``."""
    last_ms: int
    """The pause of the last planned move; -1 if none is known."""
    error: MseError | None


MOVES = {
    move.kind: move
    for move in (
        Move(kind="switchover", path="/v1/ha/switchover", role=Role.OPERATOR, grade=2),
        Move(kind="failback", path="/v1/ha/failback", role=Role.OPERATOR, grade=2),
        Move(kind="drill", path="/v1/ha/drill", role=Role.OPERATOR, grade=2),
        Move(
            kind="takeover",
            path="/v1/ha/takeover",
            role=Role.ADMINISTRATOR,
            grade=3,
            asks_other=True,
        ),
        Move(kind="unpair", path="/v1/ha/unpair", role=Role.ADMINISTRATOR, grade=3),
        Move(
            kind="rejoin",
            path="/v1/ha/rejoin",
            role=Role.OPERATOR,
            grade=2,
            is_rare=True,
        ),
        Move(
            kind="release_protect",
            path="/v1/ha/release-protect",
            role=Role.OPERATOR,
            grade=2,
            is_rare=True,
        ),
        Move(
            kind="confirm_alone",
            path="/v1/ha/confirm-alone",
            role=Role.OPERATOR,
            grade=3,
            is_rare=True,
        ),
        Move(
            kind="readmit",
            path="/v1/ha/readmit",
            role=Role.ADMINISTRATOR,
            grade=3,
            is_rare=True,
        ),
        Move(
            kind="readmit_cancel",
            path="/v1/ha/readmit",
            method="DELETE",
            role=Role.ADMINISTRATOR,
            grade=2,
            is_rare=True,
        ),
        Move(
            kind="witness_remove",
            path="/v1/ha/witness",
            method="DELETE",
            role=Role.ADMINISTRATOR,
            grade=3,
            is_rare=True,
        ),
    )
}


@router.get("/pairs/{engine_id:int}/do/{kind}")
async def dialog(request: Request, principal: Operator, engine_id: int, kind: str) -> Response:
    """What would happen, on which machines, and how long that took last time."""
    return await _dialog(request, principal, engine_id, move_of(kind, principal))


async def _dialog(
    request: Request,
    principal: Principal,
    engine_id: int,
    move: Move,
    *,
    error: MseError | None = None,
    password: str = "",
) -> Response:
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    facts = await facts_of(console, pair, view, move)
    own = view.owner_snapshot.node_address if view.owner_snapshot else ""
    return page(
        request,
        principal,
        "pairs/dialog.html",
        pair=pair,
        p=view,
        move=move,
        other=facts.other,
        asked=facts.asked,
        takeover=facts.takeover,
        settings=facts.settings,
        special=facts.special,
        stands=facts.stands,
        last_ms=facts.last_ms,
        error=error or facts.error,
        password=(password or drawn_password()) if move.kind == "readmit" else "",
        recover_from=(own or facts.asked.engine.address) if facts.asked else "…",
    )


async def facts_of(console: Console, pair: Pair, view: PairView, move: Move) -> MoveFacts:
    """What is to be known before a move is begun; the engine is asked where only it can tell."""
    is_busy = console.actions.running_of(pair.engine_ids) is not None
    asked: EngineLive | None = None
    takeover: TakeoverView | None = None
    settings: GroupSettings | None = None
    error: MseError | None = None
    try:
        asked = asked_by(pair, view, move)
        client = console.fleet.feed(asked.engine.id).client
        if move.kind == "takeover":
            takeover = await client.get("/v1/ha/takeover", TakeoverView)
        elif move.kind == "release_protect":
            settings = await client.get("/v1/ha/settings", GroupSettings)
    except MseError as unknown:
        error = unknown
    return MoveFacts(
        asked=asked,
        other=_other_name(pair, view),
        takeover=takeover,
        settings=settings,
        special=specials(view, is_busy=is_busy)[move.kind] if move.is_rare else None,
        stands=standing(view) if move.kind == "takeover" else "",
        last_ms=await asyncio.to_thread(last_pause_ms, console, pair),
        error=error,
    )


@router.post("/pairs/{engine_id:int}/do/{kind}")
async def do(request: Request, principal: Operator, engine_id: int, kind: str) -> Response:
    """Begin it; the page of the action shows the steps."""
    move = move_of(kind, principal)
    form = await form_of(request)
    try:
        action = await begin_move(request, principal, engine_id, move, form)
    except MseError as error:
        kept = form.get("password", "")
        return await _dialog(request, principal, engine_id, move, error=error, password=kept)
    return go(request, f"/actions/{action.id}")


async def begin_move(
    request: Request, principal: Principal, engine_id: int, move: Move, form: Mapping[str, str]
) -> Action:
    """Begin a move as the form confirms it. Raises MseError, and then nothing has changed."""
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    return await ask(
        console,
        request,
        principal,
        Asking(move.kind, pair.name),
        lambda: order_of(pair, view, move, form, principal.who),
    )


def asked_by(pair: Pair, view: PairView, move: Move) -> EngineLive:
    """Whom a move is asked of; raises NotFound where nobody can be asked."""
    if move.kind != "rejoin":
        return asked_engine(pair, view, not_owner=move.asks_other)
    aside = set_aside(view)
    live = pair.of_node(aside.node) if aside else None
    if live is None:
        raise NotFound(
            "No machine of this pair that is heard is set aside; nothing was changed.",
            "A machine is set aside after its rejoin has failed repeatedly.",
        )
    return live


def order_of(pair: Pair, view: PairView, move: Move, form: Mapping[str, str], who: str) -> Order:
    """What is asked of whom; raises MseError where the person did not confirm it."""
    asked = asked_by(pair, view, move)
    node = asked.engine.node
    if move.grade == 3 and form.get("confirm") != node:
        raise FormError(
            {"confirm": f"Type {node}."},
            f"'{form.get('confirm', '')}' is not the name that was asked for ({node}); nothing was "
            "changed.",
        )
    body: dict[str, Any] = {}
    other = _other_name(pair, view)
    title = f"{pair.name}"
    if move.kind == "switchover":
        title = f"{view.owner or pair.name} → {other}"
    elif move.kind == "takeover":
        body = {"force": True, "confirm": node}
        title = f"{node}"
    elif move.kind == "unpair":
        body = {"confirm": node, "without_peer": form.get("without_peer") == "1"}
    elif move.kind == "witness_remove":
        body = {"confirm": node}
    elif move.kind == "readmit":
        body = {**_waiting_body(form), "confirm": node}
    elif move.is_rare:
        title = f"{node}"
    return Order(
        kind=move.kind,
        engine_id=asked.engine.id,
        title=title,
        method=move.method,
        path=move.path,
        body=body,
        who=who,
    )


def drawn_password() -> str:
    """A password for people to write down: sixteen letters in four groups, 79 bits. Kept nowhere.

    It is shown once; only what scrypt makes of it stays, on the engine.
    """
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(4))


def _waiting_body(form: Mapping[str, str]) -> dict[str, Any]:
    """The new machine's password, and how long it is waited for; raises FormError. Pure."""
    if not form.get("password"):
        raise FormError(
            {"password": "Choose a password."},
            "The new machine needs a password, which is typed there too; nothing was changed.",
        )
    minutes = form.get("minutes") or "60"
    if not (minutes.isdecimal() and len(minutes) < 5 and 1 <= int(minutes) <= MINUTES_MAX):
        raise FormError(
            {"minutes": "From 1 to 1440."},
            "It is waited for 1 to 1440 minutes; nothing was changed.",
        )
    return {"password": form["password"], "valid_for_s": 60.0 * int(minutes)}


@router.post("/pairs/{engine_id:int}/maintenance/{switch}")
async def maintenance(
    request: Request, principal: Operator, engine_id: int, switch: str
) -> Response:
    """Reversible, so it acts at once; undo is the same button."""
    console = console_of(request)
    pair, _ = require_pair(console, engine_id)
    if switch not in ("on", "off"):
        raise NotFound("Maintenance is on or off.")
    action = await begin_maintenance(request, principal, engine_id, is_on=switch == "on")
    return go(request, f"/pairs/{pair.id}" if action.state == "done" else f"/actions/{action.id}")


async def begin_maintenance(
    request: Request, principal: Principal, engine_id: int, *, is_on: bool
) -> Action:
    """Maintenance on or off. Raises MseError, and then nothing has changed."""
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    word = "on" if is_on else "off"

    def order() -> Order:
        return Order(
            kind="maintenance",
            engine_id=asked_engine(pair, view).engine.id,
            title=f"{pair.name}: {word}",
            method="POST",
            path="/v1/ha/maintenance",
            body={"is_on": is_on},
            who=principal.who,
        )

    return await ask(console, request, principal, Asking(f"maintenance {word}", pair.name), order)


@router.post("/pairs/{engine_id:int}/settings")
async def change_settings(request: Request, principal: Administrator, engine_id: int) -> Response:
    """Change the register's settings while the pair serves."""
    require_pair(console_of(request), engine_id)
    form = await form_of(request)
    try:
        action = await begin_settings(request, principal, engine_id, settings_body(form))
    except (FormError, NodeRefused) as error:
        return await show_settings(
            request,
            principal,
            engine_id,
            errors=error.fields,
            error=error,
            form=form,
            status=422,
        )
    return go(request, f"/actions/{action.id}")


async def begin_settings(
    request: Request, principal: Principal, engine_id: int, body: dict[str, Any]
) -> Action:
    """Change the settings that ``body`` has. Raises MseError, and then nothing has changed."""
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    before = await _settings_before(console, pair, view, body)

    def order() -> Order:
        return Order(
            kind="settings",
            engine_id=asked_engine(pair, view).engine.id,
            title=pair.name,
            method="PATCH",
            path="/v1/ha/settings",
            body=body,
            who=principal.who,
            before=before,
        )

    detail = ", ".join(f"{key}={value}" for key, value in body.items())
    asking = Asking("change settings", pair.name, detail)
    return await ask(console, request, principal, asking, order)


async def _settings_before(
    console: Console, pair: Pair, view: PairView, body: Mapping[str, Any]
) -> tuple[Step, ...]:
    """What is about to be changed, as it is: a step of the action, so that its page can put it
    back. Nothing where the engine does not tell, or nothing of it changes."""
    try:
        engine = asked_engine(pair, view).engine
        client = console.fleet.feed(engine.id).client
        settings = asdict(await client.get("/v1/ha/settings", GroupSettings))
    except MseError:
        return ()
    old = {key: settings[key] for key in body if settings.get(key) not in (None, body[key])}
    told = ", ".join(f"{key}={value}" for key, value in old.items())
    return (Step(engine.node, SETTINGS_BEFORE, "done", 0.0, told),) if told else ()


def settings_before(action: Action) -> dict[str, str]:
    """The settings that a change replaces, as a form sends them; {} where nothing is known of
    them, or nothing was changed. Pure."""
    if action.kind != "settings" or action.state not in ("running", "done"):
        return {}
    told = next((step.sentence for step in action.told if step.name == SETTINGS_BEFORE), "")
    return dict(part.split("=", 1) for part in told.split(", ") if "=" in part)


def settings_body(form: dict[str, str]) -> dict[str, Any]:
    """The settings of a form; raises FormError. Only what the form has is changed. Pure."""
    body: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for key in ("failover_wait_s", "boot_patience_s", "failback_stable_s"):
        if key in form:
            try:
                body[key] = _seconds(form[key])
            except ValueError:
                faults[key] = "A number of seconds, such as 5."
    for key in ("failover_type", "failback_type", "no_witness_mode", "boot_alone"):
        if form.get(key):
            body[key] = form[key]
    if faults:
        raise FormError(faults)
    return body


def _seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def move_of(kind: str, principal: Principal) -> Move:
    """The move of that name; raises NotFound, or RoleTooLow."""
    move = MOVES.get(kind)
    if move is None:
        raise NotFound("There is no such action.")
    if not principal.may(move.role):
        raise RoleTooLow(
            f"This needs the role {move.role.value}; {principal.name} is {principal.role.value}. "
            "Nothing was changed.",
            "Ask an administrator to do it.",
        )
    return move


def _other_name(pair: Pair, view: PairView) -> str:
    """The node that does not own."""
    for live in pair.lives:
        if view.owner and live.engine.node != view.owner:
            return live.engine.node
    return pair.other_name


def last_pause_ms(console: Console, pair: Pair) -> int:
    """How long the last planned move took between stopping and serving; -1 if none is known."""
    events = console.past.events(
        EventQuery(engine_ids=pair.engine_ids, kind="handover_done", limit=1)
    )
    moves = timeline(events).moves
    if not moves:
        return -1
    pause = [p.ms for p in moves[0].phases if p.name in ("stop", "drain", "hand_over", "promote")]
    return sum(pause) if pause else -1
