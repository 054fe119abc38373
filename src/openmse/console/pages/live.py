"""The stream of a browser, and static files."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from openmse.console.context import Console, console_of
from openmse.console.errors import ConsoleStoreError
from openmse.console.live.hub import TOPICS_MAX
from openmse.console.pages.common import language_of
from openmse.console.people.access import Viewer, by_session
from openmse.console.people.roles import Principal

router = APIRouter(include_in_schema=False)
SESSION_CHECK_S = 15.0


@router.get("/live")
async def live(request: Request, principal: Viewer, topics: str = "") -> StreamingResponse:
    """What changes on the pages that are open; ends with the session."""
    console = console_of(request)
    wanted = tuple(dict.fromkeys(t for t in topics.split(",") if t))[:TOPICS_MAX]
    for topic in wanted:
        kind, _, argument = topic.partition(":")
        if kind in ("pair", "chart") and argument.isdecimal():
            console.fleet.watch(int(argument))
    stream = _while_logged_in(console, principal, wanted, language_of(request, principal))
    return StreamingResponse(
        stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _while_logged_in(
    console: Console, principal: Principal, topics: tuple[str, ...], language: str
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    check_at = loop.time() + SESSION_CHECK_S
    async for data in console.hub.stream(topics, language):
        yield data
        if loop.time() >= check_at:
            check_at = loop.time() + SESSION_CHECK_S
            if principal.session and not await _is_logged_in(console, principal.session):
                return


async def _is_logged_in(console: Console, session: str) -> bool:
    """Whether the session lasts; while the store cannot tell, nobody is thrown out."""
    try:
        return await asyncio.to_thread(by_session, console, session) is not None
    except ConsoleStoreError:
        return True
