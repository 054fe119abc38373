"""The begin of a pairing, as pages and the API do it: one path of checks and audit."""

import asyncio

from fastapi import Request

from openmse.console.context import Console
from openmse.console.errors import Conflict
from openmse.console.live.pairing import Pairing, PairOrder, require_supported
from openmse.console.live.pairs import pair_of
from openmse.console.people.roles import Principal
from openmse.console.store.engines import Engine
from openmse.console.store.past import Action, new_action_id
from openmse.console.store.store import now


def require_unpaired(console: Console, engine: Engine) -> None:
    """Raise Conflict where an engine belongs to a pair, as far as this console knows."""
    pair = pair_of(console.fleet.all(), engine.id)
    if pair is not None:
        raise Conflict(
            f"{engine.name} is paired already ({pair.name}); nothing was changed.",
            "Unpair it on its page first.",
        )


async def require_pair_of(console: Console, primary_id: int, secondary_id: int) -> None:
    """Ask both what they are, and raise Conflict unless such machines pair. Raises MseError."""
    feeds = console.fleet.feed(primary_id), console.fleet.feed(secondary_id)
    await asyncio.gather(*(feed.refresh_info() for feed in feeds))
    primary, secondary = (feed.live.info for feed in feeds)
    assert primary is not None
    assert secondary is not None
    require_supported(primary, secondary)


async def begin_pairing(
    console: Console, request: Request, principal: Principal, order: PairOrder
) -> Action:
    """Begin to pair two engines of this console; the action tells its steps.

    Raises: MseError where they cannot be a pair; then nothing has changed.
    """
    primary = console.fleet.get(order.primary_id).engine
    secondary = console.fleet.get(order.secondary_id).engine
    require_unpaired(console, primary)
    require_unpaired(console, secondary)
    await require_pair_of(console, primary.id, secondary.id)
    action = Action(
        id=new_action_id(),
        kind="pair",
        engine_id=primary.id,
        title=f"{primary.name} + {secondary.name}",
        who=principal.who,
        state="running",
        started_at=now(),
    )
    await console.actions.run(action, Pairing(console.fleet, console.actions, order).run)
    await asyncio.to_thread(
        lambda: console.note(request, principal, "pair", target=action.title, outcome="begun")
    )
    return action
