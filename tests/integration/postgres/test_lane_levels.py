"""The lane against real servers: creating, following, the gates, promoting, stopping."""

import time

from postgres_pair import FIRST, Pair

from openmse.ha.local import DbRole


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
