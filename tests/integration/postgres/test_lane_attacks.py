"""Schedules found by attacking the lane: what once ended a part of it unseen."""

import asyncio
import os
import signal

import psycopg
import pytest
from postgres_pair import Pair

from openmse.node.runtime.database_observer import FAILURE_CHARACTERS_MAX


async def test_a_role_with_a_name_in_latin1_blinds_nobody(pair: Pair) -> None:
    """Roles are shared by databases of different encodings, so such a name comes as raw bytes. It
    ended the task that probes disk and writes, unseen: a full disk was never noticed again."""
    one = await pair.primary()
    await one.sql("create database legacy encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'"
                  " template template0")  # fmt: skip
    connection = one.settings.monitor_conninfo.replace("'postgres'", "'legacy'")
    async with await psycopg.AsyncConnection.connect(
        connection, autocommit=True, client_encoding="utf8"
    ) as session:
        await session.execute('create role "café"')
        await session.execute('alter role "café" set synchronous_commit = off')
    one.lane._seen.health._round = 0  # the next round looks at roles
    await one.until_true(lambda: bool(one.lane.weak_sessions), 10)
    rounds = one.lane._seen.health._round
    await one.until_true(lambda: one.lane._seen.health._round > rounds + 1, 10)


async def test_a_watch_that_dies_of_a_mistake_ends_the_lane(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await pair.primary()

    async def mistaken() -> str:
        raise ValueError("a mistake")

    monkeypatch.setattr(one.lane._seen.health, "_check", mistaken)
    with pytest.raises(ValueError, match="a mistake"):
        await asyncio.wait_for(one.task, 5)


async def test_last_words_of_any_length_fit_into_a_heartbeat(pair: Pair) -> None:
    """PostgreSQL's last words are quoted to the other node with each heartbeat, and one that is
    too long is never sent: no lease and no release would leave this node any more."""
    one = await pair.primary(restart_budget=1, restart_window_s=30.0)
    local = one.settings.config_dir / "local.conf"
    local.write_text(f"shared_preload_libraries = '{'x' * 9000}'\n")
    os.kill(one.postmaster(), signal.SIGKILL)
    await one.until(lambda v: "xxx" in v.failure)
    assert len(one.view.failure) <= FAILURE_CHARACTERS_MAX
