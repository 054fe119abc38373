"""The wizard that adds an engine: each step is a URL, the draft is kept in the store.

The steps follow what the engine offers: parts that it does not have are left out, and steps that it
describes itself are shown by that description (``nodes.steps``). No password is ever kept: it is
used for the claim, in the step where it is typed.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse import ports
from openmse.console import engine_steps, licensing
from openmse.console.context import console_of
from openmse.console.errors import FormError, NodeRefused, NotFound
from openmse.console.managing import (
    Wanted,
    add_engine,
    checked_address,
    checked_name,
    require_new,
    who_answers,
)
from openmse.console.nodes.licences import Licences
from openmse.console.nodes.steps import OfferedStep, by_key, usable
from openmse.console.pages.common import form_of, go, page
from openmse.console.pages.licences import shown_values, status_of, uploaded
from openmse.console.people.access import Administrator
from openmse.console.people.roles import Principal
from openmse.console.store.engines import Draft
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)
KIND = "engine"
BEFORE_CLAIM = (("connect", "Connection"), ("trust", "Identity"), ("claim", "Log in"))
OFFERED = (("licensing", "licensing", "Licensing"),)
"""What an engine may offer, and the step of this console's own that this adds: key and title."""


@dataclass(frozen=True, slots=True)
class WizardStep:
    """One step as the stepper shows it."""

    key: str
    title: str
    state: str
    """done or open"""
    href: str
    is_theirs: bool = False
    """Whether the title is the engine's word."""


def steps_of(draft: Draft, current: str) -> list[WizardStep]:
    """The steps, by what is known of the engine so far."""
    titles = [*BEFORE_CLAIM, *_offered(draft), ("done", "Finished")]
    keys = [key for key, _ in titles]
    at = keys.index(current) if current in keys else 0
    first = len(BEFORE_CLAIM) if "engine_id" in draft.data else 0  # a claim is not made twice
    theirs = dict(_described(draft))
    return [
        WizardStep(
            key,
            title,
            "done" if index < at else "open",
            f"/engines/new/{draft.id}/{key}" if first <= index < at else "",
            is_theirs=key in theirs,
        )
        for index, (key, title) in enumerate(titles)
    ]


def _offered(draft: Draft) -> list[tuple[str, str]]:
    """The steps that follow the claim, by what the engine has told that it offers."""
    offers = draft.data.get("offers", [])
    ours = [(key, title) for offer, key, title in OFFERED if offer in offers]
    return ours + _described(draft)


def _described(draft: Draft) -> list[tuple[str, str]]:
    """Key and title of each step that the engine has described."""
    return [(str(key), str(title)) for key, title in draft.data.get("steps", [])]


def _after_claim(draft: Draft, key: str = "") -> str:
    """The page of the step after ``key``, or of the first one."""
    keys = [*(step for step, _ in _offered(draft)), "done"]
    following = keys[keys.index(key) + 1] if key in keys else keys[0]
    return f"/engines/new/{draft.id}/{following}"


@router.get("/engines/new")
async def begin(request: Request, principal: Administrator) -> Response:
    """A new draft, with whatever the link brought along."""
    data = {
        key: request.query_params.get(key, "")[:128]
        for key in ("name", "address", "port", "contact")
        if request.query_params.get(key)
    }
    draft_id = await asyncio.to_thread(
        console_of(request).engines.new_draft, principal.user_name, KIND, data
    )
    return go(request, f"/engines/new/{draft_id}/connect")


@router.get("/engines/new/{draft_id}/{step}")
async def step_page(
    request: Request, principal: Administrator, draft_id: str, step: str
) -> Response:
    """A step with what was typed before."""
    draft = await asyncio.to_thread(
        console_of(request).engines.draft, draft_id, principal.user_name, KIND
    )
    if "engine_id" in draft.data:
        return await _claimed_page(request, principal, draft, step)
    if step == "connect" or "certificate" not in draft.data:
        return _page(request, principal, draft, "connect")
    return _page(request, principal, draft, step if step in ("trust", "claim") else "connect")


async def _claimed_page(
    request: Request, principal: Principal, draft: Draft, step: str, **more: Any
) -> Response:
    """A step after the claim: what the engine has beyond its identity."""
    console = console_of(request)
    if step not in [key for key, _ in _offered(draft)] + ["done"]:
        return go(request, _after_claim(draft))
    if step in dict(_described(draft)):
        return await _step_page(request, principal, draft, step)
    live = console.fleet.get(int(draft.data["engine_id"]))
    found: Licences | None = None
    error: MseError | None = None
    try:
        found = await licensing.read(console, live.engine.id)
    except MseError as unread:
        error = unread
    history = await asyncio.to_thread(console.engines.sync_history, live.engine.id, 1)
    is_told = bool(request.query_params.get("done")) and bool(history)
    values: dict[str, Any] = {
        "engine": live.engine,
        "found": found,
        "error": error,
        "refused": None,
        "done": history[0] if is_told else None,
        "continue_url": _after_claim(draft, step) if step != "done" else "",
        **shown_values(console, found),
        **more,
    }
    return _page(request, principal, draft, step, **values)


async def _step_page(
    request: Request, principal: Principal, draft: Draft, key: str, **more: Any
) -> Response:
    """A step as the engine describes it at this moment; who does not answer stops nobody."""
    console = console_of(request)
    offered: OfferedStep | None = None
    error: MseError | None = None
    try:
        steps = await engine_steps.read(console, int(draft.data["engine_id"]))
        offered = engine_steps.step_of(steps, key)
    except MseError as unread:
        error = unread
    values = {
        "template": "engines/new_step.html",
        "offered": offered,
        "error": error,
        "form": None,
        "continue_url": _after_claim(draft, key),
        **more,
    }
    return _page(request, principal, draft, key, **values)


@router.post("/engines/new/{draft_id}/licensing")
async def add_licence(request: Request, principal: Administrator, draft_id: str) -> Response:
    """Install a licence on the engine that was just added; nothing stops who has none."""
    console = console_of(request)
    draft = await asyncio.to_thread(console.engines.draft, draft_id, principal.user_name, KIND)
    if "engine_id" not in draft.data:
        return go(request, f"/engines/new/{draft_id}/claim")
    engine_id = int(draft.data["engine_id"])
    try:
        text = await uploaded(request)
        await licensing.install(console, request, principal, engine_id, text)
    except MseError as error:
        return await _claimed_page(
            request, principal, draft, "licensing", refused=error, status=status_of(error)
        )
    return go(request, f"/engines/new/{draft_id}/licensing?done=1")


@router.post("/engines/new/{draft_id}/connect")
async def connect(request: Request, principal: Administrator, draft_id: str) -> Response:
    """Check the form against the live engine: who answers there, and with which certificate."""
    console = console_of(request)
    draft = await asyncio.to_thread(console.engines.draft, draft_id, principal.user_name, KIND)
    form = await form_of(request)
    kept = {key: form.get(key, "")[:128] for key in ("name", "address", "port", "contact")}
    draft = await asyncio.to_thread(lambda: console.engines.keep_draft(draft, **kept))
    try:
        name = checked_name(form)
        address, port = checked_address(form)
        await asyncio.to_thread(require_new, console, name, address, port)
        answering = await who_answers(name, address, port)
    except FormError as error:
        return _page(request, principal, draft, "connect", errors=error.fields, status=422)
    except MseError as error:
        return _page(request, principal, draft, "connect", error=error, status=409)
    found = {
        "certificate": answering.certificate.hex(),
        "fingerprint": answering.fingerprint,
        "product": answering.product,
        "is_confirmed": False,
    }
    await asyncio.to_thread(lambda: console.engines.keep_draft(draft, **found))
    return go(request, f"/engines/new/{draft_id}/trust")


@router.post("/engines/new/{draft_id}/trust")
async def trust(request: Request, principal: Administrator, draft_id: str) -> Response:
    """The person has compared the fingerprint: from now on it is pinned."""
    console = console_of(request)
    draft = await asyncio.to_thread(console.engines.draft, draft_id, principal.user_name, KIND)
    form = await form_of(request)
    if form.get("confirmed") != draft.data.get("fingerprint"):
        errors = {"confirmed": "Compare the fingerprint, then tick the box."}
        return _page(request, principal, draft, "trust", errors=errors, status=422)
    await asyncio.to_thread(lambda: console.engines.keep_draft(draft, is_confirmed=True))
    return go(request, f"/engines/new/{draft_id}/claim")


@router.post("/engines/new/{draft_id}/claim")
async def claim(request: Request, principal: Administrator, draft_id: str) -> Response:
    """Claim the engine for this console; the password is used once and not kept."""
    console = console_of(request)
    draft = await asyncio.to_thread(console.engines.draft, draft_id, principal.user_name, KIND)
    form = await form_of(request)
    if "engine_id" in draft.data:
        return go(request, _after_claim(draft))
    if not draft.data.get("is_confirmed"):
        return go(request, f"/engines/new/{draft_id}/trust")
    wanted = Wanted(
        name=str(draft.data["name"]),
        address=str(draft.data["address"]),
        port=int(str(draft.data.get("port") or ports.MANAGEMENT)),
        certificate=bytes.fromhex(str(draft.data["certificate"])),
        contact=str(draft.data.get("contact", "")),
        user=form.get("user", ""),
        password=form.get("password", ""),
        confirm=form.get("confirm", ""),
    )
    try:
        claimed = await add_engine(console, request, principal, wanted)
    except NodeRefused as error:
        is_taken = error.code == "MSE-API-020"
        return _page(request, principal, draft, "claim", error=error, is_taken=is_taken, status=409)
    except MseError as error:
        return _page(request, principal, draft, "claim", error=error, status=409)
    known = {
        "engine_id": claimed.engine_id,
        "offers": list(claimed.info.offers),
        "steps": [(step.key, step.title) for step in usable(claimed.info.steps)],
    }
    draft = await asyncio.to_thread(lambda: console.engines.keep_draft(draft, **known))
    return go(request, _after_claim(draft))


@router.post("/engines/new/{draft_id}/{step}")
async def send_step(
    request: Request, principal: Administrator, draft_id: str, step: str
) -> Response:
    """Send what a step that the engine described has asked for, then go on."""
    console = console_of(request)
    draft = await asyncio.to_thread(console.engines.draft, draft_id, principal.user_name, KIND)
    if "engine_id" not in draft.data or step not in dict(_described(draft)):
        raise NotFound("There is no such step; nothing was changed.")
    engine_id = int(draft.data["engine_id"])
    form = await form_of(request)
    try:
        offered = engine_steps.step_of(await engine_steps.read(console, engine_id), step)
    except MseError as error:
        return await _step_page(request, principal, draft, step, error=error, status=409)
    values: dict[str, Any] = {"form": form}
    try:
        await engine_steps.send(console, request, principal, engine_id, (offered, form))
    except FormError as error:
        values |= {"errors": error.fields, "status": 422}
        return await _step_page(request, principal, draft, step, **values)
    except MseError as error:
        fields = getattr(error, "fields", {})
        values |= {"errors": by_key(offered, fields), "error": error, "status": 409}
        return await _step_page(request, principal, draft, step, **values)
    return go(request, _after_claim(draft, step))


def _page(request: Request, principal: Principal, draft: Draft, step: str, **more: Any) -> Response:
    values = {"errors": {}, "error": None, "is_taken": False, **more}
    status = values.pop("status", 200)
    template = values.pop("template", f"engines/new_{step}.html")
    return page(
        request,
        principal,
        template,
        status=status,
        section="engines",
        draft=draft,
        data=draft.data,
        steps=steps_of(draft, step),
        step=step,
        default_port=ports.MANAGEMENT,
        **values,
    )
