"""The application: routes, the one shape of errors, and its description as OpenAPI."""

import logging
from typing import Any, cast

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.responses import Response

from openmse import __version__
from openmse.api import (
    answers,
    metrics,
    routes_change,
    routes_facts,
    routes_licences,
    routes_people,
    routes_read,
    stream,
)
from openmse.api.answers import JsonResponse
from openmse.api.context import Context
from openmse.api.edge import HEADERS, Edge
from openmse.api.errors import (
    ErrorBody,
    FieldFault,
    GuessesExhausted,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    NotJson,
    OwnMistake,
    WrongFields,
    fault_of,
)
from openmse.api.events import EventPage
from openmse.api.facts import ConfigView, JournalPage
from openmse.api.hub import LicencesTold, MonitorTold, Reason
from openmse.api.info import Info
from openmse.api.licences import LicenceChanged, LicencesView
from openmse.api.operations import Operation
from openmse.api.summary import SettingsView, Summary, TakeoverView
from openmse.documents import document
from openmse.errors import MseError
from openmse.node.control.snapshot import Snapshot
from openmse.platform.candidate import Candidate
from openmse.platform.exchange import Exchanged
from openmse.platform.status.ha_info import HaInfo
from openmse.platform.status.server_info import ServerInfo

_LOG = logging.getLogger("openmse.api")
_OWN = (
    *(Snapshot, Summary, Info, EventPage, Operation, SettingsView, TakeoverView, ErrorBody),
    *(LicencesView, LicenceChanged, Exchanged, Candidate),
    *(ServerInfo, HaInfo, JournalPage, ConfigView),
)
_PUBLIC = ("/v1/hello", "/v1/candidate")
_REF = "#/components/schemas/{name}"


def build(context: Context | None) -> FastAPI:
    """The application over ``context``; None only to describe it."""
    app = FastAPI(
        title="OpenMSE: management API of a node",
        version="1",
        summary="Everything that mse can read and do on a node, and a stream of what happens.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.context = context
    app.include_router(routes_read.public)
    for router in (
        routes_read.router,
        routes_facts.router,
        stream.router,
        routes_change.router,
        routes_people.router,
        routes_licences.router,
        metrics.router,
    ):
        app.include_router(router)
    _add_handlers(app)
    app.add_middleware(Edge)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


# -- errors ---------------------------------------------------------------------------------


def _add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(MseError, _on_mse_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_own_mistake)


def shown(error: MseError) -> Response:
    """An error as clients get it."""
    fault = fault_of(error)
    headers = {}
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = 'Basic realm="OpenMSE", charset="UTF-8", Bearer'
    if isinstance(error, GuessesExhausted):
        headers["Retry-After"] = str(max(1, -int(-error.retry_after_s // 1)))
    return JsonResponse(ErrorBody(fault), status_code=fault.status, headers=headers)


def _on_mse_error(_request: Request, error: Exception) -> Response:
    return shown(cast(MseError, error))


def _on_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        found = shown(
            MethodNotAllowed(
                "What is there does not know this method; nothing was changed.",
                "/openapi.json lists what there is.",
            )
        )
        found.headers.update(error.headers or {})
        return found
    if error.status_code == 404:
        return shown(NotFound("There is nothing at this path.", "/openapi.json lists all paths."))
    return shown(NotJson("The body cannot be read; nothing was changed.", "Send JSON in UTF-8."))


def _on_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        return shown(
            NotJson("The body is not valid JSON; nothing was changed.", "Send one JSON object.")
        )
    return shown(WrongFields(tuple(_field_fault(fault) for fault in faults[:20])))


def _field_fault(fault: dict[str, Any]) -> FieldFault:
    """Only where and what: never the value, which may be a secret."""
    place = [str(part)[:64] for part in fault["loc"]]
    name = ".".join(place[1:]) or place[0]
    return FieldFault(name, f"{fault['msg']}.".replace("..", "."))


def _on_own_mistake(request: Request, _error: Exception) -> Response:
    _LOG.error("a mistake while serving %s %s", request.method, request.url.path)
    found = shown(
        OwnMistake(
            "The management API made a mistake while answering; what was asked may have been "
            "begun.",
            "Look at the status before you repeat it. Please report it with this process's log.",
        )
    )
    for name, value in HEADERS:  # it is made outside of Edge
        found.headers[name.decode()] = value.decode()
    return found


# -- OpenAPI --------------------------------------------------------------------------------


def _described(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = describe(app)
    return app.openapi_schema


def describe(app: FastAPI) -> dict[str, Any]:
    """The description of the application; the same for the same version of the product."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=f"{document('management-api')} is the contract. OpenMSE {__version__}.",
        routes=app.routes,
    )
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    _, own = msgspec.json.schema_components(_kinds(), ref_template=_REF)
    schemas.update(own)
    components["securitySchemes"] = {
        "password": {"type": "http", "scheme": "basic"},
        "token": {"type": "http", "scheme": "bearer"},
    }
    error = {
        "description": "An error: what happened, what it means, what to do next.",
        "content": {"application/json": {"schema": {"$ref": _REF.format(name="ErrorBody")}}},
    }
    for path, item in found["paths"].items():
        for operation in item.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = error
            if path not in _PUBLIC:
                operation["security"] = [{"password": []}, {"token": []}]
    return found


def _kinds() -> tuple[type[Struct], ...]:
    """Every msgspec value that is an answer, or a message of the stream."""
    local = [
        kind
        for kind in vars(answers).values()
        if isinstance(kind, type)
        and issubclass(kind, Struct)
        and kind is not Struct
        and kind.__module__ == answers.__name__
    ]
    return (*_OWN, *local, MonitorTold, LicencesTold, Reason)
