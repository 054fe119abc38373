"""Licences and the status screens on a real pair: in step, after a failover, and stopped."""

import json
from typing import Any

import msgspec
import pytest
from operating import NODES, OTHER, Site

from openmse.platform.status.ha_info import HaInfo, PeerInfo
from openmse.platform.status.server_info import ServerInfo, ServicesState

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]

ADDRESSES = {"mse1": "10.10.10.11", "mse2": "10.10.10.12"}
ROLES = {"mse1": "primary", "mse2": "secondary"}
KEYS = "/etc/openmse/licence-keys"


def ha(at: Site, node: str, code: int = 0) -> HaInfo:
    """gethainfo of a node; its screen ends with the same code."""
    screen, program = at.mse(node, "ha-info"), at.mse(node, "ha-info", "--json")
    assert (screen.returncode, program.returncode) == (code, code), screen.stderr
    found = msgspec.convert(json.loads(program.stdout), HaInfo)
    assert f"{'Current' if code == 0 else 'Last shutdown'} state: {found.state}" in screen.stdout
    return found


def server(at: Site, node: str, code: int = 0) -> ServerInfo:
    """getserverinfo of a node."""
    done = at.mse(node, "server-info", "--json")
    assert done.returncode == code, done.stderr
    return msgspec.convert(json.loads(done.stdout), ServerInfo)


def only_peer(found: HaInfo) -> PeerInfo:
    (peer,) = found.peers
    return peer


def limits(at: Site, node: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(at.ok(node, "license", "limits", "--json"))
    return found


def elements(at: Site, node: str) -> int:
    return next(row["limit"] for row in limits(at, node)["limits"] if row["kind"] == "elements")


def install(at: Site, node: str, udi: str, kind: str, *more: str) -> str:
    """Issue a licence where the key is, and install it on a node; what that said."""
    words = ["license", "issue", "--key", "/etc/openmse/own.key", "--udi", udi, "--kind", kind]
    words += ["--issued-to", "A hospital", "--issued-by", "Its operator"]
    path = f"/tmp/{kind}.licence"
    at.run("mse1", "rm", "-f", path)
    at.ok("mse1", *words, *more, "--out", path)
    text = at.run("mse1", "cat", path).stdout
    at.run(node, "sh", "-c", f"cat > {path}", typed=text)
    return at.ok(node, "license", "install", path)


def trust_everywhere(at: Site) -> None:
    """One key, trusted by both nodes."""
    at.ok("mse1", "license", "keygen", "/etc/openmse/own.key")
    public = at.run("mse1", "cat", "/etc/openmse/own.key.pub").stdout
    for node in NODES:
        script = f"mkdir -p {KEYS} && cat > {KEYS}/own.pub && sync {KEYS}/own.pub {KEYS}"
        assert at.run(node, "sh", "-c", script, typed=public).returncode == 0


def check_in_step(at: Site) -> None:
    """Both screens on both nodes of a pair that nobody has moved yet."""
    udis = {node: ha(at, node).udi for node in NODES}
    assert len(set(udis.values())) == 2
    for node in NODES:
        found, peer = ha(at, node), only_peer(ha(at, node))
        assert (found.role, found.address) == (ROLES[node], ADDRESSES[node])
        assert (peer.address, peer.udi) == (ADDRESSES[OTHER[node]], udis[OTHER[node]])
        assert (peer.version, peer.is_heartbeat_up) == (found.version, True)
        assert (peer.instance_name, peer.instance_port) == ("openmse", 5432)
        assert (peer.failover_type, peer.failover_wait_s) == ("automatic", 2.0)
        assert found.fields is not None
        assert (found.fields.sync, found.fields.health) == ("sync", "ok")
    assert [ha(at, node).state for node in NODES] == ["PRIMARY_ACTIVE", "SECONDARY_ACTIVE"]
    one, two = (server(at, node) for node in NODES)
    assert (one.services_state, two.services_state) == (ServicesState.UP, ServicesState.DORMANT)
    for value in (one, two):
        assert value.monitor is not None
        assert 10 < (value.monitor.used_memory_mb or 0) < value.monitor.max_memory_mb
        assert (value.monitor.db_disk_mb or 0) > 10
        assert value.monitor.started.at < value.monitor.now.at
    assert two.sessions == ()


def test_screens_and_licences_through_a_failover(home: Site) -> None:
    """Told, licensed on either node, failed over, stopped: both commands, and the limits."""
    at = home
    for node in NODES:  # as whatever looks after licences does from time to time
        at.ok(node, "license", "sync")
    at.ok("mse1", "license", "sync")  # has read what mse2 told
    check_in_step(at)
    trust_everywhere(at)
    udi = ha(at, "mse1").udi
    assert "has this node's licences now" in install(at, "mse1", udi, "activation")
    said = install(at, "mse2", udi, "elements", "--quantity", "700")  # through the owner
    assert "has this node's licences now" in said
    at.ok("mse1", "license", "sync")
    assert [elements(at, node) for node in NODES] == [800, 800]
    with at.load():
        held = server(at, "mse1").sessions
        assert held
        assert {session.address for session in held} == {at.lab.machines["client"].address}
        at.lab.power_off("mse1")
        at.until_owner("mse2")
        found = ha(at, "mse2")
        assert (found.state, found.role, found.virtual_ip) == ("FAILOVER_ACTIVE", "secondary", "")
        assert only_peer(found).is_heartbeat_up is False
        assert (only_peer(found).udi, elements(at, "mse2")) == (udi, 800)
        assert server(at, "mse2").services_state is ServicesState.UP
        assert "Active Sessions" in at.ok("mse2", "server-info")
    check_old_primary(at, udi)


def check_old_primary(at: Site, udi: str) -> None:
    """It comes back behind the secondary, then its health monitor is stopped."""
    at.lab.power_on("mse1")
    at.until_sync(60)
    back = ha(at, "mse1")
    assert (back.state, back.udi) == ("TERMINATED", udi)
    assert server(at, "mse1").services_state is ServicesState.DORMANT
    restarts = server(at, "mse1").monitor
    assert restarts is not None
    assert (restarts.restarts or 0) >= 1
    identity = next(
        view["licence"]["id"]
        for view in limits(at, "mse1")["licences"]
        if view["licence"]["kind"] == "elements"
    )
    at.ok("mse1", "license", "remove", identity)  # by the node that does not own
    at.ok("mse2", "license", "sync")
    assert [elements(at, node) for node in NODES] == [100, 100]
    at.stop("mse1")
    stopped = ha(at, "mse1", code=4)
    assert stopped.state == "FAILOVER_ACTIVE"  # as the guide's primary shows it
    assert (stopped.udi, only_peer(stopped).address) == (udi, ADDRESSES["mse2"])
    assert only_peer(stopped).is_heartbeat_up is None
    assert server(at, "mse1", code=4) == ServerInfo(is_running=False)
    assert at.mse("mse1", "server-info").stdout == "Health Monitor is not running\n"
    assert elements(at, "mse1") == 100  # works with the daemon down
