"""Users and their roles; for administrators."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse.console.context import console_of
from openmse.console.errors import FormError
from openmse.console.pages.common import form_of, go, page
from openmse.console.people.access import Administrator
from openmse.console.people.login import check_new_user
from openmse.console.people.roles import Principal, Role
from openmse.console.people.secrets import hash_password, password_fault
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)


@router.get("/people")
async def people_page(request: Request, principal: Administrator) -> Response:
    """Everybody who may log in, and every token."""
    return await _page(request, principal)


@router.post("/people")
async def add(request: Request, principal: Administrator) -> Response:
    """A new user, with a first password."""
    console = console_of(request)
    form = await form_of(request)
    try:
        role = role_of(form)
        check_new_user(form.get("name", ""), form.get("password", ""))
        hashed = await asyncio.to_thread(hash_password, form["password"])
        await asyncio.to_thread(console.people.add, form["name"], hashed, role)
    except MseError as error:
        fields = error.fields if isinstance(error, FormError) else {}
        return await _page(request, principal, form=form, errors=fields, error=error, status=422)
    await asyncio.to_thread(
        lambda: console.note(request, principal, "add user", target=form["name"], detail=role.value)
    )
    return go(request, "/people")


@router.post("/people/{name}")
async def change(request: Request, principal: Administrator, name: str) -> Response:
    """Role, password, or whether the user may log in."""
    await change_user(request, principal, name, await form_of(request))
    return go(request, "/people")


async def change_user(
    request: Request, principal: Principal, name: str, form: dict[str, str]
) -> None:
    """Do what the form asks for, and note it; raises MseError, and then nothing has changed."""
    console = console_of(request)
    values: dict[str, Any] = {}
    if form.get("role"):
        values["role"] = role_of(form).value
    if form.get("disable"):
        values["is_disabled"] = form["disable"] == "yes"
    if form.get("password"):
        fault = password_fault(form["password"], name)
        if fault:
            raise FormError({"password": fault}, fault)
        values["password_hash"] = await asyncio.to_thread(hash_password, form["password"])
    if form.get("remove") == name:
        await asyncio.to_thread(console.people.remove, name)
    elif values:
        await asyncio.to_thread(lambda: console.people.change(name, **values))
        console.lockout.right(f"user:{name.lower()}")
    shown = {k: ("changed" if k == "password_hash" else v) for k, v in values.items()}
    what = "remove user" if form.get("remove") == name else "change user"
    detail = ", ".join(f"{k}={v}" for k, v in shown.items())
    await asyncio.to_thread(
        lambda: console.note(request, principal, what, target=name, detail=detail)
    )


@router.get("/people/{name}/dialog")
async def dialog(request: Request, principal: Administrator, name: str) -> Response:
    """Change a user."""
    user = await asyncio.to_thread(console_of(request).people.find, name)
    return page(request, principal, "people/dialog.html", user=user, roles=list(Role), error=None)


def role_of(form: dict[str, str]) -> Role:
    """The role of a form; raises FormError."""
    try:
        return Role(form.get("role", ""))
    except ValueError as error:
        raise FormError({"role": "Choose viewer, operator or administrator."}) from error


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
