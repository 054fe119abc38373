"""What status commands, journal and configuration tell (scope read), with the monitor down, too."""

from typing import Annotated

from fastapi import APIRouter, Query

from openmse.api import facts
from openmse.api.answers import JsonResponse, described
from openmse.api.facts import DEFAULT_STEPS, MAX_STEPS, ConfigView, JournalPage
from openmse.api.guards import Ctx, Reader
from openmse.api.monitor import in_thread
from openmse.errors import DaemonDownError
from openmse.node.control.snapshot import Snapshot
from openmse.platform.status.ha_info import HaInfo
from openmse.platform.status.server_info import ServerInfo

router = APIRouter(prefix="/v1", tags=["reading"])
MAX_LINE = 1 << 31


@router.get("/server-info", **described(ServerInfo))
async def server_info(ctx: Ctx, _who: Reader) -> JsonResponse:
    """Services, memory, database size, sessions: what ``getserverinfo --json`` prints."""
    picture = await _picture(ctx)
    async with ctx.reading():
        return JsonResponse(await in_thread(lambda: facts.server_info(ctx, picture), "server info"))


@router.get("/ha-info", **described(HaInfo))
async def ha_info(ctx: Ctx, _who: Reader) -> JsonResponse:
    """The pair: what ``gethainfo --json`` prints."""
    picture = await _picture(ctx)
    async with ctx.reading():
        return JsonResponse(await in_thread(lambda: facts.ha_info(ctx, picture), "HA info"))


@router.get("/journal/{name}", **described(JournalPage))
async def journal_file(
    ctx: Ctx,
    _who: Reader,
    name: str,
    *,
    after: Annotated[int, Query(ge=0, le=MAX_LINE)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_STEPS)] = DEFAULT_STEPS,
    decisions: bool = False,
) -> JsonResponse:
    """The steps of one file of the decision journal, in pages: what ``mse ha journal show --json``
    prints. ``after``: a line, the ``last_line`` of the page before."""
    async with ctx.reading():
        found = await in_thread(
            lambda: facts.journal_page(ctx, name, after=after, limit=limit, decisions=decisions),
            "journal",
        )
    return JsonResponse(found)


@router.get("/config", **described(ConfigView))
async def config(ctx: Ctx, _who: Reader) -> JsonResponse:
    """Every setting of this machine, and every fault of its file: ``mse config show`` and
    ``check``."""
    async with ctx.reading():
        return JsonResponse(await in_thread(lambda: facts.config_view(ctx), "config"))


async def _picture(ctx: Ctx) -> Snapshot | None:
    """What the health monitor says; None while it does not run. Raises MseError."""
    try:
        return await ctx.monitor.status()
    except DaemonDownError:
        return None
