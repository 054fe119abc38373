"""Two nodes and no third vote: manual, protect, and fencing by an agent (protocol §8)."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from operating import NODES, OTHER, Site, site

from openmse.lab.programs import CONFIG_PATH
from openmse.lab.topology import Topology

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]

AGENT = "/etc/openmse/fence"


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    """A pair without a witness, failover wait 2 s."""
    with site(Topology.PAIR_NO_WITNESS) as built:
        yield built


@pytest.fixture
def pair(shared: Site) -> Site:
    """The pair in step, which without a witness is PINNED; the mode is manual."""
    for name in shared.lab.machines:
        if not shared.lab.has_power(name):
            shared.lab.power_on(name)
    shared.lab.heal()
    shared.until_mode("PINNED", 60)
    return shared


def _mode(at: Site, mode: str) -> None:
    at.ok(at.owner(), "ha", "settings", "--no-witness-mode", mode)

    def is_known(node: str) -> bool:
        return bool(at.told(node)["register"]["settings"]["no_witness_mode"] == mode)

    at.until(lambda: is_known("mse1") and is_known("mse2"), f"both know the mode {mode}")


def test_it_is_pinned_and_serves(pair: Site) -> None:
    picture = pair.lab.status()
    assert list(picture["machines"]) == ["mse1", "mse2", "client"]
    assert picture["groups"]["mse1"]["mode"] == "PINNED"
    assert pair.value("select 1") == "1"


def test_manual_waits_for_the_operator(pair: Site) -> None:
    _mode(pair, "manual")
    owner = pair.owner()
    other = OTHER[owner]
    with pair.load() as load:
        pair.lab.power_off(owner)
        quiet_until = time.monotonic() + 5
        while time.monotonic() < quiet_until:
            assert pair.told(other)["role"] == "standby"
            time.sleep(0.2)
        told = pair.told(other)
        assert told["state"] == "WAITING"
        assert "takeover --force" in told["reason"]
        pair.refused(other, "ha", "switchover", code=3, match="takeover --force")
        assert "holds everything that was acknowledged" in told["loss"]["sentence"]
        pair.ok(other, "ha", "takeover", "--force", typed=f"{other}\n")
        pair.until(lambda: load.last_served_by() == other, f"{other} serves")
        pair.lab.power_on(owner)
        pair.until_mode("PINNED", 60)
    assert pair.owner() == other


def test_a_cut_leaves_the_owner_serving(pair: Site) -> None:
    _mode(pair, "manual")
    owner = pair.owner()
    with pair.load() as load:
        began = pair.lab.cut("mse1", "mse2")
        pair.until(lambda: load.acknowledged_since(began) > 400, "the owner goes on alone", 15)
        assert pair.told(OTHER[owner])["role"] == "standby"
        pair.lab.heal()
        pair.until_mode("PINNED", 60)
    assert pair.owner() == owner


def test_protect_blocks_writes_until_the_peer_is_back(pair: Site) -> None:
    _mode(pair, "protect")
    owner = pair.owner()
    with pair.load() as load:
        pair.lab.power_off(OTHER[owner])
        pair.until(lambda: "peer_lost" in pair.alarms(owner), "the peer is missed")
        began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        time.sleep(4)  # it is the absence of something that is looked at
        assert load.acknowledged_since(began) == 0
        assert pair.value("select 1") == "1", "reading goes on"
        assert pair.register()["mode"] == "PINNED"
        pair.lab.power_on(OTHER[owner])
        pair.until(lambda: load.acknowledged_since(began) > 20, "writes go on", 30)
    pair.until_mode("PINNED")
    assert pair.owner() == owner


def test_protect_is_released_by_the_operator(pair: Site) -> None:
    _mode(pair, "protect")
    owner = pair.owner()
    with pair.load() as load:
        pair.lab.power_off(OTHER[owner])
        pair.until(lambda: "peer_lost" in pair.alarms(owner), "the peer is missed")
        began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        pair.ok(owner, "ha", "release-protect")
        pair.until(lambda: load.acknowledged_since(began) > 20, "writes go on", 15)
        assert pair.register()["mode"] == "ALONE"
        pair.lab.power_on(OTHER[owner])
        pair.until_mode("PINNED", 60)


# ---------------------------------------------------------------------- fencing

SCRIPT = """#!/bin/sh
# called with "off NODE"; ends with 0 only once it is confirmed that NODE has no power
dir={share}/fencing
mkdir -p $dir
[ "$1" = off ] && echo "$2" > $dir/asked
while [ ! -e $dir/confirmed ] && [ ! -e $dir/refused ]; do sleep 0.05; done
[ -e $dir/confirmed ]
"""


@contextmanager
def _power_switch(at: Site, *, works: bool) -> Iterator[list[str]]:
    """What a managed power strip would do: takes a machine's power when the agent asks for it."""
    directory = at.lab.places.share / "fencing"
    directory.mkdir(exist_ok=True)
    for path in directory.iterdir():
        path.unlink()
    ended = threading.Event()
    fenced: list[str] = []

    def serve() -> None:
        asked = directory / "asked"
        while not ended.wait(0.05):
            if not asked.exists() or not asked.read_text().strip() or fenced:
                continue
            name = asked.read_text().strip()
            fenced.append(name)
            if works and at.lab.has_power(name):
                at.lab.power_off(name)
            (directory / ("confirmed" if works else "refused")).touch()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield fenced
    finally:
        ended.set()
        thread.join()
        (directory / "refused").touch()


def _install_agent(at: Site) -> None:
    """Once: both nodes are restarted for it."""
    is_there = f"test -x {AGENT} && grep -q fencing {CONFIG_PATH}"
    if all(at.run(name, "sh", "-c", is_there).returncode == 0 for name in NODES):
        return
    for name in NODES:
        script = SCRIPT.format(share=at.lab.places.share)
        command = f"cat > {AGENT}; chmod 755 {AGENT}; sync {AGENT}"
        assert at.run(name, "sh", "-c", command, typed=script).returncode == 0
        line = f'\\n[fencing]\\nagent = "{AGENT}"\\ntimeout_s = 20.0\\n'
        command = f"grep -q fencing {CONFIG_PATH} || printf '{line}' >> {CONFIG_PATH}"
        assert at.run(name, "sh", "-c", f"{command}; sync {CONFIG_PATH}").returncode == 0
        at.restart(name)
        at.until_answers(name)
    at.until_mode("PINNED", 60)


def test_fencing_takes_over_only_once_it_is_confirmed(pair: Site) -> None:
    _install_agent(pair)
    _mode(pair, "fencing")
    owner = pair.owner()
    other = OTHER[owner]
    with pair.load() as load, _power_switch(pair, works=True) as fenced:
        pair.lab.freeze(owner, "all")  # it may come back at any moment: it must be switched off
        pair.until(lambda: load.last_served_by() == other, f"{other} serves", 30)
        assert fenced == [owner]
        assert not pair.lab.has_power(owner)
        pair.lab.power_on(owner)
        pair.until_mode("PINNED", 60)
    assert pair.owner() == other
    assert "fencing_confirmed" in pair.events(other)


def test_a_fencing_that_is_not_confirmed_changes_nothing(pair: Site) -> None:
    _install_agent(pair)
    _mode(pair, "fencing")
    owner = pair.owner()
    other = OTHER[owner]
    with _power_switch(pair, works=False) as fenced:
        pair.lab.power_off(owner)
        pair.until(lambda: "fencing_failed" in pair.events(other), "the failure is told", 20)
        assert fenced == [owner]
        assert pair.told(other)["role"] == "standby"
    pair.lab.power_on(owner)
    pair.until_mode("PINNED", 60)
    _mode(pair, "manual")
