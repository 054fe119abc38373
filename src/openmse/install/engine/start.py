"""``msed start``: the guide's order, a line only for what was started, readiness and not luck."""

import pwd
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

from openmse.errors import MseError
from openmse.ha.names import State
from openmse.install.engine import listening, parts, readiness
from openmse.install.engine.look import Engine, View, admin_answers, ask, look, monitor_of
from openmse.install.engine.parts import Part
from openmse.install.engine.readiness import Stage
from openmse.install.engine.stop import STOPPED_WITHIN_S
from openmse.install.errors import NotPrepared, PortTaken, StartFailed
from openmse.node.config import NodeConfig, Role
from openmse.node.control.snapshot import Snapshot
from openmse.node.drivers.postgres.process import server_processes

ANSWER_WITHIN_S = 30.0
"""From the start of a process to its first answer."""
READY_WITHIN_S = 180.0
"""A cold boot waits for the recorded owner for up to a minute, and then recovers its database."""
LOOK_AGAIN_S = 0.1
TELL_AFTER_S = 5.0
DEATHS_UNTIL_HOPELESS = 3
_OWN_ERROR = re.compile(r"MSE-[A-Z]+-\d+: ")


def check_prepared(config: NodeConfig) -> None:
    """Raise NotPrepared where this machine lacks what no daemon makes for itself."""
    try:
        pwd.getpwnam(config.database.user)
    except KeyError as error:
        raise NotPrepared(
            f"There is no user '{config.database.user}' to run PostgreSQL, so nothing was started.",
            "'mse install' makes it, or name another one in the configuration ([database] user).",
        ) from error
    places = config.places
    is_waiting = config.node.role is Role.SECONDARY and not places.group.exists()
    if is_waiting and not places.pairing_password.exists():
        raise NotPrepared(
            "This secondary has no password yet that its primary must know, so nothing was "
            "started.",
            "'mse setup' asks for it, and so does 'mse node init'.",
        )


def start(engine: Engine, ready_within_s: float = READY_WITHIN_S) -> View:
    """Start what does not run; returns once the node serves, or stands by. Raises MseError."""
    check_prepared(engine.config)
    before = _after_a_stop(engine, look(engine))
    wants_monitor = not before.monitor or not before.guard
    wants_admin = engine.admin is not None and not before.admin
    is_settled = before.snapshot is not None and readiness.is_settled(before.snapshot)
    if not wants_monitor and not wants_admin and is_settled:
        engine.say("MSE Platform is already running.")
        return before
    _check_ports(engine, before)
    engine.say("Starting MSE Platform")
    engine.say("")
    if wants_monitor:
        _start_monitor(engine, before)
    elif before.snapshot is None:
        _wait_monitor(engine)
    if wants_admin and engine.admin is not None:
        _start_admin(engine, engine.admin)
    if not is_settled:
        _await_services(engine, ready_within_s)
    return look(engine)


def _after_a_stop(engine: Engine, before: View) -> View:
    """A node that is being stopped runs no more, although it still answers: wait for its end."""
    if before.snapshot is None or before.snapshot.state != State.GRACEFUL_SHUTDOWN:
        return before
    engine.note("Waiting: the node is being stopped")
    deadline = time.monotonic() + STOPPED_WITHIN_S
    while before.monitor or before.guard:
        if time.monotonic() > deadline:
            raise StartFailed(
                f"The node that is being stopped has not ended within {STOPPED_WITHIN_S:.0f} s.",
                "'mse ha status' shows what it waits for.",
            )
        time.sleep(LOOK_AGAIN_S)
        before = look(engine)
    return before


# -- the health monitor ----------------------------------------------------------------------


def _check_ports(engine: Engine, before: View) -> None:
    """Raise PortTaken if another program listens where something that does not run yet has to."""
    config = engine.config
    wanted: tuple[parts.Listening, ...] = ()
    if not before.monitor:
        wanted += parts.ports_of_node(config)
    if engine.admin is not None and not before.admin:
        wanted += parts.ports_of_admin(config)
    own = set(server_processes(config.places.data_dir))  # it may have outlived its health monitor
    found = [holder for holder in listening.holders(wanted) if holder.pid not in own]
    if not found:
        return
    told = [
        f"{h.wanted.transport} port {h.wanted.port} ({h.wanted.setting})"
        + (f" by {h.program} (pid {h.pid})" if h.pid else "")
        for h in found
    ]
    raise PortTaken(
        f"Another program holds {', '.join(told)}, so nothing was started.",
        "Stop that program, or change the port in the configuration file of both nodes.",
    )


def _start_monitor(engine: Engine, before: View) -> None:
    if before.monitor:  # without a guard: a new one attaches to it
        engine.launcher.start(engine.monitor)
        engine.note(f"The guard of the health monitor (pid {before.monitor}) was gone: started.")
        return
    engine.say("Starting Health Monitor, Waiting to check the status.")
    engine.launcher.start(engine.monitor)
    engine.say("Starting Health Monitor, Waiting to check the status.")
    _wait_monitor(engine)
    engine.say("Health Monitor successfully started")


def _wait_monitor(engine: Engine) -> None:
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while ask(engine.config) is None:
        log = engine.launcher.log_tail(engine.monitor, 200)
        deaths = sum('"health_monitor_died"' in line for line in log)
        if deaths >= DEATHS_UNTIL_HOPELESS or not engine.launcher.pid(engine.monitor):
            raise _monitor_failed(engine, "ends right after its start", log)
        if time.monotonic() > deadline:
            raise _monitor_failed(engine, f"does not answer within {ANSWER_WITHIN_S:.0f} s", log)
        time.sleep(LOOK_AGAIN_S)


def await_successor(engine: Engine, pid: int) -> None:
    """Wait until another health monitor than ``pid`` answers. Raises StartFailed."""
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while monitor_of(engine.config.paths.run_dir) in (0, pid) or ask(engine.config) is None:
        if time.monotonic() > deadline:
            raise StartFailed(
                f"No new health monitor answers within {ANSWER_WITHIN_S:.0f} s; PostgreSQL was "
                "left as it is, and the guard goes on trying.",
                engine.launcher.log_hint(engine.monitor),
            )
        time.sleep(LOOK_AGAIN_S)


def _monitor_failed(engine: Engine, how: str, log: list[str]) -> MseError:
    """The error; what does not serve is stopped again, what serves is left to the guard."""
    after = "It is stopped again."
    if server_processes(engine.config.places.data_dir):
        after = "PostgreSQL runs on, and the guard goes on trying."
    else:
        engine.launcher.stop(engine.monitor, ANSWER_WITHIN_S)
    return StartFailed(
        f"Health Monitor was not started: it {how}. {reason_in(log)}{after}",
        engine.launcher.log_hint(engine.monitor),
    )


def reason_in(log: list[str]) -> str:
    """The last error of ours in a log, else its last plain line, with a space behind it; or ''."""
    plain = [line.strip() for line in log if line.strip() and not line.startswith("{")]
    ours = [line for line in plain if _OWN_ERROR.match(line)]
    chosen = (ours or [line for line in plain if " keeper: " not in line] or [""])[-1]
    return f"Its last words: {chosen} " if chosen else ""


# -- the admin process -----------------------------------------------------------------------


def _start_admin(engine: Engine, admin: Part) -> None:
    engine.say("Starting Admin process...")
    engine.launcher.start(admin)
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while not admin_answers(engine.config):
        is_over = time.monotonic() > deadline
        if is_over or not engine.launcher.pid(admin):
            log = engine.launcher.log_tail(admin, 50)
            how = f"does not answer within {ANSWER_WITHIN_S:.0f} s" if is_over else "has ended"
            engine.launcher.stop(admin, ANSWER_WITHIN_S)
            raise StartFailed(
                f"Admin process was not started: it {how}. {reason_in(log)}The health monitor runs "
                "on; the node serves without its management API.",
                engine.launcher.log_hint(admin),
            )
        time.sleep(LOOK_AGAIN_S)
    engine.say("Started Admin process.")


# -- database, framework and services --------------------------------------------------------


def _await_services(engine: Engine, within_s: float) -> None:
    waiting = _Waiting(engine, within_s)
    if waiting.until(lambda s: readiness.database(s) is not Stage.NONE, "Database", only_now=True):
        engine.say("Starting database .....")
        waiting.until(lambda s: readiness.database(s) is not Stage.WAITING, "Database")
        engine.say("Database started successfully. Starting framework and services .....")
        waiting.until(readiness.is_settled, "Framework and services")
        engine.say("Framework and services successfully started")
    else:
        engine.note(
            "This node has no database yet: it comes with the pairing ('mse ha pair' on the "
            "primary)."
        )


class _Waiting:
    """Looks at the node again and again, and tells people what it waits for."""

    def __init__(self, engine: Engine, within_s: float) -> None:
        self._engine = engine
        self._within_s = within_s
        self._began = time.monotonic()
        self._told = ""
        self._told_at = self._began

    def until(
        self, holds: Callable[[Snapshot], bool], what: str, *, only_now: bool = False
    ) -> bool:
        """Wait until it holds; with ``only_now`` until there is an answer, which is returned."""
        reason = "the health monitor does not answer"
        while True:
            snapshot = ask(self._engine.config)
            if snapshot is not None:
                if holds(snapshot):
                    return True
                if only_now:
                    return False
                reason = _no_interface(self._engine.config) or readiness.waits_for(snapshot)
            now = time.monotonic()
            if now > self._began + self._within_s:
                raise StartFailed(
                    f"{what} did not come up within {self._within_s:.0f} s: {reason}. What runs "
                    "goes on, and so does the attempt.",
                    "'mse ha status' and 'mse ha doctor' say more.",
                )
            self._tell(reason, now)
            time.sleep(LOOK_AGAIN_S)

    def _tell(self, reason: str, now: float) -> None:
        if reason != self._told and now > self._told_at + TELL_AFTER_S:
            self._engine.note(f"Waiting: {reason}")
            self._told, self._told_at = reason, now


def _no_interface(config: NodeConfig) -> str:
    """What the health monitor waits for in silence, since at boot an interface may come later."""
    try:
        socket.if_nametoindex(config.node.interface)
    except OSError:
        return f"this machine has no interface {config.node.interface} ([node] interface)"
    return ""


def config_path_missing(path: Path) -> MseError:
    """The error for a machine that has not been set up: nothing to start, stop or look at."""
    return NotPrepared(
        f"This machine is not set up: there is no {path}, so nothing runs; nothing was changed.",
        "'mse setup' asks what it needs to know and writes it.",
    )
