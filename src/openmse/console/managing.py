"""Engines as this console keeps them: added, changed, forgotten; one path for pages and the API.

Who answers at an address is known by its certificate, which somebody has compared; before that
nothing secret is sent there, and nothing is kept.
"""

import asyncio
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from openmse import ports
from openmse.console.context import Console
from openmse.console.errors import Conflict, FormError, OtherIdentity
from openmse.console.nodes.client import NodeClient
from openmse.console.nodes.models import Claimed, Info
from openmse.console.nodes.tls import certificate_of, fingerprint
from openmse.console.people.roles import Principal
from openmse.errors import MseError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,62}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
ADDRESS_MAX = 64


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An engine as it is to be kept from now on."""

    name: str
    contact: str
    address: str
    port: int
    is_renewed: bool = False
    """Its certificate was renewed: look at it although the address is the same."""
    confirmed: str = ""
    """The fingerprint that a person has compared."""


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers at an address: nobody has compared its fingerprint yet."""

    certificate: bytes
    fingerprint: str
    product: str


def checked_name(form: Mapping[str, str]) -> str:
    """The device name; raises FormError."""
    name = form.get("name", "")
    if not _NAME.fullmatch(name):
        raise FormError(
            {"name": "1 to 63 letters, digits, blanks, '.', '_' or '-'; a letter or digit first."}
        )
    return name


def checked_address(form: Mapping[str, str]) -> tuple[str, int]:
    """Address and port of the management API; raises FormError."""
    address, port = form.get("address", ""), form.get("port") or str(ports.MANAGEMENT)
    faults = {}
    try:
        address = str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        is_host = _HOST.fullmatch(address) and not re.fullmatch(r"[0-9.]+", address)
        if not is_host or len(address) > ADDRESS_MAX:
            faults["address"] = "An IP address such as 10.10.10.11, or a host name."
    if not (port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536):
        faults["port"] = "A port is a number from 1 to 65535."
    if faults:
        raise FormError(faults)
    return address, int(port)


def require_new(console: Console, name: str, address: str, port: int, *, but: int = 0) -> None:
    """Raise MseError where another engine than ``but`` has the name or the address. Blocking."""
    others = [engine for engine in console.engines.all() if engine.id != but]
    if any(engine.name == name for engine in others):
        raise FormError({"name": f"An engine '{name}' is in this console already."})
    for engine in others:
        if (engine.address, engine.port) == (address, port):
            raise Conflict(
                f"This address is the engine '{engine.name}' already; nothing was changed."
            )


async def who_answers(name: str, address: str, port: int) -> Answering:
    """Ask an address who it is; nothing secret is sent. Raises NodeUnreachable."""
    der = await certificate_of(address, port)
    client = NodeClient(address, port, der, name=name)
    try:
        hello = await client.get("/v1/hello", dict)
    finally:
        await client.close()
    return Answering(der, fingerprint(der), str(hello.get("product", ""))[:64])


async def confirmed_certificate(address: str, port: int, confirmed: str) -> bytes:
    """The certificate that answers there, DER; raises OtherIdentity unless its fingerprint is the
    one that somebody has compared, NodeUnreachable where nobody answers."""
    der = await certificate_of(address, port)
    shown = fingerprint(der)
    if shown != confirmed:
        raise OtherIdentity(address, shown)
    return der


async def add_engine(
    console: Console,
    request: Request,
    principal: Principal,
    wanted: Wanted,
    *,
    check: Callable[[Info], None] | None = None,
) -> ClaimedEngine:
    """Claim at the engine, keep it, listen to it, note it. Raises MseError.

    ``check`` may raise what speaks against the engine; then nothing has been changed.
    """
    async with console.adding:  # a second claim ends the token of the first, which is kept here
        await asyncio.to_thread(require_new, console, wanted.name, wanted.address, wanted.port)
        info, token = await _claimed(console, wanted, check)
        engine_id = await asyncio.to_thread(_kept, console, principal, wanted, info, token)
    await asyncio.to_thread(
        console.engines.note_sync, engine_id, "claim", "done", "The engine was added."
    )
    console.fleet.take(await asyncio.to_thread(console.engines.get, engine_id))
    await asyncio.to_thread(
        lambda: console.note(
            request, principal, "add engine", target=wanted.name, detail=wanted.address
        )
    )
    return ClaimedEngine(engine_id, info)


def _kept(console: Console, principal: Principal, wanted: Wanted, info: Info, token: str) -> int:
    """The id of the engine in the store. Blocking."""
    return console.engines.add(
        name=wanted.name,
        address=wanted.address,
        port=wanted.port,
        contact=wanted.contact,
        certificate=wanted.certificate,
        fingerprint=fingerprint(wanted.certificate),
        token=token,
        node=info.node,
        udi=info.udi or "",
        device_type=info.device_type or "",
        version=info.version,
        role=info.role,
        added_by=principal.who,
    )


async def _claimed(
    console: Console, wanted: Wanted, check: Callable[[Info], None] | None
) -> tuple[Info, str]:
    """Who the engine is, and the token that it granted."""
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
    return info, granted.token


async def change_engine(
    console: Console, request: Request, principal: Principal, engine_id: int, change: Change
) -> None:
    """Keep a change and connect anew. Raises MseError (OtherIdentity where who answers shows a
    certificate that nobody has compared), and then nothing has changed."""
    engine = console.fleet.get(engine_id).engine
    values: dict[str, Any] = {"name": change.name, "contact": change.contact[:128]}
    await asyncio.to_thread(
        lambda: require_new(console, change.name, change.address, change.port, but=engine_id)
    )
    is_moved = (change.address, change.port) != (engine.address, engine.port)
    if is_moved or change.is_renewed:
        der = await certificate_of(change.address, change.port)
        shown = fingerprint(der)
        if shown not in (engine.fingerprint, change.confirmed):
            raise OtherIdentity(change.address, shown)
        values |= {
            "address": change.address,
            "port": change.port,
            "certificate": der,
            "fingerprint": shown,
        }
    await asyncio.to_thread(lambda: console.engines.change(engine_id, **values))
    await console.fleet.renew(engine_id)
    await asyncio.to_thread(
        lambda: console.note(request, principal, "edit engine", target=change.name)
    )


async def forget_engine(
    console: Console, request: Request, principal: Principal, engine_id: int
) -> None:
    """Give an engine back and forget it, although it is dead: then it could not be told, and the
    audit says so. Raises NotFound."""
    feed = console.fleet.feed(engine_id)
    name, detail = feed.live.engine.name, "the engine was told"
    try:
        await feed.client.send("POST", "/v1/console/release")
    except MseError as error:
        detail = f"the engine could not be told: {error.sentence}"
    await console.fleet.drop(engine_id)
    await asyncio.to_thread(console.engines.remove, engine_id)
    await asyncio.to_thread(
        lambda: console.note(request, principal, "delete engine", target=name, detail=detail)
    )


async def synchronize_engine(
    console: Console, request: Request, principal: Principal, engine_id: int
) -> None:
    """Read again who the engine is; what comes of it is in its history. Raises NotFound."""
    feed = console.fleet.feed(engine_id)
    try:
        await feed.refresh_info()
    except MseError as error:
        outcome, sentence = "failed", error.sentence
    else:
        outcome, sentence = "done", "Version, role, addresses and services were read."
    await asyncio.to_thread(console.engines.note_sync, engine_id, "facts", outcome, sentence)
    name = feed.live.engine.name
    await asyncio.to_thread(lambda: console.note(request, principal, "synchronize", target=name))
