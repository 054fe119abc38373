"""Puts the console together: store, living picture, pages, API."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from openmse import __version__
from openmse.console.api import api_routers
from openmse.console.assets import Assets
from openmse.console.context import Console
from openmse.console.errors import ConsoleError, NotFound, NotLoggedIn
from openmse.console.headers import HEADERS, SecurityHeaders
from openmse.console.live.actions import Actions
from openmse.console.live.fleet import Fleet
from openmse.console.live.hub import Hub
from openmse.console.live.topics import Topics
from openmse.console.pages import all_routers, common, live, login
from openmse.console.people.access import COOKIE
from openmse.console.people.lockout import Lockout
from openmse.console.rendering import Templates
from openmse.console.settings import ConsoleSettings
from openmse.console.store.audit import Audit
from openmse.console.store.engines import Engines
from openmse.console.store.past import Past
from openmse.console.store.people import People
from openmse.console.store.store import Store
from openmse.errors import MseError

STATIC = Path(__file__).parent / "static"


def make_console(settings: ConsoleSettings, store: Store) -> Console:
    """All parts, wired; nothing runs yet."""
    engines, past, audit = Engines(store), Past(store), Audit(store)
    templates = Templates(settings.console.name)
    renderers: dict[str, Any] = {}
    hub = Hub(renderers)
    fleet = Fleet(engines, past, hub.changed)
    actions = Actions(fleet, past, audit, hub.changed)
    topics = Topics(templates, fleet, actions)
    renderers |= topics.renderers()
    people = settings.people
    return Console(
        settings=settings,
        store=store,
        people=People(store),
        engines=engines,
        past=past,
        audit=audit,
        fleet=fleet,
        hub=hub,
        actions=actions,
        topics=topics,
        templates=templates,
        lockout=Lockout(people.wrong_guesses_max, 60.0 * people.lockout_minutes),
    )


def make_app(console: Console) -> FastAPI:
    """The web application."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await console.fleet.start()
        await console.actions.take_up()
        ticking = asyncio.create_task(console.hub.run(), name="hub")
        yield
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
        await console.actions.stop()
        await console.fleet.stop()
        console.store.close()

    app = FastAPI(
        title="OpenMSE console",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.console = console
    app.add_middleware(SecurityHeaders)
    app.mount("/static", Assets(STATIC), name="static")
    app.include_router(live.router)
    app.include_router(login.router)
    for router in (*all_routers(), *api_routers()):
        app.include_router(router)
    _handle_errors(app)
    return app


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(MseError)
    async def told(request: Request, error: MseError) -> Response:
        return _answer(request, error)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.NOT_FOUND:
            return _answer(request, NotFound("There is no such page.", "Start from the engines."))
        sentence = f"The request cannot be served: {error.detail}."
        return _answer(request, _Http(sentence, error.status_code))

    @app.exception_handler(Exception)
    async def mistake(request: Request, _error: Exception) -> Response:
        sentence = "This is a mistake of ours; the console goes on, and no pair is affected."
        hint = "Please report it with the console's log (journalctl -u openmse-console)."
        answer = _answer(request, _Http(sentence, 500, hint=hint))
        answer.headers.update({**HEADERS, "cache-control": "no-store"})  # made outside of the rest
        return answer

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it: no mistake of ours

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        faults = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors()[:5])
        return _answer(request, _Http(f"The request cannot be used: {faults}.", 422))


class _Http(ConsoleError):
    """What the framework refused."""

    code = "MSE-CON-023"

    def __init__(self, sentence: str, status: int, *, hint: str = "Nothing was changed.") -> None:
        super().__init__(sentence, hint)
        self.http_status = status


def status_of(error: MseError) -> int:
    """The HTTP status that carries an error."""
    if isinstance(error, _Http):
        return error.http_status
    return int(getattr(error, "status", HTTPStatus.INTERNAL_SERVER_ERROR))


def _login_url(request: Request) -> str:
    """The log-in page, which leads back to the page the person was at: a dialog is none, and
    neither is where a form is sent to."""
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if common.is_fragment(request) or request.method != "GET":
        seen = urlsplit(request.headers.get("hx-current-url") or request.headers.get("referer", ""))
        is_own = seen.netloc == request.headers.get("host", "")
        target = seen.path + (f"?{seen.query}" if seen.query else "") if is_own else "/engines"
    given = {"next": target, **({"ended": "1"} if COOKIE in request.cookies else {})}
    return f"/login?{urlencode(given)}"


def _answer(request: Request, error: MseError) -> Response:
    status = status_of(error)
    path = request.url.path
    if path.startswith("/api/v1") or path == "/metrics":
        body = {"code": error.code, "sentence": error.sentence, "hint": error.hint,
                "status": status, "fields": getattr(error, "fields", {})}  # fmt: skip
        headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
        return JSONResponse({"error": body}, status_code=status, headers=headers)
    if isinstance(error, NotLoggedIn):
        if path == "/live":
            return Response(status_code=HTTPStatus.UNAUTHORIZED)
        return common.go(request, _login_url(request))
    return common.error_page(request, error, status)
