"""A real systemd inside a laboratory machine: PID 1 of a PID namespace below the machine's own."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

from openmse.install.layout import UNITS, Destination, filled, packaged
from openmse.lab import procs
from openmse.lab.core import ENVIRONMENT
from openmse.lab.laboratory import Laboratory
from openmse.lab.programs import COMPONENTS, find
from openmse.lab.workload import wait_for

SYSTEMD = Path("/lib/systemd/systemd")
_BOOT = """\
mount --make-rprivate /
mount -t proc proc /proc
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -o remount,ro,bind /sys
exec env -i container=openmse-lab PATH="$PATH" /lib/systemd/systemd --log-level=warning
"""
_LIBRARY = (
    "[Service]\nEnvironment=PYTHONPATH=/opt/openmse/src PATH=/opt/openmse/bin:/usr/bin:/bin\n"
)
_TARGET = "[Unit]\nDescription=What a test needs\nRequires=basic.target\nAfter=basic.target\n"
_NOT_HERE = (
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-kernel.socket",
    "systemd-udevd-control.socket",
    "systemd-networkd.service",
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount",
    "tmp.mount",
)
"""Units of the host's own packages that have no business in a machine of the laboratory."""
_OWN_NAMESPACES = (
    *("unshare", "--pid", "--fork", "--kill-child"),
    *("--mount", "--cgroup", "--ipc"),
)
_UP_WITHIN_S = 30.0


class SystemdMachine:
    """A bare machine with systemd and the product's units."""

    def __init__(self, lab: Laboratory, name: str) -> None:
        self.lab = lab
        self.name = name
        self._install()
        self._process = self.lab.popen(
            name,
            [*_OWN_NAMESPACES, "sh", "-ec", _BOOT],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self.pid = self._wait_up()
        except BaseException:
            self.off()
            raise

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine."""
        script = f"mkdir -p $(dirname {path}) && cat > {path}"
        done = self.lab.exec(self.name, ["sh", "-c", script], input_text=text)
        assert not done.returncode, done.stderr

    def entry(self, *argv: str) -> list[str]:
        """The command line that runs a command below this systemd."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"]
        return [*enter, *argv]

    def run(self, *argv: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command below this systemd, to its end."""
        return subprocess.run(
            self.entry(*argv),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=dict(ENVIRONMENT),
        )

    def msed(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``msed``."""
        return self.run("/opt/openmse/venv/bin/python3", "-m", "openmse.cli.msed", *arguments)

    def pids(self) -> dict[str, int | None]:
        """The host's pid of each component below this systemd; None: does not run."""
        namespace = procs.namespace_of(self.pid, "pid")
        running = procs.pids_in("pid", [namespace] if namespace else [])
        return {component: find(component, running) for component in COMPONENTS}

    def is_idle(self) -> bool:
        """Whether it runs, and nothing of the product does."""
        return self._process.poll() is None and not any(self.pids().values())

    def show(self, unit: str, what: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "-p", what, "--value", unit).stdout.strip()

    def unmask(self, *units: str) -> None:
        """Let units of the host's own packages be started here after all."""
        links = [f"/etc/systemd/system/{unit}" for unit in units]
        assert self.run("rm", *links).returncode == 0
        assert self.run("systemctl", "daemon-reload").returncode == 0

    def off(self) -> None:
        """End it, however far it got, and remove what it made of its control group."""
        self._process.kill()
        self._process.wait()
        group = Path("/sys/fs/cgroup/unified", self.lab.places.control_group(self.name))
        group = group if group.exists() else Path("/sys/fs/cgroup", group.name)
        assert wait_for(lambda: _has_removed_below(group), 20), "processes of it outlived it"

    def wait_off(self, timeout_s: float) -> None:
        """Until it has shut down by itself."""
        self._process.wait(timeout_s)

    def _install(self) -> None:
        to = Destination(
            python="/opt/openmse/venv/bin/python3", bin_dir="/opt/openmse/bin", commands=()
        )
        where = "/etc/systemd/system"
        for unit in UNITS:
            self.write(f"{where}/{unit}", filled(packaged(unit), to).decode())
            self.write(f"{where}/{unit}.d/lab.conf", _LIBRARY)
        self.write(f"{where}/test.target", _TARGET)
        self.write("/etc/machine-id", "")
        masks = "".join(f"ln -sf /dev/null {where}/{unit}; " for unit in _NOT_HERE)
        done = self.lab.exec(
            self.name, ["sh", "-ec", f"{masks} ln -sf test.target {where}/default.target"]
        )
        assert not done.returncode, done.stderr

    def _wait_up(self) -> int:
        deadline = time.monotonic() + _UP_WITHIN_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "systemd ended right away"
            self.pid = self._find()
            if self.pid:
                told = self.run("systemctl", "is-system-running").stdout.strip()
                if told in ("running", "degraded"):
                    return self.pid
            time.sleep(0.1)
        raise AssertionError("systemd does not come up in this machine")

    def _find(self) -> int:
        """The host's pid of this systemd: the child of the one 'unshare' in the machine."""
        above = {p for p in self.lab.processes(self.name) if procs.command_of(p) == "unshare"}
        for name in os.listdir("/proc"):
            if name.isdigit() and procs.parent_of(int(name)) in above:
                return int(name) if procs.command_of(int(name)) == "systemd" else 0
        return 0


def _has_removed_below(group: Path) -> bool:
    """Remove the groups below one as far as they are empty; whether none is left."""
    for path in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
        with contextlib.suppress(OSError):  # its last processes are about to go
            path.rmdir()
    return not any(path.is_dir() for path in group.iterdir())
