"""The real core behind the control socket, with its lanes replaced by what they would report.

Nothing is decided here: events go through ``openmse.ha.node.step``, answers come from its effects.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from openmse.ha.effects import Answer, Effect, WantDb, WantNet
from openmse.ha.events import Command, Commanded, DbObserved, Event, NetObserved, Ticked
from openmse.ha.local import Address, DbProcess, DbRole, DbView, NetView
from openmse.ha.node import boot, step
from openmse.ha.state import Node
from openmse.ha.values import (
    SECOND,
    Ballot,
    Config,
    Instant,
    Lineage,
    Mode,
    Record,
    Settings,
    Voter,
)
from openmse.node.control.commands import JournalFlushed, PairArgs, ReadmitArgs, WitnessArgs
from openmse.node.control.handler import Handler
from openmse.node.control.server import ControlServer
from openmse.node.control.snapshot import Facts

START = Instant(1000 * SECOND)
LINEAGE = Lineage(1, 1, "mse1")
VOTERS = (Voter("mse1", "a"), Voter("mse2", "b"), Voter("witness", "w", True))


def config(mode: Mode = Mode.ALONE, owner: str = "mse1", **changes: object) -> Config:
    """A config of the pair mse1, mse2 with a witness."""
    base = Config(
        term=1,
        epoch=3,
        mode=mode,
        owner=owner,
        voters=VOTERS,
        lineage=LINEAGE,
        settings=Settings(),
        primary="mse1",
        reason="Set by a test.",
    )
    return replace(base, **changes)


def record(me: str, known: Config | None) -> Record:
    """A voter's record that knows ``known`` chosen."""
    incarnation = {"mse1": "a", "mse2": "b"}[me]
    if known is None:
        return Record(me, incarnation, 1)
    ballot = Ballot(known.term, 1, known.owner)
    return Record(
        me,
        incarnation,
        1,
        promised=ballot,
        accepted=ballot,
        value=known,
        chosen=ballot,
        known=known,
    )


def serving(me: str = "mse1", known: Config | None = None) -> Node:
    """An owner whose PostgreSQL and address are adopted after a restart of its health monitor."""
    known = config(voters=VOTERS[:1]) if known is None else known
    db = DbView(
        process=DbProcess.UP,
        role=DbRole.PRIMARY,
        lineage=known.lineage,
        end_lsn=0x3000060,
        is_complete=True,
    )
    net = NetView(Address.HELD, True)
    return boot(record(me, known), now=START, is_machine_boot=False, db=db, net=net)


class LiveCore:
    """``handler.Core`` over the real step."""

    def __init__(self, node: Node, **more_facts: Any) -> None:
        self.more_facts = more_facts
        self._node = node
        self._now = node.now
        self._answers: dict[str, asyncio.Future[Answer]] = {}
        self._count = 0
        self.operators: list[str] = []
        self.effects: list[Effect] = []
        self.steps: list[tuple[Node, Event, Node, tuple[Effect, ...]]] = []

    @property
    def node(self) -> Node:
        """The state."""
        return self._node

    def facts(self) -> Facts:
        """As the runtime would tell."""
        return Facts(
            made_at="2026-01-01T00:00:00.000+00:00",
            configured_role="primary",
            address="10.10.10.11",
            virtual_ips=("10.10.10.10/24",),
            **self.more_facts,
            pids={"health-monitor": 17, "postgres": None},
        )

    def post(self, event: Event) -> tuple[Effect, ...]:
        """Apply an event; answers reach who waits for them."""
        before = self._node
        self._node, effects = step(before, event)
        self.steps.append((before, event, self._node, effects))
        self.effects.extend(effects)
        for effect in effects:
            if isinstance(effect, Answer) and effect.id in self._answers:
                self._answers.pop(effect.id).set_result(effect)
        return effects

    def pass_time(self, seconds: float) -> None:
        """Let time go by in steps of 100 ms."""
        for _ in range(round(seconds * 10)):
            self._now = Instant(self._now + SECOND // 10)
            self.post(Ticked(self._now))
            self._obey()

    def _obey(self) -> None:
        """The lanes do at once what is wanted of them."""
        wanted = [e for e in self.effects if isinstance(e, WantNet)]
        if wanted and wanted[-1].wanted.admit != self._node.net.admits:
            level = wanted[-1].wanted
            held = Address.HELD if level.address else Address.ABSENT
            self.post(NetObserved(self._now, NetView(held, level.admit)))
        stops = [e for e in self.effects if isinstance(e, WantDb)]
        if stops and stops[-1].wanted.role is DbRole.DOWN and self._node.db.process is DbProcess.UP:
            self.post(DbObserved(self._now, replace(self._node.db, process=DbProcess.DOWN)))

    async def submit(self, command: Command, *, operator: str) -> Answer:
        """As the runtime does."""
        self._count += 1
        self.operators.append(operator)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[str(self._count)] = future
        self.post(Commanded(self._now, str(self._count), command))
        while not future.done():
            self.pass_time(0.1)
            await asyncio.sleep(0)
        return future.result()

    async def wait_changed(self, within_s: float) -> None:
        """Changes are not told apart here: time passes."""
        await asyncio.sleep(min(within_s, 0.01))


class NoPairing:
    """``handler.Pairing`` that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    async def pair(self, args: PairArgs, progress: object) -> str:
        """Remember."""
        self.asked.append(args)
        return "paired"

    async def unpair(self, *, without_peer: bool) -> str:
        """Remember."""
        self.asked.append(("unpair", without_peer))
        return "dissolved"

    async def readmit(self, args: ReadmitArgs) -> str:
        """Remember."""
        self.asked.append(args)
        return "waiting"

    async def readmit_cancel(self, by: str) -> str:
        """Remember."""
        self.asked.append(("readmit_cancel", by))
        return "waits no longer"

    async def replace_witness(self, args: WitnessArgs) -> str:
        """Remember."""
        self.asked.append(args)
        return "replaced"

    async def remove_witness(self) -> str:
        """Remember."""
        self.asked.append("remove")
        return "removed"


class NoJournal:
    """``handler.Journal``."""

    async def flush(self) -> JournalFlushed:
        """Nothing to do."""
        return JournalFlushed("/nowhere", 0)


@contextlib.contextmanager
def daemon(path: Path, core: LiveCore) -> Iterator[NoPairing]:
    """A control server on ``path`` in a thread of its own, as long as the context lasts."""
    pairing = NoPairing()
    loop = asyncio.new_event_loop()
    server = ControlServer(path, Handler(core, pairing, NoJournal()))
    ready = threading.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(server.start())
        loop.call_soon(ready.set)
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(60)
        yield pairing
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
