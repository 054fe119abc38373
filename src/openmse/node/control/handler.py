"""The daemon's side of each command: checks what only it can check, and asks the core.

The core, the journal and pairing are given as small protocols; ``node/main.py`` wires them.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from openmse.errors import CommandFailed, CommandRefused, ControlError, UsageError
from openmse.ha.effects import Answer
from openmse.ha.events import (
    ChangeSettings,
    Command,
    ConfirmAlone,
    ForceTakeover,
    LeaveQuarantine,
    Maintenance,
    ReleaseProtect,
    StopNode,
    Switchover,
)
from openmse.ha.state import Node
from openmse.ha.timing import timing_faults
from openmse.ha.values import SECOND, Config, Settings
from openmse.node.control.commands import (
    Done,
    JournalFlushed,
    MaintenanceArgs,
    NoArgs,
    PairArgs,
    Progress,
    ReadmitArgs,
    SettingsArgs,
    StopArgs,
    SwitchoverArgs,
    TakeoverArgs,
    UnpairArgs,
    WatchArgs,
    WitnessArgs,
)
from openmse.node.control.protocol import Request
from openmse.node.control.server import Caller, Emit
from openmse.node.control.snapshot import Facts, Snapshot, operation_view, snapshot

Args = TypeVar("Args", bound=Struct)


class Core(Protocol):
    """The running core, as the handler needs it."""

    @property
    def node(self) -> Node:
        """Its state at this moment, with ``now`` up to date."""

    def facts(self) -> Facts:
        """What the snapshot needs beyond it."""

    async def submit(self, command: Command, *, operator: str) -> Answer:
        """Give a command to the core and wait for its answer, however long that takes."""

    async def wait_changed(self, within_s: float) -> None:
        """Return when something that people see has changed, or after ``within_s``."""


class Pairing(Protocol):
    """Pairing and enrolling; each returns a sentence, or raises PairingError."""

    async def pair(self, args: PairArgs, progress: Callable[[str], Awaitable[None]]) -> str:
        """Make a group of this primary and a secondary, and enrol a witness if one is named."""

    async def unpair(self, *, without_peer: bool) -> str:
        """Dissolve the group."""

    async def readmit(self, args: ReadmitArgs) -> str:
        """Wait for a new machine in place of a lost one."""

    async def readmit_cancel(self, by: str) -> str:
        """Wait for no new machine any more; ``by``: who asks, for the event log."""

    async def replace_witness(self, args: WitnessArgs) -> str:
        """Enrol another witness and give it the vote of the present one."""

    async def remove_witness(self) -> str:
        """Go on without a witness."""


class Journal(Protocol):
    """The decision journal, as far as commands need it."""

    async def flush(self) -> JournalFlushed:
        """Write everything recorded so far to disk."""


class _Entry(NamedTuple):
    args: type[Struct]
    run: Callable[["Handler", Any, Caller, Emit], Awaitable[Struct]]
    is_change: bool


class Handler:
    """One async method for each command; see ``_TABLE`` for their names and arguments."""

    def __init__(self, core: Core, pairing: Pairing, journal: Journal) -> None:
        self._core = core
        self._pairing = pairing
        self._journal = journal

    def is_change(self, command: str) -> bool:
        """Whether the command changes anything; raises ControlError for an unknown one."""
        return _entry(command).is_change

    async def handle(self, request: Request, caller: Caller, emit: Emit) -> Struct:
        """Decode the arguments, do it, return the result. Raises MseError."""
        entry = _entry(request.command)
        try:
            args = msgspec.json.decode(request.args, type=entry.args)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise UsageError(
                f"The arguments of '{request.command}' cannot be used: {error}.",
                "Nothing was changed.",
            ) from error
        return await entry.run(self, args, caller, emit)

    async def status(self, _args: NoArgs, _caller: Caller, _emit: Emit) -> Snapshot:
        """The picture of this moment."""
        return snapshot(self._core.node, self._core.facts())

    async def watch(self, args: WatchArgs, _caller: Caller, emit: Emit) -> Snapshot:
        """A picture at each change, until the caller hangs up."""
        every_s = min(max(args.every_s, 0.1), 60.0)
        while True:
            await emit(snapshot(self._core.node, self._core.facts()))
            await self._core.wait_changed(every_s)

    async def switchover(self, args: SwitchoverArgs, caller: Caller, emit: Emit) -> Done:
        """Hand over to the other node."""
        config = self._group()
        nodes = [voter.id for voter in config.voters if not voter.is_witness]
        if args.to and args.to not in nodes:
            raise UsageError(
                f"There is no node '{args.to}' in this group.", f"Name one of {', '.join(nodes)}."
            )
        if args.to == config.owner:
            raise CommandRefused(f"{args.to} owns already; nothing was changed.")
        return await self._submit(Switchover(args.to), caller, emit)

    async def failback(self, _args: NoArgs, caller: Caller, emit: Emit) -> Done:
        """Hand back to the configured primary."""
        config = self._group()
        primary = config.primary or config.owner
        if config.owner == primary:
            raise CommandRefused(f"The primary {primary} owns already; nothing was changed.")
        return await self._submit(Switchover(primary), caller, emit)

    async def takeover(self, args: TakeoverArgs, caller: Caller, emit: Emit) -> Done:
        """Own from now on, accepting the loss that was shown."""
        node = self._core.node
        if args.confirmed_for != node.me:
            raise UsageError(
                f"'{args.confirmed_for}' was typed, but this node is '{node.me}': nothing was "
                "changed.",
                "Type the name of the node that shall own from now on.",
            )
        return await self._submit(ForceTakeover(caller.name), caller, emit)

    async def maintenance(self, args: MaintenanceArgs, caller: Caller, emit: Emit) -> Done:
        """Maintenance on or off, for the whole group."""
        return await self._submit(Maintenance(args.is_on), caller, emit)

    async def confirm_alone(self, _args: NoArgs, caller: Caller, emit: Emit) -> Done:
        """Serve although nobody answered at boot."""
        return await self._submit(ConfirmAlone(), caller, emit)

    async def release_protect(self, _args: NoArgs, caller: Caller, emit: Emit) -> Done:
        """Let commits go on without the peer."""
        return await self._submit(ReleaseProtect(), caller, emit)

    async def rejoin(self, _args: NoArgs, caller: Caller, emit: Emit) -> Done:
        """Leave the quarantine and try again."""
        return await self._submit(LeaveQuarantine(), caller, emit)

    async def set_settings(self, args: SettingsArgs, caller: Caller, emit: Emit) -> Done:
        """Change the settings of the group."""
        return await self._submit(ChangeSettings(changed(self._group(), args)), caller, emit)

    async def stop(self, args: StopArgs, caller: Caller, emit: Emit) -> Done:
        """Stop this node on purpose."""
        return await self._submit(StopNode(args.handover), caller, emit)

    async def pair(self, args: PairArgs, _caller: Caller, emit: Emit) -> Done:
        """Pair with a secondary."""
        started = time.monotonic()

        async def progress(step: str) -> None:
            with contextlib.suppress(OSError, TimeoutError):  # what was begun goes on
                await emit(Progress(step, _ms_since(started)))

        return Done(await self._pairing.pair(args, progress), _ms_since(started))

    async def unpair(self, args: UnpairArgs, _caller: Caller, _emit: Emit) -> Done:
        """Dissolve the group."""
        return Done(await self._pairing.unpair(without_peer=args.without_peer))

    async def readmit(self, args: ReadmitArgs, _caller: Caller, _emit: Emit) -> Done:
        """Wait for a new machine in place of a lost one."""
        if not 60.0 <= args.valid_for_s <= 86_400.0:
            raise UsageError("It is waited for one minute to one day; nothing was changed.")
        return Done(await self._pairing.readmit(args))

    async def readmit_cancel(self, _args: NoArgs, caller: Caller, _emit: Emit) -> Done:
        """Wait for no new machine any more."""
        return Done(await self._pairing.readmit_cancel(caller.name))

    async def replace_witness(self, args: WitnessArgs, _caller: Caller, _emit: Emit) -> Done:
        """Give the third vote to another witness."""
        return Done(await self._pairing.replace_witness(args))

    async def remove_witness(self, _args: NoArgs, _caller: Caller, _emit: Emit) -> Done:
        """Go on without a third vote."""
        return Done(await self._pairing.remove_witness())

    async def flush_journal(self, _args: NoArgs, _caller: Caller, _emit: Emit) -> JournalFlushed:
        """Write what the journal holds in memory."""
        return await self._journal.flush()

    def _group(self) -> Config:
        config = self._core.node.config
        if config is None:
            raise CommandRefused(
                "This node belongs to no group yet; nothing was changed.",
                "Pair it from the primary: 'mse ha pair'.",
            )
        return config

    async def _submit(self, command: Command, caller: Caller, emit: Emit) -> Done:
        """Give the command to the core; steps are sent while it goes on, also to nobody."""
        started = time.monotonic()
        task = asyncio.ensure_future(self._core.submit(command, operator=caller.name))
        listening, shown, has_begun = True, 0, False
        while not task.done():
            waiting = asyncio.ensure_future(self._core.wait_changed(1.0))
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            node = self._core.node
            view = operation_view(node, node.operation)
            has_begun = has_begun or _has_begun(node)
            for step in view.steps[shown:] if view and listening else ():
                shown += 1
                try:
                    await emit(Progress(step.name, step.ms))
                except (OSError, TimeoutError):
                    listening = False  # the caller hung up: what was begun goes on
        return _done(task.result(), _ms_since(started), has_begun=has_begun)


def _has_begun(node: Node) -> bool:
    """Whether something that an operator asked for is under way, here or at the other node."""
    is_moving = node.operation is not None or node.peer.standing.is_handing_over
    return is_moving or node.pending is not None


def _done(answer: Answer, elapsed_ms: float, *, has_begun: bool) -> Done:
    if not answer.is_done:
        kind = CommandFailed if has_begun else CommandRefused
        raise kind(answer.sentence)
    return Done(answer.sentence, elapsed_ms)


def _ms_since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)


def changed(config: Config, args: SettingsArgs) -> Settings:
    """The settings with what ``args`` gives; raises UsageError on impossible timings. Pure."""
    given: dict[str, Any] = {}
    for entry in msgspec.structs.fields(SettingsArgs):
        value = getattr(args, entry.name)
        if value is UNSET or entry.name == "is_experimental":
            continue
        if entry.name.endswith("_s"):
            given[f"{entry.name[:-2]}_ns"] = round(value * SECOND)
        else:
            given[entry.name] = value
    if not given:
        raise UsageError("No setting was given, so nothing was changed.", "See --help.")
    settings = replace(config.settings, **given)
    faults = timing_faults(settings.failover_wait_ns, is_experimental=args.is_experimental)
    if not settings.failover_wait_ns < settings.boot_patience_ns <= 3600 * SECOND:
        faults.append(
            f"The boot patience is {settings.boot_patience_ns / SECOND:g} s; it must be longer "
            f"than the failover wait of {settings.failover_wait_ns / SECOND:g} s and at most "
            "3600 s."
        )
    if not 0 <= settings.failback_stable_ns <= 86_400 * SECOND:
        faults.append("The time before an automatic failback must lie between 0 s and 86400 s.")
    if faults:
        raise UsageError(" ".join(faults), "Nothing was changed.")
    return settings


def _entry(command: str) -> _Entry:
    entry = _TABLE.get(command)
    if entry is None:
        raise ControlError(
            f"'{command[:40]}' is not a command of this daemon; nothing was done.",
            "Use the 'mse' command that was installed together with the daemon.",
            code="MSE-CTL-012",
        )
    return entry


_TABLE: dict[str, _Entry] = {
    "status": _Entry(NoArgs, Handler.status, False),
    "watch": _Entry(WatchArgs, Handler.watch, False),
    "switchover": _Entry(SwitchoverArgs, Handler.switchover, True),
    "failback": _Entry(NoArgs, Handler.failback, True),
    "takeover": _Entry(TakeoverArgs, Handler.takeover, True),
    "maintenance": _Entry(MaintenanceArgs, Handler.maintenance, True),
    "confirm_alone": _Entry(NoArgs, Handler.confirm_alone, True),
    "release_protect": _Entry(NoArgs, Handler.release_protect, True),
    "rejoin": _Entry(NoArgs, Handler.rejoin, True),
    "set_settings": _Entry(SettingsArgs, Handler.set_settings, True),
    "stop": _Entry(StopArgs, Handler.stop, True),
    "pair": _Entry(PairArgs, Handler.pair, True),
    "unpair": _Entry(UnpairArgs, Handler.unpair, True),
    "readmit": _Entry(ReadmitArgs, Handler.readmit, True),
    "readmit_cancel": _Entry(NoArgs, Handler.readmit_cancel, True),
    "replace_witness": _Entry(WitnessArgs, Handler.replace_witness, True),
    "remove_witness": _Entry(NoArgs, Handler.remove_witness, True),
    "flush_journal": _Entry(NoArgs, Handler.flush_journal, True),
}
