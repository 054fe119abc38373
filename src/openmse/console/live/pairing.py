"""Pairing two engines from the console: what is done on which machine, in which order.

The console draws the pairing password itself, gives it to the secondary, and has the primary
pair with it: no person ever sees or types it, and it is used once.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any

from openmse import ports
from openmse.console.errors import Conflict
from openmse.console.live.actions import Actions
from openmse.console.live.fleet import Fleet
from openmse.console.live.pairs import pair_of, pair_view
from openmse.console.nodes.models import Info, Operation
from openmse.console.store.past import Action, Step
from openmse.console.store.store import now
from openmse.documents import document
from openmse.platform.errors import PairingMatrixRefused
from openmse.platform.machines import Machine, MachineKind, Size
from openmse.platform.pairing import why_no_pair

LOOK_EVERY_S = 0.2
"""At what is heard already; a small copy is over in a second, and its percent is seen to move."""
SYNC_WITHIN_S = 4 * 3600.0
MATRIX_CODE = PairingMatrixRefused.code
STEPS = ("check", "pairing password", "pair", "settings", "synchronization")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOrder:
    """What the form asked for. ``witness`` is as the engine's API wants it, or None."""

    primary_id: int
    secondary_id: int
    pairing_port: int = ports.PAIRING
    witness: dict[str, Any] | None = field(default=None, repr=False)
    settings: dict[str, Any] = field(default_factory=dict)


def faults_of(primary: Info, secondary: Info) -> list[str]:
    """Why these two cannot be a pair; [] where nothing speaks against it. Pure."""
    found = []
    if primary.role != "primary":
        found.append(f"{primary.node} is configured as a {primary.role}.")
    if secondary.role != "secondary":
        found.append(f"{secondary.node} is configured as a {secondary.role}, not as a secondary.")
    if primary.version != secondary.version:
        found.append(
            f"The versions differ: {primary.node} has {primary.version}, {secondary.node} has "
            f"{secondary.version}."
        )
    if not primary.is_monitor_up or not secondary.is_monitor_up:
        down = secondary.node if primary.is_monitor_up else primary.node
        found.append(f"The health monitor of {down} does not run.")
    why = why_unsupported(primary, secondary)
    return [*found, why] if why else found


def machine_of(info: Info, *, is_measured: bool = False) -> Machine | None:
    """What an engine is, for the pairing matrix; None where it does not tell. Pure.

    ``is_measured``: by its size alone, for engines that do not tell which machine they are.
    """
    told = info.machine
    if told is None or (info.machine_kind is None and not is_measured):
        return None
    size = Size(told.cores, told.memory_bytes, told.state_disk_bytes)
    if is_measured:
        return Machine(MachineKind.GENERIC, is_virtual=False, size=size)
    try:
        kind = MachineKind(info.machine_kind or "")
    except ValueError:
        return None  # a machine that only newer engines know
    is_generic = kind is MachineKind.GENERIC
    return Machine(kind, bool(info.is_virtual), size if is_generic else None)


def why_unsupported(primary: Info, secondary: Info) -> str:
    """Why these machines do not pair, in the guide's words; '' where they do. Pure."""
    one, other = machine_of(primary), machine_of(secondary)
    if one is None or other is None:
        one = machine_of(primary, is_measured=True)
        other = machine_of(secondary, is_measured=True)
    if one is None or other is None:
        return ""  # nothing is known of one of them; the engines decide
    return why_no_pair([one], other)


def require_supported(primary: Info, secondary: Info) -> None:
    """Raise Conflict unless these machines pair. Pure."""
    why = why_unsupported(primary, secondary)
    if why:
        raise Conflict(
            f"{primary.node} and {secondary.node} do not make a pair: {why} Nothing was changed.",
            "Choose a secondary that is at least as large as its primary "
            f"({document('platform')}).",
            code=MATRIX_CODE,
        )


class Pairing:
    """Carries out one order; each part is a step that people see."""

    def __init__(self, fleet: Fleet, actions: Actions, order: PairOrder) -> None:
        self._fleet = fleet
        self._actions = actions
        self._order = order
        self._started_s = time.monotonic()

    async def run(self, action: Action) -> Action:
        """Do it; the action as it ended. Raises MseError at the step that fails."""
        primary = self._fleet.feed(self._order.primary_id)
        secondary = self._fleet.feed(self._order.secondary_id)
        here, there = primary.live.engine.name, secondary.live.engine.name
        action = await self._step(action, there, "check")
        await asyncio.gather(primary.refresh_info(), secondary.refresh_info())
        assert primary.live.info is not None
        assert secondary.live.info is not None
        faults = faults_of(primary.live.info, secondary.live.info)
        if faults:
            raise Conflict(" ".join([*faults, "Nothing was changed."]))
        action = await self._step(action, there, "pairing password")
        password = secrets.token_urlsafe(24)
        await secondary.client.send("PUT", "/v1/node/pairing-password", {"password": password})
        action = await self._step(action, here, "pair")
        body = {
            "peer": secondary.live.info.health_monitor_address,
            "password": password,
            "pairing_port": self._order.pairing_port,
            "management_port": secondary.live.engine.port,
            "witness": self._order.witness,
        }
        operation = await primary.client.begin(
            "POST", "/v1/ha/pair", body, key=f"{action.id}-pair", wait_s=0.2
        )
        action = await self._followed(action, primary, operation)
        if self._order.settings:
            action = await self._step(action, here, "settings")
            operation = await primary.client.begin(
                "PATCH", "/v1/ha/settings", self._order.settings, key=f"{action.id}-settings"
            )
            action = await self._followed(action, primary, operation)
        action = await self._step(action, there, "synchronization")
        return await self._synchronized(action)

    async def _followed(self, action: Action, feed: Any, operation: Operation) -> Action:
        """Follow an engine's operation inside this action; raises Conflict unless it is done."""
        ended = await self._actions.follow_to_end(
            feed, action, operation.id, lambda: (action.steps, ())
        )
        if ended.state != "done":
            raise Conflict(ended.sentence or "The engine did not do it.", ended.hint)
        return replace(
            ended, state="running", ended_at="", sentence="", hint="", progress_percent=-1
        )

    async def _synchronized(self, action: Action) -> Action:
        """Watch the copy until the pair is in step; the percent is what the engines measure."""
        deadline_s = time.monotonic() + SYNC_WITHIN_S
        while time.monotonic() < deadline_s:
            pair = pair_of(self._fleet.all(), self._order.primary_id)
            view = pair_view(pair, time.monotonic()) if pair else None
            if view is not None:
                self._fleet.watch(self._order.primary_id)
                self._fleet.watch(self._order.secondary_id)
                if view.replication.word == "Up":
                    sentence = f"{view.pair.name} is a pair, in step."
                    return replace(
                        self._finished(action),
                        state="done",
                        ended_at=now(),
                        sentence=sentence,
                        progress_percent=-1,
                    )
                if view.progress_percent != action.progress_percent:
                    action = replace(action, progress_percent=view.progress_percent)
                    await self._actions.keep(action)
            await asyncio.sleep(LOOK_EVERY_S)
        raise Conflict(
            "The engines are paired, but the copy did not come to its end in four hours.",
            "See the status of the pair; it goes on by itself.",
        )

    async def _step(self, action: Action, machine: str, name: str) -> Action:
        action = self._finished(action)
        ms = round((time.monotonic() - self._started_s) * 1000, 1)
        action = replace(action, steps=(*action.steps, Step(machine, name, "running", ms)))
        await self._actions.keep(action)
        return action

    @staticmethod
    def _finished(action: Action) -> Action:
        steps = tuple(replace(s, state="done") if s.state == "running" else s for s in action.steps)
        return replace(action, steps=steps)
