"""The witness process: real sockets, real files, killed and started again."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from witness_process import (
    PASSWORD,
    WAIT_NS,
    WITNESS,
    Group,
    NodeSide,
    WitnessProcess,
    config_for,
    until,
)

from openmse.errors import CommandRefused, PairingError
from openmse.ha.messages import (
    Accept,
    Accepted,
    Prepare,
    PreVote,
    PreVoteAnswer,
    Promise,
    Refusal,
    Refused,
    Released,
)
from openmse.ha.values import SECOND, Ballot, Config, Release
from openmse.node.drivers.store import Machine, RecordStore
from openmse.node.runtime.clock import now

Connect = Callable[[Group, str], Awaitable[NodeSide]]
LONG_NS = 3 * WAIT_NS
"""A wait within which a busy machine has asked the witness several times."""


@pytest.fixture
async def witness(tmp_path: Path) -> AsyncIterator[WitnessProcess]:
    process = await WitnessProcess(tmp_path).start()
    yield process
    process.kill()


@pytest.fixture
def group(tmp_path: Path) -> Group:
    return Group(tmp_path, "floor1")


@pytest.fixture
async def connect(witness: WitnessProcess) -> AsyncIterator[Connect]:
    """Connects nodes of groups to the witness, for the length of the test."""
    async with AsyncExitStack() as stack:

        async def one(group: Group, name: str) -> NodeSide:
            node = NodeSide(group, name)
            stack.push_async_callback(node.close)
            return await node.connect(witness)

        yield one


async def enrolled(witness: WitnessProcess, group: Group) -> Config:
    """The first config of an enrolled group."""
    result = await group.enrol(witness)
    return config_for(result.facts.incarnation)


def stored(witness: WitnessProcess, group: Group) -> RecordStore:
    return RecordStore(witness.config.groups_dir / group.name / "register", Machine.read())


async def test_grants_votes_and_status(
    witness: WitnessProcess, group: Group, connect: Connect
) -> None:
    config = await enrolled(witness, group)
    owner = await connect(group, "mse1")
    await owner.teach(config)
    other = await connect(group, "mse2")  # let in because a config names it
    sent_at = now()
    ack = await owner.renew(config, wait_ns=LONG_NS)
    assert ack.is_granted
    assert (ack.stamp.id, ack.stamp.incarnation) == (WITNESS, config.voters[2].incarnation)
    refused = await other.pre_vote(config)
    assert (refused.is_yes, refused.refusal, refused.owner_heard) == (False, Refusal.BOUND, True)
    assert sent_at + LONG_NS <= now() + refused.retry_ns <= now() + LONG_NS
    vote = Accept(other.stamp, Ballot(0, 5, "mse2"), config_for("x", owner="mse2", epoch=2), config)
    assert (await other.ask(vote, (Accepted, Refused))).refusal is Refusal.BOUND
    row = witness.row(group.name)
    assert (row.owner, row.mode, row.epoch, row.bound_to) == ("mse1", "SYNC", 1, "mse1")
    assert {node.name: node.is_linked for node in row.nodes} == {"mse1": True, "mse2": True}
    assert all(node.heard_s is not None and node.heard_s < 20 for node in row.nodes)


async def test_once_the_grant_has_run_out_the_other_node_gets_the_vote(
    witness: WitnessProcess, group: Group, connect: Connect
) -> None:
    config = await enrolled(witness, group)
    owner, other = await connect(group, "mse1"), None
    await owner.teach(config)
    other = await connect(group, "mse2")
    granted_at = now()
    assert (await owner.renew(config, wait_ns=SECOND // 2)).is_granted
    while not (await other.pre_vote(config)).is_yes:
        await asyncio.sleep(0.01)
    assert now() - granted_at >= SECOND // 2


async def test_a_release_frees_the_vote_at_once(
    witness: WitnessProcess, group: Group, connect: Connect
) -> None:
    config = await enrolled(witness, group)
    owner = await connect(group, "mse1")
    await owner.teach(config)
    other = await connect(group, "mse2")
    assert (await owner.renew(config, wait_ns=100 * SECOND)).is_granted
    owner.send(Released(owner.stamp, Release("mse1", 0, 1)))
    async with asyncio.timeout(20):
        while not (await other.pre_vote(config)).is_yes:
            pass


async def test_kill_after_the_answer_keeps_every_promise(
    witness: WitnessProcess, group: Group, connect: Connect
) -> None:
    await enrolled(witness, group)
    node = await connect(group, "mse1")
    for round_ in range(1, 8):
        ballot = Ballot(0, round_, "mse1")
        await node.ask(Prepare(node.stamp, ballot), Promise)
        witness.kill()
        on_disk = stored(witness, group).load()
        assert on_disk is not None
        assert on_disk.record.promised == ballot
        await witness.start()
        await node.reconnect(witness)
        outbid = await node.ask(Prepare(node.stamp, Ballot(0, round_, "a")), (Promise, Refused))
        assert (outbid.refusal, outbid.promised) == (Refusal.OUTBID, ballot)
    assert outbid.stamp.boot >= 8


async def test_a_restarted_witness_abstains_for_the_largest_wait_it_granted(
    witness: WitnessProcess, group: Group, connect: Connect
) -> None:
    config = await enrolled(witness, group)
    owner = await connect(group, "mse1")
    await owner.teach(config)
    other = await connect(group, "mse2")
    await owner.renew(config, wait_ns=LONG_NS)
    await owner.renew(config, wait_ns=SECOND // 10)
    witness.kill()
    killed_at = now()
    await witness.start()
    await other.reconnect(witness)
    answer = await other.pre_vote(config)
    assert (answer.refusal, answer.owner_heard) == (Refusal.ABSTAINS, False)
    vote = Accept(other.stamp, Ballot(0, 5, "mse2"), config_for("x", owner="mse2", epoch=2), config)
    assert (await other.ask(vote, (Accepted, Refused))).refusal is Refusal.ABSTAINS
    assert witness.row(group.name).abstains_s > 0
    while not (await other.pre_vote(config)).is_yes:
        await asyncio.sleep(0.02)
    assert now() - killed_at >= LONG_NS


async def test_a_restarted_witness_holding_a_release_told_again_does_not_abstain(
    witness: WitnessProcess, group: Group, connect: Connect
) -> None:
    config = await enrolled(witness, group)
    owner = await connect(group, "mse1")
    await owner.teach(config)
    other = await connect(group, "mse2")
    await owner.renew(config, wait_ns=100 * SECOND)
    witness.kill()
    await witness.start()
    await other.reconnect(witness)
    value = config_for(config.voters[2].incarnation, owner="mse2", epoch=2)
    vote = Accept(other.stamp, Ballot(0, 5, "mse2"), value, config, Release("mse1", 0, 1))
    assert isinstance(await other.ask(vote, (Accepted, Refused)), Accepted)


async def test_two_groups_know_nothing_of_each_other(
    witness: WitnessProcess, group: Group, tmp_path: Path, connect: Connect
) -> None:
    second = Group(tmp_path, "floor2")
    first_config, second_config = await enrolled(witness, group), await enrolled(witness, second)
    first, other = await connect(group, "mse1"), await connect(second, "mse1")
    await asyncio.gather(first.teach(first_config), other.teach(second_config, round_=3))
    assert (await first.renew(first_config)).is_granted
    rows = {row.group: row for row in witness.status().groups}
    assert (rows["floor1"].bound_to, rows["floor2"].bound_to) == ("mse1", None)
    assert first_config.voters[2].incarnation != second_config.voters[2].incarnation
    await asyncio.to_thread(witness.forget, "floor2")
    assert (await first.renew(first_config)).is_granted
    assert [row.group for row in witness.status().groups] == ["floor1"]
    assert not (witness.config.groups_dir / "floor2").exists()
    with pytest.raises(CommandRefused, match="keeps no group 'floor2'"):
        await asyncio.to_thread(witness.forget, "floor2")


async def test_a_damaged_record_is_refused_while_the_others_are_served(
    witness: WitnessProcess, group: Group, tmp_path: Path, connect: Connect
) -> None:
    second = Group(tmp_path, "floor2")
    config = await enrolled(witness, group)
    await enrolled(witness, second)
    witness.kill()
    record = witness.config.groups_dir / "floor2" / "register"
    damaged = record.read_bytes()[:-40]
    record.write_bytes(damaged)
    await witness.start()
    node = await connect(group, "mse1")
    await node.teach(config)
    assert (await node.renew(config)).is_granted
    row = witness.row("floor2")
    assert not row.is_served
    assert "is damaged" in row.trouble
    assert record.read_bytes() == damaged
    with pytest.raises(PairingError, match="cannot use what it kept"):
        await second.enrol(witness)
    await asyncio.to_thread(witness.forget, "floor2")
    await second.enrol(witness)
    assert witness.row("floor2").is_served


async def test_a_record_that_vanished_is_not_begun_anew(
    witness: WitnessProcess, group: Group
) -> None:
    await enrolled(witness, group)
    witness.kill()
    for path in (witness.config.groups_dir / group.name).glob("register*"):
        path.unlink()
    await witness.start()
    row = witness.row(group.name)
    assert not row.is_served
    assert "lost its memory" in row.trouble


async def test_forged_foreign_and_unknown_datagrams_change_nothing(
    witness: WitnessProcess, group: Group, tmp_path: Path, connect: Connect
) -> None:
    config = await enrolled(witness, group)
    owner = await connect(group, "mse1")
    await owner.teach(config)
    await owner.renew(config)
    before = (witness.config.groups_dir / group.name / "register").read_bytes()
    address = tuple(witness.status().addresses["udp"])
    forger = Group(tmp_path, group.name)  # the right name, a key of its own
    stranger = Group(tmp_path, "unknown")
    for liar in (forger, stranger):
        node = NodeSide(liar, "mse1")
        node.udp.open()
        node.udp.set_group(liar.name, "mse1", {WITNESS: (liar.key, address)})
        node.send(Released(node.stamp, Release("mse1", 0, 1)))
        await node.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for size in (0, 1, 30, 60, 300, 8000):
            sock.sendto(os.urandom(size), address)
            sock.sendto(b"OM\x01\x01" + os.urandom(size), address)
    wanted = {"forged", "unknown_party", "malformed"}
    await until(lambda: wanted <= set(witness.status().rejected_datagrams))
    assert (await owner.renew(config)).is_granted  # not released
    assert (witness.config.groups_dir / group.name / "register").read_bytes() == before


async def test_a_message_in_another_nodes_name_is_dropped(
    witness: WitnessProcess, group: Group, connect: Connect
) -> None:
    config = await enrolled(witness, group)
    owner = await connect(group, "mse1")
    await owner.teach(config)
    other = await connect(group, "mse2")
    other.send(Prepare(owner.stamp, Ballot(0, 50, "mse1")))
    promise = await other.ask(Prepare(other.stamp, Ballot(0, 2, "mse2")), (Promise, Refused))
    assert isinstance(promise, Promise)


async def test_a_node_that_forgot_is_told_so(
    witness: WitnessProcess, group: Group, connect: Connect
) -> None:
    config = await enrolled(witness, group)
    owner = await connect(group, "mse1")
    await owner.teach(config)
    changed = NodeSide(group, "mse1", incarnation="i-other")
    await changed.connect(witness)
    try:
        answer = await changed.ask(PreVote(changed.stamp, 1, 0, 1, "mse1"), PreVoteAnswer)
        assert answer.refusal is Refusal.FORGETFUL
    finally:
        await changed.close()


async def test_wrong_passwords_enrol_nothing_and_are_limited(
    witness: WitnessProcess, group: Group
) -> None:
    codes = []
    for _ in range(6):
        with pytest.raises(PairingError) as refused:
            await group.enrol(witness, password="a guessed password")
        codes.append(refused.value.code)
    assert codes[0] == "MSE-PAIR-004"
    assert codes[-1] == "MSE-PAIR-005"
    with pytest.raises(PairingError, match="refuses all for a while"):
        await group.enrol(witness, password=PASSWORD)
    assert witness.status().groups == ()
    assert list(witness.config.groups_dir.iterdir()) == []
    assert "guessed" not in witness.log.read_text()


async def test_a_group_of_another_authority_cannot_take_the_name_over(
    witness: WitnessProcess, group: Group, tmp_path: Path, connect: Connect
) -> None:
    config = await enrolled(witness, group)
    with pytest.raises(PairingError, match="under another authority"):
        await Group(tmp_path, group.name).enrol(witness)
    node = await connect(group, "mse1")
    await node.teach(config)
    assert (await node.renew(config)).is_granted


async def test_enrolling_again_keeps_the_memory(
    witness: WitnessProcess, group: Group, connect: Connect
) -> None:
    config = await enrolled(witness, group)
    node = await connect(group, "mse1")
    await node.teach(config)
    again = await group.enrol(witness, me="mse2")
    assert again.facts.incarnation == config.voters[2].incarnation
    assert witness.row(group.name).epoch == 1
    assert (await node.renew(config)).is_granted


async def test_stop_is_clean_and_a_second_witness_on_the_same_state_is_refused(
    witness: WitnessProcess, group: Group
) -> None:
    await enrolled(witness, group)
    command = [sys.executable, "-m", "openmse.witness", "--config", str(witness.path)]
    second = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=20, check=False
    )
    assert second.returncode == 1
    assert "Another daemon answers" in second.stderr
    assert witness.row(group.name).is_served
    assert witness.stop() == 0
    assert not witness.config.control_socket.exists()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
async def test_a_full_disk_costs_only_what_must_be_written(tmp_path: Path) -> None:
    witness, group = WitnessProcess(tmp_path, small_disk=True), Group(tmp_path, "floor1")
    node = NodeSide(group, "mse1")
    try:
        await witness.start()
        config = await enrolled(witness, group)
        await node.connect(witness)
        await node.teach(config)
        await node.renew(config)
        witness.fill_disk()
        node.send(Prepare(node.stamp, Ballot(0, 7, "mse1")))
        await until(lambda: "the disk is full" in witness.row(group.name).trouble)
        assert (await node.renew(config)).is_granted  # needs no writing
        assert (await node.pre_vote(config)).refusal is Refusal.NONE
        witness.free_disk()
        # the one that was lost was not promised:
        promise = await node.ask(Prepare(node.stamp, Ballot(0, 6, "mse1")), (Promise, Refused))
        assert isinstance(promise, Promise)
        assert witness.row(group.name).trouble == ""
    finally:
        await node.close()
        witness.kill()
