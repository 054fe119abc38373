"""``msed`` on a bare machine without systemd: started, looked at, killed halfway, stopped."""

import importlib.util
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from openmse.guard.processes import start_time
from openmse.install.layout import Destination, filled, packaged
from openmse.lab import provision
from openmse.lab.laboratory import Laboratory
from openmse.lab.topology import Topology
from openmse.lab.workload import wait_for

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]

CONFIG = "/etc/openmse/openmse.toml"
LOG = "/var/log/openmse/health-monitor.log"
HAS_ADMIN = importlib.util.find_spec("openmse.api") is not None
"""Whether this version brings the management API; without it there is no line of it."""
ADMIN_STARTED = "Starting Admin process...\nStarted Admin process.\n" if HAS_ADMIN else ""
ADMIN_STOPPED = "Stopping Admin process...\nStopped Admin process.\n" if HAS_ADMIN else ""
STARTED = f"""\
Starting MSE Platform

Starting Health Monitor, Waiting to check the status.
Starting Health Monitor, Waiting to check the status.
Health Monitor successfully started
{ADMIN_STARTED}\
Starting database .....
Database started successfully. Starting framework and services .....
Framework and services successfully started
"""
STOPPED = f"""\
Stopping MSE Platform

Shutting down framework and services .....
Framework and services successfully stopped. Shutting down database .....
Database successfully stopped
{ADMIN_STOPPED}\
Health Monitor successfully stopped
"""


INSTALL = Path(__file__).resolve().parents[2] / "tools/install"


class Node:
    """One machine, and ``msed`` on it."""

    def __init__(self, lab: Laboratory, name: str) -> None:
        self.lab = lab
        self.name = name

    def write(self, path: str, text: str) -> None:
        script = f"mkdir -p $(dirname {path}) && cat > {path}"
        done = self.lab.exec(self.name, ["sh", "-c", script], input_text=text)
        assert not done.returncode, done.stderr

    def configure(self) -> None:
        machine = self.lab.machines[self.name]
        self.write(CONFIG, provision.node_config(machine, Topology.PAIR_NO_WITNESS, 2.0))

    def msed(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["python3", "-m", "openmse.cli.msed", *arguments]
        return self.lab.exec(self.name, ["/opt/openmse/venv/bin/" + command[0], *command[1:]])

    def script(self, verb: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run /etc/init.d/msed as init does in a runlevel."""
        bin_dir = "/var/lib/init-script"
        python = "#!/bin/sh\nexec /opt/openmse/venv/bin/python3 -m openmse.cli.msed"
        self.write(f"{bin_dir}/msed", f'{python} "$@"\n')
        to = Destination(python="", bin_dir=bin_dir, commands=())
        self.write("/etc/init.d/msed", filled(packaged("msed.init"), to).decode())
        self.lab.exec(self.name, ["chmod", "755", f"{bin_dir}/msed", "/etc/init.d/msed"])
        variables = [f"{key}={value}" for key, value in environment.items()]
        return self.lab.exec(self.name, ["env", *variables, "/etc/init.d/msed", verb])

    def pids(self) -> dict[str, int | None]:
        return self.lab.pids(self.name)


@pytest.fixture
def node(lab: Laboratory) -> Iterator[Node]:
    """mse1, configured as a primary of its own; stopped and emptied afterwards."""
    found = Node(lab, "mse1")
    found.configure()
    yield found
    found.msed("stop")
    for pid in found.pids().values():
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
    script = "rm -rf /var/lib/openmse /var/log/openmse /run/openmse /etc/openmse"
    lab.exec("mse1", ["sh", "-c", script])


def _kill(pid: int | None) -> None:
    assert pid is not None
    started = start_time(pid)
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: start_time(pid) != started, 10)


def test_a_node_is_started_looked_at_and_stopped(node: Node) -> None:
    down = node.msed("status")
    assert (down.returncode, down.stdout) == (
        4,
        "Health Monitor is not running\n" + ("Admin process is not running\n" if HAS_ADMIN else ""),
    )

    started = node.msed("start")
    assert (started.returncode, started.stdout, started.stderr) == (0, STARTED, "")
    up = node.msed("status")
    assert up.returncode == 0, up
    assert re.sub(r"pid \d+", "pid N", up.stdout) == (
        "Health Monitor is running (pid N)\n"
        + ("Admin process is running (pid N)\n" if HAS_ADMIN else "")
        + "Database is up\nMSE services are up\n"
        "State: PRIMARY_ALONE\n"
    )
    again = node.msed("start")
    assert (again.returncode, again.stdout) == (0, "MSE Platform is already running.\n")

    node.write("/root/openmse/tools/install", INSTALL.read_text())
    home = ["env", "OPENMSE_HOME=/opt/openmse/venv"]
    refused = node.lab.exec("mse1", [*home, "bash", "/root/openmse/tools/install"])
    assert (refused.returncode, refused.stdout) == (3, ""), refused
    assert "This machine still runs a node (pid" in refused.stderr

    before = set(node.pids().values())
    restarted = node.msed("restart")
    assert (restarted.returncode, restarted.stdout) == (0, STOPPED + STARTED), restarted
    assert set(node.pids().values()) & before == {None}, "every process is another one"
    assert node.msed("status").returncode == 0

    stopped = node.msed("stop")
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, STOPPED, "")
    assert set(node.pids().values()) == {None}
    assert node.msed("stop").stdout == "MSE Platform is not running.\n"
    events = node.lab.exec("mse1", ["mse", "ha", "events"]).stdout
    assert "root asked: StopNode" in events, "on purpose, and on record"


def test_what_is_killed_comes_back_and_what_serves_is_kept(node: Node) -> None:
    booted = node.script("start", RUNLEVEL="2", PREVLEVEL="N")
    assert (booted.returncode, booted.stdout) == (0, STARTED)
    assert node.script("status").returncode == 0
    before = node.pids()

    _kill(before["guard"])  # its keeper starts another, which finds the health monitor alive
    assert wait_for(lambda: node.pids()["guard"] not in (None, before["guard"]), 10)
    _kill(before["health-monitor"])
    assert wait_for(lambda: node.pids()["health-monitor"] not in (None, 0), 10)
    assert wait_for(lambda: node.msed("status").returncode == 0, 20)
    assert node.pids()["postgres"] == before["postgres"]

    # Keeper, guard and health monitor at once: nobody is left to start anything, PostgreSQL is.
    keeper = node.lab.exec("mse1", ["cat", "/run/openmse/keepers/health-monitor.keeper"]).stdout
    node.lab.exec("mse1", ["kill", "-KILL", keeper.split()[0]])
    now = node.pids()
    _kill(now["guard"])
    _kill(now["health-monitor"])
    assert node.msed("status").returncode == 4
    started = node.msed("start")
    assert started.returncode == 0, started
    assert "Health Monitor successfully started" in started.stdout
    assert node.pids()["postgres"] == before["postgres"], "adopted, not started anew"
    ended = node.script("stop", RUNLEVEL="6", PREVLEVEL="2")
    assert ended.returncode == 0
    assert "There is no handover" in ended.stderr, "a reboot hands over where it can"
    assert set(node.pids().values()) == {None}
    assert node.script("status").returncode == 3, "what init scripts say of what does not run"


def test_what_keeps_it_from_starting_is_named_and_nothing_is_left(node: Node) -> None:
    node.lab.exec("mse1", ["rm", CONFIG])
    missing = node.msed("start")
    assert missing.returncode == 2
    assert "This machine is not set up" in missing.stderr
    assert "mse setup" in missing.stderr
    assert node.script("start").returncode == 6, "not configured, as init scripts say"
    assert node.script("stop", RUNLEVEL="0").returncode == 0

    node.configure()
    text = node.lab.exec("mse1", ["cat", CONFIG]).stdout
    node.write(CONFIG, text.replace("failover_wait_s = 2.0", "failover_wait_s = 0.2"))
    wrong = node.msed("start")
    assert wrong.returncode == 2
    assert "failover_wait_s" in wrong.stderr

    node.write(CONFIG, text.replace("[group]", '[database]\nuser = "nobody-here"\n\n[group]'))
    nobody = node.msed("start")
    assert nobody.returncode == 2
    assert "There is no user 'nobody-here'" in nobody.stderr

    node.configure()
    code = (
        "import socket; s=socket.create_server(('127.0.0.1', 5432)); print(1, flush=True); input()"
    )
    with node.lab.popen(
        "mse1", ["python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        taken = node.msed("start")
        other.kill()
    assert taken.returncode == 1
    assert "TCP port 5432 (database.port) by python3 (pid " in taken.stderr
    assert set(node.pids().values()) == {None}


def test_a_start_that_fails_halfway_says_where_and_undoes_nothing_that_serves(node: Node) -> None:
    text = node.lab.exec("mse1", ["cat", CONFIG]).stdout
    node.write(CONFIG, text.replace('interface = "eth0"', 'interface = "eth7"'))
    halfway = node.msed("start", "--wait", "2")
    assert halfway.returncode == 1, halfway
    assert halfway.stdout.endswith("Starting framework and services .....\n")
    assert (
        "Framework and services did not come up within 2 s: this machine has no interface eth7"
        in (halfway.stderr)
    )
    assert node.pids()["postgres"], "what runs is left as it is"
    assert node.msed("status").returncode == 1
    assert node.msed("stop").returncode == 0

    node.write("/run/openmse/control.sock", "")
    never = node.msed("start")
    assert never.returncode == 1, never
    assert never.stdout.endswith("Waiting to check the status.\n")
    assert "Health Monitor was not started: it ends right after its start." in never.stderr
    assert "control.sock exists and is no socket" in never.stderr
    assert set(node.pids().values()) == {None}, "nothing goes on trying in the background"


def test_only_root_starts_and_stops(node: Node) -> None:
    for verb in ("start", "stop", "restart"):
        done = node.lab.exec(
            "mse1",
            ["/opt/openmse/venv/bin/python3", "-m", "openmse.cli.msed", verb],
            user="openmse",
        )
        assert done.returncode == 2
        assert f"'msed {verb}' needs root" in done.stderr
