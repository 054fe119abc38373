"""Users: added, changed, removed; pages and the API use the same functions."""

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from openmse.console.context import Console
from openmse.console.errors import FormError
from openmse.console.people.lockout import name_key
from openmse.console.people.login import check_new_user
from openmse.console.people.roles import Principal, Role
from openmse.console.people.secrets import hash_password, password_fault


def role_of(form: Mapping[str, str]) -> Role:
    """The role of a form; raises FormError. Pure."""
    try:
        return Role(form.get("role", ""))
    except ValueError as error:
        raise FormError({"role": "Choose viewer, operator or administrator."}) from error


async def add_user(
    console: Console, request: Request, principal: Principal, form: Mapping[str, str]
) -> Role:
    """A new user with a first password, noted; raises MseError, and then nothing has changed."""
    name, role = form.get("name", ""), role_of(form)
    check_new_user(name, form.get("password", ""))
    hashed = await asyncio.to_thread(hash_password, form["password"])
    await asyncio.to_thread(console.people.add, name, hashed, role)
    await asyncio.to_thread(
        lambda: console.note(request, principal, "add user", target=name, detail=role.value)
    )
    return role


async def change_user(
    console: Console, request: Request, principal: Principal, name: str, form: Mapping[str, str]
) -> None:
    """Do what the form asks for (``role``, ``password``, ``disable`` yes or no, ``remove`` with the
    name), and note it; raises MseError, and then nothing has changed."""
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
    is_removal = form.get("remove") == name
    if is_removal:
        await asyncio.to_thread(console.people.remove, name)
    elif values:
        await asyncio.to_thread(lambda: console.people.change(name, **values))
        console.lockout.pardon(name_key(name))
    shown = {k: ("changed" if k == "password_hash" else v) for k, v in values.items()}
    what = "remove user" if is_removal else "change user"
    detail = ", ".join(f"{k}={v}" for k, v in shown.items())
    await asyncio.to_thread(
        lambda: console.note(request, principal, what, target=name, detail=detail)
    )
