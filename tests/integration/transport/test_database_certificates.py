"""The group's certificates as PostgreSQL and libpq judge them: real server, real client."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from openmse.errors import ConfigError
from openmse.node.drivers.postgres.tools import clean_environment, locate_binaries, resolve_account
from openmse.pki.authority import Authority, Subject, new_key, signing_request
from openmse.pki.files import PUBLIC, Owner, write_file
from openmse.pki.names import Identity, Role

NODE, VIRTUAL, OTHER = "127.0.0.76", "127.0.0.77", "127.0.0.78"


@dataclass(frozen=True)
class Server:
    """A server with the certificate of a node, and what a client needs."""

    port: int
    directory: Path
    authority: Authority

    def certificate(self, role: Role, name: str) -> tuple[Path, Path]:
        """A client's certificate and key."""
        key = new_key()
        subject = Subject(Identity("floor1", role, name))
        base = self.directory / f"{role}-{name}"
        paths = base.with_suffix(".crt"), base.with_suffix(".key")
        write_file(paths[0], self.authority.issue(signing_request(key, "x"), subject), mode=PUBLIC)
        write_file(paths[1], key)
        return paths

    def connect(self, host: str, user: str = "someone", **options: str) -> str:
        """Connect as a client would; the name of the user, by the server."""
        root = str(self.directory / "ca.crt")
        settings = {"sslmode": "verify-full", "sslrootcert": root, "sslcert": "", **options}
        settings["client_encoding"] = "utf8"
        with psycopg.connect(
            host=host, port=self.port, user=user, dbname="postgres", **settings
        ) as connection:
            row = connection.execute(
                "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            ).fetchone()
            assert row is not None
            assert row[1] is True
            return str(row[0])


HBA = """
local all all trust
hostssl all openmse_replication 127.0.0.0/8 cert
hostssl all someone 127.0.0.0/8 trust
"""


@pytest.fixture(scope="module")
def server(unix_user: str) -> Iterator[Server]:
    try:
        binaries = locate_binaries()
    except ConfigError as error:
        pytest.skip(error.sentence)
    account = resolve_account(unix_user)
    directory = Path(tempfile.mkdtemp(prefix="omse-pki-"))
    try:
        directory.chmod(0o755)
        data = directory / "data"
        data.mkdir(mode=0o700)
        os.chown(data, account.uid, account.gid)
        run = {"env": clean_environment(), "cwd": "/", **account.switch}
        authority = _certificates(directory, Owner(account.uid, account.gid))
        initdb = [binaries.program("initdb"), "-D", str(data), "-U", "admin", "--auth=trust"]
        subprocess.run([*initdb, "-N"], check=True, capture_output=True, **run)  # type: ignore[call-overload]
        (data / "pg_hba.conf").write_text(HBA)
        port = _free_port()
        process = subprocess.Popen(  # type: ignore[call-overload]
            [binaries.program("postgres"), "-D", str(data), *_options(directory, port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **run,
        )
        try:
            _wait_and_make_users(data, port, process)
            yield Server(port, directory, authority)
        finally:
            process.terminate()
            process.wait(30)
    finally:
        shutil.rmtree(directory)


def _certificates(directory: Path, owner: Owner) -> Authority:
    authority = Authority.create("floor1")
    key = new_key()
    subject = Subject(Identity("floor1", Role.NODE, "mse1"), (), (NODE, VIRTUAL))
    certificate = authority.issue(signing_request(key, "x"), subject)
    write_file(directory / "server.key", key, owner=owner)
    write_file(directory / "server.crt", certificate, mode=PUBLIC, owner=owner)
    write_file(directory / "ca.crt", authority.certificate_pem, mode=PUBLIC, owner=owner)
    return authority


def _options(directory: Path, port: int) -> list[str]:
    settings = {
        "port": port,
        "listen_addresses": f"{NODE},{VIRTUAL},{OTHER}",
        "unix_socket_directories": directory / "data",
        "fsync": "off",
        "ssl": "on",
        "ssl_cert_file": directory / "server.crt",
        "ssl_key_file": directory / "server.key",
        "ssl_ca_file": directory / "ca.crt",
    }
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((VIRTUAL, 0))
        return int(probe.getsockname()[1])


def _wait_and_make_users(data: Path, port: int, process: subprocess.Popen[bytes]) -> None:
    ready = data / "postmaster.pid"
    while not ready.exists() or "ready" not in ready.read_text():
        assert process.poll() is None, "the server ended"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
    with psycopg.connect(
        host=str(data), port=port, user="admin", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute("CREATE ROLE openmse_replication LOGIN REPLICATION")
        connection.execute("CREATE ROLE someone LOGIN")


@pytest.mark.parametrize("host", [NODE, VIRTUAL])
def test_clients_verify_the_server_through_every_address(server: Server, host: str) -> None:
    assert server.connect(host) == "someone"


def test_an_address_that_is_not_certified_is_refused(server: Server) -> None:
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        server.connect(OTHER)


def test_another_authority_is_refused(server: Server) -> None:
    other = server.directory / "other.crt"
    other.write_bytes(Authority.create("floor1").certificate_pem)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        server.connect(VIRTUAL, sslrootcert=str(other))


def test_a_node_replicates_by_its_certificate_alone(server: Server) -> None:
    certificate, key = server.certificate(Role.REPLICATION, "mse2")
    options = {"sslcert": str(certificate), "sslkey": str(key)}
    assert server.connect(NODE, "openmse_replication", **options) == "openmse_replication"


@pytest.mark.parametrize("role", [Role.WITNESS, Role.NODE])
def test_no_other_certificate_replicates(server: Server, role: Role) -> None:
    certificate, key = server.certificate(role, "mse2")
    options = {"sslcert": str(certificate), "sslkey": str(key)}
    with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
        server.connect(NODE, "openmse_replication", **options)
