"""Who this machine is: the answer of ``/v1/info``."""

import os
import shutil
import socket

from msgspec import Struct

from openmse import __version__
from openmse.api.context import Context
from openmse.node.runtime.event_log import wall_now
from openmse.wire.versions import WIRE_VERSION

API_VERSION = 1
OFFERS = ("high_availability",)
"""The parts of the product that this engine has; others appear here as they are built."""


class Machine(Struct, frozen=True, kw_only=True):
    """What the machine has."""

    cores: int
    memory_bytes: int
    state_disk_bytes: int
    state_disk_free_bytes: int


class ServiceView(Struct, frozen=True, kw_only=True):
    """A service that is installed. ``service_status``: up, dormant (on the standby) or down."""

    name: str
    title: str
    version: str
    admin_status: str
    service_status: str


class Info(Struct, frozen=True, kw_only=True):
    """Who this machine is."""

    product: str = "OpenMSE"
    version: str = __version__
    wire_version: int = WIRE_VERSION
    api: int = API_VERSION
    hostname: str
    node: str
    role: str
    udi: str
    product_id: str
    hardware_version: str
    serial: str
    device_type: str = "Virtual appliance"
    health_monitor_address: str
    health_monitor_address6: str
    virtual_ips: tuple[str, ...]
    interface: str
    fingerprint: str
    machine: Machine
    time: str
    started_at: str
    is_monitor_up: bool
    services: tuple[ServiceView, ...]
    offers: tuple[str, ...] = OFFERS


def info_of(ctx: Context) -> Info:
    """The answer of this moment."""
    section = ctx.node.node
    snapshot = ctx.hub.snapshot
    return Info(
        hostname=socket.gethostname(),
        node=section.name,
        role=section.role.value,
        udi=str(ctx.udi),
        product_id=ctx.udi.product_id,
        hardware_version=ctx.udi.hardware_version,
        serial=ctx.udi.serial,
        health_monitor_address=section.host,
        health_monitor_address6=section.host6,
        virtual_ips=snapshot.virtual_ips if snapshot else ctx.node.group.virtual_ips,
        interface=section.interface,
        fingerprint=ctx.fingerprint,
        machine=_machine(ctx),
        time=wall_now(),
        started_at=ctx.started_at,
        is_monitor_up=snapshot is not None,
        services=(_platform(ctx),),
    )


def _machine(ctx: Context) -> Machine:
    disk = shutil.disk_usage(ctx.places.directory)
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        state_disk_bytes=disk.total,
        state_disk_free_bytes=disk.free,
    )


def _platform(ctx: Context) -> ServiceView:
    """The platform itself: the only service there is today."""
    snapshot = ctx.hub.snapshot
    status = "down"
    if snapshot is not None and snapshot.database.is_healthy:
        status = "up" if snapshot.admits_clients else "dormant"
    return ServiceView(
        name="platform",
        title="Platform (database and high availability)",
        version=snapshot.version if snapshot is not None else __version__,
        admin_status="enabled",
        service_status=status,
    )
