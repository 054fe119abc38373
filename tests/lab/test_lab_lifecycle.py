"""Laboratories come and go without a trace, also when they are killed half-way."""

import json
import os
import pwd
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab_traffic import ECHO, PORT, echoes, running

from openmse.errors import UsageError
from openmse.lab import cleanup
from openmse.lab.laboratory import Laboratory, Wanted
from openmse.lab.topology import Places, Topology
from openmse.lab.workload import wait_for

BUILD = """
import sys
from openmse.lab.laboratory import Laboratory, Wanted
Laboratory.up(sys.argv[1], Wanted(is_bare=True), lambda step: print(step, flush=True))
"""


@pytest.fixture
def lab(bare_lab: Laboratory) -> Laboratory:
    """Nothing is left on the machines: all files may share them."""
    return bare_lab


_LEFT_S = re.compile(r'"(valid|preferred)_life_time":\d+')
"""Of an address that the host has by DHCP: it becomes less while one looks."""


def _host_network() -> list[str]:
    """Without what moves by itself: lifetimes, and the rules' counters (stateless)."""
    commands = ("ip -j link", "ip -j address", "ip -j route", "ip -j rule", "nft -s list ruleset")
    pictures = []
    for command in commands:
        done = subprocess.run(command.split(), capture_output=True, text=True, check=True)
        pictures.append(_LEFT_S.sub("", done.stdout))
    return pictures


def _traces(name: str) -> list[str]:
    """Everything on this host that names a laboratory."""
    traces = [f"netns {entry}" for entry in os.listdir("/run/netns") if entry.startswith(name)]
    traces += [line for line in Path("/proc/self/mounts").read_text().splitlines() if name in line]
    loops = subprocess.run(["losetup", "-l", "-n"], capture_output=True, text=True, check=True)
    traces += [line for line in loops.stdout.splitlines() if name in line]
    for root in ("/run/openmse-lab", "/var/tmp/openmse-lab"):
        if os.path.isdir(root):
            traces += [f"{root}/{entry}" for entry in os.listdir(root) if entry == name]
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path("/proc", entry, "cmdline").read_text()
        except OSError:
            continue
        if name in command and int(entry) != os.getpid():
            traces.append(f"process {entry} {command!r}")
    traces += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/openmse-lab-{name}-*")]
    return traces


@pytest.mark.root
@pytest.mark.alone  # it looks at the host, where others build theirs meanwhile
def test_a_laboratory_leaves_the_host_as_it_was(lab_name: str) -> None:
    before = _host_network()
    laboratory = Laboratory.up(lab_name, Wanted(is_bare=True))
    assert _host_network() == before
    assert _traces(lab_name)
    namespace = laboratory.places.namespace("client")
    shown = subprocess.run(
        ["ip", "netns", "exec", namespace, "ip", "-br", "address", "show", "eth0"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "10.10.10.20/24" in shown.stdout
    laboratory.slow("mse1", delay_ms=10)
    laboratory.flap("mse1", "mse2")
    laboratory.down()
    assert _traces(lab_name) == []
    assert _host_network() == before


@pytest.mark.root
def test_two_laboratories_do_not_meet(lab: Laboratory, lab_name: str) -> None:
    two = Laboratory.up(lab_name, Wanted(is_bare=True, topology=Topology.PAIR_NO_WITNESS))
    assert list(two.machines) == ["mse1", "mse2", "client"]
    with running(lab, "mse2", ECHO, "10.10.10.12", str(PORT)):
        assert echoes(lab, "mse1", "10.10.10.12", wait_s=10)[0] == 1
        assert echoes(two, "mse1", "10.10.10.12")[0] == 0
    two.down()
    assert _traces(lab_name) == []
    assert lab.exec("mse1", ["true"]).returncode == 0


@pytest.mark.root
@pytest.mark.parametrize("step", ["building the switch", "booting mse1", "booting client"])
def test_down_after_up_was_killed_half_way(lab_name: str, step: str) -> None:
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILD, lab_name], stdout=subprocess.PIPE, text=True
    )
    with builder:
        assert builder.stdout is not None
        for line in builder.stdout:
            if line.startswith(step):
                builder.kill()
                break
    assert builder.returncode == -signal.SIGKILL
    assert cleanup.remains(Places.of(lab_name)) != []
    with pytest.raises(UsageError, match="already, or what is left of one"):
        Laboratory.up(lab_name, Wanted(is_bare=True))
    # The file system that it was making is made to its end, by a process that nobody kills.
    assert wait_for(lambda: not any("mkfs" in trace for trace in _traces(lab_name)), 20)
    cleanup.down(Places.of(lab_name))
    assert _traces(lab_name) == []


@pytest.mark.root
def test_down_without_state_and_with_strangers_inside(lab_name: str) -> None:
    laboratory = Laboratory.up(lab_name, Wanted(is_bare=True))
    laboratory.close()
    namespace = laboratory.places.namespace("mse1")
    stranger = subprocess.Popen(["ip", "netns", "exec", namespace, "sleep", "1000"])
    (laboratory.places.run / "lab.json").unlink()
    cleanup.down(laboratory.places)
    assert stranger.wait(10) == -signal.SIGKILL
    assert _traces(lab_name) == []
    cleanup.down(laboratory.places)


@pytest.mark.root
def test_a_machine_whose_init_was_killed_can_be_switched_on(lab: Laboratory) -> None:
    init = lab.init_of("mse1")
    init.kill_and_wait(10)
    assert lab.status()["machines"]["mse1"]["pids"] == {
        "health-monitor": None,
        "postgres": None,
    }
    lab.power_on("mse1")
    assert lab.exec("mse1", ["hostname"]).stdout == "mse1\n"


@pytest.mark.root
def test_status_has_the_pinned_form(lab: Laboratory) -> None:
    picture = json.loads(json.dumps(lab.status()))
    assert list(picture) == ["name", "machines", "groups"]
    assert list(picture["machines"]) == ["mse1", "mse2", "witness", "client"]
    assert picture["machines"]["mse2"] == {
        "namespace": f"{lab.name}-mse2",
        "address": "10.10.10.12",
        "state": None,
        "role": None,
        "sync": None,
        "epoch": None,
        "pids": {"health-monitor": None, "postgres": None},
    }
    assert picture["groups"]["mse1"] == {
        "virtual_ip": "10.10.10.10",
        "owner": None,
        "mode": None,
        "epoch": None,
        "client_dsn": None,
    }


@pytest.mark.parametrize("name", ["", "-a", "a_b", "../x", "A", "a" * 32, "a-"])
def test_names_that_cannot_be_used(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        Places.of(name)


def test_without_root_it_says_what_is_missing_and_why() -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    source = str(Path(cleanup.__file__).parents[2])
    if os.geteuid() == 0 and not os.access(source, os.R_OK | os.X_OK):
        pytest.skip("the source cannot be read by others")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, "unused"],
        user=nobody if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 1
    assert "A laboratory needs root: its machines are network" in done.stderr


@pytest.mark.root
def test_commands_over_the_command_line(lab_name: str) -> None:
    def mse(*arguments: str) -> "subprocess.CompletedProcess[str]":
        program = "from openmse.cli.main import main; main()"
        command = [sys.executable, "-c", program, "lab", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert mse("status", "--name", lab_name).returncode == 2
    built = mse("up", "--bare", "--name", lab_name)
    assert built.returncode == 0, built.stderr
    again = mse("up", "--bare", "--name", lab_name)
    assert again.returncode == 2
    assert f"mse lab down --name {lab_name}" in again.stderr
    done = mse("exec", "--name", lab_name, "mse1", "--", "sh", "-c", "hostname; exit 5")
    assert (done.stdout, done.returncode) == ("mse1\n", 5)
    done = mse("exec", "mse2", "--name", lab_name, "--", "hostname", "--short")
    assert (done.stdout, done.returncode) == ("mse2\n", 0)
    for fault in (
        ["cut", "mse1", "mse2", "--only", "heartbeats"],
        ["one-way", "mse1", "witness"],
        ["slow", "mse2", "--loss", "1"],
        ["heal", "mse1", "mse2"],
        ["heal"],
        ["power-off", "mse2"],
        ["power-on", "mse2"],
        ["freeze", "mse1", "all"],
        ["thaw", "mse1", "all"],
        ["fill-disk", "witness"],
        ["free-disk", "witness"],
    ):
        done = mse("fault", "--name", lab_name, *fault)
        assert done.returncode == 0, (fault, done.stderr)
    clock = mse("fault", "clock", "mse1", "-30", "--name", lab_name)
    assert clock.returncode == 3
    assert "cannot be moved by -30 s" in clock.stderr
    picture = json.loads(mse("status", "--json", "--name", lab_name).stdout)
    assert picture["machines"]["client"]["namespace"] == f"{lab_name}-client"
    assert mse("down", "--name", lab_name).returncode == 0
    assert _traces(lab_name) == []
