"""What every page needs: language, layout, and errors as people read them."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from openmse.console.context import console_of
from openmse.console.i18n import LANGUAGES, chosen
from openmse.console.live.views import SORT_KEYS, ListQuery
from openmse.console.people.roles import Principal
from openmse.errors import MseError

STATIC = Path(__file__).parents[1] / "static"
LANGUAGE_COOKIE = "mse-language"
THEME_COOKIE = "mse-theme"


def language_of(request: Request, principal: Principal | None = None) -> str:
    """The person's own, else the cookie's, else what the browser prefers."""
    wishes = (principal.language if principal else "", request.cookies.get(LANGUAGE_COOKIE, ""))
    return chosen(wishes, request.headers.get("accept-language", ""))


def theme_of(request: Request, principal: Principal | None) -> str:
    """light, dark, or '' for what the device prefers."""
    theme = principal.theme if principal else request.cookies.get(THEME_COOKIE, "")
    return theme if theme in ("light", "dark") else ""


@cache
def asset(name: str) -> str:
    """The address of a static file; it changes with the file, so browsers may keep it."""
    try:
        digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    except FileNotFoundError:
        digest = "missing"
    return f"/static/{name}?v={digest}"


def is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of a page."""
    return request.headers.get("hx-request") == "true"


def page(
    request: Request,
    principal: Principal | None,
    template: str,
    *,
    topics: Sequence[str] = (),
    status: int = HTTPStatus.OK,
    **values: Any,
) -> HTMLResponse:
    """A page; ``topics`` are what of it is alive."""
    language = language_of(request, principal)
    given = {
        "principal": principal,
        "theme": theme_of(request, principal),
        "topics": list(topics),
        "section": "",
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "asset": asset,
        **values,
    }
    html = console_of(request).templates.page(template, language, given)
    headers = {"Vary": "HX-Request, Cookie, Accept-Language", "Content-Language": language}
    return HTMLResponse(html, status_code=status, headers=headers)


def go(request: Request, url: str) -> Response:
    """Continue elsewhere, for a form as for htmx."""
    if is_fragment(request):
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"HX-Redirect": url})
    return RedirectResponse(url, status_code=HTTPStatus.SEE_OTHER)


def own_path(url: str, default: str = "/engines") -> str:
    """A path of this console, never another host (as in ``//elsewhere``)."""
    is_own = url.startswith("/") and not url.startswith("//") and "\\" not in url
    return url if is_own and url.isprintable() else default


def list_query(request: Request) -> ListQuery:
    """The query of a list as the URL has it; what cannot be used counts as not given."""
    given = request.query_params
    number = given.get("page", "1")
    sort = given.get("sort", "trouble")
    return ListQuery(
        text=given.get("text", "")[:100],
        show=given.get("show", ""),
        sort=sort if sort in SORT_KEYS else "trouble",
        is_descending=given.get("down", "") == "1",
        page=int(number) if number.isdecimal() and len(number) < 6 and int(number) else 1,
    )


def list_url(request: Request, **changes: str) -> str:
    """The same list with some of its query changed; '' leaves out."""
    given = {k: v for k, v in request.query_params.items() if v} | changes
    query = urlencode({k: v for k, v in given.items() if v})
    return f"{request.url.path}?{query}"


async def form_of(request: Request) -> dict[str, str]:
    """The text fields of a form, without surrounding blanks (a password keeps its own)."""
    found = {}
    for key, value in (await request.form()).items():
        if isinstance(value, str):
            found[key] = value if "password" in key else value.strip()
    return found


def error_page(request: Request, error: MseError, status: int) -> Response:
    """An error as a page, or as a notice where htmx asked."""
    principal = getattr(request.state, "principal", None)
    values: Mapping[str, Any] = {"error": error, "status_code": status}
    if is_fragment(request):
        answer = page(request, principal, "pages/notice.html", status=status, **values)
        answer.headers["HX-Retarget"] = "#notice"
        answer.headers["HX-Reswap"] = "innerHTML"
        return answer
    return page(request, principal, "pages/error.html", status=status, **values)


def preference_cookies(response: Response, language: str, theme: str) -> None:
    """Remember them for the log-in page too; they are no secret."""
    for name, value in ((LANGUAGE_COOKIE, language), (THEME_COOKIE, theme)):
        if value:
            response.set_cookie(
                name, value, max_age=31536000, secure=True, httponly=True, samesite="lax"
            )


def known_language(text: str) -> str:
    """The language if it is one of ours, else ''."""
    return text if text in LANGUAGES else ""
