"""``docs/status-commands.md``: the screens, drawn by the renderers themselves. Pure.

The values are those of an example pair; a test holds the page to what this makes.
"""

from datetime import UTC, datetime

from openmse.platform.status import ha_info, server_info
from openmse.platform.status.ha_info import FourFields, HaInfo, PeerInfo
from openmse.platform.status.server_info import (
    Moment,
    ServerConfig,
    ServerInfo,
    ServerMonitor,
    ServicesState,
    Session,
)
from openmse.platform.versions import PRODUCT_NAME

_UDI = "OPENMSE-VA:V01:{}_6c1f7a52-0d3e-5b7a-9a51-5f6d3c2b1a0{}"
_ADDRESSES = {"mse1": "10.10.10.11", "mse2": "10.10.10.12"}
_VERSION = "0.1.0"

_INTRODUCTION = """# The status commands

Written from `openmse.platform.status.page`; do not edit by hand.

`getserverinfo` and `gethainfo` print what the guide's commands of that name print, line by line;
`mse server-info` and `mse ha-info` are the same commands. With `--json` they give the same facts
with a schema: `docs/generated/getserverinfo.schema.json`, `docs/generated/gethainfo.schema.json`.
Exit 0 while the health monitor runs, 4 while it does not, 1 where what is saved cannot be read, 2
without the right to read it or without a configuration.

They change nothing. Values come from the health monitor's control socket, which answers root and
the members of the group `openmse`; while it is stopped, from the register and the group's facts on
disk, which only root may read. Sessions and sizes need root; what a user may not see, or
what this engine does not have, has no line (but `Restarts`, which is `null` then). The management
API tells the same facts (`GET /v1/server-info` and `GET /v1/ha-info`), and so does the console, on
the engine's page.
"""

_MEANINGS = (
    (
        "`UDI`",
        "product, hardware version, serial; the peer's once it has told it (`mse license sync`)",
    ),
    ("`Instance database name`, `port`", "the clients' database, on the same port on both nodes"),
    ("`Dataguard configuration name`", "the group's id, under which the two databases replicate"),
    ("`Primary database alias`", "the configured primary's name, as its certificate has it"),
    (
        "`Direct connect used`",
        "`Yes` where both nodes have their end of a cable of their own "
        "([configuration](configuration.md))",
    ),
    ("`Heartbeat status`", "whether this health monitor hears the other one now"),
    (
        "`Current state`",
        "the one word; `Current role`, `Synchronization`, `Health` and `Operation` are ours",
    ),
    (
        "`Last shutdown state`",
        "what the register says while the health monitor is stopped; `FAILOVER_ACTIVE` on a "
        "primary whose secondary owns",
    ),
    (
        "`MSE services are up`",
        "this node serves clients; `in DORMANT mode`: the other one does; `are down`: neither, "
        "and why",
    ),
    ("`Server start time`", "of the health monitor's process"),
    (
        "`Restarts`",
        "starts of the health monitor after its first, as its memory counts them; `null` on a "
        "dormant secondary, as in the guide",
    ),
    (
        "`Used Memory`",
        "of all processes of the product, shared pages counted once (MB of 2^20 bytes). Only root "
        "with all its capabilities may see how pages are shared; others, the management API among "
        "them, count what a process shares with its parent once more: measured 5 to 9 MB too much "
        "for a PostgreSQL of 24 to 65 MB",
    ),
    ("`Allocated Memory`", "what they have reserved for themselves, used or not"),
    ("`Max Memory`", "of the machine, or of its control group"),
    ("`DB disk size`", "all databases of the instance, without the write-ahead log"),
    ("`Active Sessions`", "sessions of PostgreSQL's clients; not shown on a dormant node"),
    ("`HTTPS`", "`null`: not told by this engine yet"),
)
"""What each line means on this engine, for the table of the page."""

_AFTER = """
`Legacy Port`, `Log Modules`, `Log Level`, `Days to keep events`, `Session timeout in mins` and
`DB backup in days` appear once the engine has such a setting.
"""


def page() -> str:
    """The whole page."""
    rows = [f"| {line} | {meaning} |" for line, meaning in _MEANINGS]
    table = ["## What the lines mean here", "", "| line | meaning |", "|---|---|", *rows]
    parts = [_INTRODUCTION, *table, _AFTER]
    for title, lines in _screens():
        parts += [f"## {title}", "", "```", *_without_outer_blanks(lines), "```", ""]
    return "\n".join(parts)


def _without_outer_blanks(lines: list[str]) -> list[str]:
    return "\n".join(lines).strip("\n").split("\n")


def _screens() -> list[tuple[str, list[str]]]:
    whole = FourFields("primary", "sync", "ok", "none")
    follows = FourFields("standby", "sync", "ok", "none")
    alone = FourFields("primary", "alone", "degraded", "none")
    up, dormant = ServicesState.UP, ServicesState.DORMANT
    return [
        ("`gethainfo` on the primary", _ha("mse1", "PRIMARY_ACTIVE", whole)),
        ("`gethainfo` on the secondary", _ha("mse2", "SECONDARY_ACTIVE", follows)),
        (
            "`gethainfo` on the secondary after the primary was lost",
            _ha("mse2", "FAILOVER_ACTIVE", alone, is_heard=False),
        ),
        (
            "`gethainfo` on that primary, its health monitor stopped",
            _ha("mse1", "FAILOVER_ACTIVE", None),
        ),
        (
            "`getserverinfo` on a node that serves",
            _server("mse1", up, "PRIMARY_ACTIVE", whole),
        ),
        (
            "`getserverinfo` on a node that stands by",
            _server("mse2", dormant, "SECONDARY_ACTIVE", follows),
        ),
        (
            "`getserverinfo` with the health monitor stopped",
            server_info.render(ServerInfo(is_running=False)),
        ),
    ]


def _udi(node: str) -> str:
    return _UDI.format(node, node[-1])


def _ha(node: str, state: str, fields: FourFields | None, *, is_heard: bool = True) -> list[str]:
    """``fields`` None: the health monitor is stopped."""
    peer = next(name for name in _ADDRESSES if name != node)
    info = HaInfo(
        is_running=fields is not None,
        role="primary" if node == "mse1" else "secondary",
        address=_ADDRESSES[node],
        virtual_ip="10.10.10.10" if node == "mse1" else "",
        version=_VERSION,
        udi=_udi(node),
        state=state,
        fields=fields,
        peers=(
            PeerInfo(
                address=_ADDRESSES[peer],
                virtual_ip="10.10.10.10",
                version=_VERSION,
                udi=_udi(peer),
                failover_type="automatic",
                failback_type="manual",
                failover_wait_s=5.0,
                instance_name="openmse",
                instance_port=5432,
                replication_name="5f0c9b1a7d3e",
                primary_alias="mse1",
                is_heartbeat_up=is_heard if fields is not None else None,
            ),
        ),
    )
    return ha_info.render(info)


def _server(node: str, services: ServicesState, state: str, fields: FourFields) -> list[str]:
    product, hardware, serial = _udi(node).split(":")
    info = ServerInfo(
        is_running=True,
        services_state=services,
        state=state,
        fields=fields,
        config=ServerConfig(
            product_name=PRODUCT_NAME,
            version=_VERSION,
            address=_ADDRESSES[node],
            role="primary" if node == "mse1" else "secondary",
            hw_version=hardware,
            product_id=product,
            serial=serial,
        ),
        monitor=ServerMonitor(
            started=_at(3, 0),
            now=_at(4, 24),
            timezone="UTC",
            offset_min=0,
            restarts=1,
            used_memory_mb=118,
            allocated_memory_mb=291,
            max_memory_mb=7936,
            db_disk_mb=31,
        ),
        sessions=(
            Session(
                id=1873,
                user_id=16385,
                address="10.10.10.21",
                started=_at(3, 2),
                last_access=_at(4, 23),
            ),
        ),
    )
    return server_info.render(info)


def _at(hour: int, minute: int) -> Moment:
    return Moment(datetime(2026, 1, 31, hour, minute, tzinfo=UTC), "UTC")
