"""The commands when all is well: what they ask, what they print, what they leave behind."""

import io
import json
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cli_machine import CliMachine
from live_core import LiveCore, config, daemon, record

from openmse.documents import document
from openmse.ha.events import Commanded, Maintenance
from openmse.ha.local import DbProcess, DbRole, DbView
from openmse.ha.node import boot
from openmse.ha.values import Instant, Lineage, Mode
from openmse.node import group
from openmse.node.control.commands import PairArgs, ReadmitArgs, WitnessArgs
from openmse.node.group import GroupInfo
from openmse.node.runtime.background import Background
from openmse.node.runtime.event_log import Entry, EventLog
from openmse.node.runtime.journal import Journal
from openmse.pki.password import PairingStore

EMPTY_GROUP = GroupInfo("g", "mse1", (), ())


def test_status_for_people_and_programs(running: CliMachine) -> None:
    ran = running.run("ha", "status")
    assert ran.code == 0
    assert ran.out.startswith("mse1: PRIMARY_ALONE\n")
    assert "ALONE(mse1) term 1 epoch 3" in ran.out
    value = json.loads(running.run("ha", "status", "--json").out)
    assert value["state"] == "PRIMARY_ALONE"
    assert value["register"]["voters"] == ["mse1"]
    assert value["pids"] == {"health-monitor": 17, "postgres": None}


def test_watch_goes_on_until_interrupted(running: CliMachine) -> None:
    program = "from openmse.cli.main import main; main()"
    arguments = ["--config", str(running.config), "ha", "status", "--watch", "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        pictures = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130
    assert {picture["node"] for picture in pictures} == {"mse1"}


def test_settings_are_shown_and_changed(running: CliMachine) -> None:
    assert "failover wait     5 s" in running.run("ha", "settings").out
    changes = ["--failover-wait", "3", "--failover-type", "manual", "--boot-alone", "ask"]
    ran = running.run("ha", "settings", *changes)
    assert (ran.code, ran.out) == (0, "The change is in force.\n")
    value = json.loads(running.run("ha", "settings", "--json").out)
    assert value["failover_wait_ns"] == 3_000_000_000
    assert (value["failover_type"], value["boot_alone"]) == ("manual", "ask")
    assert running.run("ha", "settings", "--failover-wait", "1", "--experimental").code == 0


def test_maintenance(running: CliMachine) -> None:
    assert running.run("ha", "maintenance", "on").code == 0
    assert "Maintenance" in running.run("ha", "doctor").out or running.core is not None
    assert json.loads(running.run("ha", "settings", "--json").out)["maintenance"] is True
    assert running.run("ha", "maintenance", "off").code == 0
    assert json.loads(running.run("ha", "settings", "--json").out)["maintenance"] is False


def waiting_secondary(mode: Mode = Mode.ALONE) -> LiveCore:
    """mse2 while mse1, which was last known in this mode, is away."""
    db = DbView(
        process=DbProcess.UP,
        role=DbRole.STANDBY,
        lineage=Lineage(1, 1, "mse1"),
        end_lsn=77,
        is_complete=True,
    )
    known = record("mse2", config(mode))
    return LiveCore(boot(known, now=Instant(10**12), is_machine_boot=True, db=db))


@pytest.mark.parametrize("typed", ["", "mse1", "yes"])
def test_a_takeover_that_is_not_confirmed(
    machine: CliMachine, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    core = waiting_secondary()
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed + "\n"))
    with daemon(machine.socket, core):
        ran = machine.run("ha", "takeover", "--force")
    assert ran.code == 2
    assert "nothing was changed" in ran.err
    assert core.node.record.known == config(Mode.ALONE)


@pytest.mark.parametrize(
    ("mode", "lost"),
    [
        (Mode.ALONE, "everything that it has acknowledged alone since then is lost"),
        (Mode.SYNC, "if mse1 has gone on alone since, which this node cannot know"),
        (Mode.PINNED, "if mse1 has gone on alone since, which this node cannot know"),
    ],
)
def test_a_takeover_shows_the_loss_and_takes_the_name(
    machine: CliMachine, monkeypatch: pytest.MonkeyPatch, mode: Mode, lost: str
) -> None:
    core = waiting_secondary(mode)
    monkeypatch.setattr(sys, "stdin", io.StringIO("mse2\n"))
    with daemon(machine.socket, core):
        ran = machine.run("ha", "takeover", "--force")
    assert ran.code == 0
    assert "Possible loss: mse1 has not been heard" in ran.err
    assert lost in " ".join(ran.err.split())
    assert "power it off" in ran.err
    assert core.node.record.known is not None
    assert (core.node.record.known.owner, core.node.record.known.term) == ("mse2", 5)


def test_a_takeover_for_scripts(machine: CliMachine) -> None:
    core = waiting_secondary()
    with daemon(machine.socket, core):
        ran = machine.run("ha", "takeover", "--force", "--yes-i-lose-data", "mse2")
    assert ran.code == 0
    assert "mse2 owns from now on" in ran.out


def test_pairing_sends_what_the_file_and_the_options_say(
    running: CliMachine, tmp_path: Path
) -> None:
    password, other = tmp_path / "p", tmp_path / "w"
    password.write_text("a good password\nsecond line\n")
    other.write_text("the witness's own")
    ran = running.run(
        "ha",
        "pair",
        "--peer",
        "127.10.10.12",
        "--password-file",
        str(password),
        "--witness",
        "10.10.10.13",
        "--witness-password-file",
        str(other),
    )
    assert ran.code == 0
    witness = WitnessArgs("console", "witness", "10.10.10.13", 8465, "the witness's own")
    assert running.pairing is not None
    assert running.pairing.asked == [PairArgs("127.10.10.12", "a good password", 8465, witness)]
    assert "a good password" not in ran.out + ran.err


def test_pairing_takes_the_witness_of_the_file(running: CliMachine, tmp_path: Path) -> None:
    etcd = '[witness]\nkind = "etcd"\nname = "e"\nendpoints = ["https://10.10.10.9:2379"]\n'
    running.write(extra=etcd)
    password = tmp_path / "p"
    password.write_text("a good password")
    arguments = ["ha", "pair", "--peer", "127.10.10.12", "--password-file", str(password)]
    assert running.run(*arguments).code == 0
    assert running.run(*arguments, "--no-witness").code == 0
    assert running.pairing is not None
    first, second = running.pairing.asked
    assert isinstance(first, PairArgs)
    assert first.witness is not None
    assert first.witness.endpoints == ("https://10.10.10.9:2379",)
    assert isinstance(second, PairArgs)
    assert second.witness is None


def test_unpairing_and_witnesses(running: CliMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert running.pairing is not None
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert running.run("ha", "unpair").code == 1
    assert running.pairing.asked == []
    assert running.run("ha", "unpair", "--yes", "--without-peer").code == 0
    assert running.run("ha", "witness", "remove", "--yes").code == 0
    assert running.pairing.asked == [("unpair", True), "remove"]


def test_a_wait_for_a_new_machine_begins_and_is_ended(running: CliMachine, tmp_path: Path) -> None:
    assert running.pairing is not None
    secret = tmp_path / "p"
    secret.write_text("a new password")
    begun = ("ha", "readmit", "--yes", "--minutes", "5", "--password-file", str(secret))
    assert running.run(*begun).code == 0
    refused = running.run(*begun, "--cancel")
    assert (refused.code, "nothing was changed" in refused.err) == (2, True)
    ended = running.run("ha", "readmit", "--cancel")
    assert (ended.code, ended.out) == (0, "waits no longer\n")
    assert running.pairing.asked == [
        ReadmitArgs("a new password", 300.0),
        ("readmit_cancel", pwd.getpwuid(os.geteuid()).pw_name),
    ]


def test_config_check_and_show(machine: CliMachine) -> None:
    ran = machine.run("config", "check")
    assert (ran.code, ran.out) == (0, f"{machine.config} is in order: mse1, primary.\n")
    assert machine.run("config", "check", str(machine.config)).code == 0
    ran = machine.run("config", "check", "--json")
    assert (ran.code, json.loads(ran.out)) == (0, [])
    assert "failover_wait_s = 5.0" in machine.run("config", "show").out
    assert json.loads(machine.run("config", "show", "--json").out)["ports"]["node_tls"] == 8461


def test_the_faults_of_a_file_for_programs(machine: CliMachine) -> None:
    machine.write(extra='[databse]\nport = 1\n[ports]\nnode_tls = "one"\n')
    ran = machine.run("config", "check", "--json")
    assert ran.code == 2
    assert ran.err.startswith("MSE-CFG-001: ")
    unknown, wrong = json.loads(ran.out)
    lines = machine.config.read_text().splitlines()
    assert unknown["key"] == "databse"
    assert lines[unknown["line"] - 1] == "[databse]"
    assert "Did you mean 'database'?" in unknown["sentence"]
    assert document("configuration") in unknown["hint"]
    assert (wrong["key"], lines[wrong["line"] - 1]) == ("ports.node_tls", 'node_tls = "one"')
    machine.config.write_text("[node\n")
    (fault,) = json.loads(machine.run("config", "check", "--json").out)
    assert fault["line"] is None
    assert "not a valid TOML file" in fault["sentence"]


async def test_events_are_read_without_a_daemon(machine: CliMachine) -> None:
    machine.state.mkdir()
    background = Background("test writer")
    log = EventLog(machine.state / "events.jsonl", background)
    for hour in (1, 2):
        at = f"2026-01-01T0{hour}:00:00.000+00:00"
        log.write(Entry(at, hour, "mse1", "config_chosen", "info", f"Hour {hour}.", 1, hour))
    await background.wait_idle()
    background.close()
    ran = machine.run("ha", "events")
    assert ran.out.splitlines()[1] == (
        "2026-01-01T02:00:00.000+00:00  info    config_chosen [1.2]: Hour 2."
    )
    found = json.loads(machine.run("ha", "events", "--json", "-n", "1").out)
    assert [event["boot_ns"] for event in found] == [2]
    since = ["--since", "2026-01-01T01:30:00+00:00"]
    assert len(machine.run("ha", "events", *since).out.splitlines()) == 1
    assert machine.run("ha", "events", "--since", "1h").out == ""


def falsify(path: Path) -> None:
    """Record a sentence that the core never said."""
    path.write_bytes(path.read_bytes().replace(b"is not heard", b"is not there"))


async def test_the_journal_is_listed_shown_and_replayed(machine: CliMachine) -> None:
    core = waiting_secondary()
    core.pass_time(1)
    core.post(Commanded(core.node.now, "c", Maintenance(True)))
    background = Background("test writer")
    journal = Journal(machine.state / "journal", background)
    for before, event, after, effects in core.steps:
        journal.record(before, event, after, effects)
    journal.flush()
    await background.wait_idle()
    background.close()
    ran = machine.run("ha", "journal", "--json")
    (found,) = json.loads(ran.out)
    assert "does not run" in ran.err
    ran = machine.run("ha", "journal", "replay")
    assert ran.code == 0
    assert f"{len(core.steps)} steps in 1 segments, 0 decided otherwise" in ran.out
    show = ("ha", "journal", "show", found["file"])
    assert "-> Answer(" in machine.run(*show, "--decisions").out
    told = [json.loads(line) for line in machine.run(*show, "--json").out.splitlines()]
    assert len(told) == len(core.steps)
    assert [step["event"]["kind"] for step in told] == [type(e).__name__ for _, e, *_ in core.steps]
    decided = machine.run(*show, "--json", "--decisions").out.splitlines()
    kinds = {effect["kind"] for line in decided for effect in json.loads(line)["effects"]}
    assert "Answer" in kinds
    assert not kinds & {"Send", "SetLease", "WantWatchdog"}
    falsify(Path(found["file"]))
    ran = machine.run("ha", "journal", "replay", found["file"])
    assert ran.code == 1
    assert "1 decided otherwise" in ran.out
    assert "MSE-JRN-001" in ran.err


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="prepares directories as root does")
def test_init_of_a_secondary(machine: CliMachine, tmp_path: Path) -> None:
    machine.write(role="secondary")
    secret = tmp_path / "password"
    secret.write_text("short\n")
    assert machine.run("node", "init", "--pairing-password-file", str(secret)).code == 2
    assert not machine.state.exists()
    secret.write_text("long enough to be one\n")
    ran = machine.run("node", "init", "--pairing-password-file", str(secret))
    assert ran.code == 0
    assert "mse ha pair --peer 10.10.10.11" in ran.out
    stored = machine.state / "pairing-password"
    assert stored.stat().st_mode & 0o777 == 0o600
    assert b"long enough" not in stored.read_bytes()
    assert PairingStore(stored).armed(0) is not None
    assert machine.run("node", "init", "--pairing-password-file", str(secret)).code == 0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="prepares directories as root does")
def test_init_of_a_primary_and_of_a_paired_node(machine: CliMachine) -> None:
    ran = machine.run("node", "init")
    assert ran.code == 0
    assert {path.name for path in machine.state.iterdir()} == {"pki", "journal", "drills"}
    group.save(machine.state / "group.json", EMPTY_GROUP)
    ran = machine.run("node", "init")
    assert ran.code == 3
    assert "paired already" in ran.err


def test_a_stop_on_purpose(running: CliMachine) -> None:
    ran = running.run("node", "stop", "--no-wait")
    assert (ran.code, ran.out) == (0, "This node is stopping.\n")
    assert json.loads(running.run("ha", "status", "--json").out)["state"] == "GRACEFUL_SHUTDOWN"


def test_snapshots_survive_the_wire(running: CliMachine) -> None:
    from openmse.node.control.snapshot import Snapshot

    text = running.run("ha", "status", "--json").out
    picture = msgspec.json.decode(text, type=Snapshot)
    assert json.loads(msgspec.json.encode(picture)) == json.loads(text)
