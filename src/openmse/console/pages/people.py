"""Users and their roles; for administrators."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse.console.context import console_of
from openmse.console.errors import FormError, NotFound
from openmse.console.pages.common import form_of, go, page
from openmse.console.people.access import Administrator
from openmse.console.people.roles import Principal, Role
from openmse.console.people.users import add_user, change_user
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)


@router.get("/people")
async def people_page(request: Request, principal: Administrator) -> Response:
    """Everybody who may log in, and every token."""
    return await _page(request, principal)


@router.post("/people")
async def add(request: Request, principal: Administrator) -> Response:
    """A new user, with a first password."""
    form = await form_of(request)
    try:
        await add_user(console_of(request), request, principal, form)
    except MseError as error:
        fields = error.fields if isinstance(error, FormError) else {}
        return await _page(request, principal, form=form, errors=fields, error=error, status=422)
    return go(request, "/people")


@router.post("/people/{name}")
async def change(request: Request, principal: Administrator, name: str) -> Response:
    """Role, password, or whether the user may log in."""
    form = await form_of(request)
    await change_user(console_of(request), request, principal, name, form)
    return go(request, "/people")


@router.get("/people/{name}/dialog")
async def dialog(request: Request, principal: Administrator, name: str) -> Response:
    """Change a user."""
    user = await asyncio.to_thread(console_of(request).people.find, name)
    if user is None:
        raise NotFound(f"There is no user '{name}'.", "Somebody may have removed it meanwhile.")
    return page(request, principal, "people/dialog.html", user=user, roles=list(Role), error=None)


async def _page(request: Request, principal: Principal, **more: Any) -> Response:
    console = console_of(request)
    values = {"errors": {}, "error": None, "form": {}, **more}
    status = values.pop("status", 200)
    return page(
        request,
        principal,
        "people/people.html",
        status=status,
        section="people",
        users=await asyncio.to_thread(console.people.all),
        tokens=await asyncio.to_thread(console.people.tokens),
        roles=list(Role),
        **values,
    )
