"""Whether this owner waits for a new machine in place of the other node, for who may read.

Read from the files that the health monitor goes by: the one of the password (of which nothing is
told but its end) and the group's facts.
"""

import asyncio
import time
from datetime import UTC, datetime

from openmse.api.answers import ReadmissionView
from openmse.api.context import Context
from openmse.api.monitor import in_thread
from openmse.errors import MseError
from openmse.node import group as group_file
from openmse.node.config import NodeConfig
from openmse.pki.password import PairingStore

LOOK_EVERY_S = 2.0


def look(node: NodeConfig) -> ReadmissionView:
    """How it is at this moment. Blocking; never an error: what cannot be read waits for nobody."""
    try:
        armed = PairingStore(node.places.readmission).armed(time.time())
        if armed is None or armed.expires_at_s is None:
            return ReadmissionView()
        group = group_file.load(node.places.group)
    except MseError:
        return ReadmissionView()
    lost = group.peer_of(node.node.name) if group is not None else None
    if lost is None:
        return ReadmissionView()
    until = datetime.fromtimestamp(armed.expires_at_s, UTC)
    return ReadmissionView(
        is_waiting=True,
        lost=lost.name,
        recover_from=node.node.host,
        until=until.isoformat(timespec="seconds"),
    )


async def watch(ctx: Context) -> None:
    """Tell the readers of the stream when it has changed, until cancelled."""
    while True:
        ctx.hub.on_readmission(await in_thread(lambda: look(ctx.node), "readmission"))
        await asyncio.sleep(LOOK_EVERY_S)
