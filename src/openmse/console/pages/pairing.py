"""The pairing of a primary with a secondary: a wizard with a URL for each step."""

import asyncio
import ipaddress
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse import ports
from openmse.console.context import Console, console_of
from openmse.console.errors import Conflict, FormError
from openmse.console.live.pairing import Pairing, PairOrder
from openmse.console.live.pairs import pair_of
from openmse.console.nodes.tls import certificate_of, fingerprint
from openmse.console.pages.add_engine import (
    Wanted,
    WizardStep,
    checked_address,
    checked_name,
    claim_engine,
)
from openmse.console.pages.common import form_of, go, page
from openmse.console.pages.moves import settings_body
from openmse.console.people.access import Administrator
from openmse.console.people.roles import Principal
from openmse.console.store.engines import Draft, Engine
from openmse.console.store.past import Action, new_action_id
from openmse.console.store.store import now
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)
KIND = "pair"
STEPS = (("secondary", "Secondary"), ("trust", "Identity"), ("pair", "Pair"))


@router.get("/engines/{engine_id:int}/pair")
async def begin(request: Request, principal: Administrator, engine_id: int) -> Response:
    """A new draft for this primary."""
    console = console_of(request)
    engine = console.fleet.get(engine_id).engine
    _require_unpaired(console, engine)
    draft_id = await asyncio.to_thread(
        console.engines.new_draft, principal.name, KIND, {"primary": engine_id}
    )
    return go(request, f"/engines/{engine_id}/pair/{draft_id}/secondary")


@router.get("/engines/{engine_id:int}/pair/{draft_id}/{step}")
async def step_page(
    request: Request, principal: Administrator, engine_id: int, draft_id: str, step: str
) -> Response:
    """A step with what was typed before."""
    draft = await _draft(request, principal, draft_id)
    wanted = step if step in dict(STEPS) else "secondary"
    if wanted != "secondary" and not (draft.data.get("certificate") or draft.data.get("known_id")):
        wanted = "secondary"
    return _page(request, principal, draft, wanted)


@router.post("/engines/{engine_id:int}/pair/{draft_id}/secondary")
async def secondary(
    request: Request, principal: Administrator, engine_id: int, draft_id: str
) -> Response:
    """Which secondary: one of this console, or a new one whose certificate is shown next."""
    console = console_of(request)
    draft = await _draft(request, principal, draft_id)
    form = await form_of(request)
    kept = {key: form.get(key, "")[:128] for key in ("known_id", "name", "address", "port")}
    draft = await asyncio.to_thread(lambda: console.engines.keep_draft(draft, **kept))
    base = f"/engines/{engine_id}/pair/{draft_id}"
    try:
        if form.get("known_id", "").isdigit():
            _require_unpaired(console, console.fleet.get(int(form["known_id"])).engine)
            return go(request, f"{base}/pair")
        name = checked_name(form)
        address, port = checked_address(form)
        for live in console.fleet.all():
            if (live.engine.address, live.engine.port) == (address, port):
                _require_unpaired(console, live.engine)
                known = str(live.engine.id)
                await asyncio.to_thread(_keep_known, console, draft, known)
                return go(request, f"{base}/pair")
            if live.engine.name == name:
                raise FormError({"name": f"An engine '{name}' is in this console already."})
        der = await certificate_of(address, port)
    except FormError as error:
        return _page(request, principal, draft, "secondary", errors=error.fields, status=422)
    except MseError as error:
        return _page(request, principal, draft, "secondary", error=error, status=409)
    found = {"certificate": der.hex(), "fingerprint": fingerprint(der), "is_confirmed": False}
    await asyncio.to_thread(lambda: console.engines.keep_draft(draft, **found))
    return go(request, f"{base}/trust")


@router.post("/engines/{engine_id:int}/pair/{draft_id}/trust")
async def trust(
    request: Request, principal: Administrator, engine_id: int, draft_id: str
) -> Response:
    """The person has compared the secondary's fingerprint."""
    draft = await _draft(request, principal, draft_id)
    form = await form_of(request)
    if form.get("confirmed") != draft.data.get("fingerprint"):
        errors = {"confirmed": "Compare the fingerprint, then tick the box."}
        return _page(request, principal, draft, "trust", errors=errors, status=422)
    await asyncio.to_thread(
        lambda: console_of(request).engines.keep_draft(draft, is_confirmed=True)
    )
    return go(request, f"/engines/{engine_id}/pair/{draft_id}/pair")


@router.post("/engines/{engine_id:int}/pair/{draft_id}/pair")
async def pair(
    request: Request, principal: Administrator, engine_id: int, draft_id: str
) -> Response:
    """Begin the pairing; its page shows the steps on both machines."""
    console = console_of(request)
    draft = await _draft(request, principal, draft_id)
    form = await form_of(request)
    kept = {
        k: v[:128] for k, v in form.items() if "password" not in k and k not in ("csrf", "user")
    }
    draft = await asyncio.to_thread(lambda: console.engines.keep_draft(draft, **kept))
    try:
        settings = settings_body(form)
        witness = witness_of(form, console)
        primary = console.fleet.get(engine_id).engine
        _require_unpaired(console, primary)
        secondary_id = await _secondary(console, draft, form, principal.who)
    except FormError as error:
        return _page(
            request, principal, draft, "pair", errors=error.fields, error=error, status=422
        )
    except MseError as error:
        return _page(request, principal, draft, "pair", error=error, status=409)
    order = PairOrder(
        primary_id=engine_id, secondary_id=secondary_id, witness=witness, settings=settings
    )
    other = console.fleet.get(secondary_id).engine
    action = Action(
        id=new_action_id(),
        kind="pair",
        engine_id=engine_id,
        title=f"{primary.name} + {other.name}",
        who=principal.who,
        state="running",
        started_at=now(),
    )
    await console.actions.run(action, Pairing(console.fleet, console.actions, order).run)
    await asyncio.to_thread(console.engines.drop_draft, draft_id)
    await asyncio.to_thread(
        lambda: console.note(request, principal, "pair", target=action.title, outcome="begun")
    )
    return go(request, f"/actions/{action.id}")


async def _secondary(console: Console, draft: Draft, form: dict[str, str], who: str) -> int:
    """The engine that becomes the secondary, claimed now if it is new here."""
    known = str(draft.data.get("known_id", ""))
    if known.isdigit():
        engine = console.fleet.get(int(known)).engine
        _require_unpaired(console, engine)
        return engine.id
    if not draft.data.get("is_confirmed"):
        raise Conflict("The fingerprint of the secondary has not been confirmed yet.")
    if not form.get("user") or not form.get("password"):
        raise FormError({"user": "An administrator of the secondary is needed once."})
    wanted = Wanted(
        name=str(draft.data["name"]),
        address=str(draft.data["address"]),
        port=int(str(draft.data.get("port") or ports.MANAGEMENT)),
        certificate=bytes.fromhex(str(draft.data["certificate"])),
        contact="",
        user=form["user"],
        password=form["password"],
    )
    engine_id = await claim_engine(console, wanted, who)
    await asyncio.to_thread(lambda: console.engines.keep_draft(draft, known_id=str(engine_id)))
    return engine_id


def witness_of(form: dict[str, str], console: Console) -> dict[str, Any] | None:
    """The witness of the form; None for none. Raises FormError."""
    if form.get("witness") != "console":
        return None
    part = console.settings.witness
    address = form.get("witness_address", "")
    try:
        address = str(ipaddress.ip_address(address))
    except ValueError as error:
        raise FormError({"witness_address": "An IP address such as 10.10.10.13."}) from error
    password = form.get("witness_password", "")
    if not password and part.password_file and address == part.address:
        try:
            password = Path(part.password_file).read_text("utf-8").splitlines()[0]
        except (OSError, IndexError) as error:
            raise FormError(
                {"witness_password": "The file that the console's settings name cannot be read."}
            ) from error
    if not password:
        raise FormError({"witness_password": "The enrolment password of the witness is needed."})
    port = form.get("witness_port") or str(part.pairing_port)
    if not (port.isdigit() and 0 < int(port) < 65536):
        raise FormError({"witness_port": "A port is a number from 1 to 65535."})
    return {
        "kind": "console",
        "name": form.get("witness_name") or "witness",
        "address": address,
        "pairing_port": int(port),
        "password": password,
    }


def _keep_known(console: Console, draft: Draft, known_id: str) -> None:
    console.engines.keep_draft(draft, known_id=known_id)


def _require_unpaired(console: Console, engine: Engine) -> None:
    pair_found = pair_of(console.fleet.all(), engine.id)
    if pair_found is not None:
        raise Conflict(
            f"{engine.name} is paired already ({pair_found.name}); nothing was changed.",
            "Unpair it on its page first.",
        )


async def _draft(request: Request, principal: Principal, draft_id: str) -> Draft:
    engines = console_of(request).engines
    return await asyncio.to_thread(engines.draft, draft_id, principal.name, KIND)


def _page(request: Request, principal: Principal, draft: Draft, step: str, **more: Any) -> Response:
    console = console_of(request)
    primary = console.fleet.get(int(draft.data["primary"])).engine
    base = f"/engines/{primary.id}/pair/{draft.id}"
    at = [key for key, _ in STEPS].index(step)
    steps = [
        WizardStep(key, title, "done" if i < at else "open", f"{base}/{key}" if i < at else "")
        for i, (key, title) in enumerate(STEPS)
    ]
    known = str(draft.data.get("known_id", ""))
    values = {"errors": {}, "error": None, **more}
    status = values.pop("status", 200)
    return page(
        request,
        principal,
        "engines/pair.html",
        status=status,
        section="engines",
        primary=primary,
        draft=draft,
        data=draft.data,
        steps=steps,
        step=step,
        base=base,
        known=console.fleet.get(int(known)).engine if known.isdigit() else None,
        candidates=[
            live.engine
            for live in console.fleet.all()
            if live.engine.role == "secondary" and not live.engine.group_key
        ],
        witness=console.settings.witness,
        default_port=ports.MANAGEMENT,
        **values,
    )
