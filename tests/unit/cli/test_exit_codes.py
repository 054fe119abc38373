"""Every command: what bad input is answered with, by which exit code, and that nothing changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_machine import CliMachine

from openmse.node import group

ASKING = [
    ["ha", "status"],
    ["ha", "status", "--json"],
    ["ha", "status", "--watch"],
    ["ha", "doctor"],
    ["ha", "switchover"],
    ["ha", "failback"],
    ["ha", "takeover", "--force", "--yes-i-lose-data", "mse1"],
    ["ha", "maintenance", "on"],
    ["ha", "confirm-alone"],
    ["ha", "release-protect"],
    ["ha", "rejoin"],
    ["ha", "settings"],
    ["ha", "settings", "--failover-wait", "3"],
    ["ha", "pair", "--peer", "127.10.10.12", "--no-witness"],
    ["ha", "unpair", "--yes"],
    ["ha", "witness", "remove", "--yes"],
    ["ha", "witness", "replace", "--address", "10.10.10.13"],
    ["node", "stop"],
]


@pytest.mark.parametrize("arguments", ASKING, ids=" ".join)
def test_without_a_daemon_it_is_4_and_says_what_to_do(
    machine: CliMachine, arguments: list[str]
) -> None:
    ran = machine.run(*arguments)
    assert ran.code == 4
    said = ran.out + ran.err
    assert "The daemon of this machine does not answer" in said
    assert "msed start" in said


WRONG = [
    (["ha", "no-such-command"], 2, "No such command"),
    (["ha", "maintenance", "maybe"], 2, "is not one of"),
    (["ha", "maintenance"], 2, "Missing argument"),
    (["ha", "switchover", "--to", "mse9"], 2, "There is no node 'mse9'"),
    (["ha", "switchover", "--to", "mse1"], 3, "mse1 owns already"),
    (["ha", "switchover"], 3, "not paired"),
    (["ha", "failback"], 3, "owns already"),
    (["ha", "takeover"], 2, "--force"),
    (["ha", "takeover", "--force", "--yes-i-lose-data", "mse2"], 2, "not the name of this node"),
    (["ha", "settings", "--failover-wait", "1"], 2, "between 2 s and 120 s"),
    (["ha", "settings", "--failover-wait", "soon"], 2, "not a valid float"),
    (["ha", "settings", "--failover-wait", "nan"], 2, "cannot be used"),
    (["ha", "settings", "--failover-type", "sometimes"], 2, "is not one of"),
    (["ha", "settings", "--boot-patience", "2"], 2, "longer than the failover wait"),
    (["ha", "pair", "--peer", "mse2"], 2, "is not an IP address"),
    (["ha", "pair", "--peer", "10.10.10.11"], 2, "own"),
    (["ha", "pair"], 2, "Missing option '--peer'"),
    (["ha", "pair", "--peer", "127.10.10.12", "--password-file", "/no/such"], 2, "cannot be read"),
    (["ha", "witness", "replace", "--address", "here", "--password-file", "x"], 2, "IP address"),
    (["ha", "witness", "replace", "--kind", "etcd"], 2, "--endpoint"),
    (["ha", "events", "--since", "yesterday"], 2, "no point in time"),
    (["ha", "journal", "replay", "/no/such"], 2, "does not exist"),
    (["config", "check", "/no/such.toml"], 2, "There is no configuration file"),
    (["ha", "drill", "--yes"], *((3, "not paired") if os.geteuid() == 0 else (2, "needs root"))),
]


@pytest.mark.parametrize(("arguments", "code", "words"), WRONG, ids=lambda v: str(v)[:60])
def test_bad_input_is_told_and_changes_nothing(
    running: CliMachine, arguments: list[str], code: int, words: str
) -> None:
    assert running.core is not None
    assert running.pairing is not None
    before = running.core.node
    ran = running.run(*arguments)
    assert ran.code == code
    assert words in ran.err
    assert running.core.node.record == before.record
    assert running.core.node.pending is None
    assert running.pairing.asked == []


def test_passwords_that_cannot_be_used(running: CliMachine, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    arguments = ["ha", "pair", "--peer", "127.10.10.12", "--password-file", str(secret)]
    for content in (b"short\n", b"x" * 300, b"\xff\xfe" * 8, b"\n", b"tab\tinside it\n"):
        secret.write_bytes(content)
        ran = running.run(*arguments)
        assert ran.code == 2
        assert "password" in ran.err
        shown = content.decode(errors="ignore").strip()
        assert not shown or shown not in ran.err


def test_a_secondary_does_not_pair(running: CliMachine) -> None:
    running.write(role="secondary")
    ran = running.run("ha", "pair", "--peer", "127.10.10.12")
    assert ran.code == 2
    assert "configured as the secondary" in ran.err


def test_a_broken_file_does_not_hide_the_status(running: CliMachine) -> None:
    running.write(extra="[databse]\nport = 1\n")
    assert running.run("config", "check").code == 2
    ran = running.run("ha", "status")
    assert ran.code == 0
    assert "mse1: PRIMARY_ALONE" in ran.out
    ran = running.run("ha", "doctor")
    assert ran.code == 1
    assert "Did you mean 'database'?" in ran.out


def test_errors_go_to_standard_error(machine: CliMachine) -> None:
    ran = machine.run("ha", "status", "--json")
    assert ran.out == ""
    assert ran.err.startswith("MSE-CTL-002: ")


def test_the_process_leaves_with_the_same_codes(machine: CliMachine) -> None:
    mse = [sys.executable, "-c", "from openmse.cli.main import main; main()"]
    arguments = ["--config", str(machine.config), "ha", "status"]
    done = subprocess.run([*mse, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("MSE-CTL-002: ")
    assert subprocess.run([*mse, "--help"], capture_output=True, check=False).returncode == 0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_without_root_it_says_so(machine: CliMachine) -> None:
    said = said_to_nobody(machine, "node", "init")
    assert "needs root" in said
    assert "sudo mse node init" in said
    assert not machine.state.exists()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_group_that_is_for_root_alone_is_no_missing_group(machine: CliMachine) -> None:
    machine.state.mkdir()
    group.save(machine.state / "group.json", group.GroupInfo("g", "mse1", (), ()))
    assert machine.run("license", "limits").code == 0  # gives the engine its serial number
    said = said_to_nobody(machine, "license", "limits")
    assert "group.json, cannot be read by this user" in said
    assert "Run 'sudo gethainfo'." in said_to_nobody(machine, "ha-info")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_state_directory_that_is_for_root_alone_is_no_damage(machine: CliMachine) -> None:
    machine.state.mkdir(mode=0o700)
    assert "Run 'sudo mse admin fingerprint'." in said_to_nobody(machine, "admin", "fingerprint")
    said = said_to_nobody(machine, "license", "list")
    assert "serial number" in said
    assert "Restore it" not in said


def said_to_nobody(machine: CliMachine, *arguments: str) -> str:
    """What an unprivileged user is told, with the exit code for missing rights."""
    command = [sys.executable, "-c", "from openmse.cli.main import main; main()"]
    command += ["--config", str(machine.config), *arguments]
    nobody = {"user": 65_534, "group": 65_534, "extra_groups": [], "cwd": "/"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **nobody)
    if "ModuleNotFoundError" in done.stderr or not done.stderr:
        pytest.skip("the package lies where other users cannot reach it")
    assert done.returncode == 2, done.stderr
    assert "MSE-USE-002" in done.stderr
    return done.stderr


def test_output_that_cannot_be_written_is_said(machine: CliMachine) -> None:
    """Facts are saved to a file when the disk is full: no traceback, and no 0."""
    program = "from openmse.cli.main import main; main()"
    command = [sys.executable, "-c", program, "--config", str(machine.config), "config", "show"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("MSE-DRV-001: The output could not be written: No space left")
    assert "Traceback" not in done.stderr


def test_a_password_is_not_asked_for_where_it_would_be_shown() -> None:
    program = (
        "from openmse.cli.passwords import password\nfrom openmse.errors import UsageError\n"
        "try:\n    password('', 'Pairing password')\n"
        "except UsageError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="correct horse battery\n",
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,  # without a terminal
    )
    assert "no terminal at which the pairing password could be asked for" in done.stdout
    assert "GetPassWarning" not in done.stderr


def test_help_imports_nothing_slow() -> None:
    program = (
        "import sys\nfrom openmse.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "slow = {'asyncio', 'rich', 'psycopg', 'cryptography', 'pyroute2', 'httpx'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"
