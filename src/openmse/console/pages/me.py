"""Each person's own password and tokens."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse.console.context import console_of
from openmse.console.errors import FormError
from openmse.console.pages.common import form_of, go, page
from openmse.console.people.access import Viewer
from openmse.console.people.login import change_own_password
from openmse.console.people.roles import Principal, Role
from openmse.console.people.tokens import TokenWish, end_token, make_token, own_tokens
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)


@router.get("/me")
async def me_page(request: Request, principal: Viewer) -> Response:
    """The forms."""
    return await _page(request, principal)


@router.post("/me/password")
async def password(request: Request, principal: Viewer) -> Response:
    """A new password; all sessions of the person end."""
    form = await form_of(request)
    form.setdefault("password_again", "")
    try:
        await asyncio.to_thread(change_own_password, console_of(request), request, principal, form)
    except FormError as error:
        return await _page(request, principal, errors=error.fields, status=422)
    except MseError as error:
        return await _page(request, principal, error=error, status=422)
    return go(request, "/login")


@router.post("/me/tokens")
async def add_token(request: Request, principal: Viewer) -> Response:
    """A token for a program; shown once."""
    form = await form_of(request)
    wish = TokenWish(
        name=form.get("name", ""), role=form.get("role", ""), days=form.get("days", "90")
    )
    try:
        made = await asyncio.to_thread(make_token, console_of(request), request, principal, wish)
    except FormError as error:
        return await _page(request, principal, errors=error.fields, status=422)
    return await _page(request, principal, secret=made.secret)


@router.post("/tokens/{token_id:int}/remove")
async def remove_token(request: Request, principal: Viewer, token_id: int) -> Response:
    """End a token: one's own, or anybody's for administrators."""
    ended = await asyncio.to_thread(end_token, console_of(request), request, principal, token_id)
    return go(request, "/me" if ended.user_id == principal.user_id else "/people")


async def _page(request: Request, principal: Principal, **more: Any) -> Response:
    values = {"errors": {}, "error": None, "secret": "", **more}
    status = values.pop("status", 200)
    return page(
        request,
        principal,
        "people/me.html",
        status=status,
        tokens=await asyncio.to_thread(own_tokens, console_of(request), principal),
        roles=[role for role in Role if principal.may(role)],
        **values,
    )
