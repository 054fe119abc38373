"""The third vote: the form that names a witness, and giving it to another one while serving."""

import ipaddress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse.console.asking import Asking, ask
from openmse.console.context import Console, console_of
from openmse.console.errors import FormError, NodeRefused
from openmse.console.live.actions import Order
from openmse.console.live.pairs import Pair, PairView
from openmse.console.live.specials import specials
from openmse.console.pages.common import form_of, go, page
from openmse.console.pages.pairs import asked_engine, require_pair
from openmse.console.people.access import Administrator
from openmse.console.people.roles import Principal
from openmse.console.store.past import Action
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)
KIND = "witness_replace"
ENDPOINTS_MAX = 16


@router.get("/pairs/{engine_id:int}/witness")
async def form_page(request: Request, principal: Administrator, engine_id: int) -> Response:
    """Who has the third vote, and the form that gives it to another one."""
    return _page(request, principal, engine_id)


@router.post("/pairs/{engine_id:int}/witness")
async def replace(request: Request, principal: Administrator, engine_id: int) -> Response:
    """Enrol it; the page of the action shows the steps."""
    form = await form_of(request)
    try:
        action = await begin_witness(request, principal, engine_id, form)
    except MseError as error:
        faults = error.fields if isinstance(error, FormError | NodeRefused) else {}
        return _page(
            request, principal, engine_id, form=form, error=error, errors=faults, status=409
        )
    return go(request, f"/actions/{action.id}")


async def begin_witness(
    request: Request, principal: Principal, engine_id: int, form: dict[str, str]
) -> Action:
    """Begin to enrol the witness of a form. Raises MseError, and then nothing has changed."""
    console = console_of(request)
    pair, view = require_pair(console, engine_id)

    def order() -> Order:
        witness = witness_of(form, console)
        if witness is None:
            raise FormError({"witness": "Choose what has the third vote."})
        return order_of(pair, view, witness, principal.who)

    return await ask(console, request, principal, Asking(KIND, pair.name), order)


def order_of(pair: Pair, view: PairView, witness: dict[str, Any], who: str) -> Order:
    """What is asked of the owner; raises NotFound where it does not answer."""
    return Order(
        kind=KIND,
        engine_id=asked_engine(pair, view).engine.id,
        title=f"{pair.name}: {witness['name']}",
        method="PUT",
        path="/v1/ha/witness",
        body=witness,
        who=who,
    )


def _page(request: Request, principal: Principal, engine_id: int, **more: Any) -> Response:
    console = console_of(request)
    pair, view = require_pair(console, engine_id)
    is_busy = console.actions.running_of(pair.engine_ids) is not None
    values = {"errors": {}, "error": None, "form": {}, **more}
    status = values.pop("status", 200)
    return page(
        request,
        principal,
        "pairs/witness.html",
        status=status,
        section="pairs",
        tab="settings",
        pair=pair,
        p=view,
        special=specials(view, is_busy=is_busy)[KIND],
        witness=console.settings.witness,
        **values,
    )


def witness_of(form: dict[str, str], console: Console) -> dict[str, Any] | None:
    """The witness of the form; None for none. Raises FormError."""
    if form.get("witness") == "etcd":
        return _etcd_of(form)
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
    if not (port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536):
        raise FormError({"witness_port": "A port is a number from 1 to 65535."})
    return {
        "kind": "console",
        "name": form.get("witness_name") or "witness",
        "address": address,
        "pairing_port": int(port),
        "password": password,
    }


def _etcd_of(form: dict[str, str]) -> dict[str, Any]:
    """An etcd cluster as the third vote; the files are those of the engines. Raises FormError."""
    endpoints = form.get("etcd_endpoints", "").replace(",", " ").split()
    faults: dict[str, str] = {}
    if not endpoints or len(endpoints) > ENDPOINTS_MAX or not all(map(_is_url, endpoints)):
        faults["etcd_endpoints"] = "Addresses such as https://10.10.10.13:2379, 16 at most."
    files = {key: form.get(f"etcd_{key}", "") for key in ("ca_file", "cert_file", "key_file")}
    for key, path in files.items():
        if path and not path.startswith("/"):
            faults[f"etcd_{key}"] = "The whole path of a file on both engines, from / on."
    if faults:
        raise FormError(faults)
    name = form.get("witness_name") or "witness"
    return {"kind": "etcd", "name": name, "endpoints": endpoints, **files}


def _is_url(text: str) -> bool:
    try:
        found = urlsplit(text)
        return found.scheme in ("http", "https") and bool(found.hostname) and bool(found.port)
    except ValueError:
        return False
