"""A whole laboratory: the product's own daemons, paired by its own commands."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from operating import Site

from openmse.errors import PairingError
from openmse.lab import cleanup, client, procs
from openmse.lab.laboratory import Laboratory, Wanted
from openmse.lab.topology import Places

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def laboratory(pair: Site) -> Laboratory:
    """That of the shared pair, in SYNC."""
    return pair.lab


def _wait(lab: Laboratory, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        picture = lab.status()
        if condition(picture):
            return picture
        assert time.monotonic() < deadline, picture
        time.sleep(0.05)


def _is_in_sync(picture: dict[str, Any]) -> bool:
    nodes = [picture["machines"][name]["sync"] for name in ("mse1", "mse2")]
    return picture["groups"]["mse1"]["mode"] == "SYNC" and nodes == ["sync", "sync"]


def test_status_of_a_pair_in_sync(laboratory: Laboratory) -> None:
    picture = _wait(laboratory, _is_in_sync)
    group = picture["groups"]["mse1"]
    machines = picture["machines"]
    assert group["owner"] in ("mse1", "mse2")
    assert {machines[name]["role"] for name in ("mse1", "mse2")} == {"primary", "standby"}
    assert {machines[name]["epoch"] for name in ("mse1", "mse2")} == {group["epoch"]}
    for name in ("mse1", "mse2"):
        pids = machines[name]["pids"]
        assert procs.command_of(pids["postgres"]) == "postgres"
        assert "openmse.node" in procs.arguments_of(pids["health-monitor"])


def test_connection_string_works_in_the_machine_and_from_the_host(laboratory: Laboratory) -> None:
    _wait(laboratory, _is_in_sync)
    dsn = client.dsn(laboratory.places)
    assert dsn is not None
    assert "sslmode=verify-full" in dsn
    query = "select inet_server_addr(), ssl from pg_stat_ssl where pid = pg_backend_pid()"
    done = laboratory.exec("client", ["psql", dsn, "-Atc", query])
    assert done.stdout == "10.10.10.10|t\n", done.stderr
    namespace = laboratory.places.namespace("client")
    program = (
        "import psycopg, sys\nprint(psycopg.connect(sys.argv[1]).execute('select 7').fetchone())"
    )
    outside = subprocess.run(
        ["ip", "netns", "exec", namespace, sys.executable, "-c", program, dsn],
        capture_output=True,
        text=True,
        check=False,
    )
    assert outside.stdout == "(7,)\n", outside.stderr


def test_power_off_takeover_power_on_rejoin(laboratory: Laboratory) -> None:
    before = _wait(laboratory, _is_in_sync)["groups"]["mse1"]
    owner = before["owner"]
    other = {"mse1": "mse2", "mse2": "mse1"}[owner]
    laboratory.power_off(owner)
    picture = _wait(laboratory, lambda p: bool(p["groups"]["mse1"]["owner"] == other))
    assert picture["machines"][owner]["state"] is None
    assert picture["machines"][owner]["pids"] == {"health-monitor": None, "postgres": None}
    laboratory.power_on(owner)
    picture = _wait(laboratory, _is_in_sync)
    assert picture["groups"]["mse1"]["owner"] == other
    assert picture["groups"]["mse1"]["epoch"] > before["epoch"]


@pytest.mark.parametrize("component", ["guard", "health-monitor", "postgres"])
def test_a_killed_component_comes_back(laboratory: Laboratory, component: str) -> None:
    owner = _wait(laboratory, _is_in_sync)["groups"]["mse1"]["owner"]
    before = laboratory.pids(owner)
    assert before[component] is not None
    laboratory.kill(owner, component)
    deadline = time.monotonic() + 60
    while (after := laboratory.pids(owner))[component] in (None, before[component]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if component != "postgres":
        assert after["postgres"] == before["postgres"], "was to be adopted"
    _wait(laboratory, _is_in_sync)


def test_up_that_fails_leaves_nothing(lab_name: str) -> None:
    """An impossible setting is refused by the product inside; the laboratory is removed."""
    with pytest.raises(PairingError, match="failover"):
        Laboratory.up(lab_name, Wanted(failover_wait_s=0.1))
    assert cleanup.remains(Places.of(lab_name)) == []
