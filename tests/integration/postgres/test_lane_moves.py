"""Takeovers, handovers and the rejoin ladder between two real servers."""

import asyncio
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from postgres_pair import FIRST, Node, Pair

from openmse.ha.local import DbProcess, DbRole, DbView, Receiver, Rung, Stop
from openmse.ha.values import Lineage
from openmse.node.drivers.postgres.sidecar import Sidecar

TAKEN = Lineage(0, 2, "mse2")
BACK = Lineage(0, 3, "mse1")
LAST = Lineage(0, 4, "mse2")


def is_serving(view: DbView) -> bool:
    return view.process is DbProcess.UP and view.role is DbRole.PRIMARY


async def cut(node: Node, upstream: Lineage = FIRST, names: bool = False) -> float:
    node.want(role=DbRole.STANDBY, lineage=upstream, names=names, receiver=False)
    return await node.until(lambda v: v.receiver is Receiver.CUT)


async def take_over(node: Node, lineage: Lineage = TAKEN, parent: Lineage = FIRST) -> int:
    """Cut and promote; the fork LSN."""
    cut_s = await cut(node, parent)
    fork = node.view.end_lsn
    node.want(role=DbRole.PRIMARY, lineage=lineage, parent_lineage=parent)
    promote_s = await node.until(is_serving)
    print(f"cut {cut_s:.3f} s, promote {promote_s:.3f} s")
    assert node.view.lineage == lineage
    return fork


async def test_a_cut_standby_confirms_nothing_more_and_can_receive_again(pair: Pair) -> None:
    one, two = await pair.in_sync()
    await one.sql("create table t (x int)")
    await cut(two, names=True)
    write = asyncio.create_task(one.sql("insert into t values (1)"))
    while not await one.sql("select 1 from pg_stat_activity where wait_event = 'SyncRep'"):
        assert not write.done()
    await asyncio.sleep(0.2)
    assert not write.done()
    two.want(role=DbRole.STANDBY, lineage=FIRST, names=True)
    took = await two.until(lambda v: v.receiver is Receiver.STREAMING)
    print(f"receiving again {took:.3f} s")
    async with asyncio.timeout(20):
        await write


async def test_takeover_then_the_old_owner_is_rewound(pair: Pair) -> None:
    one, two = await pair.in_sync()
    await one.sql("create table t (x int)")
    await one.sql("insert into t values (1)")
    await cut(two)
    # Unacknowledged, and only here: what a rewind removes.
    connection = await one.connect()
    await connection.execute("set synchronous_commit = local")
    await connection.execute("insert into t select 2 from generate_series(1, 1000)")
    await connection.close()
    os.kill(one.postmaster(), signal.SIGKILL)
    one.want(role=DbRole.DOWN)
    await one.until(lambda v: v.process is DbProcess.DOWN)
    fork = await take_over(two)
    await two.sql("insert into t values (3)")
    wanted = {
        "role": DbRole.STANDBY,
        "lineage": TAKEN,
        "parent_lineage": FIRST,
        "fork_lsn": fork,
        "names": True,
    }
    one.want(**wanted)
    await one.until(lambda v: v.rung_needed is Rung.REWIND)
    assert one.view.lineage == FIRST
    assert one.view.process is DbProcess.DOWN
    began = time.monotonic()
    one.want(**wanted, rung=Rung.REWIND)
    await one.until(lambda v: v.receiver is Receiver.STREAMING)
    print(f"rewind and streaming {time.monotonic() - began:.3f} s")
    assert one.view.lineage == TAKEN
    assert one.view.is_complete
    target = two.view.end_lsn
    await one.until(lambda v: v.end_lsn >= target)
    assert await one.sql("select x from t order by x") == [(1,), (3,)]
    (kept,) = (one.settings.state_dir / "divergent").iterdir()
    summary = json.loads((kept / "summary.json").read_text())
    assert summary["segments"]
    assert "Heap" in summary["records"]


async def hand_over(old: Node, new: Node, lineage: Lineage, parent: Lineage) -> int:
    """A planned change of owner without the health monitor's checkpoint; the fork's LSN."""
    old.want(role=DbRole.DOWN, stop=Stop.FAST)
    await old.until(lambda v: v.process is DbProcess.DOWN)
    end = old.view.end_lsn
    await new.until(lambda v: v.end_lsn >= end)
    new.want(role=DbRole.STANDBY, lineage=parent, names=True, receiver=False)
    await new.until(lambda v: v.receiver is Receiver.CUT)
    fork = new.view.end_lsn
    new.want(role=DbRole.PRIMARY, lineage=lineage, parent_lineage=parent, names=True)
    old.want(role=DbRole.STANDBY, lineage=lineage, parent_lineage=parent, fork_lsn=fork, names=True)
    await new.until(is_serving)
    await old.until(lambda v: v.receiver is Receiver.STREAMING)
    return fork


async def test_a_tail_is_found_although_the_last_checkpoint_is_of_an_older_timeline(
    pair: Pair,
) -> None:
    """After a promotion the control file's checkpoint is of the old timeline for minutes: the end
    of our history was read there, before the fork, and the rejoin streamed for ever in vain (seen
    in the bench: switched over and back, frozen 40 s later)."""
    one, two = await pair.in_sync()
    await one.sql("create table t (x int)")
    await hand_over(one, two, TAKEN, FIRST)
    await two.sql("insert into t values (1)")
    # A large database's checkpoint takes minutes; this one is given none.
    pid_of = "select pid from pg_stat_activity where backend_type = 'checkpointer'"
    checkpointer = int(str((await one.sql(pid_of))[0][0]))
    os.kill(checkpointer, signal.SIGSTOP)
    await hand_over(two, one, BACK, TAKEN)
    await one.sql("insert into t values (2)")
    two.want(role=DbRole.STANDBY, lineage=BACK, parent_lineage=TAKEN, names=True, receiver=False)
    await two.until(lambda v: v.receiver is Receiver.CUT)
    connection = await one.connect()
    await connection.execute("set synchronous_commit = local")
    await connection.execute("insert into t values (3)")  # unacknowledged, and only here
    await connection.close()
    fork = two.view.end_lsn
    two.want(role=DbRole.PRIMARY, lineage=LAST, parent_lineage=BACK)
    await two.until(is_serving)
    os.kill(one.postmaster(), signal.SIGKILL)
    os.kill(checkpointer, signal.SIGKILL)
    one.want(role=DbRole.DOWN)
    await one.until(lambda v: v.process is DbProcess.DOWN)
    wanted = {
        "role": DbRole.STANDBY,
        "lineage": LAST,
        "parent_lineage": BACK,
        "fork_lsn": fork,
        "names": True,
    }
    one.want(**wanted)
    await one.until(lambda v: v.rung_needed is Rung.REWIND)
    one.want(**wanted, rung=Rung.REWIND)
    await one.until(lambda v: v.receiver is Receiver.STREAMING)
    target = two.view.end_lsn
    await one.until(lambda v: v.end_lsn >= target)
    assert await one.sql("select x from t order by x") == [(1,), (2,)]
    kept = sorted((one.settings.state_dir / "divergent").iterdir())[-1]
    summary = json.loads((kept / "summary.json").read_text())
    assert summary["segments"]
    assert "Heap" in summary["records"], "what was removed is kept, from the right timeline"


async def test_a_crashed_owner_with_nothing_of_its_own_just_follows(pair: Pair) -> None:
    one, two = await pair.in_sync()
    await one.sql("create table t (x int)")
    os.kill(one.postmaster(), signal.SIGKILL)
    one.want(role=DbRole.DOWN)
    await one.until(lambda v: v.process is DbProcess.DOWN)
    fork = await take_over(two)
    began = time.monotonic()
    one.want(role=DbRole.STANDBY, lineage=TAKEN, parent_lineage=FIRST, fork_lsn=fork, names=True)
    await one.until(lambda v: v.receiver is Receiver.STREAMING)
    print(f"following {time.monotonic() - began:.3f} s")
    assert one.view.lineage == TAKEN
    assert one.view.is_complete


async def test_an_unrelated_history_is_rebuilt_and_the_old_kept(pair: Pair) -> None:
    one, two = await pair.in_sync()
    os.kill(one.postmaster(), signal.SIGKILL)
    one.want(role=DbRole.DOWN)
    await one.until(lambda v: v.process is DbProcess.DOWN)
    fork = await take_over(two)
    wanted = {
        "role": DbRole.STANDBY,
        "lineage": TAKEN,
        "parent_lineage": Lineage(0, 9, "mse2"),
        "fork_lsn": fork,
        "names": True,
    }
    one.want(**wanted, rung=Rung.REWIND)
    await one.until(lambda v: v.rung_needed is Rung.REBUILD)
    one.want(**wanted, rung=Rung.REBUILD)
    await one.until(lambda v: v.receiver is Receiver.STREAMING, 60)
    assert one.view.is_complete
    assert len(list(one.settings.data_dir.parent.glob("data.old-*"))) == 1


def _system_installation() -> str:
    """``bin`` of the newest PostgreSQL that Debian's packages have put on this machine; or ''."""
    return str(max(Path("/usr/lib/postgresql").glob("1[5-9]/bin"), default=""))


@pytest.mark.parametrize(
    "bin_dir",
    [
        "",
        pytest.param(
            _system_installation(),
            marks=pytest.mark.skipif(
                not _system_installation(), reason="needs Debian's postgresql-15 or newer"
            ),
        ),
    ],
    ids=["ours", "system"],
)
async def test_switchover_and_back(pair: Pair, bin_dir: str) -> None:
    """With the server of the product, and with a system installation (``database.bin_dir``)."""
    for name, settings in pair.settings.items():
        pair.settings[name] = replace(settings, bin_dir=bin_dir)
    one, two = await pair.in_sync()
    major = str(await one.sql("show server_version_num"))
    assert not bin_dir or Path(bin_dir).parent.name in major
    await one.sql("create table t (x int)")
    lineages = [FIRST, TAKEN, BACK]
    nodes = [one, two, one]
    for step in (1, 2):
        old, new = nodes[step - 1], nodes[step]
        parent, lineage = lineages[step - 1], lineages[step]
        client = await old.connect()
        await old.sql(f"insert into t values ({step})")
        await old.lane.checkpoint()
        began = time.monotonic()
        old.want(role=DbRole.DOWN, stop=Stop.FAST)
        stop_s = await old.until(lambda v: v.process is DbProcess.DOWN)
        assert old.view.is_clean
        end = old.view.end_lsn
        held_s = await new.until(lambda v, end=end: v.end_lsn >= end)
        new.want(role=DbRole.STANDBY, lineage=parent, names=True, receiver=False)
        cut_s = await new.until(lambda v: v.receiver is Receiver.CUT)
        fork = new.view.end_lsn
        assert fork == end, "the shutdown checkpoint is the last thing both hold"
        new.want(role=DbRole.PRIMARY, lineage=lineage, parent_lineage=parent, names=True)
        old.want(
            role=DbRole.STANDBY, lineage=lineage, parent_lineage=parent, fork_lsn=fork, names=True
        )
        promote_s = await new.until(is_serving)
        assert new.view.names
        assert new.view.barrier_lsn > 0
        await old.until(lambda v: v.process is DbProcess.UP)
        rejoin_s = time.monotonic() - began
        await new.until(lambda v: v.peer_flush_lsn >= v.barrier_lsn)
        total_s = time.monotonic() - began
        print(
            f"stop {stop_s:.3f} held {held_s:.3f} cut {cut_s:.3f} promote {promote_s:.3f} "
            f"old up {rejoin_s:.3f} in sync {total_s:.3f} s"
        )
        await client.close()
    assert await one.sql("select x from t order by x") == [(1,), (2,)]


async def test_a_stopped_standby_is_promoted_without_ever_receiving(pair: Pair) -> None:
    one, two = await pair.in_sync()
    await one.sql("create table t (x int)")
    two.want(role=DbRole.DOWN)
    await two.until(lambda v: v.process is DbProcess.DOWN)
    two.want(role=DbRole.PRIMARY, lineage=TAKEN, parent_lineage=FIRST)
    await two.until(is_serving)
    assert not any(
        view.receiver is Receiver.STREAMING
        for _, view in two.history[-20:]
        if view.lineage == TAKEN
    )
    assert await two.sql("select count(*) from t") == [(0,)]


async def test_a_standby_left_too_far_behind_is_rebuilt(pair: Pair) -> None:
    one, two = await pair.in_sync()
    await one.sql("create table t (x int)")
    one.want(role=DbRole.PRIMARY, lineage=FIRST)
    await one.until(lambda v: not v.names)
    two.want(role=DbRole.DOWN)
    await two.until(lambda v: v.process is DbProcess.DOWN)
    # As after a long absence: the slot has given up, the segments are gone.
    await one.sql("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
    first = await one.sql("select pg_walfile_name(pg_current_wal_lsn())")
    for _ in range(3):
        await one.sql("insert into t values (1)")
        await one.sql("select pg_switch_wal()")
        await one.sql("checkpoint")
    for path in (one.settings.data_dir / "pg_wal").glob("0*"):
        if path.name <= str(first[0][0]):
            path.unlink()
    wanted = {"role": DbRole.STANDBY, "lineage": FIRST, "names": True}
    two.want(**wanted)
    await two.until(lambda v: v.rung_needed is Rung.REBUILD)
    assert two.view.process is DbProcess.UP, "it goes on serving reads until it may be replaced"
    two.want(**wanted, rung=Rung.REBUILD)
    await two.until(lambda v: v.receiver is Receiver.STREAMING, 60)
    assert two.view.rung_needed is Rung.STREAM


async def test_a_health_monitor_that_dies_in_a_promotion_finds_out_what_became_of_it(
    pair: Pair,
) -> None:
    one, two = await pair.in_sync()
    one.want(role=DbRole.DOWN, stop=Stop.IMMEDIATE)
    await one.until(lambda v: v.process is DbProcess.DOWN)
    await cut(two)
    two.want(role=DbRole.PRIMARY, lineage=TAKEN, parent_lineage=FIRST)
    while True:
        record = Sidecar(two.settings.state_dir).read_record()
        if record is not None and record.promoting_to == TAKEN:
            break
        await asyncio.sleep(0)
    await two.close(leave_running=True)
    again = pair.node("mse2")
    await again.until(lambda v: v.process is DbProcess.UP)
    again.want(role=DbRole.PRIMARY, lineage=TAKEN, parent_lineage=FIRST)
    await again.until(lambda v: is_serving(v) and v.lineage == TAKEN)
    settled = Sidecar(two.settings.state_dir).read_record()
    assert settled is not None
    assert settled.parent_lineage == FIRST
    assert settled.promoting_to is None
