"""``/api/v1`` for what an engine's server is and uses: what its page shows, for programs."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from openmse.console import server_facts
from openmse.console.api.described import ERRORS, SECURITY
from openmse.console.context import console_of
from openmse.console.people.access import Viewer

router = APIRouter(
    prefix="/api/v1", tags=["engines and pairs"], responses=ERRORS, dependencies=SECURITY
)


class MomentOut(BaseModel):
    """An instant with the name of its time zone there."""

    at: str
    zone: str


class FourFieldsOut(BaseModel):
    """What is so right now."""

    role: str
    sync: str
    health: str
    operation: str


class ServerConfigOut(BaseModel):
    """What the server is."""

    product_name: str
    version: str
    address: str = Field(description="of the health monitor")
    role: str
    hw_version: str
    product_id: str
    serial: str
    https: str | None


class ServiceLineOut(BaseModel):
    """A mobility service that is installed."""

    name: str
    version: str
    is_enabled: bool
    is_up: bool


class ServerMonitorOut(BaseModel):
    """What the server uses; sizes in MB of 2^20 bytes, null where the engine does not tell."""

    started: MomentOut
    now: MomentOut
    timezone: str
    offset_min: int
    restarts: int | None
    used_memory_mb: int | None
    allocated_memory_mb: int | None
    max_memory_mb: int | None
    db_disk_mb: int | None


class SessionOut(BaseModel):
    """A session of a client."""

    id: int
    user_id: int
    address: str
    started: MomentOut
    last_access: MomentOut


class ServerInfoOut(BaseModel):
    """As `getserverinfo`; all but ``is_running`` is empty while the health monitor is stopped."""

    is_running: bool
    services_state: str = Field(description="up, dormant or down")
    reason: str
    config: ServerConfigOut | None
    services: list[ServiceLineOut]
    monitor: ServerMonitorOut | None
    sessions: list[SessionOut]


class PeerInfoOut(BaseModel):
    """The paired peer; empty where a value is not known."""

    address: str
    virtual_ip: str
    version: str
    udi: str
    failover_type: str
    failback_type: str
    failover_wait_s: float
    instance_name: str
    instance_port: int
    replication_name: str
    primary_alias: str
    is_direct: bool
    is_heartbeat_up: bool | None


class HaInfoOut(BaseModel):
    """As `gethainfo`; what was saved last where ``is_running`` is false."""

    is_running: bool
    role: str
    address: str
    virtual_ip: str
    version: str
    udi: str
    state: str
    reason: str
    fields: FourFieldsOut | None
    peers: list[PeerInfoOut]


class ServerFactsOut(BaseModel):
    """What an engine tells at this moment."""

    engine_id: int
    server: ServerInfoOut
    ha: HaInfoOut


@router.get("/engines/{engine_id}/server")
async def get_server(request: Request, _principal: Viewer, engine_id: int) -> ServerFactsOut:
    """Server and pair as the engine's `getserverinfo` and `gethainfo` show them, read from it at
    this moment."""
    found = await server_facts.read(console_of(request), engine_id)
    server: dict[str, Any] = msgspec.to_builtins(found.server)
    ha: dict[str, Any] = msgspec.to_builtins(found.ha)
    return ServerFactsOut(engine_id=engine_id, server=ServerInfoOut(**server), ha=HaInfoOut(**ha))
