"""``msed stop``: on purpose (GRACEFUL_SHUTDOWN), in reverse order, each line once it is true."""

import time

from openmse.errors import ControlError, DaemonDownError
from openmse.ha.local import Address, DbProcess
from openmse.install.engine.look import Engine, View, ask, look
from openmse.install.errors import StopFailed
from openmse.node.control.client import ControlClient
from openmse.node.control.commands import Done, StopArgs
from openmse.node.control.snapshot import Snapshot

STOPPED_WITHIN_S = 150.0
"""A handover's checkpoint of 60 s, the stops themselves, and the guard's patience of 60 s."""
PART_WITHIN_S = 20.0
LOOK_AGAIN_S = 0.05


def stop(engine: Engine, *, is_handover: bool) -> None:
    """Stop everything that runs; raises StopFailed with what still does."""
    before = look(engine)
    if not (before.monitor or before.guard or before.admin):
        engine.say("MSE Platform is not running.")
        return
    engine.say("Stopping MSE Platform")
    engine.say("")
    if before.snapshot is not None:
        _stop_node(engine, before.snapshot, is_handover=is_handover)
    _stop_admin(engine, before)
    if before.monitor or before.guard:
        engine.launcher.stop(engine.monitor, STOPPED_WITHIN_S)
        _await_gone(engine)
        engine.say("Health Monitor successfully stopped")


def ask_to_stop(engine: Engine, *, is_handover: bool) -> bool:
    """Announce a stop on purpose; whether there was a health monitor to hear it."""
    try:
        with ControlClient(engine.config.places.control_socket) as client:
            client.call("stop", StopArgs(is_handover), type=Done)
    except (DaemonDownError, ControlError):
        return False
    return True


def _stop_node(engine: Engine, before: Snapshot, *, is_handover: bool) -> None:
    if ask_to_stop(engine, is_handover=is_handover):  # else it went away by itself meanwhile
        follow(engine, before, is_handover=is_handover)


def follow(engine: Engine, before: Snapshot, *, is_handover: bool) -> None:
    """Tell what the node says of itself until it says nothing more. Raises StopFailed."""
    steps = _Steps(engine, before, is_handover=is_handover)
    deadline = time.monotonic() + STOPPED_WITHIN_S
    while True:
        snapshot = ask(engine.config)
        steps.follow(snapshot)
        if snapshot is None:
            return
        if time.monotonic() > deadline:
            raise StopFailed(
                f"The node has not stopped within {STOPPED_WITHIN_S:.0f} s: "
                f"{snapshot.reason or snapshot.state}. It goes on trying.",
                "'mse ha status' shows what it waits for.",
            )
        time.sleep(LOOK_AGAIN_S)


class _Steps:
    """Says each line of a stop once."""

    def __init__(self, engine: Engine, before: Snapshot, *, is_handover: bool) -> None:
        self._say, self._note = engine.say, engine.note
        self._wants_handover = is_handover
        self._before = before
        self._has_database = before.database.process != DbProcess.DOWN
        if is_handover:
            self._begin_handover()
        if self._has_database:
            self._say("Shutting down framework and services .....")
        self._is_serving = self._has_database

    def _begin_handover(self) -> None:
        peer, why_not = self._before.peer, self._before.why_not.switchover
        is_owner = self._before.role == "primary"
        if is_owner and peer is not None and not why_not:
            self._say(f"Handing over to {peer.name} .....")
            return
        self._wants_handover = False
        if is_owner:
            self._note(
                "There is no handover, and the stop goes on without it. "
                f"{why_not or 'This node is not paired.'}"
            )
        else:
            self._note("There is nothing to hand over: this node does not serve.")

    def follow(self, s: Snapshot | None) -> None:
        """Say what has become true; None: the health monitor has gone, and all of it with it."""
        if self._is_serving and (s is None or not _serves(s)):
            self._say("Framework and services successfully stopped. Shutting down database .....")
            self._is_serving = False
        if self._has_database and (s is None or s.database.process == DbProcess.DOWN):
            self._say("Database successfully stopped")
            self._has_database = False
        if self._wants_handover:
            self._follow_handover(s)

    def _follow_handover(self, s: Snapshot | None) -> None:
        if s is None:
            self._note("Whether the other node serves: 'mse ha status' there.")
            return
        owner = s.register.owner if s.register is not None else ""
        if owner and owner != self._before.node:
            self._say(f"{owner} has taken over.")
            self._wants_handover = False


def _serves(s: Snapshot) -> bool:
    """Without its database nothing serves, although the address may be held a moment longer."""
    is_up = s.database.process != DbProcess.DOWN
    return is_up and (s.admits_clients or s.address == Address.HELD)


def _stop_admin(engine: Engine, before: View) -> None:
    if engine.admin is None or not before.admin:
        return
    engine.say("Stopping Admin process...")
    engine.launcher.stop(engine.admin, PART_WITHIN_S)
    engine.say("Stopped Admin process.")


def _await_gone(engine: Engine) -> None:
    """The guard ends by itself once its health monitor was stopped on purpose."""
    deadline = time.monotonic() + PART_WITHIN_S
    while True:
        after = look(engine)
        if not (after.monitor or after.guard):
            return
        if time.monotonic() > deadline:
            left = "the health monitor" if after.monitor else "its guard"
            pid = after.monitor or after.guard
            raise StopFailed(
                f"Health Monitor did not stop: {left} (pid {pid}) runs on.",
                "It was not started by 'msed'; whatever started it must stop it.",
            )
        time.sleep(LOOK_AGAIN_S)
