"""One group's vote while its disk is slow, fails, or is closed."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from openmse.ha.messages import (
    Beat,
    BeatAck,
    Learn,
    Message,
    Prepare,
    Promise,
    Read,
    Refusal,
    Refused,
    Stamp,
    Standing,
)
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
from openmse.node.drivers.store import Machine, RecordStore
from openmse.witness.voter import WAITING_LIMIT, GroupVoter


class SlowDisk(Executor):
    """Writes when the test lets it."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.jobs.append((future, lambda: fn(*args, **kwargs)))
        return future

    async def write(self) -> None:
        """Do the oldest write, and let the loop hear of it."""
        future, job = self.jobs.pop(0)
        try:
            future.set_result(job())
        except BaseException as error:
            future.set_exception(error)
        for _ in range(3):  # the loop is told through call_soon_threadsafe, then a callback
            await asyncio.sleep(0)


class Bench:
    """A voter on a slow disk, and what it did."""

    def __init__(self, path: Path) -> None:
        self.store = RecordStore(path / "register", Machine({}))
        self.disk = SlowDisk()
        self.sent: list[Message] = []
        self.troubles: list[str] = []
        self.records: list[Record] = []
        self.now = Instant(10 * SECOND)
        self.voter = GroupVoter(
            self.store,
            Record("w", "iw", 1),
            send=lambda to, message: self.sent.append(message),
            on_record=self.records.append,
            on_trouble=self.troubles.append,
            clock=lambda: self.now,
            disk=self.disk,
        )


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def prepare(round_: int) -> Prepare:
    return Prepare(Stamp("a", "ia", 1), Ballot(0, round_, "a"))


def learn(round_: int) -> Learn:
    voters = (Voter("a", "ia"), Voter("b", "ib"), Voter("w", "iw", is_witness=True))
    value = Config(0, 1, Mode.SYNC, "a", voters, Lineage(0, 1, "a"), Settings())
    return Learn(Stamp("a", "ia", 1), Ballot(0, round_, "a"), value)


def beat(nonce: int) -> Beat:
    stamp = Stamp("a", "ia", 1)
    return Beat(stamp, Instant(nonce), 0, 1, Ballot(9), "a", True, SECOND, Standing())


async def test_nothing_is_answered_before_it_is_on_disk(bench: Bench) -> None:
    bench.voter.receive(prepare(1))
    await asyncio.sleep(0)
    assert bench.sent == []
    assert bench.voter.state.record.promised == Ballot()
    await bench.disk.write()
    assert isinstance(bench.sent[0], Promise)
    stored = bench.store.load()
    assert stored is not None
    assert stored.record.promised == Ballot(0, 1, "a")


async def test_what_comes_during_a_write_is_answered_after_it_in_order(bench: Bench) -> None:
    bench.voter.receive(prepare(2))
    bench.voter.receive(prepare(1))
    bench.voter.receive(prepare(3))
    assert len(bench.disk.jobs) == 1
    await bench.disk.write()
    assert [type(m) for m in bench.sent] == [Promise, Refused]
    await bench.disk.write()
    assert [type(m) for m in bench.sent] == [Promise, Refused, Promise]


async def test_only_the_newest_waiting_beat_is_answered(bench: Bench) -> None:
    bench.voter.receive(learn(1))
    await bench.disk.write()
    bench.voter.receive(prepare(2))
    for nonce in (1, 2, 3):
        bench.voter.receive(beat(nonce))
    await bench.disk.write()  # the promise; then the first grant raises the largest wait
    await bench.disk.write()
    acks = [m for m in bench.sent if isinstance(m, BeatAck)]
    assert [(ack.nonce, ack.refusal) for ack in acks] == [(3, Refusal.NONE)]


async def test_waiting_is_bounded(bench: Bench) -> None:
    for round_ in range(1, 3 * WAITING_LIMIT):
        bench.voter.receive(prepare(round_))
    while bench.disk.jobs:
        await bench.disk.write()
    assert len(bench.sent) == WAITING_LIMIT + 1
    assert bench.voter.state.record.promised.round == 3 * WAITING_LIMIT - 1


async def test_a_failed_write_is_as_if_the_message_was_lost(bench: Bench) -> None:
    bench.voter.receive(prepare(5))
    path = bench.store.path.parent
    path.rename(path.with_name("elsewhere"))
    await bench.disk.write()
    assert bench.sent == []
    assert "cannot be written" in bench.troubles[0]
    assert bench.voter.state.record.promised == Ballot()
    path.with_name("elsewhere").rename(path)
    bench.voter.receive(prepare(4))
    await bench.disk.write()
    assert isinstance(bench.sent[0], Promise)
    assert bench.troubles[1:] == [""]


async def test_a_closed_vote_answers_nothing_more(bench: Bench) -> None:
    bench.voter.receive(prepare(1))
    bench.voter.receive(prepare(2))
    closing = asyncio.create_task(bench.voter.close())
    await asyncio.sleep(0)
    assert not closing.done()
    await bench.disk.write()
    await closing
    assert bench.sent == []
    bench.voter.receive(prepare(3))
    assert bench.disk.jobs == []


async def test_a_start_of_a_node_is_remembered_on_disk_before_it_is_answered(bench: Bench) -> None:
    question = Read(Stamp("a", "ia", 7, run="r7"), Ballot())
    bench.voter.receive(question)
    await bench.disk.write()
    bench.voter.receive(question)
    assert bench.disk.jobs == []
    stored = bench.store.load()
    assert stored is not None
    assert [(seen.id, seen.boot, seen.run) for seen in stored.record.seen] == [("a", 7, "r7")]


async def test_a_write_that_hangs_is_seen(bench: Bench) -> None:
    assert bench.voter.writing_ns == 0
    bench.voter.receive(prepare(1))
    bench.now = Instant(bench.now + 3 * SECOND)
    assert bench.voter.writing_ns == 3 * SECOND
    await bench.disk.write()
    assert bench.voter.writing_ns == 0


async def test_who_was_heard_is_told(bench: Bench) -> None:
    bench.voter.receive(beat(1))
    assert bench.voter.last_heard == {"a": bench.now}
