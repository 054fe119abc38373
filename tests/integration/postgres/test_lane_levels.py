"""The lane against real servers: creating, following, the gates, promoting, stopping."""

import asyncio
import time

from postgres_pair import FIRST, Pair

from openmse.ha.local import DbProcess, DbRole, Receiver


async def test_a_new_primary_serves_and_its_peer_follows(pair: Pair) -> None:
    began = time.monotonic()
    one = await pair.primary()
    print(f"create and start {time.monotonic() - began:.3f} s")
    await one.sql("create table t (x int)")
    await one.sql("insert into t values (7)")
    began = time.monotonic()
    two = await pair.standby()
    print(f"base backup and streaming {time.monotonic() - began:.3f} s")
    await one.until(lambda v: v.peer_streaming)
    assert two.view.is_complete
    assert two.view.lineage == FIRST
    assert two.view.names, "a standby's names are set and proven ahead of a promotion"
    target = one.view.end_lsn
    await two.until(lambda v: v.end_lsn >= target)
    assert await two.sql("select x from t") == [(7,)]
    assert any(view.progress_percent >= 0 for _, view in two.history)
    took = time.monotonic()
    one.want(role=DbRole.PRIMARY, lineage=FIRST, names=True, barrier_id=5)
    await one.until(lambda v: v.barrier_id == 5)
    print(f"sync gate {time.monotonic() - took:.3f} s")
    assert one.view.names
    await one.until(lambda v: v.peer_flush_lsn >= v.barrier_lsn > 0)


async def test_an_interrupted_creation_is_begun_again(pair: Pair) -> None:
    one = pair.node("mse1")
    await one.until(lambda v: v.role is DbRole.DOWN)
    creating = asyncio.create_task(one.lane.create_primary(FIRST))
    while not one.settings.data_dir.exists():
        await asyncio.sleep(0.001)
    creating.cancel()
    await asyncio.gather(creating, return_exceptions=True)
    assert one.view.role is DbRole.DOWN
    assert not one.view.is_complete
    await one.lane.create_primary(FIRST)
    one.want(role=DbRole.PRIMARY, lineage=FIRST)
    await one.until(lambda v: v.process is DbProcess.UP)


async def test_weak_sessions_and_cancelled_waits_are_counted(pair: Pair) -> None:
    one, two = await pair.in_sync(probe_interval_s=0.05)
    await one.sql("create table t (x int)")
    await one.sql("create role hasty; alter role hasty set synchronous_commit = off")
    two.want(role=DbRole.STANDBY, lineage=FIRST, names=True, receiver=False)
    await two.until(lambda v: v.receiver is Receiver.CUT)
    write = asyncio.create_task(one.sql("insert into t values (1)"))
    cancel = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"
    while not write.done():
        await one.sql(cancel)
    await write
    await one.until_true(lambda: one.lane.cancelled_waits == 1)
    await one.until_true(lambda: one.lane.weak_sessions == ("role hasty",))
    assert one.lane.unsettled_waits == 1, "the peer does not have it yet"
    two.want(role=DbRole.STANDBY, lineage=FIRST, names=True, receiver=True)
    await one.until_true(lambda: one.lane.unsettled_waits == 0)
    assert one.lane.cancelled_waits == 1, "it happened"
