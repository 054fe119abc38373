"""Who this machine is: the answer of ``/v1/info``."""

import logging
import shutil
import socket

from msgspec import Struct

from openmse import __version__
from openmse.api.context import Context
from openmse.api.licences import engine_of
from openmse.cli.platform_machine import service_facts
from openmse.errors import CommandRefused, MseError
from openmse.node import group as group_file
from openmse.node.config import Role
from openmse.node.runtime.event_log import wall_now
from openmse.platform import measure
from openmse.platform.candidate import Candidate, this_machine
from openmse.platform.engine import Engine
from openmse.platform.machines import device_type
from openmse.platform.steps import OfferedStep
from openmse.platform.who import peers_of
from openmse.wire.versions import WIRE_VERSION

API_VERSION = 1
_LOG = logging.getLogger("openmse.api")


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
    udi: str | None
    """Null, and so the next four, where it cannot be told now: the doctor and the log say why."""
    product_id: str | None
    hardware_version: str | None
    serial: str | None
    device_type: str | None
    health_monitor_address: str
    health_monitor_address6: str
    virtual_ips: tuple[str, ...]
    interface: str
    fingerprint: str
    machine: Machine
    machine_kind: str | None
    """As the pairing matrix names it (3310 … VA-High, generic); null like the UDI."""
    is_virtual: bool | None
    time: str
    started_at: str
    is_monitor_up: bool
    services: tuple[ServiceView, ...]
    offers: tuple[str, ...]
    """The parts of the product that this engine has; others appear here as they are built."""
    steps: tuple[OfferedStep, ...]
    """What a console's wizard asks for in the name of those parts, once the engine was added."""


def info_of(ctx: Context) -> Info:
    """The answer of this moment. Blocking: it reads the files of the platform."""
    section = ctx.node.node
    snapshot, engine = ctx.hub.snapshot, _engine(ctx)
    udi = engine.udi if engine is not None else None
    return Info(
        hostname=socket.gethostname(),
        node=section.name,
        role=section.role.value,
        udi=str(udi) if udi is not None else None,
        product_id=udi.product_id if udi is not None else None,
        hardware_version=udi.hw_version if udi is not None else None,
        serial=udi.serial if udi is not None else None,
        device_type=device_type(engine.machine) if engine is not None else None,
        health_monitor_address=section.host,
        health_monitor_address6=section.host6,
        virtual_ips=snapshot.virtual_ips if snapshot else ctx.node.group.virtual_ips,
        interface=section.interface,
        fingerprint=ctx.fingerprint,
        machine=_machine(ctx),
        machine_kind=engine.machine.kind.value if engine is not None else None,
        is_virtual=engine.machine.is_virtual if engine is not None else None,
        time=wall_now(),
        started_at=ctx.started_at,
        is_monitor_up=snapshot is not None,
        services=(_platform(ctx),),
        offers=_offers(engine),
        steps=service_facts().steps(ctx.node.places),
    )


def candidate_of(ctx: Context) -> Candidate:
    """This machine, as a primary asks for it before a pairing. Raises MseError.

    While the password of a pairing stands its primary may come once more: it is still free then.
    """
    node, places = ctx.node.node, ctx.node.places
    group = group_file.load(places.group)
    others = [one.name for one in group.nodes if one.name != node.name] if group else []
    if node.role is not Role.SECONDARY or (group is not None and not others):
        raise CommandRefused(
            "This node does not wait to be paired.",
            "Only a secondary that serves nobody by itself tells strangers what machine it is.",
        )
    told = {one.name: one.machine for one in peers_of(places.state_dir, node.name)}
    is_taken = not places.pairing_password.exists()
    return Candidate(
        name=node.name,
        version=__version__,
        machine=this_machine(ctx.node_path, places.state_dir),
        backs=tuple(told.get(name) for name in others) if is_taken else (),
        is_direct=bool(node.direct_host),
    )


def _engine(ctx: Context) -> Engine | None:
    try:
        return engine_of(ctx)
    except MseError as error:
        _LOG.error("the platform: %s", error.sentence)
        return None


def _offers(engine: Engine | None) -> tuple[str, ...]:
    is_licensing_on = engine is not None and engine.settings.licensing.is_enabled
    return ("high_availability", "licensing") if is_licensing_on else ("high_availability",)


def _machine(ctx: Context) -> Machine:
    size = measure.size(ctx.node.places.state_dir)  # as pairing compares it
    return Machine(
        cores=size.cores,
        memory_bytes=size.memory_bytes,
        state_disk_bytes=size.disk_bytes,
        state_disk_free_bytes=shutil.disk_usage(ctx.places.directory).free,
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
