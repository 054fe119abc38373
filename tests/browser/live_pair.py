"""A pair that lives in real time: two production cores and a witness in the simulator's world.

The world of ``openmse.lab.exploration`` (lanes, network, drifting clocks) is run along the real
clock, and each node is served by its real control socket and its real management API. What people
do in the console is decided by the very core that runs in production; only PostgreSQL, the kernel
and the wire are modelled. Pairing, which is I/O, is replaced by what it leads to.
"""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "api"))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "control"))

from api_machine import ADMIN, CONFIG, FilesPairing, Machine, until
from issuer import give_identity

from openmse.errors import CommandRefused, UsageError
from openmse.ha import effects as fx
from openmse.ha import events as ev
from openmse.ha.effects import Answer
from openmse.ha.invariants import Chosen
from openmse.ha.names import names
from openmse.ha.state import Node
from openmse.ha.values import Ballot, Config, Lineage, Mode, Record, Settings, Voter
from openmse.lab.exploration.database import Data
from openmse.lab.exploration.observer import History
from openmse.lab.exploration.virtual import Virtual
from openmse.lab.exploration.world import KINDS
from openmse.lab.exploration.world import Machine as Modelled
from openmse.node.config import Places
from openmse.node.control.commands import JournalFlushed, PairArgs, ReadmitArgs, WitnessArgs
from openmse.node.control.handler import Handler
from openmse.node.control.server import ControlServer
from openmse.node.control.snapshot import Facts
from openmse.node.group import GroupInfo, NodeInfo, remove, save
from openmse.node.runtime.event_log import Entry, append, wall_now
from openmse.pki.password import PairingStore

PASSWORD = ADMIN[1]
STEP_S = 0.02
ADDRESSES = {"mse1": "10.10.10.11", "mse2": "10.10.10.12", "witness": "10.10.10.13"}


class World(Virtual):
    """The modelled site; answers and notes go out instead of being dropped."""

    def __init__(self, site: "Site", *, is_paired: bool) -> None:
        ids = list(ADDRESSES) if is_paired else ["mse1"]
        mode = Mode.SYNC if is_paired else Mode.ALONE
        config = _config(ids, mode)
        machines = [_machine(i, config if i in ids else None) for i in ADDRESSES]
        super().__init__(machines, History(chosen=(Chosen(config),)), Random(7))
        self.site = site
        self.slow_share = 0.0
        if not is_paired:  # strangers do not talk to each other
            self.cuts = frozenset(
                (one, other, kind) for one, other in permutations(ADDRESSES, 2) for kind in KINDS
            )

    def perform_one(self, m: Modelled, effect: fx.Effect, decided_at: Any) -> None:
        """As ever, and tell the outside."""
        if isinstance(effect, fx.Answer):
            self.site.answered(effect)
        elif isinstance(effect, fx.Note) and m.node is not None:
            self.site.noted(m.id, m.node, effect)
        super().perform_one(m, effect, decided_at)


def _config(ids: list[str], mode: Mode) -> Config:
    return Config(
        term=1,
        epoch=1,
        mode=mode,
        owner="mse1",
        voters=tuple(Voter(i, f"{i}-0", i == "witness") for i in ids),
        lineage=Lineage(1, 1, "mse1"),
        settings=Settings(failover_wait_ns=2_000_000_000),
        primary="mse1",
        reason="The group was made.",
    )


def _machine(name: str, config: Config | None) -> Modelled:
    ballot = Ballot(1, 1, "mse1") if config else Ballot()
    record = Record(
        me=name,
        incarnation=f"{name}-0",
        boot=1,
        promised=ballot,
        accepted=ballot,
        value=config,
        chosen=ballot,
        known=config,
        largest_wait_ns=config.settings.failover_wait_ns if config else 0,
    )
    is_witness = name == "witness"
    data = Data(wal=(1,), lineage=Lineage(1, 1, "mse1")) if config and not is_witness else Data()
    return Modelled(name, record, is_witness=is_witness, is_on=False, data=data)


class Site:
    """Both machines, their world, and the thread that lets time go by."""

    def __init__(self, root: Path, *, is_paired: bool) -> None:
        self.lock = threading.RLock()
        self.waiting: dict[str, Callable[[Answer], None]] = {}
        self.nodes = {
            name: NodeFiles(root / name, name, role)
            for name, role in (("mse1", "primary"), ("mse2", "secondary"))
        }
        self._ends = threading.Event()
        self.world = World(self, is_paired=is_paired)
        self.enter(is_paired=is_paired)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def enter(self, *, is_paired: bool) -> None:
        """A new world: paired or not."""
        with self.lock:
            self.is_paired = is_paired
            self.world = world = World(self, is_paired=is_paired)
            self._began_s = time.monotonic()
            for m in world.machines.values():
                world.power_on(m)
            world.live()

    def _run(self) -> None:
        while not self._ends.wait(STEP_S):
            with self.lock:
                self.world.run(int((time.monotonic() - self._began_s) * 1e9))

    def node(self, name: str) -> Node:
        """A core's state at this moment."""
        with self.lock:
            m = self.world.machines[name]
            assert m.node is not None
            return replace(m.node, now=max(m.node.now, self.world.clock(m)))

    def command(self, name: str, command: ev.Command, told: Callable[[Answer], None]) -> None:
        """Give a command to a core; ``told`` is called with the answer."""
        with self.lock:
            self.waiting[f"c{self.world.serial + 1}"] = told
            self.world.command(self.world.machines[name], command)

    def answered(self, answer: Answer) -> None:
        """A core has answered."""
        told = self.waiting.pop(answer.id, None)
        if told is not None:
            told(answer)

    def noted(self, name: str, node: Node, note: fx.Note) -> None:
        """A core tells the event log."""
        config = node.config
        version = config.version if config else (0, 0)
        entry = Entry(
            wall_now(), self.world.now, name, note.kind, note.severity, note.sentence, *version
        )
        append(self.nodes[name].state / "events.jsonl", msgspec.json.encode(entry) + b"\n")

    def power_off(self, name: str) -> None:
        """Pull the plug of a machine: its API goes too (``NodeFiles.stop``)."""
        with self.lock:
            self.world.power_off(self.world.machines[name])

    def cut_off(self, name: str) -> None:
        """Nobody of the site hears this machine any more, nor it anybody; the console does."""
        with self.lock:
            ends = ((name, other) for other in ADDRESSES if other != name)
            both = {pair for one, other in ends for pair in ((one, other), (other, one))}
            self.world.cuts |= frozenset((*pair, kind) for pair in both for kind in KINDS)

    def await_newcomer(self, password: str, valid_for_s: float) -> None:
        """What the health monitor of mse1 keeps while it waits for a new machine."""
        places = self._places
        nodes = tuple(NodeInfo(name, ADDRESSES[name]) for name in ("mse1", "mse2"))
        save(places.group, GroupInfo("g-mse1", "mse1", nodes, ("10.10.10.10/24",)))
        store = PairingStore(places.readmission)
        store.set_password(password, now_s=time.time(), valid_for_s=valid_for_s)

    def take_newcomer(self, sentence: str) -> None:
        """It has come: the event log tells it, and nobody is waited for any more."""
        with self.lock:
            node = self.world.machines["mse1"].node
            assert node is not None
            self.noted("mse1", node, fx.Note("readmitted", "warning", sentence))
        PairingStore(self._places.readmission).clear()
        remove(self._places.group)

    @property
    def _places(self) -> Places:
        files = self.nodes["mse1"]
        return Places(files.state, files.root / "run")

    @contextlib.contextmanager
    def serving(self) -> Iterator["Site"]:
        """Time goes by, and both APIs serve, as long as the context lasts."""
        with contextlib.ExitStack() as stack:
            self._thread.start()
            stack.callback(self._thread.join, 10)
            stack.callback(self._ends.set)
            for node in self.nodes.values():
                node.start(self)
                stack.callback(node.stop)
            yield self


class NodeFiles(Machine):
    """One machine's files, control socket and API, which can be stopped like a machine."""

    def __init__(self, root: Path, name: str, role: str) -> None:
        root.mkdir(mode=0o755)
        self.name = name
        super().__init__(root, role)
        give_identity(self.state, name, "VA-Standard")
        self._stack = contextlib.ExitStack()
        self.port = 0

    def configure(self, *, role: str = "primary", port: int = 0) -> None:
        """Write both files, with this machine's own name and address."""
        super().configure(role=role, port=port)
        text = CONFIG.format(root=self.root, role=role).replace("mse1", self.name)
        self.config.write_text(text.replace("10.10.10.11/24", f"{ADDRESSES[self.name]}/24"))

    def start(self, site: Site) -> None:
        """Serve."""
        self._stack.enter_context(self.control(site))
        served = self._stack.enter_context(self.serve())
        self.port = served.port
        served.until_up()
        self.configure(role="primary" if self.name == "mse1" else "secondary", port=self.port)

    def serve_fingerprint(self) -> str:
        """What ``mse admin fingerprint`` prints on this machine."""
        from openmse.api.identity import fingerprint

        return fingerprint(self.places.certificate)

    def stop(self) -> None:
        """Gone; may be called twice."""
        self._stack.close()

    @contextlib.contextmanager
    def control(self, site: Site) -> Iterator[None]:
        """The control socket over the site's core."""
        core = SiteCore(site, self.name)
        handler = Handler(core, SitePairing(site), SiteJournal())
        server = ControlServer(self.control_socket, handler)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(5)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
            asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


class SiteCore:
    """``handler.Core`` over a core of the site."""

    def __init__(self, site: Site, name: str) -> None:
        self._site, self._name = site, name

    @property
    def node(self) -> Node:
        """Its state."""
        return self._site.node(self._name)

    def facts(self) -> Facts:
        """As the runtime would tell."""
        other = "mse2" if self._name == "mse1" else "mse1"
        is_paired = self._site.is_paired
        config = self.node.config
        has_witness = config is not None and any(v.is_witness for v in config.voters)
        return Facts(
            made_at=wall_now(),
            configured_role="primary" if self._name == "mse1" else "secondary",
            address=ADDRESSES[self._name],
            interface="eth0",
            group="g-mse1" if is_paired else "",
            virtual_ips=("10.10.10.10/24",),
            peer_address=ADDRESSES[other] if is_paired else "",
            witness_kind="console" if has_witness else "none",
            witness_address=ADDRESSES["witness"] if has_witness else "",
            database_port=5432,
        )

    async def submit(self, command: ev.Command, *, operator: str) -> Answer:
        """Give a command and wait for its answer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        told = lambda answer: loop.call_soon_threadsafe(future.set_result, answer)  # noqa: E731
        self._site.command(self._name, command, told)
        return await future

    async def wait_changed(self, within_s: float) -> None:
        """Until something that people see has changed."""
        before, end = self._shown(), time.monotonic() + within_s
        while time.monotonic() < end and self._shown() == before:
            await asyncio.sleep(min(0.05, within_s))

    def _shown(self) -> object:
        n = self.node
        return (names(n), n.config, n.operation, n.net, n.peer.standing.is_primary)


class SitePairing:
    """``handler.Pairing``: what pairing leads to, without the exchange of keys."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._waiting = FilesPairing(site.nodes["mse1"], site.nodes["mse1"].noted)

    async def pair(self, args: PairArgs, progress: Callable[[str], Awaitable[None]]) -> str:
        """The same steps as the real one tells; then the site is a pair."""
        for step in ("the secondary proves its password", "certificates", "the register"):
            await progress(step)
            await asyncio.sleep(0.05)
        self._site.enter(is_paired=True)
        return "mse1 and mse2 are a pair."

    async def unpair(self, *, without_peer: bool) -> str:
        """Two single machines again."""
        self._site.enter(is_paired=False)
        return "The pair is dissolved."

    async def readmit(self, args: ReadmitArgs) -> str:
        """The real one's password file and facts, and its sentence, without an open port."""
        self._site.await_newcomer(args.password, args.valid_for_s)
        return f"A new machine is waited for, for {args.valid_for_s / 60:.0f} minutes."

    async def readmit_cancel(self, by: str) -> str:
        """The real one, by the files of mse1."""
        return await self._waiting.readmit_cancel(by)

    async def replace_witness(self, args: WitnessArgs) -> str:
        """The vote of the present witness goes, then the new one has it; decided by the core."""
        if args.address in (ADDRESSES["mse1"], ADDRESSES["mse2"]):
            raise UsageError(
                f"A witness at {args.address} would be lost together with that node; nothing was "
                "changed.",
                "Run the witness on a third machine.",
            )
        await self._change(())
        witness = self._site.world.machines["witness"]
        await self._change((Voter("witness", witness.record.incarnation, True),))
        return f"{args.name} is the witness now."

    async def remove_witness(self) -> str:
        """Its vote goes; decided by the core."""
        await self._change(())
        return "witness is no witness of this pair any more."

    async def _change(self, witnesses: tuple[Voter, ...]) -> None:
        config = self._site.node("mse1").config
        assert config is not None
        nodes = tuple(v for v in config.voters if not v.is_witness)
        if witnesses == tuple(v for v in config.voters if v.is_witness):
            return
        core = SiteCore(self._site, config.owner)
        answer = await core.submit(ev.ChangeVoters((*nodes, *witnesses)), operator="test")
        if not answer.is_done:
            raise CommandRefused(answer.sentence)


class SiteJournal:
    """``handler.Journal``."""

    async def flush(self) -> JournalFlushed:
        """Nothing to do."""
        return JournalFlushed("/nowhere", 0)


__all__ = ["ADMIN", "PASSWORD", "Site", "until"]
