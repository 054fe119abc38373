"""Log-in, log-out, the set-up link, and each person's own preferences."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from openmse.console.context import address_of, console_of
from openmse.console.errors import ForeignRequest, FormError, LockedOut, LoginRefused
from openmse.console.pages.common import (
    form_of,
    go,
    known_language,
    own_path,
    page,
    preference_cookies,
)
from openmse.console.people import login
from openmse.console.people.access import COOKIE, Viewer, find_principal, is_from_elsewhere
from openmse.console.people.secrets import digest

router = APIRouter(include_in_schema=False)


@router.get("/login")
async def login_page(
    request: Request, next: str = "/engines", language: str = "", ended: str = ""
) -> Response:
    """The form, or onward for whoever is logged in."""
    if await asyncio.to_thread(find_principal, console_of(request), request):
        return RedirectResponse(own_path(next), status_code=303)
    if known_language(language):
        answer: Response = RedirectResponse(request.url.include_query_params(language=""), 303)
        preference_cookies(answer, language, "")
        return answer
    values: dict[str, Any] = {"next": own_path(next), "name": "", "is_ended": ended == "1"}
    return page(request, None, "pages/login.html", error=None, **values)


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Begin a session."""
    _same_site(request)
    form = await form_of(request)
    target = own_path(form.get("next", ""))
    try:
        secret = await asyncio.to_thread(
            login.log_in,
            console_of(request),
            form.get("name", ""),
            form.get("password", ""),
            address_of(request),
        )
    except (LoginRefused, LockedOut) as error:
        name = form.get("name", "")
        values: dict[str, Any] = {"next": target, "name": name, "error": error, "is_ended": False}
        return page(request, None, "pages/login.html", status=error.status, **values)
    answer = RedirectResponse(target, status_code=303)
    hours = console_of(request).settings.people.session_hours_max
    answer.set_cookie(
        COOKIE, secret, max_age=hours * 3600, secure=True, httponly=True, samesite="lax", path="/"
    )
    return answer


@router.post("/logout")
async def log_out(request: Request, principal: Viewer) -> Response:
    """End the session."""
    await asyncio.to_thread(console_of(request).people.end_session, principal.session)
    answer = go(request, "/login")
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True)
    return answer


@router.get("/setup/{secret}")
async def setup_page(request: Request, secret: str) -> Response:
    """The form behind the set-up link."""
    await asyncio.to_thread(login.require_setup_link, console_of(request), secret)
    return page(request, None, "pages/setup.html", name="", errors={}, error=None)


@router.post("/setup/{secret}")
async def set_up(request: Request, secret: str) -> Response:
    """Make the administrator; the link works no more."""
    _same_site(request)
    form = await form_of(request)
    try:
        await asyncio.to_thread(
            login.use_setup_link, console_of(request), secret, form, address_of(request)
        )
    except FormError as error:
        values: dict[str, Any] = {"name": form.get("name", ""), "errors": error.fields}
        return page(request, None, "pages/setup.html", status=422, error=None, **values)
    return RedirectResponse("/login", status_code=303)


@router.post("/me/preferences")
async def preferences(request: Request, principal: Viewer) -> Response:
    """Language and appearance; reversible, so they act at once."""
    form = await form_of(request)
    values: dict[str, str] = {}
    if known_language(form.get("language", "")):
        values["language"] = form["language"]
    if form.get("theme") in ("auto", "light", "dark"):
        values["theme"] = form["theme"]
    if values:
        await asyncio.to_thread(console_of(request).people.change, principal.user_name, **values)
    answer = RedirectResponse(own_path(form.get("back", "")), status_code=303)
    preference_cookies(answer, values.get("language", ""), values.get("theme", ""))
    return answer


@router.get("/me/session", status_code=204)
async def session(request: Request) -> Response:
    """Whether the session still holds; asking does not prolong it."""
    console = console_of(request)
    known = await asyncio.to_thread(find_principal, console, request)
    return Response(status_code=204 if known else 401)


def _same_site(request: Request) -> None:
    """A log-in has no session yet to carry a token, so where it comes from must do."""
    if is_from_elsewhere(request):
        raise ForeignRequest(
            "This log-in did not come from a page of this console.", "Load the log-in page again."
        )


def session_hash(request: Request) -> str:
    """The hash of the session's secret, or ''."""
    secret = request.cookies.get(COOKIE, "")
    return digest(secret) if secret else ""
