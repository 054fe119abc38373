"""What an engine's server is and uses: the guide's getserverinfo and gethainfo."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse.console import server_facts
from openmse.console.context import console_of
from openmse.console.pages.common import page
from openmse.console.people.access import Viewer
from openmse.console.server_facts import ServerFacts
from openmse.errors import MseError

router = APIRouter(include_in_schema=False)
SESSIONS_SHOWN = 100
"""On the page; the API has all that the engine tells."""


@router.get("/engines/{engine_id:int}/server")
async def server_page(request: Request, principal: Viewer, engine_id: int) -> Response:
    """Read from the engine at this moment; where it does not answer the page says so."""
    console = console_of(request)
    live = console.fleet.get(engine_id)
    found: ServerFacts | None = None
    trouble: MseError | None = None
    try:
        found = await server_facts.read(console, engine_id)
    except MseError as error:
        trouble = error
    return page(
        request,
        principal,
        "engines/server.html",
        section="engines",
        engine=live.engine,
        found=found,
        trouble=trouble,
        sessions_shown=SESSIONS_SHOWN,
    )
