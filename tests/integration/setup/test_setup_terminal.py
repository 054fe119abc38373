"""The wizard in a real terminal (tmux): the guide's two examples, wrong answers, passwords."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "setup"))

from setup_root import debian, picture

from openmse.node.config_load import load
from openmse.setup.screens import PRIMARY, SECONDARY, played
from openmse.setup.session import Options, Session
from openmse.setup.terminal import Terminal

MSE = Path(sys.executable).with_name("mse")
WITHIN_S = 20.0


class Screen:
    """A terminal of 100 columns in which one command runs."""

    def __init__(self, socket: Path, command: str) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        size = ["-x", "100", "-y", "50"]
        shell = f"trap : INT; {command}; echo exit=$?; exec cat"
        self._run("new-session", "-d", "-s", "t", *size, f"sh -c '{shell}'", ";",
                  "set-option", "-g", "history-limit", "5000")  # fmt: skip

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments], capture_output=True, text=True, check=False, timeout=10
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def text(self) -> str:
        """Everything that was ever shown, wrapped lines joined."""
        return self._run("capture-pane", "-p", "-J", "-S", "-", "-t", "t")

    def wait(self, words: str, count: int = 1) -> str:
        """Wait until the last line ends with ``words``."""
        ends_at = time.monotonic() + WITHIN_S
        while True:
            shown = self.text.rstrip()
            if shown.endswith(words) and shown.count(words) >= count:
                return shown
            assert time.monotonic() < ends_at, f"waited for {words!r}:\n{shown[-800:]}"
            time.sleep(0.02)

    def type(self, line: str) -> None:
        """Type a line and Enter, and wait until something new is asked."""
        before = self.text.rstrip()
        if line:
            self._run("send-keys", "-t", "t", "-l", "--", line)
        self._run("send-keys", "-t", "t", "Enter")
        ends_at = time.monotonic() + WITHIN_S
        while True:
            shown = self.text.rstrip()
            is_new = shown.count("\n") > before.count("\n")
            if (is_new and shown.endswith((":", "#?"))) or "exit=" in shown:
                return
            assert time.monotonic() < ends_at, f"nothing came after {line!r}:\n{shown[-800:]}"
            time.sleep(0.02)

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    return debian(tmp_path / "machine")


@pytest.fixture
def screen(machine: Path) -> Iterator[Screen]:
    if shutil.which("tmux") is None:
        pytest.skip("needs the command tmux (Debian: apt-get install tmux)")
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as directory:
        opened = Screen(Path(directory) / "s", f"{MSE} setup --root {machine}")
        try:
            opened.wait("(yes/no) [yes]:")
            yield opened
        finally:
            opened.close()


def played_here(machine: Path, typed: list[str]) -> str:
    """What docs/setup.md would show of a conversation on this machine: from its generator."""
    session = Session(Options(root=machine), Terminal(), lambda file: "")
    return played(typed, session.machine).screen


def as_on_the_page(shown: str) -> str:
    """A terminal's lines without what is blank before and behind them."""
    return "\n".join(line.rstrip() for line in shown.strip("\n").splitlines())


def test_the_primary_of_the_guide(screen: Screen, machine: Path) -> None:
    typed = list(PRIMARY)
    typed[13] = "255.255.255.0"
    expected = played_here(machine, typed)
    for line in typed:
        screen.type(line)
    shown = screen.wait("exit=0")
    assert as_on_the_page(shown)[: len(expected)] == expected, "as docs/setup.md shows it"
    for words in (
        "Enter a host name [mse]: mse1",
        "Enter Virtual IP address: 10.10.10.11",
        "Role=1, Health Monitor Interface=eth0, Direct connect interface=none",
        "Is the above information correct (yes, no, or ^): yes",
        "Applying High Availability configuration",
        "Success",
    ):
        assert words in shown
    assert "correct horse" not in shown, "passwords have no echo"
    config = load(machine / "etc/openmse/openmse.toml")
    assert (config.node.name, config.node.role) == ("mse1", "primary")
    assert config.group.virtual_ips == ("10.10.10.11/24",)
    assert config.witness.address == "10.10.10.9"


def test_the_secondary_of_the_guide_with_wrong_answers_and_steps_back(
    screen: Screen, machine: Path
) -> None:
    typed = list(SECONDARY)
    typed[10] = "255.255.255.0"
    wrong = ["", "Yes", "2mse", "mse2-", "mse2", "^", "^", "", "", "q", "s", "", "3", "2", "eth9"]
    lines = [*wrong, "", "eth0", "none", "", "10.10.10.999", *typed[9:]]
    expected = played_here(machine, lines)
    for line in lines:
        screen.type(line)
    shown = screen.wait("exit=0")
    assert as_on_the_page(shown)[: len(expected)] == expected
    for words in (
        "The host name must start with a letter",
        "The answer must be Y (yes), S (skip) or U (use default).",
        "The role must be 1 for Primary or 2 for Secondary.",
        "The health monitor interface must be one of: eth0, eth1.",
        "The address must be four numbers from 0 to 255",
        "Enter a host name [mse2]:",
        "Role=2, Health Monitor Interface=eth0, Direct connect interface=none",
    ):
        assert words in shown
    assert "staple" not in shown
    config = load(machine / "etc/openmse/openmse.toml")
    assert (config.node.name, config.node.role) == ("mse2", "secondary")
    assert config.node.address == "10.10.10.13/24"
    assert (machine / "var/lib/openmse/pairing-password").exists()


def test_ctrl_c_leaves_the_terminal_and_the_machine_as_they_were(
    screen: Screen, machine: Path
) -> None:
    before = picture(machine)
    for line in ["", "s", "s", "s", "s", "s", "s", "s", "s", "s", "s", ""]:
        screen.type(line)
    screen.wait("Enter a management password:")
    screen._run("send-keys", "-t", "t", "-l", "hidden")
    screen._run("send-keys", "-t", "t", "C-c")
    shown = screen.wait("exit=130")
    assert "Stopped; nothing was changed." in shown
    assert "hidden" not in shown
    assert picture(machine) == before
    screen._run("send-keys", "-t", "t", "-l", "echo is back")
    screen.wait("echo is back")
