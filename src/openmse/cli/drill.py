"""A rehearsal: switchover and the way back over the control socket, ending by itself on doubt."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from openmse.errors import CommandRefused, MseError
from openmse.node.control.commands import Done, SwitchoverArgs
from openmse.node.control.snapshot import Snapshot
from openmse.node.runtime.event_log import wall_now

LAG_LIMIT_BYTES = 16 * 1024 * 1024
LOOK_EVERY_S = 0.25


OWNER_SEES_S = 3.0
"""How long the owner may take to see what the node asked sees already."""


class Script(Struct, frozen=True):
    """How the rehearsal goes. Seconds."""

    settle_s: float = 120.0
    """How long the pair may take to be in step again after each move."""
    operation_s: float = 180.0


class DrillStep(Struct, frozen=True):
    """One step; ``ms``: how long it took."""

    name: str
    is_done: bool
    ms: float
    sentence: str


class Report(Struct, frozen=True):
    """What came of a rehearsal. ``result``: passed, aborted, or refused by the pre-checks."""

    started_at: str
    node: str
    owner: str
    other: str
    result: str
    sentence: str
    steps: tuple[DrillStep, ...] = ()
    format: int = 1


class Client(Protocol):
    """The control client, as far as a rehearsal needs it."""

    def call(
        self, command: str, args: Struct | None = None, *, type: object, within_s: float
    ) -> object:
        """Ask and wait."""


def refusals(s: Snapshot) -> list[str]:
    """Why a rehearsal must not start now; empty if it may. Pure."""
    register = s.register
    if register is None or s.peer is None:
        return ["This node is not paired."]
    found = []
    if register.settings.maintenance:
        found.append("Maintenance is on.")
    if register.mode == "ALONE" or s.sync != "sync":
        found.append("The pair is not in step.")
    if s.health != "ok":
        found.append(f"The health of {s.node} is {s.health}.")
    if s.operation != "none":
        found.append(f"An operation is under way: {s.operation}.")
    if s.role == "primary" and s.why_not.switchover:
        found.append(s.why_not.switchover)
    if s.database.lag_bytes > LAG_LIMIT_BYTES:
        found.append(f"The copy is {s.database.lag_bytes} bytes behind.")
    if s.peer.software and s.peer.software != s.version:
        found.append(f"{s.peer.name} runs version {s.peer.software}, {s.node} {s.version}.")
    return found


def rehearse(client: Client, script: Script, say: Callable[[str], None]) -> Report:
    """Run the rehearsal; never raises for what it finds, the report says it."""
    before = _look(client)
    register, peer = before.register, before.peer
    owner = register.owner if register is not None else ""
    names = {before.node, peer.name if peer is not None else ""}
    other = next(iter(names - {owner}), "")
    report = Report(wall_now(), before.node, owner, other, "refused", "")
    reasons = refusals(before)
    if reasons:
        return msgspec.structs.replace(report, sentence=" ".join(reasons))
    stage = _Stage(client, script, say)
    is_passed = (
        stage.move(f"hand over to {other}", other)
        and stage.settle(f"in step under {other}", other)
        and stage.move(f"hand back to {owner}", owner)
        and stage.settle(f"in step under {owner}", owner)
    )
    last = stage.steps[-1]
    sentence = (
        f"The rehearsal passed: {owner} to {other} in {stage.steps[0].ms:.0f} ms and back in "
        f"{stage.steps[2].ms:.0f} ms."
        if is_passed
        else f"The rehearsal was broken off at '{last.name}': {last.sentence} {stage.whereabouts()}"
    )
    return msgspec.structs.replace(
        report,
        result="passed" if is_passed else "aborted",
        sentence=sentence,
        steps=tuple(stage.steps),
    )


class _Stage:
    def __init__(self, client: Client, script: Script, say: Callable[[str], None]) -> None:
        self._client = client
        self._script = script
        self._say = say
        self.steps: list[DrillStep] = []

    def move(self, name: str, to: str) -> bool:
        """Ask for a switchover; False if it did not happen."""
        self._say(f"{name} …")
        started = time.monotonic()
        patience_s = min(self._script.settle_s, OWNER_SEES_S)
        while True:
            try:
                done = self._client.call(
                    "switchover", SwitchoverArgs(to), type=Done, within_s=self._script.operation_s
                )
                assert isinstance(done, Done)
            except CommandRefused as error:
                # The node asked may see the pair in step a moment before its owner does.
                if time.monotonic() - started > patience_s:
                    return self._note(name, started, error.sentence, is_done=False)
                time.sleep(LOOK_EVERY_S)
            except MseError as error:
                return self._note(name, started, error.sentence, is_done=False)
            else:
                return self._note(name, started, done.sentence, is_done=True)

    def settle(self, name: str, owner: str) -> bool:
        """Wait until ``owner`` owns, everything is in step and well; False if that takes long."""
        self._say(f"{name} …")
        started = time.monotonic()
        doubts = ["nothing was seen"]
        while time.monotonic() - started < self._script.settle_s:
            try:
                picture = _look(self._client)
            except MseError as error:
                return self._note(name, started, error.sentence, is_done=False)
            doubts = refusals(picture)
            is_owner = picture.register is not None and picture.register.owner == owner
            if is_owner and not doubts:
                return self._note(name, started, picture.reason, is_done=True)
            time.sleep(LOOK_EVERY_S)
        return self._note(name, started, " ".join(doubts) or "Another owns.", is_done=False)

    def whereabouts(self) -> str:
        """Who owns now, for the report of a rehearsal that was broken off."""
        try:
            picture = _look(self._client)
        except MseError as error:
            return error.sentence
        register = picture.register
        owner = register.owner if register is not None else "nobody known"
        return f"The owner is {owner} ({picture.state}); 'mse ha switchover' moves the service."

    def _note(self, name: str, started: float, sentence: str, *, is_done: bool) -> bool:
        ms = round((time.monotonic() - started) * 1000, 1)
        self.steps.append(DrillStep(name, is_done, ms, sentence))
        return is_done


def _look(client: Client) -> Snapshot:
    picture = client.call("status", type=Snapshot, within_s=10.0)
    assert isinstance(picture, Snapshot)
    return picture


def kept(directory: Path) -> list[Report]:
    """The reports in ``directory``, oldest first; files that are none are skipped."""
    reports = []
    for path in sorted(directory.glob("*.json")):
        try:
            reports.append(msgspec.json.decode(path.read_bytes(), type=Report))
        except (OSError, msgspec.MsgspecError):
            continue
    return reports
