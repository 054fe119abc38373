"""``getserverinfo`` and ``gethainfo`` over the control socket, and from what was saved last."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli_machine import CliMachine
from live_core import LINEAGE, LiveCore, config, daemon, record

from openmse.guard.feed import STOPPED_NAME
from openmse.ha.local import DbProcess, DbRole, DbView, Receiver
from openmse.ha.node import boot
from openmse.ha.values import Config, Instant, Mode, Release
from openmse.node import group
from openmse.node.drivers.store.machine import Machine
from openmse.node.drivers.store.record import RecordStore
from openmse.node.group import GroupInfo, NodeInfo
from openmse.platform import peers, schema
from openmse.platform.machines import Machine as PlatformMachine
from openmse.platform.machines import MachineKind
from openmse.platform.peers import Told
from openmse.platform.status.ha_info import HaInfo
from openmse.platform.status.page import page
from openmse.platform.status.server_info import ServerInfo

GENERATED = Path(__file__).resolve().parents[3] / "docs" / "generated"
GROUP = GroupInfo(
    "0123456789ab",
    "mse1",
    (NodeInfo("mse1", "10.10.10.11"), NodeInfo("mse2", "10.10.10.12")),
    ("10.10.10.10/24",),
)
TOLD = Told("mse2", "AIR-MSE-VA-K9:V01:mse2_1", PlatformMachine(MachineKind.VA_LOW, True), "0.0.9")


def pair_up(machine: CliMachine) -> None:
    """The machine's files say that it is paired, and its peer has told its UDI."""
    machine.state.mkdir(exist_ok=True)
    group.save(machine.state / "group.json", GROUP)
    peers.write(machine.state, {"mse2": TOLD})


def remember(machine: CliMachine, known: Config, **changes: Any) -> None:
    """The machine's register knows a config chosen."""
    machine.state.mkdir(exist_ok=True)
    kept = msgspec.structs.replace(record("mse1", known), **changes)
    RecordStore(machine.state / "register", Machine({})).save(kept)


def screen(machine: CliMachine, command: str, code: int = 0) -> dict[str, str]:
    """Label -> value of a screen's lines."""
    ran = machine.run(command)
    assert (ran.code, ran.err) == (code, "")
    parted = [line.partition(": ") for line in ran.out.splitlines()]
    return {label: value for label, separator, value in parted if separator}


def test_an_unpaired_primary_that_serves(running: CliMachine) -> None:
    found = screen(running, "ha-info")
    assert found["Server role"] == "Primary"
    assert found["Virtual IP Address"] == "10.10.10.10"
    assert found["Number of paired peers"] == "0"
    assert found["Current state"] == "PRIMARY_ALONE"
    assert (found["Current role"], found["Synchronization"]) == ("primary", "alone")
    assert (found["Health"], found["Operation"]) == ("ok", "none")
    found = screen(running, "server-info")
    assert found["High Availability Role"] == "1"
    assert found["HTTPS"] == "null"
    assert int(found["Max Memory (MB)"]) > 100
    assert "DB disk size (MB)" not in found  # there is no PostgreSQL behind this daemon
    assert "Legacy Port" not in found


def test_a_pair_with_what_the_peer_has_told(machine: CliMachine) -> None:
    pair_up(machine)
    db = DbView(
        process=DbProcess.UP,
        role=DbRole.STANDBY,
        lineage=LINEAGE,
        receiver=Receiver.STREAMING,
        is_complete=True,
    )
    known = record("mse1", config(Mode.SYNC, owner="mse2"))
    node = boot(known, now=Instant(10**12), is_machine_boot=False, db=db)
    core = LiveCore(node, group=GROUP.group, peer_address="10.10.10.12")
    (machine.state / "group.json").write_text("damaged, or for root alone: it is not needed")
    with daemon(machine.socket, core):
        value = json.loads(machine.run("ha-info", "--json").out)
        info = screen(machine, "ha-info")
        text = machine.run("server-info").out
    msgspec.convert(value, HaInfo)
    (peer,) = value["peers"]
    assert (peer["udi"], peer["version"]) == (TOLD.udi, "0.0.9")
    assert (peer["address"], peer["virtual_ip"]) == ("10.10.10.12", "10.10.10.10")
    assert (peer["failover_type"], peer["failover_wait_s"]) == ("automatic", 5.0)
    assert (peer["instance_name"], peer["replication_name"]) == ("openmse", GROUP.group)
    assert (peer["primary_alias"], peer["is_direct"]) == ("mse1", False)
    assert peer["is_heartbeat_up"] is False
    assert info["Heartbeat status"] == "Down"
    assert info["Failover wait time (seconds)"] == "5"
    assert "MSE services are up and in DORMANT mode, getting the status" in text
    assert "Active Sessions" not in text


STOPPED = [
    (config(Mode.SYNC), {}, False, "PRIMARY_ACTIVE"),
    (config(Mode.ALONE), {}, False, "PRIMARY_ALONE"),
    (config(Mode.PINNED), {}, False, "PINNED"),
    (config(Mode.SYNC, owner="mse2"), {}, False, "FAILOVER_ACTIVE"),
    (config(Mode.SYNC, owner="mse2"), {}, True, "FAILOVER_ACTIVE"),
    (config(Mode.SYNC), {}, True, "GRACEFUL_SHUTDOWN"),
    (config(Mode.SYNC), {"released": Release("mse1", 1, 3)}, False, "GRACEFUL_SHUTDOWN"),
    (config(Mode.SYNC), {"released": Release("mse1", 1, 2)}, False, "PRIMARY_ACTIVE"),
    (config(Mode.SYNC, primary="mse2", owner="mse2"), {}, False, "SECONDARY_ACTIVE"),
    (config(Mode.ALONE, primary="mse2", owner="mse2"), {}, False, "SECONDARY_ALONE"),
    (config(Mode.SYNC, primary="mse2"), {}, False, "FAILOVER_ACTIVE"),
]


@pytest.mark.parametrize(("known", "changes", "was_stopped", "state"), STOPPED)
def test_the_last_state_of_a_stopped_node(
    machine: CliMachine, known: Config, changes: dict[str, Any], was_stopped: bool, state: str
) -> None:
    pair_up(machine)
    remember(machine, known, **changes)
    if was_stopped:
        (machine.directory / "run" / STOPPED_NAME).touch()
    before = (machine.state / "register").read_bytes()
    found = screen(machine, "ha-info", code=4)
    assert found["Last shutdown state"] == state
    assert (found["Number of paired peers"], found["UDI"]) == ("1", TOLD.udi)
    assert "Heartbeat status" not in found
    assert "Current state" not in found
    assert (machine.state / "register").read_bytes() == before


def test_a_stopped_node_that_was_never_started(machine: CliMachine) -> None:
    ran = machine.run("ha-info")
    assert ran.code == 4
    assert "Health Monitor is not running. Following information is from the last" in ran.out
    assert "Last shutdown state: WAITING" in ran.out
    ran = machine.run("server-info")
    assert (ran.code, ran.out) == (4, "Health Monitor is not running\n")
    assert json.loads(machine.run("server-info", "--json").out)["is_running"] is False


def test_a_damaged_register_is_said(machine: CliMachine) -> None:
    machine.state.mkdir()
    (machine.state / "register").write_text("{")
    ran = machine.run("ha-info")
    assert (ran.code, ran.out) == (1, "")
    assert "MSE-STA-001" in ran.err


def test_a_fault_in_the_file_hides_no_running_node(running: CliMachine) -> None:
    assert running.run("ha-info").code == 0
    running.config.write_text(running.config.read_text() + "[nonsense]\n")
    assert running.run("ha-info").code == 0
    assert running.run("server-info").code == 0


def test_damaged_files_of_the_platform_hide_nothing_else(machine: CliMachine) -> None:
    pair_up(machine)
    remember(machine, config(Mode.SYNC))
    (machine.state / "platform.json").write_text("{")
    (machine.state / "platform-peers.json").write_text("{")
    (machine.directory / "platform.toml").write_text("[")
    found = screen(machine, "ha-info", code=4)
    assert found["UDI"] == "Not known yet"
    assert found["Last shutdown state"] == "PRIMARY_ACTIVE"
    core = LiveCore(boot(record("mse1", config()), now=Instant(10**12), is_machine_boot=False))
    with daemon(machine.socket, core):
        found = screen(machine, "server-info")
    assert (found["Hw Serial Number"], found["Hw Version"]) == ("Not known yet", "V01")
    assert machine.run("license", "limits").code == 2


def test_memory_and_start_are_those_of_the_processes(running: CliMachine) -> None:
    """The daemon says pid 17; the values are those of whatever runs under it, or nothing."""
    value = msgspec.convert(json.loads(running.run("server-info", "--json").out), ServerInfo)
    assert value.monitor is not None
    assert value.monitor.started.at <= value.monitor.now.at
    assert value.monitor.restarts is None  # there is no register


@pytest.mark.parametrize("name", sorted(schema.PUBLISHED))
def test_the_published_schemas_are_true(name: str) -> None:
    path = GENERATED / name
    assert path.read_text() == schema.text(schema.PUBLISHED[name])


@pytest.mark.parametrize("name", ["getserverinfo", "gethainfo"])
def test_console_scripts(machine: CliMachine, name: str) -> None:
    (script,) = entry_points(group="console_scripts", name=name)
    module, _, function = script.value.partition(":")
    program = f"from {module} import {function}; {function}()"
    words = [sys.executable, "-c", program]
    for extra in (["--config", str(machine.config)], [f"--config={machine.config}"]):
        done = subprocess.run([*words, *extra], capture_output=True, text=True)
        assert done.returncode == 4, done.stderr
        assert "Health Monitor is not running" in done.stdout
    environment = {**os.environ, "OPENMSE_CONFIG": str(machine.config)}
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, env=environment)
    assert json.loads(done.stdout)["is_running"] is False


def test_the_page_of_screens_is_what_the_commands_draw() -> None:
    assert (GENERATED.parent / "status-commands.md").read_text() == page()
