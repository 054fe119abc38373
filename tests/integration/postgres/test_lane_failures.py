"""What dies, freezes or comes back: the lane's answers, against real servers."""

import asyncio
import contextlib
import os
import signal
import statistics

import psycopg
import pytest
from postgres_pair import FIRST, Node, Pair

from openmse.ha.local import DbProcess, DbRole, DbView, Stop
from openmse.node.drivers.postgres.process import server_processes


def is_serving(view: DbView) -> bool:
    return view.process is DbProcess.UP and view.role is DbRole.PRIMARY


@pytest.mark.alone
async def test_a_killed_server_is_back_at_once_with_a_fresh_barrier(pair: Pair) -> None:
    one, _two = await pair.in_sync()
    times = []
    for _ in range(3):
        before = one.view.barrier_lsn
        os.kill(one.postmaster(), signal.SIGKILL)
        seen = await one.until(lambda v: v.process is DbProcess.DOWN)
        back = await one.until(is_serving)
        assert one.view.names
        assert one.view.barrier_id == 1
        assert one.view.barrier_lsn > before
        streaming = await one.until(
            lambda v: v.peer_streaming and v.peer_flush_lsn >= v.barrier_lsn
        )
        times.append((seen, back, streaming))
    for seen, back, streaming in times:
        print(f"seen dead {seen:.4f} s, serving {back:.3f} s later, barrier {streaming:.3f} s")
    assert statistics.median(seen for seen, _, _ in times) < 0.1


async def test_a_server_that_keeps_dying_is_given_up(pair: Pair) -> None:
    one = await pair.primary(restart_budget=1, restart_window_s=30.0)
    for _ in range(2):
        await one.until(is_serving)
        os.kill(one.postmaster(), signal.SIGKILL)
        await one.until(lambda v: v.process is DbProcess.DOWN)
    await one.until(lambda v: not v.is_healthy)
    assert "died 2 times within 30 s" in one.view.failure
    await one.until(is_serving)  # tried again, more slowly


async def test_the_barrier_waits_for_a_frozen_checkpointer(pair: Pair) -> None:
    one = await pair.primary()
    await pair.standby()
    await one.until(lambda v: v.peer_streaming)
    ((checkpointer,),) = await one.sql(
        "select pid from pg_stat_activity where backend_type = 'checkpointer'"
    )
    os.kill(checkpointer, signal.SIGSTOP)
    try:
        one.want(role=DbRole.PRIMARY, lineage=FIRST, names=True, barrier_id=1)
        async with asyncio.timeout(20):
            while await one.sql("show synchronous_standby_names") != [('FIRST 1 ("mse2")',)]:
                await asyncio.sleep(0.02)
        await asyncio.sleep(1.0)
        assert not one.view.names
        assert one.view.barrier_id == 0
    finally:
        os.kill(checkpointer, signal.SIGCONT)
    await one.until(lambda v: v.names and v.barrier_id == 1)


async def test_going_alone_lets_the_waiters_go_and_only_then_says_so(pair: Pair) -> None:
    one, two = await pair.in_sync()
    await one.sql("create table t (x int)")
    os.kill(two.postmaster(), signal.SIGSTOP)
    for pid in await _walreceivers(two):
        os.kill(pid, signal.SIGSTOP)
    waiter = asyncio.create_task(one.sql("insert into t values (1)"))
    while not await one.sql("select 1 from pg_stat_activity where wait_event = 'SyncRep'"):
        assert not waiter.done()
    one.want(role=DbRole.PRIMARY, lineage=FIRST, names=False)
    took = await one.until(lambda v: not v.names)
    print(f"waiters let go {took:.3f} s")
    async with asyncio.timeout(20):  # mse2 is frozen: let go now, or never
        await waiter
    os.kill(two.postmaster(), signal.SIGKILL)


async def _walreceivers(node: Node) -> list[int]:
    return [pid for pid in server_processes(node.settings.data_dir) if pid != node.postmaster()]


async def test_a_second_lane_adopts_what_runs(pair: Pair) -> None:
    one, _two = await pair.in_sync()
    await one.sql("create table t (x int)")
    pid, before = one.postmaster(), one.view
    client = await one.connect()
    await one.close(leave_running=True)
    again = pair.node("mse1")
    await again.until(is_serving)
    assert again.postmaster() == pid
    assert again.view.names, "proven by the first, so not doubted by the second"
    assert (again.view.barrier_id, again.view.barrier_lsn) == (0, before.barrier_lsn)
    assert again.view.lineage == FIRST
    await client.execute("insert into t values (1)")
    await client.close()
    again.want(role=DbRole.PRIMARY, lineage=FIRST, names=True, barrier_id=1)
    os.kill(pid, signal.SIGKILL)
    await again.until(lambda v: v.process is DbProcess.DOWN)
    await again.until(is_serving)
    assert again.postmaster() != pid


async def test_a_crashed_backend_takes_the_whole_server_through_the_barrier(pair: Pair) -> None:
    one, _two = await pair.in_sync()
    client = await one.connect()
    backend = client.info.backend_pid
    os.kill(backend, signal.SIGKILL)
    await one.until(lambda v: v.process is DbProcess.DOWN)
    await one.until(lambda v: is_serving(v) and v.barrier_lsn > 0)
    with pytest.raises(psycopg.OperationalError):
        await client.execute("select 1")
    await client.close()


@pytest.mark.alone
async def test_an_immediate_stop_ends_even_a_frozen_server(pair: Pair) -> None:
    one = await pair.primary()
    _frozen(one)
    one.want(role=DbRole.DOWN, stop=Stop.IMMEDIATE)
    took = await one.until(lambda v: v.process is DbProcess.DOWN)
    print(f"frozen server ended {took:.3f} s")
    assert not server_processes(one.settings.data_dir)
    assert not one.view.is_clean
    assert took < 1.0


@pytest.mark.alone
async def test_a_fast_stop_is_made_immediate(pair: Pair) -> None:
    one = await pair.primary()
    os.kill(one.postmaster(), signal.SIGSTOP)
    one.want(role=DbRole.DOWN, stop=Stop.FAST)
    await one.until(lambda v: v.process is DbProcess.STOPPING)
    one.want(role=DbRole.DOWN, stop=Stop.IMMEDIATE)
    assert await one.until(lambda v: v.process is DbProcess.DOWN) < 1.0


async def test_a_server_that_does_not_answer_is_unhealthy(pair: Pair) -> None:
    one = await pair.primary(status_deadline_s=0.3, probe_deadline_s=0.3)
    pids = _frozen(one)
    await one.until(lambda v: not v.is_healthy)
    assert one.view.failure
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    await one.until(lambda v: v.is_healthy)


def _frozen(node: Node) -> list[int]:
    pids = server_processes(node.settings.data_dir)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # a session may have ended just now
            os.kill(pid, signal.SIGSTOP)
    return pids
