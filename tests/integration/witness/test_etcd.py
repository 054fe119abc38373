"""The etcd driver as a voter: what it grants, promises and refuses, against a real etcd."""

import asyncio

from etcd_nodes import (
    WAIT_NS,
    Node,
    alone_config,
    running,
    sync_config,
    teach,
)
from etcd_server import Etcd

from openmse.ha.messages import (
    Accepted,
    Prepare,
    Promise,
    Refusal,
    Refused,
    Released,
)
from openmse.ha.values import (
    Ballot,
    Release,
)
from openmse.node.drivers.witness import etcd_state
from openmse.node.drivers.witness.etcd_client import EtcdClient


async def test_a_renewal_is_granted_under_the_identity_kept_in_etcd(
    pair: tuple[Node, Node], etcd: Etcd, group: str
) -> None:
    owner, other = pair
    identity = await Node("mse9", etcd.url, group).driver.identity()
    async with running(owner, other):
        await teach(owner, sync_config())
        sent_at = owner.clock.now
        ack = await owner.renew(sync_config())
        assert ack.is_granted
        assert ack.nonce == sent_at
        assert (ack.stamp.id, ack.stamp.incarnation) == ("etcd", identity.incarnation)
        seen_by_other = await other.renew(sync_config())
        assert not seen_by_other.is_granted
        assert seen_by_other.stamp.incarnation == identity.incarnation
        assert owner.driver.status.trouble == ""


async def test_the_other_node_waits_from_its_own_observation(pair: tuple[Node, Node]) -> None:
    owner, other = pair
    async with running(owner, other):
        await teach(owner, sync_config())
        assert (await owner.renew(sync_config())).is_granted
        refused = await other.pre_vote(sync_config())
        assert (refused.is_yes, refused.refusal) == (False, Refusal.BOUND)
        assert refused.retry_ns == WAIT_NS
        other.clock.pass_ns(WAIT_NS - 1)
        assert (await other.pre_vote(sync_config())).refusal is Refusal.BOUND
        vote = other.accept(alone_config("mse2"), sync_config(), 2)
        assert isinstance(await other.ask(vote), Refused)
        other.clock.pass_ns(1)
        assert (await other.pre_vote(sync_config())).is_yes
        assert isinstance(await other.ask(vote), Accepted)
        lost = await owner.renew(sync_config())
        assert (lost.is_granted, lost.refusal) == (False, Refusal.UNRESOLVED)


async def test_a_renewal_between_observation_and_vote_makes_the_vote_fail(
    pair: tuple[Node, Node], etcd: Etcd, group: str
) -> None:
    owner, other = pair
    keys = etcd_state.Keys(owner.settings.prefix, group)
    async with running(owner), EtcdClient(other.settings) as client:
        await teach(owner, sync_config())
        await owner.renew(sync_config())
        snapshot = etcd_state.snapshot_of(await client.read(keys.folder), keys)
        watched = etcd_state.observe(etcd_state.Watched(), other.clock.now, snapshot)
        other.clock.pass_ns(WAIT_NS)
        vote = other.accept(alone_config("mse2"), sync_config(), 2)
        plan = etcd_state.plan(snapshot, watched, vote, other.clock.now, keys)
        assert isinstance(plan.replies[0], Accepted)
        assert (await owner.renew(sync_config())).is_granted  # in between
        result = await client.swap(keys.folder, snapshot.revisions, plan.puts)
        assert not result.is_done
        after = etcd_state.snapshot_of(result.reading, keys)
        assert after.stored is not None
        assert after.stored.record.value == sync_config()
        watched = etcd_state.observe(watched, other.clock.now, after)
        again = etcd_state.plan(after, watched, vote, other.clock.now, keys)
        assert isinstance(again.replies[0], Refused)


async def test_a_renewal_is_seen_when_it_happens_not_when_this_node_asks(
    pair: tuple[Node, Node],
) -> None:
    owner, other = pair
    async with running(owner, other):
        await teach(owner, sync_config())
        await other.pre_vote(sync_config())
        other.clock.pass_ns(WAIT_NS)
        while other.driver.status.renewal_seen_at < other.clock.now:
            # again and again, for etcd tells only of what happens once its watch has begun
            assert (await owner.renew(sync_config())).is_granted
        other.clock.pass_ns(WAIT_NS)
        assert (await other.pre_vote(sync_config())).is_yes


async def test_each_renewal_starts_the_wait_anew(pair: tuple[Node, Node]) -> None:
    owner, other = pair
    async with running(owner, other):
        await teach(owner, sync_config())
        for _ in range(4):
            assert (await owner.renew(sync_config())).is_granted
            assert (await other.pre_vote(sync_config())).refusal is Refusal.BOUND
            owner.clock.pass_ns(WAIT_NS * 3 // 4)
            other.clock.pass_ns(WAIT_NS * 3 // 4)
        assert (await other.pre_vote(sync_config())).owner_heard


async def test_a_restarted_node_abstains_though_the_grant_is_old(
    pair: tuple[Node, Node], etcd: Etcd, group: str
) -> None:
    owner, other = pair
    async with running(owner, other):
        await teach(owner, sync_config())
        await owner.renew(sync_config())
        await other.pre_vote(sync_config())
        other.clock.pass_ns(WAIT_NS)
        assert (await other.pre_vote(sync_config())).is_yes
    restarted = Node("mse2", etcd.url, group)
    async with running(restarted):
        answer = await restarted.pre_vote(sync_config())
        assert (answer.refusal, answer.owner_heard) == (Refusal.BOUND, False)
        restarted.clock.pass_ns(WAIT_NS)
        assert (await restarted.pre_vote(sync_config())).is_yes


async def test_a_release_frees_at_once_and_is_final(pair: tuple[Node, Node]) -> None:
    owner, other = pair
    async with running(owner, other):
        await teach(owner, sync_config())
        await owner.renew(sync_config())
        assert (await other.pre_vote(sync_config())).refusal is Refusal.BOUND
        owner.driver.send(Released(owner.stamp, Release("mse1", 0, 1)))
        ack = await owner.renew(sync_config())
        assert (ack.is_granted, ack.refusal) == (False, Refusal.RELEASED)
        assert (await other.pre_vote(sync_config())).is_yes
        vote = other.accept(alone_config("mse2"), sync_config(), 2)
        assert isinstance(await other.ask(vote), Accepted)


async def test_a_smaller_wait_holds_only_after_the_larger_has_run_out(
    pair: tuple[Node, Node],
) -> None:
    owner, other = pair
    async with running(owner, other):
        await teach(owner, sync_config())
        assert (await owner.renew(sync_config(), wait_ns=5 * WAIT_NS)).is_granted
        owner.clock.pass_ns(WAIT_NS)
        # ``other`` never saw the larger grant, only this one:
        assert (await owner.renew(sync_config(), wait_ns=WAIT_NS)).is_granted
        assert (await other.pre_vote(sync_config())).retry_ns == 4 * WAIT_NS
        owner.clock.pass_ns(5 * WAIT_NS)
        other.clock.pass_ns(4 * WAIT_NS)
        assert (await owner.renew(sync_config(), wait_ns=WAIT_NS)).is_granted
        assert (await other.pre_vote(sync_config())).retry_ns == WAIT_NS


async def test_promises_of_two_executors_never_go_back(pair: tuple[Node, Node]) -> None:
    """Both nodes hurl ballots at the same moment: whoever is promised is the highest so far."""
    async with running(*pair):
        for round_ in range(1, 15):
            ballots = [Ballot(0, round_, node.name) for node in pair]
            answers = await asyncio.gather(
                *(
                    node.ask(Prepare(node.stamp, ballot))
                    for node, ballot in zip(pair, ballots, strict=True)
                )
            )
            assert isinstance(answers[1], Promise)  # mse2's is the higher one
            if isinstance(answers[0], Refused):
                assert answers[0].promised == ballots[1]
            late = await pair[0].ask(Prepare(pair[0].stamp, ballots[0]))
            assert isinstance(late, Refused)
