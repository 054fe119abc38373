"""Schedules found by attacking the lane: what once ended a part of it unseen."""

import asyncio
import os
import signal
import subprocess

import psycopg
import pytest
from postgres_pair import FIRST, Pair

from openmse.ha.local import DbRole, Receiver, Rung
from openmse.node.drivers.postgres.settings import peer_conninfo
from openmse.node.drivers.postgres.tools import (
    clean_environment,
    locate_binaries,
    resolve_account,
)
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


async def test_a_base_backup_of_a_dead_health_monitor_writes_into_no_later_copy(
    pair: Pair,
) -> None:
    """It outlived the health monitor that had started it, until its next line of progress met a
    broken pipe, and wrote older pages into the very directory that the next one was filling."""
    await pair.primary()
    settings = pair.settings["mse2"]
    copy = settings.data_dir.with_name(settings.data_dir.name + ".new")
    copy.parent.mkdir(parents=True)
    copy.mkdir(mode=0o700)
    binaries = locate_binaries("")
    account = resolve_account(settings.unix_user)
    if not account.is_self:
        for path in (copy.parent, copy):
            os.chown(path, account.uid, account.gid)
    orphan = subprocess.Popen(  # noqa: ASYNC220
        [
            binaries.program("pg_basebackup"),
            f"--pgdata={copy}",
            f"--dbname={peer_conninfo(settings, purpose='backup')}",
            "--max-rate=32k",  # it would go on for minutes
        ],
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **account.switch,  # type: ignore[call-overload]
    )
    try:
        two = pair.node("mse2")
        await two.until_true(lambda: (copy / "backup_label").exists() or bool(os.listdir(copy)))
        assert orphan.poll() is None
        two.want(role=DbRole.STANDBY, lineage=FIRST, names=True, rung=Rung.REBUILD)
        await two.until(lambda v: v.receiver is Receiver.STREAMING, 60)
        assert orphan.poll() == -signal.SIGKILL
    finally:
        orphan.kill()
        orphan.wait()
