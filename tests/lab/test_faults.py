"""The faults of cables, power and disks, on bare machines."""

import hashlib
import subprocess
import time

import pytest
from lab_traffic import ECHO, PORT, connects, echoes, running

from openmse.errors import CommandRefused, UsageError
from openmse.lab import linux
from openmse.lab.laboratory import Laboratory
from openmse.lab.programs import HEARTBEAT_PORTS, PYTHON, REPLICATION_PORT

pytestmark = [pytest.mark.root, pytest.mark.alone]

MSE1, MSE2 = "10.10.10.11", "10.10.10.12"


@pytest.fixture
def lab(bare_lab: Laboratory) -> Laboratory:
    """Nothing is left on the machines: all files may share them."""
    return bare_lab


def test_cut_between_two_machines(lab: Laboratory) -> None:
    with running(lab, "mse2", ECHO, MSE2, str(PORT)):
        lab.cut("mse1", "mse2")
        assert echoes(lab, "mse1", MSE2)[0] == 0
        assert echoes(lab, "client", MSE2)[0] == 1
        lab.heal("mse1", "mse2")
        assert echoes(lab, "mse1", MSE2)[0] == 1


def test_cut_from_everybody_and_heal_one_machine(lab: Laboratory) -> None:
    with running(lab, "mse2", ECHO, MSE2, str(PORT)):
        lab.cut("mse2")
        assert [echoes(lab, name, MSE2)[0] for name in ("mse1", "witness", "client")] == [0, 0, 0]
        lab.heal("client")
        assert [echoes(lab, name, MSE2)[0] for name in ("mse1", "client")] == [0, 1]
        lab.heal()
        assert echoes(lab, "mse1", MSE2)[0] == 1


def test_one_way(lab: Laboratory) -> None:
    with running(lab, "mse2", ECHO, MSE2, str(PORT)) as server:
        assert echoes(lab, "mse1", MSE2)[0] == 1
        lab.one_way("mse2", "mse1")
        assert echoes(lab, "mse1", MSE2)[0] == 0
        assert server.stdout is not None
        assert [server.stdout.readline() for _ in range(2)] == ["0\n", "0\n"], "did not arrive"
        lab.heal()
        lab.one_way("mse1", "mse2")
        assert echoes(lab, "mse1", MSE2)[0] == 0
        lab.heal("mse1", "mse2")
        assert echoes(lab, "mse1", MSE2)[0] == 1


@pytest.mark.parametrize("port", HEARTBEAT_PORTS)
def test_only_heartbeats(lab: Laboratory, port: int) -> None:
    with running(lab, "mse2", ECHO, MSE2, str(port)), running(lab, "mse2", ECHO, MSE2, str(PORT)):
        lab.cut("mse1", "mse2", "heartbeats")
        assert echoes(lab, "mse1", MSE2, port=port)[0] == 0
        assert echoes(lab, "mse1", MSE2)[0] == 1
        assert echoes(lab, "client", MSE2, port=port)[0] == 1


def test_only_replication(lab: Laboratory) -> None:
    listen = """
import socket, sys
listeners = [socket.create_server(("", int(port))) for port in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.read() or __import__("signal").pause()
"""
    with running(lab, "mse2", listen, str(REPLICATION_PORT), str(PORT)):
        lab.cut("mse1", "mse2", "replication")
        assert not connects(lab, "mse1", MSE2, REPLICATION_PORT)
        assert connects(lab, "mse1", MSE2, PORT)
        assert connects(lab, "client", MSE2, REPLICATION_PORT)
        lab.heal()
        assert connects(lab, "mse1", MSE2, REPLICATION_PORT)


def test_a_cut_takes_effect_at_once(lab: Laboratory) -> None:
    lab.heal()
    called_at = linux.now_ns()
    at = lab.cut("mse1")
    assert called_at < at < called_at + 10_000_000


def test_flapping_goes_on_until_healed(lab: Laboratory) -> None:
    with running(lab, "mse2", ECHO, MSE2, str(PORT)):
        assert echoes(lab, "mse1", MSE2)[0] == 1, "and each knows the other's hardware address"
        lab.flap("mse1", "mse2", period_s=0.2)
        deadline = time.monotonic() + 30
        while True:  # it flaps in a process of its own, whose first cut may come late
            got, _ = echoes(lab, "mse1", MSE2, count=1000)
            if 0 < got < 1000:
                break
            assert time.monotonic() < deadline, f"{got} of 1000 came back"
        lab.heal("mse1", "mse2")
        assert echoes(lab, "mse1", MSE2, count=300)[0] == 300
        assert lab.state().flaps == []


def test_loss(lab: Laboratory) -> None:
    with running(lab, "mse2", ECHO, MSE2, str(PORT)):
        assert echoes(lab, "mse1", MSE2, count=300)[0] == 300
        lab.slow("mse2", loss_percent=30)
        got, _ = echoes(lab, "mse1", MSE2, count=1000)
        assert 350 < got < 630, "both ways 30 %: 490 are expected, 9 standard deviations allowed"


def test_delay_and_its_end(lab: Laboratory) -> None:
    with running(lab, "mse2", ECHO, MSE2, str(PORT)):
        echoes(lab, "mse1", MSE2)
        lab.slow("mse2", delay_ms=80)
        got, first_s = echoes(lab, "mse1", MSE2, wait_s=2)
        assert got == 1
        assert 0.16 <= first_s < 1.0
        lab.heal("mse2")
        assert lab.state().slow == {}
        got, first_s = echoes(lab, "mse1", MSE2, wait_s=2)
        assert got == 1
        assert first_s < 0.1


def test_a_slow_cable_can_be_cut_and_lose_its_power(lab: Laboratory) -> None:
    lab.slow("mse2", delay_ms=20)
    with running(lab, "mse2", ECHO, MSE2, str(PORT)):
        assert echoes(lab, "mse1", MSE2)[0] == 1
        lab.cut("mse1", "mse2")
        assert echoes(lab, "mse1", MSE2)[0] == 0
    lab.power_off("mse2")
    lab.power_on("mse2")
    lab.heal("mse1", "mse2")
    with running(lab, "mse2", ECHO, MSE2, str(PORT)):
        got, first_s = echoes(lab, "mse1", MSE2, wait_s=2)
        assert got == 1
        assert first_s >= 0.04, "the cable is still slow"


def test_large_segments_pass_a_slow_cable_whole(lab: Laboratory) -> None:
    serve = """
import os, socket
listener = socket.create_server(("", 9001))
print("ready", flush=True)
connection = listener.accept()[0]
connection.sendall(bytes(range(256)) * 32768)
connection.close()
"""
    take = """
import hashlib, socket
connection = socket.create_connection(("10.10.10.12", 9001))
digest = hashlib.sha256()
while data := connection.recv(1 << 16): digest.update(data)
print(digest.hexdigest())
"""
    lab.slow("mse2", delay_ms=5)
    with running(lab, "mse2", serve):
        done = lab.exec("client", [PYTHON, "-c", take])
    assert done.stdout.strip() == hashlib.sha256(bytes(range(256)) * 32768).hexdigest()


SNIFF = """
import select, socket, sys, time
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
sniffer.bind(("eth0", 0))
listener = socket.create_server(("", 9002))
print("ready", flush=True)
connection = listener.accept()[0]
connection.recv(1)
print("connected", flush=True)
sys.stdin.readline()
ends = 0
while select.select([sniffer], [], [], 0)[0]:
    frame, kind = sniffer.recvfrom(65536)
    if frame[26:30] == bytes([10, 10, 10, 11]) and frame[23] == 6 and frame[47] & 0x05:
        ends += 1
connection.setblocking(False)
try: state = repr(connection.recv(1))
except BlockingIOError: state = "open"
print(ends, state, flush=True)
"""

CONNECT = """
import signal, socket
connection = socket.create_connection(("10.10.10.20", 9002))
connection.sendall(b"x")
print("ready", flush=True)
signal.pause()
"""


def _watched(lab: Laboratory) -> "subprocess.Popen[str]":
    watcher = lab.popen(
        "client",
        [PYTHON, "-c", SNIFF],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "ready\n"
    return watcher


def test_a_closed_connection_is_seen_by_the_watcher_below(lab: Laboratory) -> None:
    """Without this, the next test could not fail."""
    with _watched(lab) as watcher:
        with running(lab, "mse1", CONNECT):
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "connected\n"
        _wait_no_program(lab, "mse1")
        out, _ = watcher.communicate("\n", timeout=10)
    ends, state = out.split()
    assert int(ends) >= 1
    assert state == "b''"


def test_power_off_sends_no_fin_and_no_rst(lab: Laboratory) -> None:
    with _watched(lab) as watcher:
        with running(lab, "mse1", CONNECT) as connected:
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "connected\n"
            lab.power_off("mse1")
            assert connected.wait(10) == 137
            with pytest.raises(UsageError, match="no power"):
                lab.exec("mse1", ["true"])
            lab.power_on("mse1")
        with running(lab, "client", ECHO, "10.10.10.20", str(PORT)):
            assert echoes(lab, "mse1", "10.10.10.20")[0] == 1
        out, _ = watcher.communicate("\n", timeout=10)
    assert out.split() == ["0", "open"]


def _wait_no_program(lab: Laboratory, machine: str) -> None:
    deadline = time.monotonic() + 10
    while len(lab.processes(machine)) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_power_off_loses_what_was_not_synced_and_run(lab: Laboratory) -> None:
    script = (
        "rm -f /var/*.txt; sync; echo kept > /var/synced.txt; sync /var/synced.txt; "
        "echo gone > /run/here.txt; echo lost > /var/unsynced.txt"
    )
    assert lab.exec("mse2", ["sh", "-c", script]).returncode == 0
    init = lab.init_of("mse2")
    lab.power_off("mse2")
    assert not init.is_alive()
    lab.power_on("mse2")
    listing = lab.exec("mse2", ["sh", "-c", "cat /var/synced.txt; ls /var/unsynced.txt /run"])
    assert listing.stdout.splitlines()[0] == "kept"
    assert "unsynced" not in listing.stdout, "the page cache was written after the power cut"
    assert "here.txt" not in listing.stdout
    assert lab.init_of("mse2") != init


def test_a_full_disk_is_full_for_the_unprivileged_user(lab: Laboratory) -> None:
    write = ["sh", "-c", "head -c 1000000 /dev/zero > /var/tmp/more"]
    assert lab.exec("mse1", write, user="openmse").returncode == 0
    lab.exec("mse1", ["rm", "/var/tmp/more"])
    lab.fill_disk("mse1")
    done = lab.exec("mse1", write, user="openmse")
    assert done.returncode != 0
    assert "No space left" in done.stderr
    as_root = ["sh", "-c", "head -c 1000000 /dev/zero > $(mktemp -p /var)"]
    assert lab.exec("mse1", as_root).returncode == 0, "root has its reserve"
    lab.fill_disk("mse1", is_reserve_too=True)
    assert lab.exec("mse1", as_root).returncode != 0
    lab.free_disk("mse1")
    assert lab.exec("mse1", write, user="openmse").returncode == 0


def test_freeze_all_stops_every_program_until_thawed(lab: Laboratory) -> None:
    tick = """
import time
print("ready", flush=True)
while True: print(time.clock_gettime(time.CLOCK_BOOTTIME), flush=True); time.sleep(0.01)
"""
    with running(lab, "witness", tick) as process:
        assert process.stdout is not None
        ticks = [float(process.stdout.readline())]
        frozen_at = lab.freeze("witness", "all") / 1e9
        time.sleep(0.3)  # the length of the freeze, not a wait for something
        thawed_at = lab.thaw("witness", "all") / 1e9
        while ticks[-1] < thawed_at + 0.05:
            ticks.append(float(process.stdout.readline()))
    assert [t for t in ticks if frozen_at < t < thawed_at - 0.01] == []
    assert ticks[0] < frozen_at


def test_power_off_while_frozen(lab: Laboratory) -> None:
    lab.freeze("witness", "all")
    lab.power_off("witness")
    lab.power_on("witness")
    assert lab.exec("witness", ["true"]).returncode == 0


def test_refusals_say_why(lab: Laboratory) -> None:
    with pytest.raises(CommandRefused, match="Linux has no namespace"):
        lab.clock("mse1", 30)
    with pytest.raises(CommandRefused, match="guard does not run on mse1"):
        lab.kill("mse1", "guard")
    with pytest.raises(UsageError, match="not one of"):
        lab.kill("mse1", "sshd")
    with pytest.raises(UsageError, match="already has power"):
        lab.power_on("mse1")
    with pytest.raises(UsageError, match="to itself"):
        lab.cut("mse1", "mse1")
    with pytest.raises(UsageError, match="cannot have"):
        lab.slow("mse1", loss_percent=101)
