"""The health monitor: ``python -m openmse.node --config FILE``.

Started by the guard. One process, one event loop, one thread but for disk work that may be lost.
What it finds running (PostgreSQL, the address, the kernel lease) it adopts.
"""

import asyncio
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any

from openmse import __version__
from openmse.errors import ControlError, MseError, StateError
from openmse.guard.feed import STOPPED_NAME
from openmse.guard.system import raise_priority
from openmse.ha.effects import Answer, Note
from openmse.ha.events import Command, StopNode
from openmse.ha.state import Node
from openmse.node import group as group_file
from openmse.node.config import DEFAULT_PATH, NodeConfig, Role
from openmse.node.config_load import load
from openmse.node.control.commands import JournalFlushed
from openmse.node.control.handler import Handler
from openmse.node.control.server import ControlServer
from openmse.node.control.snapshot import Facts
from openmse.node.direct import with_own_direct
from openmse.node.drivers.guard_feed import HealthMonitorLock
from openmse.node.drivers.store import Opened, open_voter
from openmse.node.drivers.store.voter import emptied, reincarnated
from openmse.node.group import GroupInfo
from openmse.node.identity import create_group, make_directories
from openmse.node.runtime.background import Background
from openmse.node.runtime.boot_mark import BootMark
from openmse.node.runtime.event_log import EventLog
from openmse.node.runtime.facts import facts_of
from openmse.node.runtime.group_runtime import EXIT_AGAIN, GroupRuntime
from openmse.node.runtime.guard_link import GuardLink
from openmse.node.runtime.journal import Journal
from openmse.node.runtime.notices import Notice
from openmse.node.runtime.pairing import NodePairing

GC_OBJECTS = 10_000
"""New objects before the collector looks at them: a second or two of a node at rest."""


class Daemon:
    """The process: what outlives a change of the group's facts."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        places = config.places
        self._lock: HealthMonitorLock | None = None
        self._opened: Opened | None = None
        self._background = Background("writer")
        self._events = EventLog(places.events, self._background)
        self._journal = Journal(places.journal, self._background)
        self._guard = GuardLink(config)
        self._boot = BootMark(places.run_dir)
        self._pairing = NodePairing(config, self)
        self._control = ControlServer(places.control_socket, Handler(self, self._pairing, self))
        self.runtime: GroupRuntime | None = None
        self._has_runtime = asyncio.Event()
        self._failure: BaseException | None = None
        self._is_stopping = False

    # -- what the control socket and pairing use -------------------------------------------

    @property
    def node(self) -> Node:
        """The core's state at this moment; raises ControlError while there is none yet."""
        return self._running().node

    def _running(self) -> GroupRuntime:
        if self.runtime is None or self.runtime.runner is None:
            raise ControlError(
                "The daemon is starting; it cannot answer yet.", "Try again in a few seconds."
            )
        return self.runtime

    @property
    def group(self) -> GroupInfo | None:
        """The group's facts that are in force."""
        return self.runtime.group if self.runtime is not None else None

    def facts(self) -> Facts:
        """What a snapshot needs beyond the core's state."""
        return facts_of(self._running(), self._events, is_pairing_open=self._pairing.is_open)

    async def submit(self, command: Command, *, operator: str) -> Answer:
        """Give a command to the core."""
        return await self._running().submit(command, operator=operator)

    async def wait_changed(self, within_s: float) -> None:
        """Return when something that people see has changed, or after ``within_s``."""
        runner = self._running().runner
        assert runner is not None
        await runner.wait_changed(within_s)

    async def flush(self) -> JournalFlushed:
        """Write the journal to disk."""
        self._journal.flush()
        await self._background.wait_idle()
        return JournalFlushed(str(self.config.places.journal), self._journal.dropped)

    def note(self, note: Note) -> None:
        """An entry of the event log."""
        if self.runtime is not None:
            self.runtime.note(note)

    @property
    def incarnation(self) -> str:
        """Of this node's memory."""
        assert self._opened is not None
        return self._opened.record.incarnation

    @property
    def is_live(self) -> bool:
        """Whether the core runs; it does not while one life ends and the next begins."""
        runtime = self.runtime
        return runtime is not None and runtime.runner is not None and not runtime.ended.is_set()

    def send_notice(self, notice: Notice) -> bool:
        """Tell the other node; False where there is no link."""
        return self.runtime is not None and self.runtime.links.send_notice(notice)

    async def forget_group(self) -> None:
        """Stop this node's database, forget the group and begin with an empty memory."""
        assert self.runtime is not None
        assert self._opened is not None
        runtime = self.runtime
        await runtime.shut_down_database()
        group_file.remove(self.config.places.group)
        self._opened.record = emptied(self._opened)
        runtime.keeps_record = False
        runtime.ended.set()

    def take_group(self, group: GroupInfo) -> None:
        """The group's facts changed: save them, and live by them from now on. Raises StateError."""
        group_file.save(self.config.places.group, group)
        if self.runtime is not None:
            self.runtime.reload()

    # -- life ------------------------------------------------------------------------------

    async def run(self) -> int:
        """Run until told to stop; the exit status. Raises MseError before anything is touched."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        self._prepare()
        try:
            await self._control.start()
            while not self._is_stopping:
                await self._live()
            (self.config.places.run_dir / STOPPED_NAME).touch()  # or the guard would restart it
        finally:
            await self._control.stop()
            await self._pairing.close()
            self._journal.flush()
            self._background.close()
        return 0

    def _prepare(self) -> None:
        """Directories, lock, memory."""
        places = self.config.places
        _make(places.run_dir)
        _make(places.state_dir)
        make_directories(self.config)
        self._lock = HealthMonitorLock(str(places.run_dir))
        self._opened = open_voter(places.register, self.config.node.name)
        raise_priority()

    async def _live(self) -> None:
        assert self._opened is not None
        runtime = GroupRuntime(
            self.config,
            self._load_group(),
            self._opened,
            events=self._events,
            journal=self._journal,
            is_machine_boot=self._boot.is_machine_boot,
            on_notice=self._pairing.on_notice,
        )
        runtime.links.on_peer_up = self._pairing.on_link_up
        runtime.on_step = self._on_step
        self.runtime = runtime
        try:
            await runtime.open()
            self._guard.found(runtime.lease)
            self._guard.group = runtime.group.group if runtime.group else ""
            await runtime.start()
            await self._pairing.refresh()
            await runtime.ended.wait()
        finally:
            await runtime.stop()
        if self._failure is not None:
            raise self._failure
        if runtime.is_exit:
            self._is_stopping = True
        if runtime.wants_new_incarnation:
            self._opened.record = reincarnated(self._opened)

    def _on_step(self, node: Node) -> None:
        self._boot.on_step(node)
        self._guard.on_step(node)

    def _load_group(self) -> GroupInfo | None:
        places = self.config.places
        group = group_file.load(places.group)
        if group is None and self.config.node.role is Role.PRIMARY:
            if self.config.group.virtual_ips:
                group = create_group(self.config)
                group_file.save(places.group, group)
        elif group is not None:
            known, group = group, with_own_direct(group, self.config)
            if group != known:
                group_file.save(places.group, group)
        return group

    def _on_signal(self) -> None:
        """A planned stop: the register is told first (GRACEFUL_SHUTDOWN)."""
        if self._is_stopping:
            return
        self._is_stopping = True
        if self.runtime is None or self.runtime.runner is None:
            sys.exit(0)
        task = asyncio.ensure_future(self.submit(StopNode(), operator="signal"))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        if context.get("fatal") and self.runtime is not None:
            self._failure = context.get("exception")
            self.runtime.ended.set()


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"The directory {path} cannot be made: {error.strerror}.",
            "Check [paths] in the configuration, and run as root.",
        ) from error


def main(argv: list[str] | None = None) -> int:
    """Run the health monitor; the process's exit status."""
    args = sys.argv[1:] if argv is None else argv
    if args[:1] == ["--version"]:
        print(__version__)
        return 0
    path = Path(args[1]) if args[:1] == ["--config"] and len(args) == 2 else DEFAULT_PATH
    if args and args[:1] != ["--config"]:
        print("usage: python -m openmse.node [--config FILE]", file=sys.stderr)
        return 2
    try:
        config = load(path)
        if os.geteuid() != 0:
            raise StateError(
                "The health monitor needs root: it sets addresses and the kernel lease.",
                "Start it as root, as the systemd unit does.",
            )
        gc.collect()
        gc.freeze()  # what was imported stays for ever: no collection needs to look at it again
        gc.set_threshold(GC_OBJECTS)
        return asyncio.run(Daemon(config).run())
    except MseError as error:
        print(f"{error.code}: {error.sentence} {error.hint}".rstrip(), file=sys.stderr)
        return error.exit_code
    except Exception as error:
        import traceback

        traceback.print_exception(error)
        return EXIT_AGAIN
