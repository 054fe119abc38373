"""Without systemd: sysvinit of Debian boots the machine, starts the node, hands over on a reboot.

Fetches sysvinit's packages, so it runs where it is asked for: ``OPENMSE_TEST_SYSVINIT=1 pytest
tests/lab/test_sysvinit.py``. What the script itself does is tested always (test_engine_commands).
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openmse.install.layout import Destination, filled, packaged
from openmse.lab import provision
from openmse.lab.laboratory import Laboratory
from openmse.lab.topology import Topology
from openmse.lab.workload import wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.environ.get("OPENMSE_TEST_SYSVINIT") != "1", reason="OPENMSE_TEST_SYSVINIT=1"
    ),
    pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt-get"),
]
PACKAGES = ("sysvinit-core", "sysv-rc", "initscripts", "startpar", "insserv")
AT = "/var/sysv"
PASSWORD = "a word for two machines\n"
INITTAB = f"""\
id:2:initdefault:
l2:2:wait:/bin/sh -c '{AT}/lib/init/rc 2 >>/var/log/boot 2>&1'
l6:6:wait:/bin/sh -c '{AT}/lib/init/rc 6 >>/var/log/boot 2>&1'
"""
"""There is no console to write to."""
MSED = """\
#!/bin/sh
exec /opt/openmse/venv/bin/python3 -m openmse.cli.msed "$@"
"""
INIT = f"""\
mount --make-rprivate /
mount -t proc proc /proc
exec env -i PATH=/usr/sbin:/usr/bin PYTHONPATH=/opt/openmse/src {AT}/sbin/init </dev/null
"""


class Node:
    """A machine of the laboratory without systemd."""

    def __init__(self, lab: Laboratory, name: str) -> None:
        self.lab, self.name = lab, name
        config = provision.node_config(lab.machines[name], Topology.PAIR_NO_WITNESS, 2.0)
        self.write("/etc/openmse/openmse.toml", config)
        self.write("/etc/openmse/password", PASSWORD)

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file of the machine."""
        script = f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode} {path}"
        assert not self.lab.exec(self.name, ["sh", "-c", script], input_text=text).returncode

    def run(self, *argv: str) -> str:
        """Run a command of the machine to its end."""
        done = self.lab.exec(self.name, argv)
        assert done.returncode == 0, (argv, done.stdout, done.stderr)
        return done.stdout

    def msed(self, *arguments: str) -> str:
        """Run ``msed``."""
        return self.run("/opt/openmse/venv/bin/python3", "-m", "openmse.cli.msed", *arguments)

    def status(self) -> dict[str, Any]:
        """Empty where its health monitor does not answer."""
        done = self.lab.exec(self.name, ["mse", "ha", "status", "--json"])
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found


class SysvNode(Node):
    """One with sysvinit, which is switched on and off."""

    def __init__(self, lab: Laboratory, name: str, tree: Path) -> None:
        super().__init__(lab, name)
        archive = subprocess.run(["tar", "-C", tree, "-c", "."], capture_output=True, check=True)
        place = lab.path_in(name, "/var")
        subprocess.run(["mkdir", "-p", place / "sysv"], check=True)
        subprocess.run(["tar", "-C", place / "sysv", "-x"], input=archive.stdout, check=True)
        self.run("sed", "-i", f"s#^PATH=#PATH={AT}/bin:{AT}/sbin:#", f"{AT}/lib/init/rc")
        self.write("/etc/inittab", INITTAB)
        self.write(f"{AT}/bin/msed", MSED, "755")
        to = Destination(python="", bin_dir=f"{AT}/bin", commands=())
        self.write("/etc/init.d/msed", filled(packaged("msed.init"), to).decode(), "755")
        self.run("cp", f"{AT}/etc/insserv.conf", "/etc/insserv.conf")
        self.run(f"{AT}/sbin/insserv", "-v", "msed")
        self._process: subprocess.Popen[Any] | None = None

    def boot(self) -> None:
        """Switch on: init is PID 1 of a name space of its own."""
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "sh", "-ec", INIT]
        self._process = self.lab.popen(self.name, command)

    def log(self) -> str:
        """What init and its scripts have written."""
        return self.lab.path_in(self.name, "/var/log/boot").read_text()

    def off(self) -> None:
        """Switch off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of sysvinit in a folder."""
    folder = tmp_path_factory.mktemp("sysvinit")
    folder.chmod(0o755)
    fetch = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *PACKAGES]
    done = subprocess.run(fetch, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "tree"], check=True)
    return folder / "tree"


@pytest.fixture
def pair(lab: Laboratory, tree: Path) -> Iterator[tuple[Node, SysvNode]]:
    """mse1, started by hand, and mse2, started by sysvinit; not paired yet."""
    primary, secondary = Node(lab, "mse1"), SysvNode(lab, "mse2", tree)
    secondary.run("mse", "node", "init", "--pairing-password-file", "/etc/openmse/password")
    primary.msed("start")
    secondary.boot()
    yield primary, secondary
    secondary.off()
    primary.msed("stop")


def test_a_boot_starts_it_and_a_reboot_hands_over(pair: tuple[Node, SysvNode]) -> None:
    primary, secondary = pair
    assert wait_for(lambda: secondary.status().get("is_pairing_open"), 60), secondary.log()
    assert wait_for(lambda: "This node has no database yet" in secondary.log(), 20)
    address = secondary.lab.machines["mse2"].address
    pairing = ("mse", "ha", "pair", "--peer", address, "--no-witness")
    primary.run(*pairing, "--password-file", "/etc/openmse/password")
    assert wait_for(lambda: primary.status().get("sync") == "sync", 60), primary.status()
    assert wait_for(lambda: not primary.status()["why_not"]["switchover"], 60), primary.status()
    primary.run("mse", "ha", "switchover")
    assert wait_for(lambda: not secondary.status()["why_not"]["switchover"], 60)

    secondary.run(f"{AT}/sbin/telinit", "6")
    assert wait_for(lambda: "Health Monitor successfully stopped" in secondary.log(), 120)
    assert "Handing over to mse1 .....\n" in secondary.log()

    def serves() -> bool:  # it is chosen before the other one ends, and promotes after that
        after = primary.status()
        return (after["role"], after["admits_clients"]) == ("primary", True)

    assert wait_for(serves, 20), primary.status()

    secondary.off()
    secondary.boot()
    assert wait_for(lambda: primary.status().get("sync") == "sync", 90), secondary.log()
    assert secondary.status()["role"] == "standby"
    print(secondary.log())
