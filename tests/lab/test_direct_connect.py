"""A cable of their own between the nodes: the second path, its loss, and what it must not hide."""

import time
from collections.abc import Iterator

import pytest
from operating import NODES, Site, site

from openmse.lab import linux, outage
from openmse.lab.workload import Workload

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(240)]

SENDERS = (
    "select application_name || ' ' || host(client_addr) || ' ' || state from pg_stat_replication"
)
DIRECT = {"mse1": "192.168.77.11", "mse2": "192.168.77.12"}
NETWORK = {"mse1": "10.10.10.11", "mse2": "10.10.10.12"}


@pytest.fixture(scope="module")
def built() -> Iterator[Site]:
    """A pair with a direct connection, failover wait 2 s."""
    with site(is_direct=True) as found:
        yield found


@pytest.fixture
def direct(built: Site) -> Site:
    """The same, whole: in SYNC, owned by mse1, both paths up and the direct one in use.

    A path that was lost again soon after its return comes back later each time.
    """
    built.mended("mse1")
    built.until(lambda: _is_used(built, "direct"), "the direct connection is used", 60)
    built.until(
        lambda: all(path["is_up"] for node in NODES for path in built.told(node)["paths"]),
        "both paths are up",
        60,
    )
    return built


def _is_used(at: Site, name: str) -> bool:
    """Whether both nodes use this path, and the standby's copy comes over it."""
    for node in NODES:
        used = [path["name"] for path in at.told(node).get("paths", ()) if path["is_used"]]
        if used != [name]:
            return False
    addresses = DIRECT if name == "direct" else NETWORK
    standby = "mse2" if at.owner() == "mse1" else "mse1"
    return _senders(at) == [f"{standby} {addresses[standby]} streaming"]


def _senders(at: Site) -> list[str]:
    owner = at.owner()
    psql = ["psql", "-h", "/run/openmse/postgres", "-U", "openmse_admin", "postgres", "-XAtqc"]
    return at.run(owner, *psql, SENDERS).stdout.splitlines()


def _quiet(load: Workload, since: int, what: str, most_ms: float) -> None:
    """Hold the longest time without an acknowledged write since ``since`` to a bound."""
    load.writer.catch_up()
    gap = outage.longest_gap([a.at for a in load.writer.acknowledged], since, linux.now_ns())
    print(f"{what}: {gap.ms:.0f} ms without an acknowledged write")
    assert gap.ms < most_ms, what


def test_both_paths_are_up_and_the_direct_one_is_used(direct: Site) -> None:
    direct.until(lambda: _is_used(direct, "direct"), "the direct connection is used", 15)
    paths = {path["name"]: path for path in direct.told("mse1")["paths"]}
    assert all(path["is_up"] for path in paths.values())
    assert paths["direct"]["peer_address"] == DIRECT["mse2"]
    assert not {"direct_down", "network_path_down", "direct_unusable"} & direct.alarms("mse1")
    assert "eth1 192.168.77.11 to 192.168.77.12: up" in direct.ok("mse1", "ha", "status")
    assert "Direct connect used: Yes" in direct.ok("mse1", "ha-info")
    # The cable is the peer's alone: neither the virtual IP nor a stranger is heard on it.
    ping = direct.run("mse2", "ping", "-c1", "-W1", "-I", "eth1", "10.10.10.10")
    assert ping.returncode != 0, ping.stdout


def test_a_pulled_direct_cable_costs_nothing(direct: Site) -> None:
    before = direct.register()
    with direct.load() as load:
        at = direct.lab.cut("mse1", "mse2", "direct")
        took = direct.until(lambda: _is_used(direct, "network"), "the network is used", 10)
        assert took < 3, took  # looked at by commands that take a while themselves
        direct.until(lambda: "direct_down" in direct.alarms("mse1"), "mse1 raises the alarm", 5)
        assert "direct_down" in direct.findings("mse2")
        _quiet(load, at, "pulled", 1500)
        at = direct.lab.heal()
        direct.until(lambda: _is_used(direct, "direct"), "the direct connection is used again", 20)
        _quiet(load, at, "healed", 1000)
        direct.until(lambda: not direct.alarms("mse1"), "no alarm is left", 5)
    after = direct.register()
    assert (after["epoch"], after["mode"], after["owner"]) == (before["epoch"], "SYNC", "mse1")


def test_a_standby_without_the_network_stays_in_step(direct: Site) -> None:
    before = direct.register()
    with direct.load():
        direct.lab.cut("mse2", only="network")
        direct.until(lambda: "network_path_down" in direct.alarms("mse1"), "mse1 sees it", 5)
        time.sleep(2.5)  # longer than the failover wait
        assert direct.told("mse1")["sync"] == "sync"
        direct.lab.heal()
    assert direct.register()["epoch"] == before["epoch"]


def test_an_owner_without_the_network_is_relieved(direct: Site) -> None:
    with direct.load() as load:
        at = direct.lab.cut("mse1", only="network")
        direct.until(lambda: load.last_served_by() == "mse2", "mse2 serves", 15)
        _quiet(load, at, "owner without network", 10_000)
        # The old owner rejoins over the cable while the network is still away from it.
        direct.until_mode("SYNC", 30)
        direct.lab.heal()
    direct.until_sync()
