"""Licences and UDIs through the database of a real pair, and its size and sessions."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_pair import Node, Pair

from openmse.node.config import DatabaseSection, NodeConfig, NodeSection, PathsSection, Role
from openmse.node.drivers.postgres.settings import peer_conninfo
from openmse.node.group import GroupInfo, NodeInfo
from openmse.node.runtime.database_settings import instance_settings
from openmse.platform import peers
from openmse.platform.exchange import Exchanged, ExchangeError, Right, reconcile
from openmse.platform.status import database

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "platform"))

from licensing import PHYSICAL, STRANGER, Deployment, licence

OWNER = Right(is_serving=True, is_peer_owner=False)
STANDBY = Right(is_serving=False, is_peer_owner=True)
NOBODY = Right(is_serving=False, is_peer_owner=False)
UDIS = {"mse1": PHYSICAL, "mse2": STRANGER}


class Site:
    """The two nodes of a pair as the exchange sees them."""

    def __init__(self, pair: Pair, deployment: Deployment) -> None:
        self.deployment = deployment
        self.group = GroupInfo(
            "0123456789ab",
            "mse1",
            tuple(
                NodeInfo(name, address, database_port=pair.settings[name].port)
                for name, address in pair.addresses.items()
            ),
            ("10.10.10.10/24",),
        )
        self.configs = {name: self._config(pair, name) for name in pair.settings}

    def _config(self, pair: Pair, name: str) -> NodeConfig:
        settings, base = pair.settings[name], pair.root / f"{name}-machine"
        keys = base / "state" / "pki" / "postgres"
        keys.mkdir(parents=True)
        (base / "run").mkdir()
        (base / "run" / "postgres").symlink_to(settings.socket_dir)
        for link, target in (
            ("replication.crt", settings.tls.client_cert),
            ("replication.key", settings.tls.client_key),
            ("ca.crt", settings.tls.authority),
        ):
            (keys / link).symlink_to(target)
        return NodeConfig(
            node=NodeSection(
                name=name,
                role=Role.PRIMARY if name == "mse1" else Role.SECONDARY,
                address=f"{pair.addresses[name]}/8",
            ),
            database=DatabaseSection(port=settings.port),
            paths=PathsSection(state_dir=str(base / "state"), run_dir=str(base / "run")),
        )

    def engine(self, name: str) -> Any:
        other = "mse2" if name == "mse1" else "mse1"
        return self.deployment.engine(UDIS[name], name=name, peers={other: UDIS[other]})

    def limit(self, name: str) -> int:
        found: int = self.engine(name).limits().limits[0].limit
        return found

    async def meet(self, name: str, may: Right) -> Exchanged:
        """As ``mse license sync`` does, beside the running loop."""
        return await asyncio.to_thread(
            reconcile, self.engine(name), self.configs[name], self.group, may
        )


@pytest.fixture
async def site(pair: Pair, tmp_path: Path) -> Site:
    return Site(pair, Deployment(tmp_path))


async def replayed(one: Node, two: Node) -> None:
    """The copy shows what the owner has committed."""
    (position,) = (await one.sql("select pg_current_wal_lsn()"))[0]
    statement = f"select pg_last_wal_replay_lsn() >= '{position}'"
    async with asyncio.timeout(20):
        while (await two.sql(statement))[0] != (True,):
            await asyncio.sleep(0.01)


async def test_both_nodes_come_to_the_same(pair: Pair, site: Site) -> None:
    one, two = await pair.in_sync()
    sign = site.deployment.sign
    site.engine("mse1").install(sign(licence(1, quantity=10)))
    done = await site.meet("mse1", OWNER)
    assert (done.is_shared, done.given) == (True, 1)
    await replayed(one, two)
    site.engine("mse2").install(sign(licence(2, quantity=20)))
    done = await site.meet("mse2", STANDBY)  # over TLS, to the owner's server
    assert (done.is_shared, done.taken, done.given) == (True, 1, 1)
    done = await site.meet("mse1", OWNER)
    assert (done.taken, done.given) == (1, 0)
    assert (site.limit("mse1"), site.limit("mse2")) == (130, 130)
    for name, config in site.configs.items():
        told = peers.read(config.places.state_dir)
        assert (name, told["mse1"].udi) == (name, PHYSICAL)
    assert peers.read(site.configs["mse1"].places.state_dir)["mse2"].udi == STRANGER
    site.engine("mse2").remove(f"{1:016x}")  # on the node that does not own
    await site.meet("mse2", STANDBY)
    await site.meet("mse1", OWNER)
    assert (site.limit("mse1"), site.limit("mse2")) == (120, 120)
    await replayed(one, two)
    for name, may in (("mse1", OWNER), ("mse2", STANDBY), ("mse1", NOBODY)):
        done = await site.meet(name, may)  # nothing is left to be done, so nothing is asked for
        assert (done.is_shared, done.taken, done.given) == (True, 0, 0)


async def test_nothing_is_written_by_a_node_that_does_not_serve(pair: Pair, site: Site) -> None:
    one = await pair.primary()
    site.engine("mse1").install(site.deployment.sign(licence(1, quantity=10)))
    with pytest.raises(ExchangeError, match="does not serve now"):
        await site.meet("mse1", NOBODY)
    exists = "select count(*) from pg_namespace where nspname = 'openmse_platform'"
    assert await one.sql(exists) == [(0,)]
    done = await site.meet("mse1", OWNER)  # the other node does not follow: said, not waited for
    assert (done.is_shared, done.given) == (False, 1)
    assert "as soon as it follows again" in done.sentence
    assert site.limit("mse1") == 110


async def test_a_row_is_no_proof(pair: Pair, site: Site, tmp_path: Path) -> None:
    """What stands in the database counts as little as a file until its signature is genuine."""
    one = await pair.primary()
    await site.meet("mse1", OWNER)
    line = '{"first_installed":"2026-01-31","is_removed":false,"changed_at":"2026"}'
    foreign = Deployment(tmp_path / "other").sign(licence(7, quantity=9)).decode()
    table = "openmse_platform.licence"
    await one.sql(f"insert into {table} values ('{7:016x}', '{foreign}', '{line}')")
    genuine = site.deployment.sign(licence(8, quantity=9)).decode()
    await one.sql(f"insert into {table} values ('{9:016x}', '{genuine}', '{line}')")
    await one.sql(f"insert into {table} values ('x', 'y', 'z')")
    await one.sql("insert into openmse_platform.node values ('mse2', '{')")
    done = await site.meet("mse1", OWNER)
    assert (done.taken, site.limit("mse1")) == (0, 100)
    assert site.engine("mse1").look()[1] == ()


async def test_the_other_nodes_role_may_use_its_two_tables_only(pair: Pair, site: Site) -> None:
    await pair.in_sync()
    await site.meet("mse1", OWNER)
    config = site.configs["mse2"]
    target = peer_conninfo(instance_settings(config, site.group), purpose="platform")

    def allowed(statement: str) -> bool:
        with psycopg.connect(target) as connection:
            try:
                connection.execute(statement)  # type: ignore[arg-type]
            except psycopg.errors.InsufficientPrivilege:
                return False
            finally:
                connection.rollback()
        return True

    assert await asyncio.to_thread(allowed, "select * from openmse_platform.node")
    for statement in (
        "delete from openmse_platform.node",
        "create table openmse_platform.more (n int)",
        "create table public.more (n int)",
    ):
        assert not await asyncio.to_thread(allowed, statement)


async def test_size_and_sessions(pair: Pair) -> None:
    one = await pair.primary()
    settings = one.settings
    found = await asyncio.to_thread(database.read, settings.socket_dir, settings.port)
    assert found is not None
    assert found.size_bytes > 10_000_000
    assert found.sessions == ()  # those of the health monitor and our own are nobody's
