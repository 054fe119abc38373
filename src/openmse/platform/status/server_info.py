"""``getserverinfo``: its values and its screen, line by line as the guide prints it. Pure.

A value that this engine does not have is null, and its line is left out; only ``HTTPS`` and
``Restarts`` say ``null``, as the guide does. Sizes are in MB of 2^20 bytes, as the guide's are.
"""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from openmse.platform.status.ha_info import RULE, FourFields

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Moment(Struct, frozen=True):
    """An instant with the name of its time zone then: ISO 8601 with offset, and such as CET."""

    at: datetime
    zone: str = ""


class ServicesState(StrEnum):
    """What the services of this node do."""

    UP = "up"
    DORMANT = "dormant"
    """Loaded, but the other node serves."""
    DOWN = "down"


class ServerConfig(Struct, frozen=True, kw_only=True):
    """Section *Server Config*."""

    product_name: str
    version: str
    address: str
    """The health monitor's."""
    role: str
    """primary or secondary, as configured; the screen says 1 or 2."""
    hw_version: str
    product_id: str
    serial: str
    https: str | None = None
    legacy_port: int | None = None
    log_modules: int | None = None
    log_level: str | None = None
    days_to_keep_events: int | None = None
    session_timeout_min: int | None = None
    db_backup_days: int | None = None


class ServiceInfo(Struct, frozen=True):
    """One mobility service that is installed."""

    name: str
    version: str
    is_enabled: bool
    is_up: bool


class ServerMonitor(Struct, frozen=True, kw_only=True):
    """Section *Server Monitor*."""

    started: Moment
    now: Moment
    timezone: str
    """IANA name, such as Europe/Brussels."""
    offset_min: int
    restarts: int | None = None
    """How often the health monitor was started again; the screen of a dormant secondary says
    null."""
    used_memory_mb: int | None = None
    allocated_memory_mb: int | None = None
    max_memory_mb: int
    db_disk_mb: int | None = None


class Session(Struct, frozen=True, kw_only=True):
    """One session of a client."""

    id: int
    user_id: int
    address: str
    started: Moment
    last_access: Moment


class TrapDestination(Struct, frozen=True):
    """Where notifications go."""

    address: str
    updated: Moment


class ContextAware(Struct, frozen=True, kw_only=True):
    """Counters of the Context Aware Service; ``active`` and ``not_tracked`` by class."""

    active: dict[str, int]
    limit: int
    sessions: int
    not_tracked: dict[str, int]
    sub_services: tuple[ServiceInfo, ...] = ()


CLASSES = {
    "wireless_clients": "Wireless Clients",
    "tags": "Tags",
    "rogue_aps": "Rogue APs",
    "rogue_clients": "Rogue Clients",
    "interferers": "Interferers",
    "wired_clients": "Wired Clients",
}
"""Key in JSON -> words on the screen, in the guide's order."""
_ELEMENTS = "Wireless Clients, Rogue APs, Rogue Clients, Interferers, Wired Clients"


class ServerInfo(Struct, frozen=True, kw_only=True):
    """Everything on the screen while the health monitor runs; only ``is_running`` while not."""

    format: int = 1
    is_running: bool
    services_state: ServicesState = ServicesState.DOWN
    reason: str = ""
    """Why services are down; '' otherwise."""
    state: str = ""
    fields: FourFields | None = None
    """Ours: the four fields; null in the guide."""
    config: ServerConfig | None = None
    services: tuple[ServiceInfo, ...] = ()
    monitor: ServerMonitor | None = None
    sessions: tuple[Session, ...] = ()
    context_aware: ContextAware | None = None
    """Null unless that service is enabled."""
    trap_destinations: tuple[TrapDestination, ...] = ()


def render(info: ServerInfo) -> list[str]:
    """The lines of the screen."""
    if not info.is_running or info.config is None or info.monitor is None:
        return ["Health Monitor is not running"]
    is_dormant = info.services_state is ServicesState.DORMANT
    lines = ["Health Monitor is running", "Retrieving MSE Services status."]
    lines.append(_headline(info))
    lines += [*_title("Server Config"), *_config(info.config)]
    lines += [*_title("Services"), *_services(info.services)]
    is_null = is_dormant and info.config.role == "secondary"
    lines += [*_title("Server Monitor"), *_monitor(info.monitor, is_restarts_null=is_null)]
    if not is_dormant:
        lines += [*_title("Active Sessions"), *_sessions(info.sessions)]
    if info.context_aware is not None:
        lines += _context_aware(info.context_aware)
    if not is_dormant and info.trap_destinations:
        lines += [*_title("Default Trap Destinations"), *_traps(info.trap_destinations)]
    if info.fields is not None:
        lines += [*_title("High Availability"), *_fields(info.state, info.fields)]
    return lines


def _headline(info: ServerInfo) -> str:
    match info.services_state:
        case ServicesState.UP:
            return "MSE services are up, getting the status"
        case ServicesState.DORMANT:
            return "MSE services are up and in DORMANT mode, getting the status"
        case ServicesState.DOWN:
            return f"MSE services are down: {info.reason}"


def _title(text: str) -> list[str]:
    return ["", RULE, text, RULE, ""]


def _config(config: ServerConfig) -> Iterator[str]:
    yield f"Product name: {config.product_name}"
    yield f"Version: {config.version}"
    yield f"Health Monitor Ip Address: {config.address}"
    yield f"High Availability Role: {1 if config.role == 'primary' else 2}"
    yield f"Hw Version: {config.hw_version}"
    yield f"Hw Product Identifier: {config.product_id}"
    yield f"Hw Serial Number: {config.serial}"
    yield f"HTTPS: {'null' if config.https is None else config.https}"
    for label, value in (
        ("Legacy Port", config.legacy_port),
        ("Log Modules", config.log_modules),
        ("Log Level", config.log_level),
        ("Days to keep events", config.days_to_keep_events),
        ("Session timeout in mins", config.session_timeout_min),
        ("DB backup in days", config.db_backup_days),
    ):
        if value is not None:
            yield f"{label}: {value}"


def _services(services: tuple[ServiceInfo, ...]) -> Iterator[str]:
    if not services:
        yield "No mobility service is installed."
    for number, service in enumerate(services):
        if number:
            yield ""
        yield f"Service Name: {service.name}"
        yield f"Service Version: {service.version}"
        yield from _standing(service)


def _standing(service: ServiceInfo) -> Iterator[str]:
    yield f"Admin Status: {'Enabled' if service.is_enabled else 'Disabled'}"
    yield f"Operation Status: {'Up' if service.is_up else 'Down'}"


def _monitor(monitor: ServerMonitor, *, is_restarts_null: bool) -> Iterator[str]:
    restarts = None if is_restarts_null else monitor.restarts
    yield f"Server start time: {java_date(monitor.started)}"
    yield f"Server current time: {java_date(monitor.now)}"
    yield f"Server timezone: {monitor.timezone}"
    yield f"Server timezone offset (mins): {monitor.offset_min}"
    yield f"Restarts: {'null' if restarts is None else restarts}"
    for label, value in (
        ("Used Memory (MB)", monitor.used_memory_mb),
        ("Allocated Memory (MB)", monitor.allocated_memory_mb),
        ("Max Memory (MB)", monitor.max_memory_mb),
        ("DB disk size (MB)", monitor.db_disk_mb),
    ):
        if value is not None:
            yield f"{label}: {value}"


def _sessions(sessions: tuple[Session, ...]) -> Iterator[str]:
    for number, session in enumerate(sessions):
        if number:
            yield ""
        yield f"Session ID: {session.id}"
        yield f"Session User ID: {session.user_id}"
        yield f"Session IP Address: {session.address}"
        yield f"Session start time: {java_date(session.started)}"
        yield f"Session last access time: {java_date(session.last_access)}"


def _context_aware(counters: ContextAware) -> Iterator[str]:
    yield from _title("Context Aware Service")
    total = sum(counters.active.get(key, 0) for key in CLASSES)
    yield f"Total Active Elements({_ELEMENTS}, Tags): {total}"
    for key, words in CLASSES.items():
        yield f"Active {words}: {counters.active.get(key, 0)}"
    yield f"Active Elements({_ELEMENTS}, Tags) Limit: {counters.limit}"
    yield f"Active Sessions: {counters.sessions}"
    for key, words in CLASSES.items():
        yield f"{words} Not Tracked due to the limiting: {counters.not_tracked.get(key, 0)}"
    lost = sum(counters.not_tracked.get(key, 0) for key in CLASSES if key != "tags")
    yield f"Total Elements({_ELEMENTS}) Not Tracked due to the limiting: {lost}"
    yield from _title("Context Aware Sub Services")
    for number, service in enumerate(counters.sub_services):
        if number:
            yield ""
        yield f"Subservice Name: {service.name}"
        yield from _standing(service)


def _traps(destinations: tuple[TrapDestination, ...]) -> Iterator[str]:
    for number, trap in enumerate(destinations, 1):
        if number > 1:
            yield ""
        yield f"Trap Destination - {number}"
        yield f"IP Address: {trap.address}"
        yield f"Last Updated: {java_date(trap.updated)}"


def _fields(state: str, fields: FourFields) -> Iterator[str]:
    yield f"Current state: {state}"
    yield f"Current role: {fields.role}"
    yield f"Synchronization: {fields.sync}"
    yield f"Health: {fields.health}"
    yield f"Operation: {fields.operation}"


def java_date(moment: Moment) -> str:
    """An instant as the guide writes it: ``Sun Mar 08 12:40:32 CET 2015``, in English anywhere."""
    at, zone = moment.at, f" {moment.zone}" if moment.zone else ""
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day} {month} {at.day:02} {at:%H:%M:%S}{zone} {at.year}"
