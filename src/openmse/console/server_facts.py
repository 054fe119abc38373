"""What an engine tells as ``getserverinfo`` and ``gethainfo``, for pages and the API alike."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus

from openmse.console.context import Console
from openmse.console.errors import NodeRefused
from openmse.console.nodes.facts import HaInfo, ServerInfo


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Both, of one moment."""

    server: ServerInfo
    ha: HaInfo


async def read(console: Console, engine_id: int) -> ServerFacts:
    """Ask the engine at this moment; nothing is kept. Raises NotFound, NodeUnreachable, or
    NodeRefused where the engine is of a version that does not tell it."""
    feed = console.fleet.feed(engine_id)
    try:
        server, ha = await asyncio.gather(
            feed.client.get("/v1/server-info", ServerInfo), feed.client.get("/v1/ha-info", HaInfo)
        )
    except NodeRefused as error:
        if error.node_status != HTTPStatus.NOT_FOUND:
            raise
        raise NodeRefused(
            f"{feed.live.engine.name} does not tell this: it is of an older version.",
            "Look with getserverinfo and gethainfo there, or upgrade it.",
        ) from error
    return ServerFacts(server, ha)
