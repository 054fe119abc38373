"""A health monitor that dies at an odd moment: what its successor may conclude, and must leave."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from operating import Site

from openmse.lab import client
from openmse.lab.laboratory import Laboratory

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]

BOOT_ALONE_S = 20.0


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


def _kill_and_await(lab: Laboratory, machine: str) -> None:
    """SIGKILL the health monitor, and wait for the next one to answer."""
    before = lab.pids(machine)["health-monitor"]
    lab.kill(machine, "health-monitor")
    _wait(
        lab,
        lambda p: (
            p["machines"][machine]["pids"]["health-monitor"] not in (None, before)
            and p["machines"][machine]["state"] is not None
        ),
    )


def test_a_standby_goes_on_streaming_and_a_lonely_boot_stays_one(pair: Site) -> None:
    lab = pair.lab
    picture = _wait(lab, _is_in_sync)
    owner = picture["groups"]["mse1"]["owner"]
    standby = {"mse1": "mse2", "mse2": "mse1"}[owner]
    followed = lab.pids(standby)["postgres"]
    _kill_and_await(lab, standby)
    _wait(lab, _is_in_sync)
    assert lab.pids(standby)["postgres"] == followed, "it was to be adopted, not stopped"

    # ALONE(owner); then a boot with nobody in sight: the other may have been forced to take over,
    # so the owner asks around for 20 s. A health monitor that dies meanwhile is no answer.
    lab.power_off(standby)
    _wait(lab, lambda p: bool(p["groups"]["mse1"]["mode"] == "ALONE"))
    lab.power_off(owner)
    lab.power_off("witness")
    began = time.monotonic()
    lab.power_on(owner)
    _wait(lab, lambda p: p["machines"][owner]["state"] is not None)
    for _ in range(2):
        _kill_and_await(lab, owner)
        looked_at = time.monotonic()
        while (now := time.monotonic()) < looked_at + 3:
            assert lab.pids(owner)["postgres"] is None, f"{now - began:.1f} s after power-on"
            time.sleep(0.1)
    _wait(lab, lambda p: p["machines"][owner]["pids"]["postgres"] is not None)
    assert time.monotonic() - began > BOOT_ALONE_S
    dsn = client.dsn(lab.places)
    assert dsn is not None
    lab.power_on("witness")
    lab.power_on(standby)
    _wait(lab, _is_in_sync)
