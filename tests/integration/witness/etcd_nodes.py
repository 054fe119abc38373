"""What the tests of the etcd driver share: nodes that talk to it, and a clock they move."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openmse.ha.messages import (
    Accept,
    Beat,
    BeatAck,
    Learn,
    Message,
    PreVote,
    PreVoteAnswer,
    Read,
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
    Release,
    Settings,
    Voter,
)
from openmse.node.drivers.witness.etcd import EtcdWitness
from openmse.node.drivers.witness.etcd_client import EtcdSettings
from openmse.node.runtime.clock import now

WAIT_NS = 2 * SECOND
ANSWER_S = 30.0
REQUEST_S = 5.0
"""A busy machine's disk may need more than a node's own half second, after which a renewal is
dropped; what is tested is not that."""


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = now()

    def __call__(self) -> Instant:
        return self.now

    def pass_ns(self, duration_ns: int) -> None:
        self.now = Instant(self.now + duration_ns)


class Node:
    """One node's driver, its answers, and the messages that this node would send."""

    def __init__(self, name: str, url: str | tuple[str, ...], group: str, **more: str) -> None:
        self.name = name
        self.clock = Clock()
        self.answers: asyncio.Queue[Message] = asyncio.Queue()
        urls = (url,) if isinstance(url, str) else url
        given = {"request_timeout_s": REQUEST_S, **more}
        self.settings = EtcdSettings(endpoints=urls, **given)  # type: ignore[arg-type]
        self.driver = EtcdWitness(self.settings, group, self.answers.put_nowait, clock=self.clock)
        self.promised = Ballot()

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.name, f"i-{self.name}", 1, self.promised)

    async def ask(self, message: Message) -> Message:
        self.driver.send(message)
        async with asyncio.timeout(ANSWER_S):
            return await self.answers.get()

    def beat(self, config: Config, *, wait_ns: int = WAIT_NS, chosen: int = 1) -> Beat:
        is_owner = config.owner == self.name
        return Beat(
            self.stamp,
            self.clock.now,
            config.term,
            config.epoch,
            Ballot(0, chosen, "mse1"),
            config.owner,
            is_owner and config.mode is Mode.SYNC,
            wait_ns,
            Standing(),
        )

    async def renew(self, config: Config, *, wait_ns: int = WAIT_NS) -> BeatAck:
        answer = await self.ask(self.beat(config, wait_ns=wait_ns))
        assert isinstance(answer, BeatAck)
        return answer

    async def pre_vote(self, config: Config) -> PreVoteAnswer:
        answer = await self.ask(PreVote(self.stamp, 1, config.term, config.epoch, self.name))
        assert isinstance(answer, PreVoteAnswer)
        return answer

    def accept(self, value: Config, parent: Config, round_: int, **more: Release) -> Accept:
        return Accept(self.stamp, Ballot(0, round_, self.name), value, parent, **more)


def sync_config(owner: str = "mse1", epoch: int = 1) -> Config:
    voters = tuple(Voter(n, f"i-{n}") for n in ("mse1", "mse2"))
    return Config(
        0,
        epoch,
        Mode.SYNC,
        owner,
        (*voters, Voter("etcd", "x", is_witness=True)),
        Lineage(0, 1, "mse1"),
        Settings(failover_wait_ns=WAIT_NS),
        primary="mse1",
    )


def alone_config(owner: str, epoch: int = 2) -> Config:
    parent = sync_config(owner, epoch)
    return Config(0, epoch, Mode.ALONE, owner, parent.voters, Lineage(0, epoch, owner), Settings())


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(node.driver.run()) for node in nodes]
        yield
        for task in tasks:
            task.cancel()


async def teach(node: Node, config: Config, round_: int = 1) -> None:
    """Let the voter in etcd know ``config`` chosen, and wait until it does."""
    node.driver.send(Learn(node.stamp, Ballot(0, round_, "mse1"), config))
    answer = await node.ask(Read(node.stamp, Ballot()))
    assert isinstance(answer, Learn)
    assert answer.value == config


async def dropped(node: Node, message: Message) -> None:
    """Send a message and wait until the driver has given it up."""
    before = node.driver.status
    node.driver.send(message)
    async with asyncio.timeout(ANSWER_S):
        while node.driver.status == before:
            await asyncio.sleep(0.01)
