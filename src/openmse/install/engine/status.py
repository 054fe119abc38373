"""``msed status``: what runs on this machine, in the guide's words. Pure but for its input."""

from msgspec import Struct

from openmse.install.engine import readiness
from openmse.install.engine.look import View
from openmse.install.engine.readiness import Stage
from openmse.node.control.snapshot import Snapshot

EXIT_DOWN = 4
"""As every command answers where the daemon of this machine does not run."""


class EngineStatus(Struct, frozen=True, kw_only=True):
    """The same facts for programs. Numbers are pids, 0 where nothing runs."""

    health_monitor: int
    guard: int
    admin: int | None
    """None where this installation has no management API."""
    answers: bool
    """Whether the health monitor answers; what follows is unknown ('') where it does not."""
    database: str
    services: str
    state: str
    waits_for: str


def of(view: View, *, has_admin: bool) -> EngineStatus:
    """The status at the moment of ``view``."""
    s = view.snapshot
    return EngineStatus(
        health_monitor=view.monitor,
        guard=view.guard,
        admin=view.admin if has_admin else None,
        answers=s is not None,
        database=readiness.database(s) if s is not None else "",
        services=readiness.services(s) if s is not None else "",
        state=s.state if s is not None else "",
        waits_for=_waits_for(s),
    )


def _waits_for(s: Snapshot | None) -> str:
    return readiness.waits_for(s) if s is not None and not readiness.is_settled(s) else ""


def lines(status: EngineStatus) -> list[str]:
    """The status for people."""
    rows = [_runs("Health Monitor", status.health_monitor)]
    if status.health_monitor and not status.guard:
        rows.append("  ! Nothing guards it: 'msed start' starts a guard.")
    if status.health_monitor and not status.answers:
        rows.append("  ! It does not answer.")
    if status.admin is not None:
        rows.append(_runs("Admin process", status.admin))
    if status.answers:
        rows.append(_DATABASE[Stage(status.database)])
        rows.append(_SERVICES[Stage(status.services)])
        if status.waits_for:
            rows.append(f"  It waits: {status.waits_for}")
        rows.append(f"State: {status.state}")
    return rows


_DATABASE = {
    Stage.NONE: "There is no database yet: it comes with the pairing",
    Stage.WAITING: "Database is not up",
    Stage.READY: "Database is up",
    Stage.DORMANT: "Database is up and follows the other node's",
}
_SERVICES = {
    Stage.NONE: "MSE services are not up",
    Stage.WAITING: "MSE services are not up",
    Stage.READY: "MSE services are up",
    Stage.DORMANT: "MSE services are up and in DORMANT mode",
}


def _runs(title: str, pid: int) -> str:
    return f"{title} is running (pid {pid})" if pid else f"{title} is not running"


def exit_code(status: EngineStatus) -> int:
    """0 if all of it is well, 4 if the health monitor does not run, 1 if something else lacks."""
    if not status.health_monitor:
        return EXIT_DOWN
    is_whole = status.guard and status.answers and status.admin != 0 and not status.waits_for
    return 0 if is_whole else 1
