"""Two real instances on loopback, each with its lane, and throwaway certificates."""

import asyncio
import contextlib
import ipaddress
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from openmse.ha.local import DbProcess, DbRole, DbView, DbWanted, Receiver, Rung
from openmse.ha.values import Instant, Lineage
from openmse.node.drivers.postgres.process import server_processes
from openmse.node.drivers.postgres.settings import InstanceSettings, TlsFiles
from openmse.node.drivers.postgres.tools import resolve_account
from openmse.node.runtime.database_lane import DatabaseLane

UNIX_USER = "openmse"
FIRST = Lineage(0, 1, "mse1")


def clock() -> Instant:
    return Instant(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class Authority:
    """A certificate authority for one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test group")])
        constraint = x509.BasicConstraints(ca=True, path_length=0)
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(constraint, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = directory / "ca.crt"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key_path = directory / "ca.key"
        self.key_path.write_bytes(_pem(self._key))
        self.key_path.chmod(0o600)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )

    def issue(self, stem: str, common_name: str, address: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [
            x509.DNSName(stem.partition("-")[0]),
            x509.IPAddress(ipaddress.ip_address(address)),
        ]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        certificate = (
            self._builder(subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        cert_path, key_path = self.directory / f"{stem}.crt", self.directory / f"{stem}.key"
        cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(_pem(key))
        key_path.chmod(0o600)
        account = resolve_account(UNIX_USER)
        if not account.is_self:
            os.chown(key_path, account.uid, account.gid)
        return cert_path, key_path


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Node:
    """One node's lane, and the views it gave."""

    def __init__(self, settings: InstanceSettings) -> None:
        self.settings = settings
        self.history: list[tuple[Instant, DbView]] = []
        self._changed = asyncio.Event()
        self.lane = DatabaseLane(settings, on_view=self._take, clock=clock)
        self.task = asyncio.create_task(self.lane.run())

    def _take(self, view: DbView) -> None:
        self.history.append((clock(), view))
        self._changed.set()

    @property
    def view(self) -> DbView:
        return self.lane.view

    def want(self, **changes: object) -> None:
        self.lane.set_wanted(DbWanted(**changes))  # type: ignore[arg-type]

    async def until(self, condition: Callable[[DbView], bool], deadline_s: float = 20.0) -> float:
        """Wait for a view; how long it took in seconds."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(deadline_s):
                while not condition(self.view):
                    self._changed.clear()
                    ended = asyncio.create_task(self._changed.wait())
                    await asyncio.wait({ended, self.task}, return_when=asyncio.FIRST_COMPLETED)
                    ended.cancel()
                    if self.task.done():
                        await self.task
                        raise AssertionError("the lane ended")
        except TimeoutError:
            log = self.settings.log_file
            tail = log.read_text()[-3000:] if log.exists() else ""
            raise AssertionError(f"not seen: {self.view}\n{tail}") from None
        return time.monotonic() - began

    async def until_true(self, condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
        """Wait for what is not in the view."""
        async with asyncio.timeout(deadline_s):
            while not condition():
                await asyncio.sleep(0.01)

    async def connect(self, **options: object) -> psycopg.AsyncConnection[tuple[object, ...]]:
        """A session as clients have it in their own settings, by the local socket."""
        conninfo = self.settings.monitor_conninfo.replace(
            "-c synchronous_commit=local", "-c synchronous_commit=on"
        ).replace("openmse-health-monitor", "test")
        return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)

    async def sql(self, statement: str, deadline_s: float = 10.0) -> list[tuple[object, ...]]:
        async with asyncio.timeout(deadline_s):
            connection = await self.connect()
            try:
                cursor = await connection.execute(statement)  # type: ignore[arg-type]
                return await cursor.fetchall() if cursor.description else []
            finally:
                await connection.close()

    def postmaster(self) -> int:
        return int((self.settings.data_dir / "postmaster.pid").read_text().splitlines()[0])

    async def close(self, leave_running: bool = False) -> None:
        await self.lane.close(leave_running=leave_running)
        await self.task


class Pair:
    """The directory, certificates and settings of two nodes."""

    def __init__(self) -> None:
        # In memory where that is possible: hundreds of fsyncs of initdb prove nothing here.
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
        self.root = Path(tempfile.mkdtemp(prefix="omse-db-", dir=place))
        self.root.chmod(0o755)
        self.authority = Authority(self.root)
        net = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
        self.addresses = {"mse1": f"{net}.1", "mse2": f"{net}.2"}
        self.settings = {name: self._settings(name) for name in self.addresses}
        self.nodes: list[Node] = []

    def _settings(self, name: str) -> InstanceSettings:
        authority = self.authority
        peer = "mse2" if name == "mse1" else "mse1"
        address = self.addresses[name]
        server_cert, server_key = authority.issue(name, name, address)
        client_cert, client_key = authority.issue(f"{name}-client", "openmse_replication", address)
        base = self.root / name
        base.mkdir(mode=0o755)
        return InstanceSettings(
            group="mse1",
            node_id=name,
            peer_id=peer,
            peer_address=self.addresses[peer],
            data_dir=base / "pg" / "data",
            state_dir=base / "state",
            socket_dir=base / "run",
            port=15432,
            tls=TlsFiles(
                server_cert=server_cert,
                server_key=server_key,
                client_cert=client_cert,
                client_key=client_key,
                authority=authority.path,
            ),
            listen_addresses=address,
            unix_user=UNIX_USER,
            probe_interval_s=0.2,
        )

    def node(self, name: str, **changes: object) -> Node:
        """A new lane (and, as after a crash of the health monitor, perhaps not the first)."""
        self.settings[name] = replace(self.settings[name], **changes)  # type: ignore[arg-type]
        node = Node(self.settings[name])
        self.nodes.append(node)
        return node

    async def close(self) -> None:
        for node in self.nodes:
            if not node.task.done():
                await node.close(leave_running=True)
        for settings in self.settings.values():
            for pid in server_processes(settings.data_dir):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            while server_processes(settings.data_dir):
                await asyncio.sleep(0.01)
        shutil.rmtree(self.root)

    async def primary(self, *, names: bool = False, **changes: object) -> Node:
        """mse1, created and serving on the first history."""
        node = self.node("mse1", **changes)
        await node.lane.create_primary(FIRST)
        node.want(role=DbRole.PRIMARY, lineage=FIRST, names=names)
        await node.until(lambda v: v.process is DbProcess.UP and v.role is DbRole.PRIMARY)
        return node

    async def standby(self, **changes: object) -> Node:
        """mse2, copied from mse1 and streaming."""
        node = self.node("mse2", **changes)
        node.want(role=DbRole.STANDBY, lineage=FIRST, names=True, rung=Rung.REBUILD)
        await node.until(lambda v: v.receiver is Receiver.STREAMING, 60)
        return node

    async def in_sync(self, **changes: object) -> tuple[Node, Node]:
        """Both, with the sync gate passed; changes are of mse1's settings."""
        one = await self.primary(**changes)  # type: ignore[arg-type]
        two = await self.standby()
        await one.until(lambda v: v.peer_streaming)
        one.want(role=DbRole.PRIMARY, lineage=FIRST, names=True, barrier_id=1)
        await one.until(lambda v: v.barrier_id == 1 and v.peer_flush_lsn >= v.barrier_lsn)
        return one, two


@contextlib.asynccontextmanager
async def new_pair() -> AsyncIterator[Pair]:
    pair = Pair()
    try:
        yield pair
    finally:
        await pair.close()
