"""The core's runner: a mistake ends the process before anything can follow from it."""

import asyncio
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from live_core import LINEAGE, VOTERS, config, record, serving
from msgspec.structs import replace

from openmse.errors import NetworkError, PeerError, StateError
from openmse.ha.effects import Effect, Persist, SetLease
from openmse.ha.events import Commanded, DbObserved, Event, Received, Switchover, Ticked
from openmse.ha.local import Address, DbProcess, DbRole, DbView, DbWanted, NetView, NetWanted
from openmse.ha.messages import Message, Prepare, Stamp
from openmse.ha.node import boot
from openmse.ha.state import Node
from openmse.ha.values import FOREVER, SECOND, Ballot, Instant, Mode, Record
from openmse.node.runtime.clock import now
from openmse.node.runtime.core_runner import CoreRunner


class Died(BaseException):
    """In place of the end of the process."""


class World:
    """What a runner acts on: it keeps what it was told, and breaks where it is asked to."""

    def __init__(self) -> None:
        self.saved: list[Record] = []
        self.sent: list[Message] = []
        self.lease: list[int] = []
        self.until = Instant(0)
        self.db: list[DbWanted] = []
        self.net: list[NetWanted] = []
        self.deaths: list[BaseException] = []
        self.broken: dict[str, Exception] = {}

    def _use(self, part: str) -> None:
        if part in self.broken:
            raise self.broken[part]

    def save(self, record: Record) -> None:
        self._use("store")
        self.saved.append(record)

    def arm(self, until: Instant) -> bool:
        self._use("lease")
        self.lease.append(until)
        self.until = until
        return True

    def arm_forever(self) -> None:
        self._use("lease")
        self.lease.append(FOREVER)
        self.until = FOREVER

    def disarm(self) -> None:
        self._use("lease")
        self.lease.append(0)

    def send(self, to: str, message: Message) -> None:
        self._use("links")
        self.sent.append(message)

    def want(self, is_armed: bool) -> None:
        self._use("watchdog")

    def feed(self) -> None:
        self._use("watchdog")

    def want_db(self, wanted: DbWanted) -> None:
        self._use("database")
        self.db.append(wanted)

    def want_net(self, wanted: NetWanted) -> None:
        self._use("address")
        self.net.append(wanted)

    def note(self, note: object) -> None:
        self._use("notes")

    def journal(self, before: Node, event: Event, after: Node, effects: tuple[Effect, ...]) -> None:
        self._use("journal")

    def die(self, error: BaseException) -> NoReturn:
        self.deaths.append(error)
        raise Died


def runner_of(node: Node, world: World) -> CoreRunner:
    parts: Any = world
    return CoreRunner(node, store=parts, lease=parts, links=parts, watchdog=parts)


def standby() -> Node:
    """mse2 following mse1 in SYNC, adopted by a health monitor that was just restarted."""
    db = DbView(
        process=DbProcess.UP,
        role=DbRole.STANDBY,
        lineage=LINEAGE,
        end_lsn=0x3000060,
        is_complete=True,
    )
    known = config(Mode.SYNC, voters=VOTERS)
    at = now()
    return boot(record("mse2", known), now=at, is_machine_boot=False, db=db, net=NetView())


def prepare() -> Received:
    stamp = Stamp("witness", "w", 1, Ballot(1, 2, "mse1"))
    return Received(now(), Prepare(stamp, Ballot(1, 9, "mse1")))


async def test_an_adopted_standby_is_never_told_to_stop() -> None:
    """Found in the laboratory: each restart of the health monitor stopped the standby's
    PostgreSQL, for the level wanted before the first step is "down"."""
    world = World()
    runner = runner_of(standby(), world)
    parts: Any = world
    runner.start(parts)
    runner.stop()
    assert world.db
    assert {wanted.role for wanted in world.db} == {DbRole.STANDBY}
    assert world.net == [NetWanted()]


@pytest.mark.parametrize("error", [StateError("Full."), OSError("mistake"), ValueError("mistake")])
async def test_nothing_follows_from_a_record_that_was_not_written(error: Exception) -> None:
    """A promise that is in memory only must never be told, not by a later step either."""
    world = World()
    runner = runner_of(standby(), world)
    parts: Any = world
    runner.start(parts)
    world.broken["store"], saved = error, len(world.saved)
    world.sent.clear()
    with pytest.raises(Died):
        runner.post(prepare())
    world.broken.clear()
    runner.post(Ticked(Instant(now() + SECOND)))
    runner.post(prepare())
    assert world.sent == []
    assert len(world.saved) == saved
    assert world.lease[-1:] == [0]


@pytest.mark.parametrize("part", ["links", "journal", "database", "step"])
async def test_a_mistake_in_a_callback_ends_the_process(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio only logs what a timer raises: the timer would never be set again, the effects after
    the mistake never be performed, and the process would live on."""
    world = World()
    runner = runner_of(serving(known=config(Mode.ALONE)), world)
    runner.node.now = now()
    parts: Any = world
    runner.start(parts)
    world.broken[part] = PeerError("A payload of 9000 bytes does not fit into a datagram.")
    if part == "step":
        monkeypatch.setattr("openmse.node.runtime.core_runner.step", None)
    broken = replace(runner.node.db, process=DbProcess.DOWN, role=DbRole.PRIMARY, failure="gone")
    loop = asyncio.get_running_loop()
    swallowed: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: swallowed.append(context))
    loop.call_soon(runner.post, DbObserved(Instant(now() + SECOND), broken))
    loop.call_soon(runner.post, Commanded(Instant(now() + SECOND), "1", Switchover()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(world.deaths) == 1
    after = (len(world.sent), len(world.db), len(world.lease))
    world.broken.clear()
    runner.post(Ticked(Instant(now() + 5 * SECOND)))
    assert (len(world.sent), len(world.db), len(world.lease)) == after


async def test_a_lease_that_cannot_be_closed_does_not_hide_that_the_disk_failed() -> None:
    world = World()
    runner = runner_of(standby(), world)
    parts: Any = world
    runner.start(parts)
    world.broken = {"store": StateError("Full."), "lease": NetworkError("Refused.")}
    with pytest.raises(Died):
        runner.post(prepare())
    assert [str(error) for error in world.deaths] == [str(StateError("Full."))]


async def test_sync_is_not_proposed_while_the_kernel_lease_has_no_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ALONE to SYNC, and the kernel refuses to shorten the lease: what the batch goes on to write
    and tell lets the other node take over after W, with nothing to stop this one."""
    world = World()
    runner = runner_of(standby(), world)
    parts: Any = world
    runner.start(parts)
    world.until = FOREVER
    world.broken["lease"] = NetworkError("Refused.")
    saved = len(world.saved)
    batches = [(SetLease(Instant(now() + SECOND)), Persist(runner.node.record))]
    monkeypatch.setattr(
        "openmse.node.runtime.core_runner.step",
        lambda node, event: (node, batches.pop() if batches else ()),
    )
    with pytest.raises(Died):
        runner.post(Ticked(now()))
    assert len(world.saved) == saved


def test_the_address_of_an_adopted_owner_is_kept() -> None:
    node = serving(known=config(Mode.SYNC))
    assert node.net_wanted == NetWanted(True, True)
    assert node.net == NetView(Address.HELD, True)
