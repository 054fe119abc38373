"""The wizard that adds an engine: each step is a URL, the draft is kept in the store.

The steps follow what the engine offers: parts that it does not have are left out. No password is
ever kept: it is used for the claim, in the step where it is typed.
"""

import asyncio
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse import ports
from openmse.console import licensing
from openmse.console.context import Console, console_of
from openmse.console.errors import Conflict, FormError, NodeRefused
from openmse.console.nodes.client import NodeClient
from openmse.console.nodes.licences import Licences
from openmse.console.nodes.models import Claimed, Info
from openmse.console.nodes.tls import certificate_of, fingerprint
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
"""What an engine may offer, and the step that this adds: its key and its title."""
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,62}$")
_HOST = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")


@dataclass(frozen=True, slots=True)
class WizardStep:
    """One step as the stepper shows it."""

    key: str
    title: str
    state: str
    """done or open"""
    href: str


def steps_of(draft: Draft, current: str) -> list[WizardStep]:
    """The steps, by what is known of the engine so far."""
    titles = [*BEFORE_CLAIM, *_offered(draft), ("done", "Finished")]
    keys = [key for key, _ in titles]
    at = keys.index(current) if current in keys else 0
    first = len(BEFORE_CLAIM) if "engine_id" in draft.data else 0  # a claim is not made twice
    return [
        WizardStep(
            key,
            title,
            "done" if index < at else "open",
            f"/engines/new/{draft.id}/{key}" if first <= index < at else "",
        )
        for index, (key, title) in enumerate(titles)
    ]


def _offered(draft: Draft) -> list[tuple[str, str]]:
    """The steps that follow the claim, by what the engine has told that it offers."""
    offers = draft.data.get("offers", [])
    return [(key, title) for offer, key, title in OFFERED if offer in offers]


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
        console_of(request).engines.new_draft, principal.name, KIND, data
    )
    return go(request, f"/engines/new/{draft_id}/connect")


@router.get("/engines/new/{draft_id}/{step}")
async def step_page(
    request: Request, principal: Administrator, draft_id: str, step: str
) -> Response:
    """A step with what was typed before."""
    draft = await asyncio.to_thread(
        console_of(request).engines.draft, draft_id, principal.name, KIND
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


@router.post("/engines/new/{draft_id}/licensing")
async def add_licence(request: Request, principal: Administrator, draft_id: str) -> Response:
    """Install a licence on the engine that was just added; nothing stops who has none."""
    console = console_of(request)
    draft = await asyncio.to_thread(console.engines.draft, draft_id, principal.name, KIND)
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
    draft = await asyncio.to_thread(console.engines.draft, draft_id, principal.name, KIND)
    form = await form_of(request)
    kept = {key: form.get(key, "")[:128] for key in ("name", "address", "port", "contact")}
    draft = await asyncio.to_thread(lambda: console.engines.keep_draft(draft, **kept))
    try:
        name = checked_name(form)
        address, port = checked_address(form)
        await asyncio.to_thread(_require_new, console, name, address, port)
        der = await certificate_of(address, port)
        client = NodeClient(address, port, der, name=name)
        try:
            hello = await client.get("/v1/hello", dict)
        finally:
            await client.close()
    except FormError as error:
        return _page(request, principal, draft, "connect", errors=error.fields, status=422)
    except MseError as error:
        return _page(request, principal, draft, "connect", error=error, status=409)
    found = {
        "certificate": der.hex(),
        "fingerprint": fingerprint(der),
        "product": str(hello.get("product", ""))[:64],
        "is_confirmed": False,
    }
    await asyncio.to_thread(lambda: console.engines.keep_draft(draft, **found))
    return go(request, f"/engines/new/{draft_id}/trust")


@router.post("/engines/new/{draft_id}/trust")
async def trust(request: Request, principal: Administrator, draft_id: str) -> Response:
    """The person has compared the fingerprint: from now on it is pinned."""
    console = console_of(request)
    draft = await asyncio.to_thread(console.engines.draft, draft_id, principal.name, KIND)
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
    draft = await asyncio.to_thread(console.engines.draft, draft_id, principal.name, KIND)
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
        claimed = await claim_engine(console, wanted, principal.who)
    except NodeRefused as error:
        is_taken = error.code == "MSE-API-020"
        return _page(request, principal, draft, "claim", error=error, is_taken=is_taken, status=409)
    except MseError as error:
        return _page(request, principal, draft, "claim", error=error, status=409)
    known = {"engine_id": claimed.engine_id, "offers": list(claimed.info.offers)}
    draft = await asyncio.to_thread(lambda: console.engines.keep_draft(draft, **known))
    await asyncio.to_thread(
        lambda: console.note(
            request, principal, "add engine", target=wanted.name, detail=wanted.address
        )
    )
    return go(request, _after_claim(draft))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An engine that is to be managed by this console."""

    name: str
    address: str
    port: int
    certificate: bytes
    contact: str
    user: str
    password: str
    confirm: str = ""
    """The node's name, typed, where another console's claim is to be replaced."""


@dataclass(frozen=True, slots=True)
class ClaimedEngine:
    """An engine that this console manages now, and what it has told of itself."""

    engine_id: int
    info: Info


async def claim_engine(
    console: Console, wanted: Wanted, who: str, check: Callable[[Info], None] | None = None
) -> ClaimedEngine:
    """Claim at the engine, keep it, listen to it. Raises MseError.

    ``check`` may raise what speaks against the engine; then nothing has been changed.
    """
    client = NodeClient(
        wanted.address,
        wanted.port,
        wanted.certificate,
        name=wanted.name,
        user=(wanted.user, wanted.password),
    )
    try:
        info: Info = await client.get("/v1/info", Info)
        if check is not None:
            check(info)
        if wanted.confirm and wanted.confirm != info.node:
            raise FormError({"confirm": f"This is not the name of the node ({info.node})."})
        body = {
            "id": console.store.console_id,
            "name": console.settings.console.name,
            "url": console.settings.shown_url,
            "force": bool(wanted.confirm),
            "confirm": wanted.confirm,
        }
        granted: Claimed = await client.send("POST", "/v1/console/claim", body, kind=Claimed)
    finally:
        await client.close()
    engine_id = await asyncio.to_thread(
        lambda: console.engines.add(
            name=wanted.name,
            address=wanted.address,
            port=wanted.port,
            contact=wanted.contact,
            certificate=wanted.certificate,
            fingerprint=fingerprint(wanted.certificate),
            token=granted.token,
            node=info.node,
            udi=info.udi or "",
            device_type=info.device_type or "",
            version=info.version,
            role=info.role,
            added_by=who,
        )
    )
    await asyncio.to_thread(
        console.engines.note_sync, engine_id, "claim", "done", "The engine was added."
    )
    console.fleet.take(await asyncio.to_thread(console.engines.get, engine_id))
    return ClaimedEngine(engine_id, info)


def checked_name(form: dict[str, str]) -> str:
    """The device name; raises FormError."""
    name = form.get("name", "")
    if not _NAME.match(name):
        raise FormError(
            {"name": "1 to 63 letters, digits, blanks, '.', '_' or '-'; a letter or digit first."}
        )
    return name


def checked_address(form: dict[str, str]) -> tuple[str, int]:
    """Address and port of the management API; raises FormError."""
    address, port = form.get("address", ""), form.get("port") or str(ports.MANAGEMENT)
    faults = {}
    try:
        address = str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        if not _HOST.match(address) or re.fullmatch(r"[0-9.]+", address):
            faults["address"] = "An IP address such as 10.10.10.11, or a host name."
    if not (port.isdecimal() and 0 < int(port) < 65536):
        faults["port"] = "A port is a number from 1 to 65535."
    if faults:
        raise FormError(faults)
    return address, int(port)


def _require_new(console: Console, name: str, address: str, port: int) -> None:
    for engine in console.engines.all():
        if engine.name == name:
            raise FormError({"name": f"An engine '{name}' is in this console already."})
        if (engine.address, engine.port) == (address, port):
            raise Conflict(
                f"This address is the engine '{engine.name}' already; nothing was changed."
            )


def _page(request: Request, principal: Principal, draft: Draft, step: str, **more: Any) -> Response:
    values = {"errors": {}, "error": None, "is_taken": False, **more}
    status = values.pop("status", 200)
    return page(
        request,
        principal,
        f"engines/new_{step}.html",
        status=status,
        section="engines",
        draft=draft,
        data=draft.data,
        steps=steps_of(draft, step),
        step=step,
        default_port=ports.MANAGEMENT,
        **values,
    )
