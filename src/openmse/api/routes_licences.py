"""Licences: what is in force, installing, removing, and telling the other node."""

from fastapi import APIRouter, Request

from openmse.api import licences
from openmse.api.answers import JsonResponse, described
from openmse.api.bodies import LicenceBody, Nothing
from openmse.api.guards import Administrator, Ctx, Reader, asked_by
from openmse.api.licences import LicenceChanged, LicencesView
from openmse.api.monitor import in_thread
from openmse.api.routes_people import audited
from openmse.platform.exchange import Exchanged

router = APIRouter(prefix="/v1", tags=["licences"])


@router.get("/licences", **described(LicencesView))
async def look(ctx: Ctx, _who: Reader) -> JsonResponse:
    """The limits in force and each licence's standing. Works with the health monitor down."""
    async with ctx.reading():
        found = await in_thread(lambda: licences.look(ctx), "licences")
    return JsonResponse(found)


@router.post("/licences", **described(LicenceChanged))
async def install(
    request: Request, ctx: Ctx, who: Administrator, body: LicenceBody
) -> JsonResponse:
    """Install a licence: the text of its file. The other node gets it by itself."""
    data = body.text.encode()
    args = {"size_bytes": len(data)}
    done = await audited(
        ctx,
        asked_by(request, who),
        "licence_install",
        args,
        lambda: licences.install(ctx, data),
    )
    return JsonResponse(done)


@router.delete("/licences/{licence_id}", **described(LicenceChanged))
async def remove(request: Request, ctx: Ctx, who: Administrator, licence_id: str) -> JsonResponse:
    """Remove a licence from this engine and its peer."""
    asked = asked_by(request, who)
    args = {"id": licence_id[:64]}
    done = await audited(
        ctx, asked, "licence_remove", args, lambda: licences.remove(ctx, licence_id[:64])
    )
    return JsonResponse(done)


@router.post("/licences/sync", **described(Exchanged))
async def sync(
    request: Request, ctx: Ctx, who: Administrator, _body: Nothing | None = None
) -> JsonResponse:
    """Have both nodes hold the same licences, and know each other's UDI."""
    asked = asked_by(request, who)
    done = await audited(ctx, asked, "licence_sync", {}, lambda: licences.exchange(ctx))
    return JsonResponse(done)
