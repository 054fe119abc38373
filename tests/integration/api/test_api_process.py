"""The admin process as it runs in production: beginning, faults at the start, the end."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from api_machine import ADMIN, Machine, SlowPairing, until
from click.testing import CliRunner

from openmse.api.audit import Audit
from openmse.api.people import People, Role
from openmse.cli.main import root
from openmse.errors import MseError

SECRET = "pairing secret 1"
PAIR = {"peer": "127.10.10.12", "password": SECRET}


def test_it_serves_and_ends_calmly(machine: Machine) -> None:
    with machine.monitor(), machine.process() as process:
        served = process.served()
        served.until_up()
        assert served.ok("GET", "/v1/info")["fingerprint"] in process.text()
        assert os.getpriority(os.PRIO_PROCESS, process.popen.pid) > 0, "the health monitor first"
        with served.stream() as stream:
            stream.until("status")
            process.popen.send_signal(signal.SIGTERM)
            assert "stopped" in stream.until("bye")["reason"]
        assert process.ended() == 0
    assert "Traceback" not in process.text()


def test_an_operation_under_way_at_the_end_is_lost_and_said_so(machine: Machine) -> None:
    pairing = SlowPairing()
    with machine.monitor(pairing=pairing):
        with machine.process() as process:
            served = process.served()
            path = served.ask("POST", "/v1/ha/pair?wait_s=0", json=PAIR).headers["location"]
            until(lambda: served.ok("GET", path)["steps"], "it has begun")
            process.popen.kill()
            process.ended()
        assert not pairing.asked, "it goes on in the health monitor"
        pairing.let_go.set()
        until(lambda: pairing.asked, "it ended in the health monitor")
        with machine.process() as again:
            told = again.served().ok("GET", path)
        assert told["state"] == "lost"
        assert "what was begun went on" in told["sentence"]
        log = process.text() + again.text()
    results = [entry.result for entry in Audit(machine.places).newest(10)]
    assert results == ["lost", "begun"]
    assert Audit(machine.places).faults() == []
    assert SECRET not in log
    assert ADMIN[1] not in log


def test_a_port_in_use_is_told(machine: Machine) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with machine.process(port=port) as process:
            assert process.ended() == 1
        assert f"cannot listen on 127.0.0.1 port {port}" in process.text()
        assert "MSE-NET-010" in process.text()
        assert "Traceback" not in process.text()


def test_a_state_directory_that_cannot_be_written(machine: Machine) -> None:
    blocked = machine.state / "management"
    for path in sorted(blocked.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    blocked.rmdir()
    blocked.write_text("a file where a directory should be")
    with machine.process() as process:
        assert process.ended() == 1
    assert "cannot be made" in process.text()
    assert "Traceback" not in process.text()


@pytest.mark.parametrize("name", ["users.json", "tokens.json", "console.json"])
def test_damaged_files_let_nobody_in(machine: Machine, name: str) -> None:
    (machine.places.directory / name).write_text("{")
    with machine.process() as process:
        if name == "console.json":
            assert process.ended() == 1
            assert "MSE-STA-032" in process.text()
            return
        served = process.served()
        token = "mse_0123456789ab_" + "A" * 43
        options = {"token": token} if name == "tokens.json" else {}
        error = served.refused("GET", "/v1/me", 500, "MSE-STA-032", **options)
        assert "damaged" in error["sentence"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[management]\nport = 70000\n", "70000 is not a port"),
        ("[management]\nprot = 8466\n", "prot"),
        ("[management]\nkey_file = '/x'\n", "go together"),
        ("x", "not a valid TOML"),
    ],
)
def test_settings_that_cannot_be(machine: Machine, text: str, words: str) -> None:
    machine.management.write_text(text)
    done = mse(machine, "admin", "run", "--management", str(machine.management))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_certificate_that_does_not_fit_its_key(machine: Machine) -> None:
    with machine.process() as process:
        process.served()
    machine.places.key.write_bytes(machine.places.certificate.read_bytes())
    with machine.process() as again:
        assert again.ended() == 1
    assert "MSE-STA-033" in again.text()


# -- mse admin ------------------------------------------------------------------------------


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def mse(machine: Machine, *words: str, typed: str = "") -> Said:
    """A command on this machine, in this process: another interpreter would take a second."""
    done = CliRunner().invoke(root, ["--config", str(machine.config), *words], input=typed)
    if isinstance(done.exception, MseError):
        error = done.exception
        return Said(error.exit_code, done.stdout, f"{error.code}: {error.sentence}")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Said(done.exit_code, done.stdout, done.stderr)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it changes who may log in")


@needs_root
def test_a_password_is_set_from_standard_input(machine: Machine) -> None:
    words = ("admin", "password", "--user", "eva", "--role", "operator", "--password-file", "-")
    done = mse(machine, *words, typed="password of eva\n")
    assert (done.returncode, done.stdout) == (0, "User eva is made (operator).\n")
    assert mse(machine, *words, typed="short\n").returncode == 2
    found = People(machine.places).users.read().get("eva")
    assert found is not None
    assert found.role is Role.OPERATOR
    assert found.hash.startswith("$argon2id$")
    assert stat.S_IMODE(machine.places.users.stat().st_mode) == 0o600
    listed = mse(machine, "admin", "user", "list").stdout
    assert "eva" in listed
    assert "argon2" not in listed


@needs_root
def test_tokens_and_the_console_by_command(machine: Machine) -> None:
    made = mse(machine, "admin", "token", "create", "backup", "--scope", "operate", "--days", "3")
    token = made.stdout.strip()
    with machine.serve() as served:
        assert served.ok("GET", "/v1/me", token=token)["scope"] == "operate"
        name = token.split("_")[1]
        assert name in mse(machine, "admin", "token", "list").stdout
        assert mse(machine, "admin", "token", "revoke", name).returncode == 0
        served.refused("GET", "/v1/me", 401, "MSE-API-002", token=token)
        assert "No console" in mse(machine, "admin", "console", "show").stdout
        body = {"id": "console-osaka", "name": "Osaka"}
        with served.stream("?view=summary") as stream:
            stream.until("summary")
            served.ok("POST", "/v1/console/claim", json=body)
            assert "Osaka" in mse(machine, "admin", "console", "show").stdout
            assert mse(machine, "admin", "console", "release", "--yes").returncode == 0
            told = [stream.until("console")["console"] for _ in range(2)]
            assert [one and one["name"] for one in told] == ["Osaka", None]
        printed = mse(machine, "admin", "audit").stdout
    assert "console_claim done" in printed
    assert "root (mse admin) from this machine: token_create done" in printed
    assert "root (mse admin) from this machine: console_release done" in printed
    assert token.split("_", 2)[2] not in machine.places.audit.read_text()
    assert mse(machine, "admin", "audit", "--check").stdout == "The audit is whole.\n"
    text = machine.places.audit.read_text()
    machine.places.audit.write_text(text.replace("Osaka", "Kyoto", 1))
    broken = mse(machine, "admin", "audit", "--check")
    assert broken.returncode == 1
    assert "something was changed or removed" in broken.stdout


@needs_root
def test_without_an_audit_root_changes_nothing_either(machine: Machine) -> None:
    assert mse(machine, "admin", "token", "create", "first").returncode == 0
    machine.places.audit.unlink()
    machine.places.audit.mkdir()
    refused = mse(machine, "admin", "token", "create", "second")
    assert refused.returncode != 0
    assert "cannot be written (Is a directory), so nothing was changed" in refused.stderr
    listed = mse(machine, "admin", "token", "list").stdout
    assert ("first" in listed, "second" in listed) == (True, False)


@needs_root
def test_the_fingerprint_is_the_one_that_is_served(machine: Machine) -> None:
    shown = mse(machine, "admin", "fingerprint", "--management", str(machine.management)).stdout
    with machine.serve() as served:
        assert served.ok("GET", "/v1/hello")["fingerprint"] == shown.strip()
    words = ("admin", "certificate", "renew", "--yes", "--management", str(machine.management))
    renewed = mse(machine, *words)
    assert renewed.returncode == 0
    with machine.serve() as served:
        told = served.ok("GET", "/v1/hello")["fingerprint"]
    assert told in renewed.stdout
    assert told != shown.strip()


def test_its_settings_are_checked(machine: Machine) -> None:
    good = mse(machine, "admin", "config", "check", str(machine.management))
    assert (good.returncode, "is in order" in good.stdout) == (0, True)
    machine.management.write_text("[limits]\nstreams = 0\n")
    bad = mse(machine, "admin", "config", "check", str(machine.management))
    assert (bad.returncode, "limits.streams" in bad.stderr) == (2, True)


def test_the_process_is_what_mse_admin_run_starts(machine: Machine) -> None:
    command = [str(Path(sys.executable).parent / "mse"), "--config", str(machine.config)]
    log = machine.root / "api.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "admin", "run", "--management", str(machine.management)],
            stdout=stream,
            stderr=stream,
        )
    try:
        until(lambda: "listening on" in log.read_text(), "it listens")
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(10)
