"""The one gate: who asks, what the role allows, and whether a change came from our own pages.

Pages and the API use the same dependencies, so there is one path of authorization.
"""

import asyncio
import contextlib
from typing import Annotated, Any

from fastapi import Depends, Request

from openmse.console.context import Console, console_of
from openmse.console.errors import ConsoleStoreError, ForeignRequest, NotLoggedIn, RoleTooLow
from openmse.console.people.roles import Principal, Role
from openmse.console.people.secrets import TOKEN_PREFIX, digest
from openmse.console.store.store import now

COOKIE = "__Host-mse-session"
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
UNATTENDED = {"/live"}
"""Asked for by pages themselves, also when nobody is there: that prolongs no session."""


def find_principal(console: Console, request: Request) -> Principal | None:
    """Who asks, or None. Blocking: reads the store."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret.startswith(TOKEN_PREFIX):
        return console.people.by_token(secret)
    cookie = request.cookies.get(COOKIE, "")
    if not cookie:
        return None
    return by_session(console, digest(cookie))


def by_session(console: Console, session: str) -> Principal | None:
    """Whose session it is, if it has not ended by idleness or age."""
    people = console.settings.people
    return console.people.session(
        session, now(-60 * people.idle_minutes), now(-3600 * people.session_hours_max)
    )


async def _principal(request: Request) -> Principal:
    console = console_of(request)
    principal = await asyncio.to_thread(find_principal, console, request)
    if principal is None:
        raise NotLoggedIn(
            "You are not logged in, or the session has ended.", "Log in; nothing was changed."
        )
    if request.method not in SAFE_METHODS and principal.kind == "user":
        await check_origin(request, principal.csrf)
    if principal.kind == "user" and request.url.path not in UNATTENDED:
        with contextlib.suppress(ConsoleStoreError):  # a full disk keeps nobody from looking
            await asyncio.to_thread(console.people.touch, principal.session)
    request.state.principal = principal
    return principal


def is_from_elsewhere(request: Request) -> bool:
    """Whether a page of another site made the browser ask this, as far as it tells."""
    origin = request.headers.get("origin", "")
    is_foreign = bool(origin) and origin.partition("://")[2] != request.headers.get("host", "")
    is_cross = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    return is_foreign or is_cross


async def check_origin(request: Request, csrf: str) -> None:
    """Raise ForeignRequest unless the change was asked for by a page of ours."""
    given = request.headers.get("x-csrf-token", "")
    if not given and "form" in request.headers.get("content-type", ""):
        given = str((await request.form()).get("csrf", ""))
    if is_from_elsewhere(request) or not csrf or given != csrf:
        raise ForeignRequest(
            "This request did not come from a page of this console, or the page is from an older "
            "session; nothing was changed.",
            "Load the page again and repeat it.",
        )


def need(role: Role) -> Any:
    """A dependency that lets nobody through below ``role``."""

    def gate(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
        if not principal.may(role):
            raise RoleTooLow(
                f"This needs the role {role.value}; {principal.name} is {principal.role.value}. "
                "Nothing was changed.",
                "Ask an administrator to do it, or for another role.",
            )
        return principal

    return Depends(gate)


Viewer = Annotated[Principal, need(Role.VIEWER)]
Operator = Annotated[Principal, need(Role.OPERATOR)]
Administrator = Annotated[Principal, need(Role.ADMINISTRATOR)]
