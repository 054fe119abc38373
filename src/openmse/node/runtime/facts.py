"""What a snapshot shows beyond the core's state, gathered when somebody asks."""

import os
from typing import TYPE_CHECKING

from openmse.node.config import NodeConfig
from openmse.node.control.alarms import Alarm
from openmse.node.control.snapshot import Facts
from openmse.node.runtime.event_log import EventLog, wall_now

if TYPE_CHECKING:
    from openmse.node.runtime.group_runtime import GroupRuntime


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
        certificate_days_left=runtime.renewals.days_left if runtime.renewals else -1,
    )


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
    return tuple(found)
