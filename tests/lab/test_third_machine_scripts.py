"""Witness and console on a machine without systemd: their init scripts, as init calls them."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from openmse import ports
from openmse.install.layout import Destination, init_script
from openmse.lab.laboratory import Laboratory
from openmse.lab.workload import wait_for

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(120)]

PYTHON = "/opt/openmse/venv/bin/python3"
HELLO = (
    "import ssl, urllib.request as u; c = ssl._create_unverified_context(); "
    f"print(u.urlopen('https://127.0.0.1:{ports.CONSOLE}/', context=c).status)"
)


class Third:
    """The third machine, with one of the scripts."""

    def __init__(self, lab: Laboratory, name: str) -> None:
        self.lab, self.name = lab, name
        to = Destination(python=PYTHON, bin_dir="/opt/openmse/bin", commands=())
        self.run("mse", "install", "--accounts-only")
        self.write(f"/etc/init.d/{name}", init_script(name, to).decode())

    def write(self, path: str, text: str) -> None:
        script = f"mkdir -p $(dirname {path}) && cat > {path} && chmod 755 {path}"
        done = self.lab.exec("witness", ["sh", "-c", script], input_text=text)
        assert done.returncode == 0, done.stderr

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return self.lab.exec("witness", argv)

    def script(self, verb: str) -> tuple[int, str]:
        """Exit status and everything it said."""
        done = self.run(f"/etc/init.d/{self.name}", verb)
        return done.returncode, done.stdout + done.stderr

    def pid(self) -> int:
        """The daemon's, by its keeper's word; 0 where there is none."""
        words = self.run("cat", f"/run/{self.name}.kept/{self.name}.pid").stdout.split()
        return int(words[0]) if words else 0


@pytest.fixture
def third(bare_lab: Laboratory, request: pytest.FixtureRequest) -> Iterator[Third]:
    """The script is stopped, and what it made removed, whatever comes of the test."""
    found = Third(bare_lab, request.param)
    yield found
    found.script("stop")
    name = found.name
    gone = f"/var/lib/{name} /run/{name} /run/{name}.kept /etc/init.d/{name} /var/log/openmse"
    found.run("sh", "-c", f"rm -rf {gone} /etc/openmse/witness.toml /etc/openmse/password")


def is_powerless(third: Third) -> bool:
    """Whether the daemon has its own user's identity and no capability."""
    text = third.run("cat", f"/proc/{third.pid()}/status").stdout
    found = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    capabilities = [int(found[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd")]
    assert capabilities == [0, 0, 0, 0]
    assert found["NoNewPrivs"] == "1"
    return found["Uid"].split()[1] == third.run("id", "-u", third.name).stdout.strip()


@pytest.mark.parametrize("third", ["openmse-witness"], indirect=True)
def test_the_witness_is_started_kept_and_stopped(third: Third) -> None:
    code, said = third.script("start")
    assert (code, "'mse witness init' makes it" in said) == (6, True), said
    third.write("/etc/openmse/password", "a word for two machines\n")
    init = ("mse", "witness", "init", "--password-file", "/etc/openmse/password")
    assert third.run(*init).returncode == 0
    assert third.script("status") == (3, "openmse-witness does not run.\n")
    code, said = third.script("start")
    assert (code, said.startswith("openmse-witness was started")) == (0, True), said
    assert third.script("start") == (0, "openmse-witness runs already.\n")
    assert third.script("status") == (0, "openmse-witness runs.\n")

    def groups() -> str:
        return third.run("mse", "witness", "groups").stdout

    assert wait_for(lambda: groups() == "Witness witness keeps no group.\n", 20), groups()
    first = third.pid()
    assert is_powerless(third)
    third.run("kill", "-KILL", str(first))
    assert wait_for(lambda: third.pid() not in (0, first), 10)
    assert wait_for(lambda: groups() == "Witness witness keeps no group.\n", 20), groups()
    log = third.run("cat", "/var/log/openmse/witness.log").stdout
    assert re.search(r"keeper: openmse-witness \(pid \d+\) ended with -9", log), log
    assert third.script("restart")[0] == 0
    assert third.script("stop") == (0, "openmse-witness was stopped.\n")
    assert third.script("stop") == (0, "openmse-witness does not run.\n")
    assert third.script("flourish")[0] == 2


@pytest.mark.parametrize("third", ["openmse-console"], indirect=True)
def test_the_console_is_started_and_stopped(third: Third) -> None:
    code, said = third.script("start")
    assert (code, said.startswith("openmse-console was started")) == (0, True), said
    log = ("cat", "/var/log/openmse/console.log")
    answers = ("python3", "-c", HELLO)
    assert wait_for(lambda: third.run(*answers).stdout == "200\n", 30, 0.5), third.run(*log).stdout
    assert is_powerless(third)
    assert "/setup/" in third.run(*log).stdout, "the one-time link is in its log"
    assert third.script("stop") == (0, "openmse-console was stopped.\n")
