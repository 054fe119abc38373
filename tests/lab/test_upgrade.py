"""A pair is upgraded one machine at a time (docs/install.md) from the previous wire version.

The previous version is today's software made to know nothing newer than N-1 (before any release
there is no other): it sends, reads and offers wire version N-1 only.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from openmse.lab import client, provision
from openmse.lab.laboratory import Laboratory
from openmse.lab.programs import PYTHON
from openmse.lab.topology import Kind
from openmse.lab.workload import wait_for
from openmse.wire.versions import OLDEST_VERSION, WIRE_VERSION

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(300)]

PREVIOUS = f"""\
import openmse.wire.versions as versions
versions.WIRE_VERSION = versions.OLDEST_VERSION = {OLDEST_VERSION}
"""
HANDED_OVER = """\
Stopping MSE Platform

Handing over to mse2 .....
Shutting down framework and services .....
Framework and services successfully stopped. Shutting down database .....
Database successfully stopped
mse2 has taken over.
Health Monitor successfully stopped
"""


class Site:
    """Two nodes, a witness and a client, each with the version it is started with."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab
        self.processes: dict[str, subprocess.Popen[Any]] = {}

    def run(self, machine: str, *argv: str, text: str | None = None) -> str:
        done = self.lab.exec(machine, argv, input_text=text, timeout_s=120)
        assert done.returncode == 0, (argv, done.stdout, done.stderr)
        return done.stdout

    def prepare(self) -> None:
        state = self.lab.state()
        for machine in self.lab.machines.values():
            for file in provision.files_of(self.lab, state, machine):
                self.run(machine.name, "sh", "-c", f"cat > {file.path}", text=file.content)
            self.run(machine.name, "mkdir", "-p", "/var/lib/previous")
            script = "cat > /var/lib/previous/sitecustomize.py"
            self.run(machine.name, "sh", "-c", script, text=PREVIOUS)
        provision._prepare(self.lab, lambda _: None)

    def start(self, machine: str, *, is_previous: bool) -> None:
        """Start the daemon of a machine, as the previous version or as it is now."""
        node = ["-m", "openmse.node", "--config", "/etc/openmse/openmse.toml"]
        guard = ["-m", "openmse.guard", "--run-dir", "/run/openmse", "--", PYTHON, *node]
        witness = ["-m", "openmse.witness", "--config", "/etc/openmse/witness.toml"]
        is_node = self.lab.machines[machine].kind is Kind.NODE
        before = "/var/lib/previous:" if is_previous else ""
        self.processes[machine] = self.lab.popen(
            machine,
            [PYTHON, *(guard if is_node else witness)],
            environment={"PYTHONPATH": f"{before}/opt/openmse/src"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def upgrade_witness(self) -> None:
        """As 'systemctl restart openmse-witness' does after an installation."""
        old = self.processes["witness"]
        old.terminate()
        assert old.wait(timeout=20) == 0
        ended = time.monotonic()
        self.start("witness", is_previous=False)

        def is_heard_anew(machine: str) -> bool:
            seen = self.status(machine)["witness"]
            return 0 <= seen["heard_ms_ago"] < (time.monotonic() - ended) * 1000

        assert wait_for(lambda: all(map(is_heard_anew, ("mse1", "mse2"))), 20)

    def msed(self, machine: str, *arguments: str) -> str:
        return self.run(machine, PYTHON, "-m", "openmse.cli.msed", *arguments)

    def status(self, machine: str) -> dict[str, Any]:
        done = self.lab.exec(machine, ["mse", "ha", "status", "--json"])
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    def wait_in_sync(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            told = [self.status(name) for name in ("mse1", "mse2")]
            epochs = {each["register"]["epoch"] for each in told if each.get("register")}
            if [each.get("sync") for each in told] == ["sync", "sync"] and len(epochs) == 1:
                return  # a node that has just started may not have heard of the newest config yet
            assert time.monotonic() < deadline, told
            time.sleep(0.2)

    def sql(self, text: str) -> str:
        dsn = client.dsn(self.lab.places)
        assert dsn is not None
        return self.run("client", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", dsn, "-c", text).strip()

    def versions(self) -> tuple[int, int]:
        one, two = (self.status(name)["wire_version"] for name in ("mse1", "mse2"))
        return one, two


@pytest.fixture
def site(lab: Laboratory) -> Iterator[Site]:
    found = Site(lab)
    found.prepare()
    yield found
    for process in found.processes.values():
        process.kill()
        process.wait()
    for machine in ("mse1", "mse2"):
        for pid in lab.pids(machine).values():
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_one_machine_at_a_time_and_nothing_is_lost(site: Site) -> None:
    assert OLDEST_VERSION < WIRE_VERSION, "there is a previous version"
    for machine in ("witness", "mse1", "mse2"):
        site.start(machine, is_previous=True)
    for machine in ("mse1", "mse2"):
        provision._await_answer(site.lab, machine)
    provision._pair(site.lab, lambda _: None)
    site.wait_in_sync()
    password = site.run("mse1", "cat", "/var/lib/openmse/postgres/client_password").strip()
    authority = site.run("mse1", "cat", "/var/lib/openmse/pki/ca.crt")
    client.write_files(site.lab.places, password, authority)
    assert site.versions() == (OLDEST_VERSION, OLDEST_VERSION)
    site.sql("create table t (i int); insert into t values (1)")

    site.msed("mse2", "stop")  # 1. the standby
    site.sql("insert into t values (2)")
    site.msed("mse2", "start")
    site.wait_in_sync()
    assert site.versions() == (OLDEST_VERSION, WIRE_VERSION), "they understand each other"
    site.sql("insert into t values (3)")

    told = site.msed("mse1", "stop", "--handover")  # 2. the owner
    # Its last sight of the register may be from just before mse2 was chosen.
    assert told in (HANDED_OVER, HANDED_OVER.replace("mse2 has taken over.\n", ""))
    site.sql("insert into t values (4)")
    site.msed("mse1", "start")
    site.wait_in_sync()
    assert site.versions() == (WIRE_VERSION, WIRE_VERSION)
    assert site.status("mse1")["register"]["owner"] == "mse2"

    site.upgrade_witness()  # 3. the third machine; it abstains at first, which costs nothing
    site.sql("insert into t values (5)")

    site.run("mse2", "mse", "ha", "failback")  # 4.
    site.sql("insert into t values (6)")
    assert site.sql("select string_agg(i::text, ' ' order by i) from t") == "1 2 3 4 5 6"
    for machine in ("mse1", "mse2"):
        site.msed(machine, "stop")
