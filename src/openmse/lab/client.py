"""How a client reaches the group: files that the host and every machine see at the same path."""

import os
from pathlib import Path

from openmse.lab.topology import VIRTUAL_IP, Places
from openmse.ports import POSTGRESQL


def _directory(places: Places) -> Path:
    return places.share / "client"


def write_files(places: Places, password: str, authority: str) -> None:
    """Keep the clients' password and the group's authority, and what libpq needs to use them."""
    from openmse.node.drivers.postgres.settings import CLIENT_DATABASE, CLIENT_ROLE

    directory = _directory(places)
    directory.mkdir(exist_ok=True)
    (directory / "ca.crt").write_text(authority)
    descriptor = os.open(directory / "pgpass", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"*:{POSTGRESQL}:{CLIENT_DATABASE}:{CLIENT_ROLE}:{password}\n")
    words = {
        "host": VIRTUAL_IP,
        "port": POSTGRESQL,
        "dbname": CLIENT_DATABASE,
        "user": CLIENT_ROLE,
        "passfile": directory / "pgpass",
        "sslmode": "verify-full",
        "sslrootcert": directory / "ca.crt",
    }
    (directory / "dsn").write_text(" ".join(f"{key}={value}" for key, value in words.items()))


def dsn(places: Places) -> str | None:
    """The libpq connection string through the virtual IP; None before pairing."""
    path = _directory(places) / "dsn"
    return path.read_text() if path.exists() else None
