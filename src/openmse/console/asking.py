"""What is asked of an engine for somebody: begun, and noted also where it was refused.

Pages and the API come through here, so that the audit tells the same of both.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request

from openmse.console.context import Console
from openmse.console.live.actions import Order
from openmse.console.people.roles import Principal
from openmse.console.store.past import Action
from openmse.errors import MseError


@dataclass(frozen=True, slots=True)
class Asking:
    """As the audit has it."""

    action: str
    target: str
    detail: str = ""


async def ask(
    console: Console,
    request: Request,
    principal: Principal,
    asking: Asking,
    order: Callable[[], Order],
) -> Action:
    """Begin what ``order`` makes; raises what it or the engine refuses, and nothing has changed."""
    try:
        action = await console.actions.begin(order())
    except MseError as error:
        await _note(console, request, principal, asking, refused=error.sentence)
        raise
    await _note(console, request, principal, asking)
    return action


async def _note(
    console: Console,
    request: Request,
    principal: Principal,
    asking: Asking,
    *,
    refused: str = "",
) -> None:
    await asyncio.to_thread(
        lambda: console.note(
            request,
            principal,
            asking.action,
            target=asking.target,
            outcome="refused" if refused else "begun",
            detail=refused or asking.detail,
        )
    )
