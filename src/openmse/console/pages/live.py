"""The stream of a browser, and static files."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from openmse.console.context import Console, console_of
from openmse.console.errors import ConsoleStoreError
from openmse.console.live.hub import TOPICS_MAX
from openmse.console.live.topics import DIGITS_MAX
from openmse.console.pages.common import language_of
from openmse.console.people.access import Viewer, find_principal

router = APIRouter(include_in_schema=False)
CREDENTIALS_CHECK_S = 15.0


@router.get("/live")
async def live(request: Request, principal: Viewer, topics: str = "") -> StreamingResponse:
    """What changes on the pages that are open; ends with the session, or the token."""
    console = console_of(request)
    wanted = tuple(dict.fromkeys(t for t in topics.split(",") if t))[:TOPICS_MAX]
    for topic in wanted:
        kind, _, argument = topic.partition(":")
        if kind in ("pair", "chart") and argument.isdecimal() and len(argument) <= DIGITS_MAX:
            console.fleet.watch(int(argument))
        elif kind == "action":
            await console.actions.recall(argument)
    who = str(principal.user_id)
    console.hub.require_room(who)  # told before the answer begins
    told = console.hub.stream(wanted, language_of(request, principal), who)
    stream = while_let_in(console, request, told)
    return StreamingResponse(
        stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def while_let_in(
    console: Console, request: Request, told: AsyncGenerator[bytes, None]
) -> AsyncIterator[bytes]:
    """What is told, for as long as what let the request in still would."""
    loop = asyncio.get_running_loop()
    check_at = loop.time() + CREDENTIALS_CHECK_S
    async with contextlib.aclosing(told):  # its place is free at once
        async for data in told:
            yield data
            if loop.time() >= check_at:
                check_at = loop.time() + CREDENTIALS_CHECK_S
                if not await _is_let_in(console, request):
                    return


async def _is_let_in(console: Console, request: Request) -> bool:
    """Whether the session or the token lasts; while the store cannot tell, nobody is thrown out."""
    try:
        return await asyncio.to_thread(find_principal, console, request) is not None
    except ConsoleStoreError:
        return True
