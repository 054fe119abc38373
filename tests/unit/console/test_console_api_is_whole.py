"""Whatever a page does a program can do, with the same role; the few exceptions say why."""

import inspect
from collections.abc import Iterator
from typing import Any, cast

import pytest
from fastapi.routing import APIRoute

from openmse.console.api import api_routers
from openmse.console.pages import all_routers, live, login
from openmse.console.people.roles import Role

API = "/api/v1"
COUNTERPARTS = {
    "GET /engines": "GET /engines",
    "GET /engines/{engine_id:int}": "GET /engines/{engine_id}",
    "GET /engines/{engine_id:int}/server": "GET /engines/{engine_id}/server",
    "POST /engines/{engine_id:int}/synchronize": "POST /engines/{engine_id}/synchronize",
    "POST /engines/{engine_id:int}/edit": "PATCH /engines/{engine_id}",
    "POST /engines/{engine_id:int}/delete": "DELETE /engines/{engine_id}",
    "POST /engines/{engine_id:int}/stop": "POST /engines/{engine_id}/stop",
    "POST /engines/new/{draft_id}/connect": "POST /engines/check",
    "POST /engines/new/{draft_id}/trust": "POST /engines",
    "POST /engines/new/{draft_id}/claim": "POST /engines",
    "POST /engines/new/{draft_id}/licensing": "POST /engines/{engine_id}/licences",
    "POST /engines/new/{draft_id}/{step}": "POST /engines/{engine_id}/steps/{key}",
    "GET /licences": "GET /licences",
    "GET /engines/{engine_id:int}/licences": "GET /engines/{engine_id}/licences",
    "POST /engines/{engine_id:int}/licences": "POST /engines/{engine_id}/licences",
    "POST /engines/{engine_id:int}/licences/share": "POST /engines/{engine_id}/licences/share",
    "GET /engines/{engine_id:int}/licences/{licence_id}/remove": (
        "GET /engines/{engine_id}/licences/{licence_id}/removal"
    ),
    "POST /engines/{engine_id:int}/licences/{licence_id}/remove": (
        "DELETE /engines/{engine_id}/licences/{licence_id}"
    ),
    "POST /engines/{engine_id:int}/pair/{draft_id}/secondary": "POST /engines/check",
    "POST /engines/{engine_id:int}/pair/{draft_id}/trust": "POST /engines",
    "POST /engines/{engine_id:int}/pair/{draft_id}/claim": "POST /engines",
    "POST /engines/{engine_id:int}/pair/{draft_id}/activation": (
        "POST /engines/{engine_id}/licences"
    ),
    "POST /engines/{engine_id:int}/pair/{draft_id}/pair": "POST /pairs",
    "GET /pairs": "GET /pairs",
    "GET /pairs/{engine_id:int}": "GET /pairs/{engine_id}",
    "GET /pairs/{engine_id:int}/settings": "GET /pairs/{engine_id}/settings",
    "POST /pairs/{engine_id:int}/settings": "PATCH /pairs/{engine_id}/settings",
    "POST /pairs/{engine_id:int}/witness": "PUT /pairs/{engine_id}/witness",
    "GET /pairs/{engine_id:int}/do/{kind}": "GET /pairs/{engine_id}/do/{kind}",
    "POST /pairs/{engine_id:int}/do/{kind}": "POST /pairs/{engine_id}/do/{kind}",
    "POST /pairs/{engine_id:int}/maintenance/{switch}": "POST /pairs/{engine_id}/maintenance",
    "GET /pairs/{engine_id:int}/events": "GET /pairs/{engine_id}/events",
    "GET /pairs/{engine_id:int}/events.{form}": "GET /pairs/{engine_id}/events.csv",
    "GET /pairs/{engine_id:int}/timeline": "GET /pairs/{engine_id}/timeline",
    "GET /pairs/{engine_id:int}/actions": "GET /pairs/{engine_id}/actions",
    "GET /actions/{action_id}": "GET /actions/{action_id}",
    "GET /people": "GET /users",
    "POST /people": "POST /users",
    "POST /people/{name}": "PATCH /users/{name}",
    "GET /me": "GET /tokens",
    "POST /me/password": "PUT /me/password",
    "POST /me/tokens": "POST /tokens",
    "POST /tokens/{token_id:int}/remove": "DELETE /tokens/{token_id}",
    "GET /audit": "GET /audit",
}
"""What a page does -> what a program asks for instead, below /api/v1."""

FORM = "an empty form, or one with what a GET of the API tells"
EXCEPTIONS = {
    "POST /login": "begins a browser's session; a program has a token",
    "POST /logout": "ends a browser's session; a program ends its token",
    "GET /login": FORM,
    "GET /setup/{secret}": FORM,
    "POST /setup/{secret}": "the first administrator is a person who was given the link",
    "POST /me/preferences": "language and appearance of pages, which a program does not see",
    "GET /me/session": "whether a browser's session holds; GET /me answers 401",
    "GET /": "leads to the engines",
    "GET /live": "the stream of the pages' own fragments; programs ask, or follow the engines'",
    "GET /engines/new": FORM,
    "GET /engines/new/{draft_id}/{step}": FORM,
    "GET /engines/{engine_id:int}/edit": FORM,
    "GET /engines/{engine_id:int}/delete": FORM,
    "GET /engines/{engine_id:int}/stop": FORM,
    "GET /engines/{engine_id:int}/pair": FORM,
    "GET /engines/{engine_id:int}/pair/{draft_id}/{step}": FORM,
    "GET /pairs/{engine_id:int}/witness": FORM,
    "GET /people/{name}/dialog": FORM,
    "GET /api/docs": "shows what openapi.json describes",
}


def _routes(routers: list[Any]) -> Iterator[tuple[str, APIRoute]]:
    for router in routers:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield from ((f"{method} {route.path}", route) for method in sorted(route.methods))


PAGES = dict(_routes([live.router, login.router, *all_routers()]))
PROGRAMS = {key.replace(API, "", 1): route for key, route in _routes(api_routers())}


def _role(route: APIRoute) -> Role | None:
    """The role that the gate of a route asks for."""
    found = [
        inspect.getclosurevars(cast(Any, inner.call)).nonlocals["role"]
        for inner in route.dependant.dependencies
        if getattr(inner.call, "__qualname__", "") == "need.<locals>.gate"
    ]
    return found[0] if found else None


def test_every_page_has_its_counterpart_or_a_reason() -> None:
    """A page that is added or goes is missed here."""
    assert not set(COUNTERPARTS) & set(EXCEPTIONS)
    assert set(PAGES) == set(COUNTERPARTS) | set(EXCEPTIONS)
    changing = {key for key in EXCEPTIONS if not key.startswith("GET ")}
    assert len(changing) <= 4, "what changes something and no program can do, is rare"


@pytest.mark.parametrize("page", COUNTERPARTS)
def test_a_counterpart_exists_and_asks_for_the_same_role(page: str) -> None:
    """Neither more nor less."""
    program = PROGRAMS[COUNTERPARTS[page]]
    role = _role(PAGES[page])
    assert role is not None
    assert _role(program) is role


def test_every_call_is_described() -> None:
    """By a sentence, the shape of its answer, and the shape of every error."""
    for key, route in PROGRAMS.items():
        assert _role(route) is not None, key
        assert route.description, key
        if key == "GET /metrics":
            continue
        is_file = key.endswith(".csv")
        assert is_file or route.status_code == 204 or route.response_model is not None, key
        assert {"4XX", "5XX"} <= set(route.responses), key
