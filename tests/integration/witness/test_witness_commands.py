"""``mse witness``: prepared, run, asked and told to forget, by its command line alone."""

import asyncio
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from witness_process import DEADLINE_S, Group, until

from openmse.cli import witness as command
from openmse.cli.main import root
from openmse.errors import CommandRefused
from openmse.witness.config import load

MSE = [sys.executable, "-c", "from openmse.cli.main import main; main()", "witness"]
CONFIG = """
[witness]
address = "127.0.0.1"
[ports]
witness_tls = 0
witness_udp = 0
pairing = 0
[paths]
state_dir = "{folder}/state"
run_dir = "{folder}/run"
"""


def mse(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [*MSE, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, input=given, timeout=DEADLINE_S, check=False
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "witness.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


@pytest.fixture
def running(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``mse witness run``, prepared by ``mse witness init``."""
    done = mse("init", "--config", path, "--password-file", "-", given="a long password\n")
    assert done.returncode == 0, done.stderr
    with (path.parent / "log").open("ab") as log:
        process = subprocess.Popen([*MSE, "run", "--config", str(path)], stderr=log)
    yield process
    process.terminate()
    assert process.wait(DEADLINE_S) == 0


def test_init_writes_a_configuration_that_is_only_changed_by_people(tmp_path: Path) -> None:
    path = tmp_path / "made" / "witness.toml"
    state = tmp_path / "state"
    path.parent.mkdir()
    path.write_text(f'[witness]\nname = "w1"\n[paths]\nstate_dir = "{state}"\n')
    first = mse("init", "--config", path, "--password-file", "-", given="a long password\n")
    assert first.returncode == 0, first.stderr
    kept = (state / "enrolment-password").read_bytes()
    assert b"a long password" not in kept
    assert (state / "enrolment-password").stat().st_mode & 0o777 == 0o600
    again = mse("init", "--config", path, "--password-file", "-", given="another password\n")
    assert again.returncode == 3
    assert "has an enrolment password already" in again.stderr
    other = mse("init", "--config", path, "--name", "w2", "--password-file", "-", given="x" * 9)
    assert other.returncode == 2
    assert "says name = 'w1', not 'w2'" in other.stderr
    assert (state / "enrolment-password").read_bytes() == kept
    forced = mse("init", "--config", path, "--force", "--password-file", "-", given="x" * 9)
    assert forced.returncode == 0
    assert (state / "enrolment-password").read_bytes() != kept


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user, which root may")
def test_root_does_not_run_what_the_service_s_user_keeps(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mse("init", "--config", path, "--password-file", "-", given="x" * 9).returncode == 0
    ran: list[object] = []
    monkeypatch.setattr(os, "execv", lambda *given: ran.append(given))
    user = SimpleNamespace(pw_uid=12345)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: {command.WITNESS_USER: user}[name])
    os.chown(tmp_path / "state", 12345, -1)
    words = ["witness", "run", "--config", str(path)]
    error = CliRunner().invoke(root, words).exception
    assert isinstance(error, CommandRefused)
    assert "systemctl start openmse-witness" in error.hint
    assert ran == []
    os.chown(tmp_path / "state", 0, -1)
    CliRunner().invoke(root, words)
    assert len(ran) == 1


def test_a_short_password_changes_nothing(path: Path, tmp_path: Path) -> None:
    done = mse("init", "--config", path, "--password-file", "-", given="short\n")
    assert done.returncode == 2
    assert "must have 8 to 256" in done.stderr
    assert not (tmp_path / "state").exists()


def test_unknown_keys_and_a_witness_that_does_not_run_are_told(path: Path) -> None:
    down = mse("groups", "--config", path)
    assert down.returncode == 4
    assert "The witness does not answer" in down.stderr
    path.write_text("[wtness]\n")
    wrong = mse("run", "--config", path)
    assert wrong.returncode == 2
    assert "unknown field `wtness`" in wrong.stderr


async def test_groups_and_forget(
    running: subprocess.Popen[bytes], path: Path, tmp_path: Path
) -> None:
    async def ask(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(mse, *arguments, "--config", path)

    await until(lambda: mse("groups", "--config", path).returncode == 0)
    group = Group(tmp_path, "floor1")
    await group.enrol(SimpleNamespace(config=load(path)), password="a long password")
    shown = await ask("groups")
    assert "floor1" in shown.stdout
    assert "mse1 never" in shown.stdout
    rows = json.loads((await ask("groups", "--json")).stdout)["groups"]
    assert [(row["group"], row["is_served"], row["owner"]) for row in rows] == [
        ("floor1", True, None)
    ]
    assert (await ask("forget", "other", "--yes")).returncode == 3
    forgotten = await ask("forget", "floor1", "--yes")
    assert "Group floor1 is forgotten" in forgotten.stdout
    assert "keeps no group" in (await ask("groups")).stdout
