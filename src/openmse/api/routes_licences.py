"""Licences: what is in force, installing, removing, and telling the other node."""

from fastapi import APIRouter, Request

from openmse.api import licences
from openmse.api.answers import JsonResponse, described
from openmse.api.authentication import Principal
from openmse.api.bodies import Behalf, LicenceBody, Nothing
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
    by = _by(who, body.on_behalf_of)
    done = await audited(
        ctx,
        asked_by(request, who),
        "licence_install",
        {"size_bytes": len(data), "by": by},
        lambda: licences.install(ctx, data, by),
    )
    return JsonResponse(done)


@router.delete("/licences/{licence_id}", **described(LicenceChanged))
async def remove(
    request: Request, ctx: Ctx, who: Administrator, licence_id: str, on_behalf_of: Behalf = ""
) -> JsonResponse:
    """Remove a licence from this engine and its peer."""
    asked = asked_by(request, who)
    by, identity = _by(who, on_behalf_of), licence_id[:64]
    args = {"id": identity, "by": by}
    done = await audited(
        ctx, asked, "licence_remove", args, lambda: licences.remove(ctx, identity, by)
    )
    return JsonResponse(done)


def _by(who: Principal, on_behalf_of: str) -> str:
    """As lists show it: the caller, and the person that it names."""
    return f"{on_behalf_of} ({who})" if on_behalf_of else str(who)


@router.post("/licences/sync", **described(Exchanged))
async def sync(
    request: Request, ctx: Ctx, who: Administrator, _body: Nothing | None = None
) -> JsonResponse:
    """Have both nodes hold the same licences, and know each other's UDI."""
    asked = asked_by(request, who)
    done = await audited(ctx, asked, "licence_sync", {}, lambda: licences.exchange(ctx))
    return JsonResponse(done)
