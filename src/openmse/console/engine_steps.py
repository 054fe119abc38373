"""Steps that an engine describes, shown and sent: one path for the wizard and the API."""

import asyncio
from collections.abc import Mapping

from fastapi import Request

from openmse.console.context import Console
from openmse.console.errors import NotFound
from openmse.console.nodes.steps import OfferedStep, body_of, usable
from openmse.console.people.roles import Principal
from openmse.errors import MseError


async def read(console: Console, engine_id: int) -> tuple[OfferedStep, ...]:
    """The steps as the engine describes them at this moment. Raises MseError."""
    feed = console.fleet.feed(engine_id)
    await feed.refresh_info()
    return usable(feed.live.info.steps) if feed.live.info is not None else ()


def step_of(steps: tuple[OfferedStep, ...], key: str) -> OfferedStep:
    """The step of that key; raises NotFound."""
    found = next((step for step in steps if step.key == key), None)
    if found is None:
        raise NotFound("The engine has no such step; nothing was changed.")
    return found


async def send(
    console: Console,
    request: Request,
    principal: Principal,
    engine_id: int,
    given: tuple[OfferedStep, Mapping[str, str]],
) -> None:
    """Send what a form has for a step to the engine, and note it, without any value.

    Raises: FormError, before anything is sent; MseError where the engine refuses.
    """
    step, form = given
    body = body_of(step, form)
    try:
        await console.fleet.feed(engine_id).client.send(step.method, step.path, body)
    except MseError as error:
        await _note(console, request, principal, engine_id, (step, error.sentence))
        raise
    await _note(console, request, principal, engine_id, (step, ""))


async def _note(
    console: Console,
    request: Request,
    principal: Principal,
    engine_id: int,
    told: tuple[OfferedStep, str],
) -> None:
    """In the audit and in the engine's history; with what it refused, if it did."""
    step, refused = told
    detail = f"{step.title}: {refused}" if refused else step.title
    name = console.fleet.get(engine_id).engine.name
    outcome = "refused" if refused else "done"
    await asyncio.to_thread(
        lambda: console.note(
            request, principal, "change settings", target=name, outcome=outcome, detail=detail
        )
    )
    history = "failed" if refused else "done"
    await asyncio.to_thread(
        console.engines.note_sync, engine_id, "settings", history, f"{principal.who}: {detail}"
    )
