"""What a node's own picture says of its database and its services. Pure.

The owner's services are reachable when the virtual IP is here and clients are let in. A standby's
wait, dormant, for the database that they will use.
"""

from enum import StrEnum

from openmse.ha.local import Address, DbProcess, DbRole
from openmse.ha.names import Role
from openmse.node.control.snapshot import Snapshot


class Stage(StrEnum):
    """How far something is."""

    NONE = "none"
    """There is nothing of it on this machine yet: the pairing brings it."""
    WAITING = "waiting"
    READY = "ready"
    DORMANT = "dormant"
    """Ready, and serving nobody until this node takes over."""


def database(s: Snapshot) -> Stage:
    """Whether PostgreSQL runs and is what this node wants it to be."""
    if s.register is None and s.database.process == DbProcess.DOWN:
        return Stage.NONE
    if s.database.process != DbProcess.UP or s.database.failure:
        return Stage.WAITING
    if s.role == Role.PRIMARY:
        return Stage.READY if s.database.role == DbRole.PRIMARY else Stage.WAITING
    return Stage.DORMANT if s.database.role == DbRole.STANDBY else Stage.WAITING


def services(s: Snapshot) -> Stage:
    """Whether clients are served here, or would be at once after a takeover."""
    found = database(s)
    if found is not Stage.READY:
        return found
    is_reachable = not s.virtual_ips or s.address == Address.HELD
    return Stage.READY if is_reachable and s.admits_clients else Stage.WAITING


def is_settled(s: Snapshot) -> bool:
    """Whether nothing is left to wait for."""
    return services(s) is not Stage.WAITING


def waits_for(s: Snapshot) -> str:
    """Why it is not ready yet, in words; the most telling of what the node says."""
    stage = database(s)
    if s.database.failure:
        return s.database.failure
    if s.database.progress_percent >= 0:
        return f"the database is being copied ({s.database.progress_percent} %)"
    errors = [alarm.sentence for alarm in s.alarms if alarm.severity == "error"]
    if errors:
        return errors[0]
    if stage is Stage.READY and s.address != Address.HELD:
        return f"the virtual IP is {s.address}"
    return s.reason or f"the database is {s.database.process}"
