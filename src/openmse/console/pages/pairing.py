"""The pairing of a primary with a secondary: a wizard with a URL for each step."""

import asyncio
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse import ports
from openmse.console import licensing
from openmse.console.context import Console, console_of
from openmse.console.errors import Conflict, FormError
from openmse.console.live.pairing import PairOrder, require_supported, why_unsupported
from openmse.console.managing import Wanted, add_engine, checked_address, checked_name
from openmse.console.nodes.tls import certificate_of, fingerprint
from openmse.console.pages.add_engine import WizardStep
from openmse.console.pages.common import form_of, go, page
from openmse.console.pages.licences import shown_values, status_of, uploaded
from openmse.console.pages.moves import settings_body
from openmse.console.pages.witness import witness_of
from openmse.console.pairing import begin_pairing, require_pair_of, require_unpaired
from openmse.console.people.access import Administrator
from openmse.console.people.roles import Principal
from openmse.console.store.engines import Draft, Engine
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)
KIND = "pair"
NEW_STEPS = (("trust", "Identity"), ("claim", "Log in"))
"""Of a secondary that this console does not manage yet."""


def titles_of(draft: Draft) -> list[tuple[str, str]]:
    """The steps: an unlicensed secondary is offered its activation. Pure."""
    data = draft.data
    titles = [("secondary", "Secondary"), *(NEW_STEPS if data.get("is_new") else ())]
    if data.get("is_activation_offered"):
        titles.append(("activation", "Activation"))
    return [*titles, ("pair", "Pair")]


@router.get("/engines/{engine_id:int}/pair")
async def begin(request: Request, principal: Administrator, engine_id: int) -> Response:
    """A new draft for this primary."""
    console = console_of(request)
    engine = console.fleet.get(engine_id).engine
    require_unpaired(console, engine)
    draft_id = await asyncio.to_thread(
        console.engines.new_draft, principal.user_name, KIND, {"primary": engine_id}
    )
    return go(request, f"/engines/{engine_id}/pair/{draft_id}/secondary")


@router.get("/engines/{engine_id:int}/pair/{draft_id}/{step}")
async def step_page(
    request: Request, principal: Administrator, engine_id: int, draft_id: str, step: str
) -> Response:
    """A step with what was typed before."""
    draft = await _draft(request, principal, draft_id)
    wanted = step if step in dict(titles_of(draft)) else "secondary"
    is_known = str(draft.data.get("known_id", "")).isdecimal()
    if is_known and wanted in dict(NEW_STEPS):
        wanted = "pair"  # it was claimed already
    elif not is_known and wanted in ("activation", "pair", "claim"):
        wanted = _where(draft)
    if wanted == "activation":
        return await _activation_page(request, principal, draft)
    return _page(request, principal, draft, wanted)


def _where(draft: Draft) -> str:
    """The step that a draft without a claimed secondary has come to."""
    if not draft.data.get("certificate"):
        return "secondary"
    return "claim" if draft.data.get("is_confirmed") else "trust"


@router.post("/engines/{engine_id:int}/pair/{draft_id}/secondary")
async def secondary(
    request: Request, principal: Administrator, engine_id: int, draft_id: str
) -> Response:
    """Which secondary: one of this console, or a new one whose certificate is shown next."""
    console = console_of(request)
    draft = await _draft(request, principal, draft_id)
    form = await form_of(request)
    kept = {key: form.get(key, "")[:128] for key in ("known_id", "name", "address", "port")}
    draft = await asyncio.to_thread(
        lambda: console.engines.keep_draft(
            draft, **kept, is_new=False, is_activation_offered=False, certificate=""
        )
    )
    try:
        if form.get("known_id", "").isdecimal():
            return await _chosen(request, draft, int(form["known_id"]))
        name = checked_name(form)
        address, port = checked_address(form)
        for live in console.fleet.all():
            if (live.engine.address, live.engine.port) == (address, port):
                return await _chosen(request, draft, live.engine.id)
            if live.engine.name == name:
                raise FormError({"name": f"An engine '{name}' is in this console already."})
        der = await certificate_of(address, port)
    except FormError as error:
        return _page(request, principal, draft, "secondary", errors=error.fields, status=422)
    except MseError as error:
        return _page(request, principal, draft, "secondary", error=error, status=409)
    found = {
        "certificate": der.hex(),
        "fingerprint": fingerprint(der),
        "is_confirmed": False,
        "is_new": True,
        "known_id": "",
    }
    await asyncio.to_thread(lambda: console.engines.keep_draft(draft, **found))
    return go(request, f"/engines/{engine_id}/pair/{draft_id}/trust")


async def _chosen(request: Request, draft: Draft, secondary_id: int) -> Response:
    """A secondary that this console manages: it must fit; unlicensed, its activation is offered.

    Raises MseError where these two do not pair; nothing has been changed then.
    """
    console = console_of(request)
    primary_id = int(draft.data["primary"])
    require_unpaired(console, console.fleet.get(secondary_id).engine)
    await require_pair_of(console, primary_id, secondary_id)
    is_wanted = False
    with suppress(MseError):  # licences keep nobody from pairing
        is_wanted = (await licensing.read(console, secondary_id)).needs_activation
    kept = {"known_id": str(secondary_id), "is_activation_offered": is_wanted}
    await asyncio.to_thread(lambda: console.engines.keep_draft(draft, **kept))
    step = "activation" if is_wanted else "pair"
    return go(request, f"/engines/{primary_id}/pair/{draft.id}/{step}")


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
    return go(request, f"/engines/{engine_id}/pair/{draft_id}/claim")


@router.post("/engines/{engine_id:int}/pair/{draft_id}/claim")
async def claim(
    request: Request, principal: Administrator, engine_id: int, draft_id: str
) -> Response:
    """Claim a new secondary, unless it is a machine that this primary does not pair with."""
    draft = await _draft(request, principal, draft_id)
    form = await form_of(request)
    try:
        if str(draft.data.get("known_id", "")).isdecimal():
            return await _chosen(request, draft, int(draft.data["known_id"]))
        secondary_id = await _claimed(request, principal, draft, form)
        return await _chosen(request, draft, secondary_id)
    except FormError as error:
        return _page(request, principal, draft, "claim", errors=error.fields, status=422)
    except MseError as error:
        return _page(request, principal, draft, "claim", error=error, status=409)


@router.post("/engines/{engine_id:int}/pair/{draft_id}/activation")
async def activate(
    request: Request, principal: Administrator, engine_id: int, draft_id: str
) -> Response:
    """Install the secondary's activation licence; one may also go on without."""
    console = console_of(request)
    draft = await _draft(request, principal, draft_id)
    base = f"/engines/{engine_id}/pair/{draft_id}"
    if not str(draft.data.get("known_id", "")).isdecimal():
        return go(request, f"{base}/secondary")
    try:
        text = await uploaded(request)
        secondary_id = int(draft.data["known_id"])
        await licensing.install(console, request, principal, secondary_id, text)
    except MseError as error:
        return await _activation_page(
            request, principal, draft, refused=error, status=status_of(error)
        )
    return go(request, f"{base}/activation")


async def _activation_page(
    request: Request, principal: Principal, draft: Draft, **more: Any
) -> Response:
    console = console_of(request)
    values: dict[str, Any] = {"found": None, "error": None, "refused": None, **more}
    try:
        values["found"] = await licensing.read(console, int(draft.data["known_id"]))
    except MseError as error:
        values["error"] = error
    values |= shown_values(console, values["found"])
    return _page(request, principal, draft, "activation", **values)


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
        if not str(draft.data.get("known_id", "")).isdecimal():
            raise Conflict("It is not known yet which secondary; nothing was changed.")
        order = PairOrder(
            primary_id=engine_id,
            secondary_id=int(draft.data["known_id"]),
            witness=witness,
            settings=settings,
        )
        action = await begin_pairing(console, request, principal, order)
    except FormError as error:
        return _page(
            request, principal, draft, "pair", errors=error.fields, error=error, status=422
        )
    except MseError as error:
        return _page(request, principal, draft, "pair", error=error, status=409)
    await asyncio.to_thread(console.engines.drop_draft, draft_id)
    return go(request, f"/actions/{action.id}")


async def _claimed(
    request: Request, principal: Principal, draft: Draft, form: dict[str, str]
) -> int:
    """The secondary, claimed now. Raises MseError: first of all where it does not fit."""
    console = console_of(request)
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
    primary = console.fleet.feed(int(draft.data["primary"]))
    await primary.refresh_info()
    mine = primary.live.info
    assert mine is not None
    claimed = await add_engine(
        console, request, principal, wanted, check=lambda info: require_supported(mine, info)
    )
    known = str(claimed.engine_id)
    await asyncio.to_thread(lambda: console.engines.keep_draft(draft, known_id=known))
    return claimed.engine_id


def _candidates(console: Console, primary_id: int) -> list[tuple[Engine, str]]:
    """The unpaired secondaries of this console, each with why it does not fit ('' if it does)."""
    mine = console.fleet.get(primary_id).info
    return [
        (live.engine, why_unsupported(mine, live.info) if mine and live.info else "")
        for live in console.fleet.all()
        if live.engine.role == "secondary" and not live.engine.group_key
    ]


async def _draft(request: Request, principal: Principal, draft_id: str) -> Draft:
    engines = console_of(request).engines
    return await asyncio.to_thread(engines.draft, draft_id, principal.user_name, KIND)


def _page(request: Request, principal: Principal, draft: Draft, step: str, **more: Any) -> Response:
    console = console_of(request)
    primary = console.fleet.get(int(draft.data["primary"])).engine
    base = f"/engines/{primary.id}/pair/{draft.id}"
    known = str(draft.data.get("known_id", ""))
    titles = titles_of(draft)
    at = [key for key, _ in titles].index(step)
    once = dict(NEW_STEPS) if known.isdecimal() else {}  # a claim is not made twice
    steps = [
        WizardStep(
            key,
            title,
            "done" if i < at else "open",
            f"{base}/{key}" if i < at and key not in once else "",
        )
        for i, (key, title) in enumerate(titles)
    ]
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
        known=console.fleet.get(int(known)).engine if known.isdecimal() else None,
        candidates=_candidates(console, primary.id),
        witness=console.settings.witness,
        default_port=ports.MANAGEMENT,
        **values,
    )
