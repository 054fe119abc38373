"""Who did what; and the description of the API."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from openmse.console.context import console_of
from openmse.console.pages.common import is_fragment, page
from openmse.console.people.access import Administrator, Viewer
from openmse.console.store.audit import AuditQuery

router = APIRouter(include_in_schema=False)


@router.get("/audit")
async def audit_page(request: Request, principal: Administrator) -> Response:
    """The newest entries that match."""
    console = console_of(request)
    given = request.query_params
    before = given.get("before", "")
    wanted = AuditQuery(
        who=given.get("who", "")[:80],
        action=given.get("action", "")[:64],
        text=given.get("text", "")[:100],
        before=int(before) if before.isdecimal() and len(before) < 19 else 0,
        limit=100,
    )
    entries = await asyncio.to_thread(console.audit.find, wanted)
    return page(
        request,
        principal,
        "people/audit_table.html" if is_fragment(request) else "people/audit.html",
        section="audit",
        entries=entries,
        q=wanted,
        actions=await asyncio.to_thread(console.audit.actions),
        next_before=entries[-1].id if len(entries) == wanted.limit else 0,
    )


@router.get("/api/docs")
async def api_page(request: Request, principal: Viewer) -> Response:
    """The API as a page of our own: nothing is loaded from elsewhere."""
    described = request.app.openapi()
    calls = [
        (method.upper(), path, call.get("summary", ""), call.get("description", ""))
        for path, methods in sorted(described["paths"].items())
        for method, call in methods.items()
    ]
    return page(request, principal, "people/api.html", calls=calls)
