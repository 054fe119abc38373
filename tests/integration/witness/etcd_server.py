"""A real etcd for the tests: its own process, its own ports and data, ended by its pid."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

START_DEADLINE_S = 20.0
PORTS_FROM, PORTS = 20_000, 10_000
"""Below net.ipv4.ip_local_port_range, from which every connection beside us takes one."""


def installed_etcd() -> str:
    """The path of etcd, installed from Debian's package if that is allowed; skips otherwise."""
    found = shutil.which("etcd")
    if found:
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("etcd is not installed, and only root on Debian can install etcd-server")
    done = subprocess.run(
        ["apt-get", "install", "-y", "--no-install-recommends", "etcd-server"],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        timeout=100,
        check=False,
    )
    found = shutil.which("etcd")
    if done.returncode != 0 or not found:
        pytest.skip("etcd is not installed and the package etcd-server could not be installed")
    return found


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that are free, and of which the kernel gives none to others: they are
    free also a moment later, and when a server is started again on them."""
    found: set[int] = set()
    while len(found) < count:
        port = PORTS_FROM + secrets.randbelow(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.add(port)
    return list(found)


class Etcd:
    """One etcd server with one data directory; may be killed, started again, wiped."""

    def __init__(self, program: str, folder: Path, tls: tuple[str, ...] = ()) -> None:
        self._program = program
        self._folder = folder
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None
        client, peer = free_ports(2)
        self._port, self._peer_port = client, peer
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{client}"

    def start(self) -> "Etcd":
        """Start it and wait until it takes connections and leads."""
        peer = f"http://127.0.0.1:{self._peer_port}"
        log = self._folder / "log"
        with log.open("ab") as out:
            begins_at = out.tell()
            self._process = subprocess.Popen(
                [
                    self._program,
                    "--name=t",
                    f"--data-dir={self._folder / 'data'}",
                    f"--listen-client-urls={self.url}",
                    f"--advertise-client-urls={self.url}",
                    f"--listen-peer-urls={peer}",
                    f"--initial-advertise-peer-urls={peer}",
                    f"--initial-cluster=t={peer}",
                    "--logger=zap",
                    *self._tls,
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
            )
        deadline = time.monotonic() + START_DEADLINE_S
        while b"serving client traffic" not in log.read_bytes()[begins_at:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"etcd did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)
        return self

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it hang: connections are taken and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def copy_data(self, name: str) -> Path:
        """Copy the data directory of the stopped server, as a snapshot of the disk would."""
        assert self._process is None
        return Path(shutil.copytree(self._folder / "data", self._folder / name))

    def restore_data(self, copied: Path | None) -> None:
        """Put the data directory back as it was copied; None wipes it."""
        assert self._process is None
        shutil.rmtree(self._folder / "data")
        if copied is not None:
            shutil.copytree(copied, self._folder / "data")
