"""Each person's own password and tokens."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse.console.context import address_of, console_of
from openmse.console.errors import FormError, NotFound
from openmse.console.pages.common import form_of, go, page
from openmse.console.pages.people import role_of
from openmse.console.people.access import Viewer
from openmse.console.people.login import log_in
from openmse.console.people.roles import Principal, Role
from openmse.console.people.secrets import TOKEN_PREFIX, hash_password, new_secret, password_fault
from openmse.console.store.store import now
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)


@router.get("/me")
async def me_page(request: Request, principal: Viewer) -> Response:
    """The forms."""
    return await _page(request, principal)


@router.post("/me/password")
async def password(request: Request, principal: Viewer) -> Response:
    """A new password; all sessions of the person end."""
    console = console_of(request)
    form = await form_of(request)
    fault = password_fault(form.get("password", ""), principal.name)
    again = form.get("password_again", "") != form.get("password", "")
    errors = {"password": fault} if fault else {}
    if again:
        errors["password_again"] = "The two passwords differ."
    if errors:
        return await _page(request, principal, errors=errors, status=422)
    try:
        await asyncio.to_thread(
            log_in, console, principal.name, form.get("old_password", ""), address_of(request)
        )
    except MseError as error:
        errors = {"old_password": "This is not your present password."}
        return await _page(request, principal, errors=errors, error=error, status=422)
    hashed = await asyncio.to_thread(hash_password, form["password"])
    await asyncio.to_thread(lambda: console.people.change(principal.name, password_hash=hashed))
    await asyncio.to_thread(
        lambda: console.note(request, principal, "change password", target=principal.name)
    )
    return go(request, "/login")


@router.post("/me/tokens")
async def add_token(request: Request, principal: Viewer) -> Response:
    """A token for a program; shown once."""
    console = console_of(request)
    form = await form_of(request)
    name = form.get("token_name", "")[:64]
    try:
        role = role_of(form)
        if not name:
            raise FormError({"token_name": "A name tells later what the token is for."})
        if not principal.may(role):
            raise FormError({"role": "Not more than your own role."})
        days = form.get("days", "90")
        if days and not (days.isdecimal() and 0 < int(days) <= 3650):
            raise FormError({"days": "1 to 3650, or empty for no end."})
    except FormError as error:
        return await _page(request, principal, errors=error.fields, status=422)
    secret = new_secret(TOKEN_PREFIX)
    expires = now(int(days) * 86400) if days else ""
    await asyncio.to_thread(
        console.people.add_token, secret, name, role, principal.user_id, expires
    )
    await asyncio.to_thread(
        lambda: console.note(request, principal, "add token", target=name, detail=role.value)
    )
    return await _page(request, principal, secret=secret)


@router.post("/tokens/{token_id:int}/remove")
async def remove_token(request: Request, principal: Viewer, token_id: int) -> Response:
    """End a token: one's own, or anybody's for administrators."""
    console = console_of(request)
    owners = {token.id: token.owner for token in await asyncio.to_thread(console.people.tokens)}
    if owners.get(token_id) != principal.name and not principal.may(Role.ADMINISTRATOR):
        raise NotFound("There is no such token of yours.")
    name = await asyncio.to_thread(console.people.remove_token, token_id)
    await asyncio.to_thread(lambda: console.note(request, principal, "remove token", target=name))
    return go(request, "/people" if owners.get(token_id) != principal.name else "/me")


async def _page(request: Request, principal: Principal, **more: Any) -> Response:
    tokens = await asyncio.to_thread(console_of(request).people.tokens)
    values = {"errors": {}, "error": None, "secret": "", **more}
    status = values.pop("status", 200)
    return page(
        request,
        principal,
        "people/me.html",
        status=status,
        tokens=[token for token in tokens if token.owner == principal.name],
        roles=[role for role in Role if principal.may(role)],
        **values,
    )
