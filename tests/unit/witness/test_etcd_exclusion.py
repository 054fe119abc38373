"""The argument of the ADR "etcd as the witness", attacked: random delays, losses, restarts.

Two executors share three keys of a pretended etcd that does what the real one promises (reads
and compare-and-swaps happen at one instant between question and answer). Found must be: no vote
for another owner lands while a lease that etcd granted may still be in use. Faults planted into
the rules are found by the same search, or it would prove nothing.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import pytest

from openmse.ha.messages import Accept, Accepted, Beat, Message, Stamp, Standing
from openmse.ha.values import (
    Ballot,
    Config,
    Instant,
    Lineage,
    Mode,
    Record,
    Settings,
    Voter,
)
from openmse.node.drivers.witness import etcd_state
from openmse.node.drivers.witness.etcd_client import KeyValue, Reading
from openmse.node.drivers.witness.etcd_state import Keys, Snapshot, StoredGrant, Watched

KEYS = Keys("/openmse/", "g")
WAIT = 1000
LARGE_WAIT = 4000
END = 30_000
SEEDS = 600
SEEDS_FOR_FAULTS = 1500


class Store:
    """What etcd promises of a few keys."""

    def __init__(self) -> None:
        self.revision = 1
        self.keys: dict[str, KeyValue] = {}

    def read(self) -> Reading:
        return Reading("c", self.revision, dict(self.keys))

    def swap(self, expected: dict[str, int], puts: dict[str, bytes]) -> bool:
        for key, revision in expected.items():
            if (self.keys[key].mod_revision if key in self.keys else 0) != revision:
                return False
        self.revision += 1
        for key, value in puts.items():
            self.keys[key] = KeyValue(value, self.revision)
        return True


@dataclass
class Rules:
    """The production rules, each replaceable by a fault."""

    expects: Callable[[Snapshot], dict[str, int]] = lambda snapshot: dict(snapshot.revisions)
    observed_at: Callable[[int, int], int] = lambda asked, answered: answered
    first_wait: bool = True
    hold: Callable[[StoredGrant], StoredGrant] = lambda grant: grant


@dataclass
class World:
    """One run: a virtual clock and everything that will happen."""

    seed: int
    rules: Rules
    store: Store = field(default_factory=Store)
    now: int = 0
    granted: list[tuple[int, int]] = field(default_factory=list)
    """(sent at, wait) of every renewal that the owner got an answer to, or still may."""
    voted_at: int = 0
    watcher: "Executor | None" = None
    """Who is told of grants as they happen, late or out of order with its readings."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.ids = itertools.count()
        self.queue: list[tuple[int, int, Iterator[int]]] = []

    def spawn(self, process: Iterator[int]) -> None:
        heapq.heappush(self.queue, (self.now + next(process), next(self.ids), process))

    def run(self) -> None:
        while self.queue and self.now < END:
            self.now, _, process = heapq.heappop(self.queue)
            delay = next(process, None)
            if delay is not None:
                heapq.heappush(self.queue, (self.now + delay, next(self.ids), process))

    def delay(self) -> int:
        """Mostly short; now and then as long as a freeze."""
        long = self.random.random() < 0.08
        return self.random.randrange(1, 1500 if long else 40)

    def check_vote(self) -> None:
        """Called when a vote for the other owner landed."""
        self.voted_at = self.now
        assert all(sent + wait <= self.now for sent, wait in self.granted), "voted too early"


def config(owner: str, epoch: int) -> Config:
    voters = (Voter("a", "ia"), Voter("b", "ib"), Voter("w", "iw", is_witness=True))
    return Config(0, epoch, Mode.SYNC, owner, voters, Lineage(0, 1, "a"), Settings())


def begin(world: World) -> None:
    ballot = Ballot(0, 1, "a")
    value = config("a", 1)
    record = Record(
        "w", "iw", 1, promised=ballot, accepted=ballot, value=value, chosen=ballot, known=value
    )
    stored = msgspec.json.encode(etcd_state.StoredRecord(record, "c"))
    assert world.store.swap({}, {KEYS.record: stored})


def execute(world: World, executor: "Executor", message: Message) -> Iterator[int]:
    """One attempt of the driver: read, observe, plan, swap; each step at an instant of its own."""
    asked = world.now
    yield world.delay()
    reading = world.store.read()
    yield world.delay()
    observed = world.rules.observed_at(asked, world.now)
    snapshot = executor.observe(etcd_state.snapshot_of(reading, KEYS), observed, world.rules)
    yield world.delay()  # a freeze between observing and deciding is harmless too
    if executor.watched.revision != snapshot.grant_revision:
        return  # a newer grant was told of meanwhile
    plan = etcd_state.plan(snapshot, executor.watched, message, Instant(world.now), KEYS)
    puts = dict(plan.puts)
    if KEYS.grant in puts:
        grant = world.rules.hold(msgspec.json.decode(puts[KEYS.grant], type=StoredGrant))
        puts[KEYS.grant] = msgspec.json.encode(grant)
    if not puts:
        return
    yield world.delay()
    expected = world.rules.expects(snapshot)
    if not world.store.swap(expected, puts):
        return
    if plan.is_granted:
        assert isinstance(message, Beat)
        assert not world.voted_at, "granted after the vote"
        world.granted.append((message.nonce, message.wait_ns))
        world.spawn(tell(world, world.store.read()))
    if any(isinstance(reply, Accepted) for reply in plan.replies):
        world.check_vote()


def tell(world: World, reading: Reading) -> Iterator[int]:
    """etcd tells the watcher of a grant, some time after it was put."""
    yield world.delay()
    watcher = world.watcher
    if watcher is not None:
        at = world.rules.observed_at(world.now - 1000, world.now)
        watcher.watched = etcd_state.observe_put(watcher.watched, Instant(at), reading, KEYS)


@dataclass
class Executor:
    """What a driver remembers."""

    watched: Watched = field(default_factory=Watched)

    def observe(self, snapshot: Snapshot, at: int, rules: Rules) -> Snapshot:
        is_first = self.watched.is_first
        self.watched = etcd_state.observe(self.watched, Instant(at), snapshot)
        if is_first and not rules.first_wait:
            self.watched = msgspec.structs.replace(self.watched, until=Instant(0))
        return snapshot


def owner(world: World) -> Iterator[int]:
    """Renews, sometimes with a larger wait, falls silent for a while, restarts."""
    executor = Executor()
    while True:
        is_pause = world.random.random() < 0.03
        yield world.random.randrange(1000, 7000) if is_pause else world.random.randrange(30, 300)
        if world.random.random() < 0.03:
            executor = Executor()
        wait = LARGE_WAIT if world.random.random() < 0.05 else WAIT
        stamp = Stamp("a", "ia", 1, Ballot(0, 1, "a"))
        nonce = Instant(world.now)
        chosen = Ballot(0, 1, "a")
        beat = Beat(stamp, nonce, 0, 1, chosen, "a", True, wait, Standing())
        yield from execute(world, executor, beat)


def candidate(world: World) -> Iterator[int]:
    """Wants the vote for itself, all the time; restarts now and then."""
    executor = world.watcher = Executor()
    for round_ in itertools.count(2):
        yield world.random.randrange(10, 250)
        if world.voted_at:
            return
        if world.random.random() < 0.05:
            executor = world.watcher = Executor()
        stamp = Stamp("b", "ib", 1, Ballot(0, round_, "b"))
        vote = Accept(stamp, Ballot(0, round_, "b"), config("b", 2), config("a", 1))
        yield from execute(world, executor, vote)


def run(seed: int, rules: Rules) -> World:
    world = World(seed, rules)
    begin(world)
    world.spawn(owner(world))
    world.spawn(candidate(world))
    world.run()
    return world


def run_many(rules: Rules) -> None:
    for seed in range(SEEDS_FOR_FAULTS):
        run(seed, rules)


def test_no_vote_lands_while_a_granted_lease_may_be_in_use() -> None:
    worlds = [run(seed, Rules()) for seed in range(SEEDS)]
    assert sum(1 for world in worlds if world.voted_at) > SEEDS // 3, "nothing was tried"
    assert sum(len(world.granted) for world in worlds) >= 5 * SEEDS


def _without_grant_key(snapshot: Snapshot) -> dict[str, int]:
    return {KEYS.record: snapshot.revisions[KEYS.record]}


def _without_record_key(snapshot: Snapshot) -> dict[str, int]:
    return {KEYS.grant: snapshot.revisions[KEYS.grant]}


def _forget_larger(grant: StoredGrant) -> StoredGrant:
    return msgspec.structs.replace(grant, hold_ns=grant.wait_ns)


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(Rules(expects=_without_grant_key), id="a vote does not expect the grant"),
        pytest.param(Rules(expects=_without_record_key), id="a grant does not expect the record"),
        pytest.param(
            Rules(observed_at=lambda asked, answered: asked), id="observed before it was read"
        ),
        pytest.param(Rules(first_wait=False), id="a restarted executor does not wait"),
        pytest.param(Rules(hold=_forget_larger), id="a smaller wait is used by voters at once"),
    ],
)
def test_planted_faults_are_found(rules: Rules) -> None:
    with pytest.raises(AssertionError, match=r"voted too early|granted after the vote"):
        run_many(rules)
