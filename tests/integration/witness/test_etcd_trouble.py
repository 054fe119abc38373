"""The etcd driver when etcd is lost, forgetful, damaged or guarded, against a real etcd."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from etcd_nodes import (
    ANSWER_S,
    WAIT_NS,
    Node,
    dropped,
    running,
    sync_config,
    teach,
)
from etcd_server import Etcd

from openmse.ha.messages import (
    Prepare,
    Promise,
    Refused,
)
from openmse.ha.values import (
    Ballot,
)
from openmse.node.drivers.witness import etcd_state
from openmse.node.drivers.witness.etcd_client import EtcdClient, EtcdSettings


async def test_promises_outlive_a_crash_of_etcd(make_etcd: Callable[..., Etcd], group: str) -> None:
    server = make_etcd()
    node = Node("mse1", server.url, group)
    async with running(node):
        assert isinstance(await node.ask(Prepare(node.stamp, Ballot(0, 7, "mse1"))), Promise)
        server.kill()
        await dropped(node, Prepare(node.stamp, Ballot(0, 8, "mse1")))
        assert "did not do what was asked" in node.driver.status.trouble
        assert node.answers.empty()
        await asyncio.to_thread(server.start)
        answer = await node.ask(Prepare(node.stamp, Ballot(0, 6, "mse1")))
        assert isinstance(answer, Refused)
        assert answer.promised == Ballot(0, 7, "mse1")
        assert node.driver.status.trouble == ""


async def test_a_wiped_etcd_comes_back_as_a_voter_nobody_knows(
    make_etcd: Callable[..., Etcd], group: str
) -> None:
    server = make_etcd()
    node = Node("mse1", server.url, group)
    async with running(node):
        await teach(node, sync_config())
        first = node.driver.status.incarnation
        server.kill()
        server.restore_data(None)
        await asyncio.to_thread(server.start)
        ack = await node.renew(sync_config())
        assert not ack.is_granted
        assert ack.stamp.incarnation != first


async def test_an_etcd_that_went_back_in_time_comes_back_as_a_voter_nobody_knows(
    make_etcd: Callable[..., Etcd], group: str
) -> None:
    server = make_etcd()
    node = Node("mse1", server.url, group)
    async with running(node):
        await teach(node, sync_config())
        first = node.driver.status.incarnation
        server.kill()
        old = server.copy_data("old")
        await asyncio.to_thread(server.start)
        assert isinstance(await node.ask(Prepare(node.stamp, Ballot(0, 7, "mse1"))), Promise)
        server.kill()
        server.restore_data(old)
        await asyncio.to_thread(server.start)
        answer = await node.ask(Prepare(node.stamp, Ballot(0, 6, "mse1")))
        assert answer.stamp.incarnation != first


@pytest.mark.alone
async def test_a_hanging_etcd_costs_a_deadline_and_not_the_node(
    make_etcd: Callable[..., Etcd], group: str
) -> None:
    server = make_etcd()
    deadline_s = EtcdSettings(endpoints=()).request_timeout_s
    node = Node("mse1", server.url, group, request_timeout_s=deadline_s)  # type: ignore[arg-type]
    async with running(node):
        await teach(node, sync_config())
        server.freeze()
        try:
            began = asyncio.get_running_loop().time()
            await dropped(node, node.beat(sync_config()))
            assert asyncio.get_running_loop().time() - began < 2.0
        finally:
            server.thaw()
        async with asyncio.timeout(ANSWER_S):
            while not (await node.renew(sync_config())).is_granted:
                pass


async def test_a_dead_endpoint_is_left_for_the_next(
    etcd: Etcd, make_etcd: Callable[..., Etcd], group: str
) -> None:
    dead = make_etcd()
    dead.kill()
    node = Node("mse1", (dead.url, etcd.url), group)
    async with running(node):
        await teach(node, sync_config())
        assert (await node.renew(sync_config())).is_granted


async def test_a_damaged_key_is_refused_with_a_sentence_and_left_as_it_is(
    pair: tuple[Node, Node], group: str
) -> None:
    owner, _ = pair
    keys = etcd_state.Keys(owner.settings.prefix, group)
    async with running(owner), EtcdClient(owner.settings) as client:
        await teach(owner, sync_config())
        revision = (await client.read(keys.folder)).keys[keys.record].mod_revision
        await client.swap(keys.folder, {keys.record: revision}, {keys.record: b'{"record":'})
        await dropped(owner, Prepare(owner.stamp, Ballot(0, 9, "mse1")))
        assert f"{keys.record} in etcd is damaged" in owner.driver.status.trouble
        assert (await client.read(keys.folder)).keys[keys.record].value == b'{"record":'
        assert owner.answers.empty()


async def test_another_voter_name_is_refused(etcd: Etcd, group: str) -> None:
    await Node("mse1", etcd.url, group).driver.identity()
    stranger = Node("mse2", etcd.url, group, voter="other")
    async with running(stranger):
        await dropped(stranger, Prepare(stranger.stamp, Ballot(0, 1, "mse2")))
        assert "under the name etcd, not other" in stranger.driver.status.trouble


async def test_password_and_token(
    make_etcd: Callable[..., Etcd], group: str, tmp_path: Path
) -> None:
    server = make_etcd()
    password = tmp_path / "password"
    password.write_text("s3cret-of-etcd\n")
    async with EtcdClient(EtcdSettings(endpoints=(server.url,))) as admin:
        for path, body in (
            ("auth/user/add", {"name": "root", "password": "s3cret-of-etcd"}),
            ("auth/role/add", {"name": "root"}),
            ("auth/user/grant", {"user": "root", "role": "root"}),
            ("auth/enable", {}),
        ):
            await _administer(admin, path, body)
    known = Node("mse1", server.url, group, username="root", password_file=str(password))
    unknown = Node("mse1", server.url, group)
    async with running(known, unknown):
        await teach(known, sync_config())
        await dropped(unknown, unknown.beat(sync_config()))
        assert "user name is empty" in unknown.driver.status.trouble
        password.write_text("wrong")
        wrong = Node("mse2", server.url, group, username="root", password_file=str(password))
        async with running(wrong):
            await dropped(wrong, wrong.beat(sync_config()))
            assert "did not do what was asked" in wrong.driver.status.trouble
            assert "wrong" not in wrong.driver.status.trouble.replace("wrong password", "")


async def _administer(client: EtcdClient, path: str, body: object) -> None:
    import httpx

    async with httpx.AsyncClient(trust_env=False) as http:
        await http.post(f"{client.endpoint}/v3/{path}", content=json.dumps(body))


async def test_mutual_tls(make_etcd: Callable[..., Etcd], group: str, tmp_path: Path) -> None:
    _openssl_authority(tmp_path)
    server = make_etcd(
        f"--cert-file={tmp_path}/leaf.crt",
        f"--key-file={tmp_path}/leaf.key",
        f"--trusted-ca-file={tmp_path}/ca.crt",
        "--client-cert-auth",
    )
    files = {"cert_file": f"{tmp_path}/leaf.crt", "key_file": f"{tmp_path}/leaf.key"}
    trusted = Node("mse1", server.url, group, ca_file=f"{tmp_path}/ca.crt", **files)
    stranger = Node("mse1", server.url, group, ca_file=f"{tmp_path}/ca.crt")
    deceived = Node("mse1", server.url, group, **files)
    async with running(trusted, stranger, deceived):
        await teach(trusted, sync_config())
        assert (await trusted.renew(sync_config())).is_granted
        for refused in (stranger, deceived):
            await dropped(refused, refused.beat(sync_config()))
            assert refused.answers.empty()


def _openssl_authority(folder: Path) -> None:
    """A certificate authority and one certificate for server and client, by openssl."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    for command in (
        ["req", "-x509", *key, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt"],
        ["req", *key[:-2], "-subj", "/CN=leaf", "-keyout", "leaf.key", "-out", "leaf.csr"],
        ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "2"],
    ):
        if command[0] == "x509":
            command += ["-CAcreateserial", "-extfile", "extensions", "-out", "leaf.crt"]
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)


async def test_the_value_of_a_key_is_readable_by_people(
    pair: tuple[Node, Node], group: str
) -> None:
    owner, _ = pair
    keys = etcd_state.Keys(owner.settings.prefix, group)
    async with running(owner), EtcdClient(owner.settings) as client:
        await teach(owner, sync_config())
        await owner.renew(sync_config())
        read = (await client.read(keys.folder)).keys
    grant = json.loads(read[keys.grant].value)
    assert (grant["owner"], grant["epoch"], grant["wait_ns"]) == ("mse1", 1, WAIT_NS)
    assert json.loads(read[keys.record].value)["record"]["known"]["owner"] == "mse1"
