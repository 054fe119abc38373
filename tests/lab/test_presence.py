"""The presence monitor on real machines without the product: addresses set and taken by hand."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openmse.lab.laboratory import Laboratory
from openmse.lab.presence import read
from openmse.lab.presence_rules import Sign, double_presences
from openmse.lab.topology import SWITCH, VIRTUAL_IP
from openmse.ports import POSTGRESQL as DATABASE_PORT

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="a laboratory needs root"),
]
LISTEN = (
    "import socket, time\n"
    f"s = socket.create_server(('0.0.0.0', {DATABASE_PORT}))\n"
    "print('ready', flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.fixture
def laboratory(bare_lab: Laboratory) -> Laboratory:
    return bare_lab


class Watch:
    """A running monitor and what it noted so far."""

    def __init__(self, laboratory: Laboratory, path: Path) -> None:
        self.path = path
        ports = [
            f"{name}={name}={laboratory.machine(name).address}={laboratory.machine(name).mac}"
            for name in ("mse1", "mse2")
        ]
        netns = laboratory.places.netns(SWITCH)
        command = [sys.executable, "-m", "openmse.lab.presence", "--netns", str(netns)]
        command += ["--virtual-ip", VIRTUAL_IP, "--tcp-port", str(DATABASE_PORT)]
        self.process = subprocess.Popen([*command, "--ledger", str(path), *ports])

    def wait(self, enough: Callable[[list[Sign]], bool]) -> list[Sign]:
        deadline = time.monotonic() + 15
        while not (self.path.exists() and enough(found := read(self.path))):
            assert time.monotonic() < deadline
            assert self.process.poll() is None
            time.sleep(0.02)
        return found

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0


@pytest.fixture
def watch(laboratory: Laboratory, tmp_path: Path) -> Iterator[Watch]:
    found = Watch(laboratory, tmp_path / "presence.jsonl")
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def serve(laboratory: Laboratory) -> Iterator[Callable[[str], None]]:
    """Make a machine hold the virtual IP and listen on the client port."""
    listeners: list[tuple[str, subprocess.Popen[str]]] = []

    def start(machine: str) -> None:
        python = "/opt/openmse/venv/bin/python3"
        process = laboratory.popen(
            machine, [python, "-c", LISTEN], stdout=subprocess.PIPE, text=True
        )
        listeners.append((machine, process))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        command = ["ip", "address", "add", f"{VIRTUAL_IP}/32", "dev", "eth0"]
        assert laboratory.exec(machine, command).returncode == 0

    yield start
    for machine, process in listeners:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
        command = ["ip", "address", "del", f"{VIRTUAL_IP}/32", "dev", "eth0"]
        laboratory.exec(machine, command)


EITHER = ({"mse1", "mse2"}, {"arp", "vip", "own"})


def _intruders(signs: list[Sign]) -> tuple[set[str], set[str]]:
    """Who is proved to be present beside another, and by what signs."""
    found = [proof.intruder for proof in double_presences(signs)]
    return {sign.node for sign in found}, {sign.kind for sign in found}


def _kinds(signs: list[Sign], node: str) -> set[str]:
    return {sign.kind for sign in signs if sign.node == node}


def test_one_owner_is_seen_in_all_three_ways_and_is_no_double_presence(
    laboratory: Laboratory, watch: Watch, serve: Callable[[str], None]
) -> None:
    serve("mse1")
    found = watch.wait(lambda signs: _kinds(signs, "mse1") == {"arp", "vip", "own"})
    found = watch.wait(lambda signs: len(signs) > 60)
    assert not _kinds(found, "mse2")
    assert double_presences(found) == []
    assert {sign.mac for sign in found} == {laboratory.machine("mse1").mac}


def test_two_owners_are_found_even_when_one_is_cut_off(
    laboratory: Laboratory, watch: Watch, serve: Callable[[str], None]
) -> None:
    serve("mse1")
    watch.wait(lambda signs: _kinds(signs, "mse1") == {"arp", "vip", "own"})
    laboratory.cut("mse1")
    try:
        serve("mse2")
        watch.wait(lambda signs: _kinds(signs, "mse2") == {"arp", "vip", "own"})
        found = watch.wait(lambda signs: _intruders(signs) == EITHER)
    finally:
        laboratory.heal()
    assert _intruders(found) == EITHER


def test_a_machine_without_power_shows_nothing_and_is_seen_again_after_its_boot(
    laboratory: Laboratory, watch: Watch, serve: Callable[[str], None]
) -> None:
    serve("mse2")
    watch.wait(lambda signs: bool(_kinds(signs, "mse2")))
    laboratory.power_off("mse2")
    off = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    laboratory.power_on("mse2")
    serve("mse2")
    found = watch.wait(lambda signs: any(s.node == "mse2" and s.begin > off for s in signs))
    on = min(sign.begin for sign in found if sign.begin > off)
    assert not [sign for sign in found if off < sign.begin < on]
