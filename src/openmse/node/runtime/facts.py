"""What a snapshot shows beyond the core's state, gathered when somebody asks."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from openmse.ha.values import MILLISECOND, SECOND
from openmse.node.config import NodeConfig
from openmse.node.control.alarms import Alarm
from openmse.node.control.snapshot import Facts, PathView
from openmse.node.direct import direct_path, misfit
from openmse.node.group import GroupInfo
from openmse.node.runtime.clock import now
from openmse.node.runtime.event_log import EventLog, wall_now

if TYPE_CHECKING:
    from openmse.node.runtime.group_runtime import GroupRuntime

HEARD_WITHIN_NS = 2 * SECOND
"""Silence longer than this on a path is shown as such, also where both are silent."""


def facts_of(runtime: "GroupRuntime", events: EventLog, *, is_pairing_open: bool) -> Facts:
    """The facts of this moment."""
    config, group = runtime.config, runtime.group
    peer = group.peer_of(config.node.name) if group else None
    witness = group.witness if group else None
    return Facts(
        made_at=wall_now(),
        configured_role=config.node.role.value,
        address=config.node.host,
        address6=config.node.host6,
        interface=config.node.interface,
        group=group.group if group else "",
        virtual_ips=group.virtual_ips if group else (),
        peer_address=peer.address if peer else "",
        witness_kind=witness.kind if witness else "none",
        witness_address=witness.address if witness else "",
        database_port=config.database.port,
        pids={"health-monitor": os.getpid(), "postgres": postgres_pid(config)},
        alarms=_alarms(runtime),
        watchdog=runtime.watchdog.state,
        is_pairing_open=is_pairing_open,
        loop_lag_ms=runtime.runner.lag.longest_ms if runtime.runner is not None else 0.0,
        events_dropped=events.dropped,
        certificate_days_left=runtime.renewals.days_left if runtime.renewals else None,
        paths=paths_of(runtime),
    )


def paths_of(runtime: "GroupRuntime") -> tuple[PathView, ...]:
    """Both ways to the other node; empty without a direct connection."""
    config, watch = runtime.config, runtime.links.paths
    direct = direct_path(config, runtime.group)
    peer = runtime.group.peer_of(config.node.name) if runtime.group is not None else None
    if watch is None or direct is None or peer is None:
        return ()
    ends = (
        ("network", config.node.interface, config.node.host, peer.address),
        ("direct", direct.interface, direct.own, direct.peer),
    )
    at, used = now(), runtime.links.mesh.preferred
    found = []
    for path, (name, interface, own, other) in enumerate(ends):
        side = watch.sides[path]
        ago_ns = at - side.heard_at
        is_up = bool(side.is_up) and ago_ns < HEARD_WITHIN_NS
        ago_ms = round(ago_ns / MILLISECOND, 1) if side.heard_at else -1.0
        found.append(PathView(name, interface, own, other, is_up, path == used, ago_ms))
    return tuple(found)


def postgres_pid(config: NodeConfig) -> int | None:
    """The postmaster's process id as this machine numbers it, if it runs."""
    try:
        text = (config.places.data_dir / "postmaster.pid").read_text()
        pid = int(text.split("\n", 1)[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def _alarms(runtime: "GroupRuntime") -> tuple[Alarm, ...]:
    found = []
    if runtime.address is not None and runtime.address.failure:
        found.append(Alarm("address_failed", "error", runtime.address.failure))
    database = runtime.database
    if database is not None and database.unsettled_waits:
        found.append(
            Alarm(
                "sync_waits_cancelled",
                "warning",
                f"{database.unsettled_waits} commits stopped waiting for the other node: their "
                "clients were warned, and they count as not acknowledged.",
                "This ends by itself once the other node holds all that is written here.",
            )
        )
    for role in database.weak_sessions if database is not None else ():
        found.append(
            Alarm(
                "rpo_not_guaranteed",
                "warning",
                f"RPO is not guaranteed for {role}: its synchronous_commit is weaker than 'on'.",
                f"ALTER ROLE or DATABASE {role} RESET synchronous_commit;",
            )
        )
    found += path_alarms(runtime.config, runtime.group, paths_of(runtime))
    return tuple(found)


def path_alarms(
    config: NodeConfig, group: GroupInfo | None, paths: tuple[PathView, ...]
) -> Iterator[Alarm]:
    """One of two paths that does not carry, or a direct connection that cannot be used. Pure."""
    fault = misfit(config, group)
    if fault:
        yield Alarm(
            "direct_unusable",
            "warning",
            fault,
            "Set direct_interface and direct_address in [node] on both nodes, in one network of "
            "their own, and restart their daemons.",
        )
    if not any(path.is_up for path in paths):
        return  # the other node is silent altogether: that is another alarm
    for path in paths:
        if path.is_up:
            continue
        if path.name == "direct":
            yield Alarm(
                "direct_down",
                "warning",
                f"The direct connection ({path.interface} to {path.peer_address}) does not carry; "
                "heartbeats and data go over the health monitor interface alone.",
                f"Check the cable and {path.interface} on both nodes; it is used again by itself.",
            )
        else:
            yield Alarm(
                "network_path_down",
                "warning",
                f"The other node is not heard at {path.peer_address} on {path.interface}, only on "
                "the direct connection.",
                "Check the health monitor network of both nodes: clients and the witness are "
                "there.",
            )
