"""Making the first data directory of a group: initdb, roles, the clients' password."""

import asyncio
import secrets
import shutil
import signal

from openmse.errors import CommandRefused, DatabaseError
from openmse.ha.local import DbRole
from openmse.ha.values import Lineage
from openmse.node.drivers.postgres.connection import Connection, ConnectionLost
from openmse.node.drivers.postgres.instance import CREATING, Instance
from openmse.node.drivers.postgres.process import Server, read_pid_file, wait_no_tools
from openmse.node.drivers.postgres.settings import (
    ADMIN_ROLE,
    CLIENT_DATABASE,
    CLIENT_ROLE,
    REPLICATION_ROLE,
)
from openmse.node.drivers.postgres.sidecar import DirectoryRecord, new_directory_id, write_file

CREATE_DEADLINE_S = 120.0
STATEMENT_DEADLINE_S = 30.0
WAL_SEGMENT_MIB = 4
"""A promotion copies its last segment in full and waits until it is on disk, before anything can be
written again: PostgreSQL's usual 16 MiB took 90 ms of a switchover of 450 ms."""

# What pg_rewind needs of its source, and a checkpoint before it (PostgreSQL, "pg_rewind", Notes).
REWIND_FUNCTIONS = (
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
)


async def create_primary(instance: Instance, lineage: Lineage) -> None:
    """Make the data directory of a new group with ``lineage`` as its history; left stopped.

    Raises: CommandRefused if there is a data directory already (nothing is changed);
    DatabaseError, StateError, ConfigError. What a failed attempt left is removed by the next.
    """
    await instance.prepare()
    facts = await instance.inspect()
    if facts.role is not DbRole.DOWN:
        raise CommandRefused(
            f"There is a data directory in {instance.settings.data_dir} already.",
            "Nothing was changed. Move it away if it is not needed any more.",
        )
    await wait_no_tools((instance.settings.data_dir,))
    await instance.on_disk(lambda: _make_room(instance))
    await _initdb(instance)
    control = await instance.control_data(instance.settings.data_dir)
    record = DirectoryRecord(
        directory_id=new_directory_id(),
        system_identifier=control.system_identifier,
        lineage=lineage,
    )
    await instance.on_disk(lambda: instance.sidecar.write_record(record))
    await _make_roles(instance)
    await instance.on_disk(instance.sidecar.clear_marker)


def _make_room(instance: Instance) -> None:
    data_dir, account = instance.settings.data_dir, instance.account
    instance.sidecar.set_marker(CREATING)
    if data_dir.exists():
        shutil.rmtree(data_dir)
    data_dir.mkdir(mode=0o700)
    if not account.is_self:
        shutil.chown(data_dir, account.uid, account.gid)


async def _initdb(instance: Instance) -> None:
    result = await instance.run(
        "initdb",
        "--pgdata",
        str(instance.settings.data_dir),
        "--data-checksums",
        f"--username={ADMIN_ROLE}",
        "--encoding=UTF8",
        # The C locale sorts the same on every machine, whatever its C library.
        "--locale=C",
        f"--wal-segsize={WAL_SEGMENT_MIB}",
        "--auth=peer",
        deadline_s=CREATE_DEADLINE_S,
    )
    if result.status != 0:
        raise DatabaseError(
            f"PostgreSQL could not make its data directory: {result.last_line}",
            "Check the free space and the permissions of the directory.",
        )


async def _make_roles(instance: Instance) -> None:
    server = await instance.start(names=False, receiver=False)
    try:
        connection = await _connect(instance, server)
        try:
            await _run_statements(instance, connection)
        finally:
            connection.close()
        server.signal(signal.SIGINT)
        if not await server.wait_dead(CREATE_DEADLINE_S):
            raise DatabaseError("The new PostgreSQL server does not stop.")
    finally:
        if server.is_alive:
            server.signal(signal.SIGQUIT)
            await server.wait_dead(10.0)
        server.release()


async def _connect(instance: Instance, server: Server) -> Connection:
    """Wait until the server answers. Raises: DatabaseError."""
    async with asyncio.timeout(CREATE_DEADLINE_S):
        while server.is_alive:
            if read_pid_file(instance.settings.data_dir)[1] == "ready":
                try:
                    return await Connection.open(
                        instance.settings.monitor_conninfo, deadline_s=STATEMENT_DEADLINE_S
                    )
                except ConnectionLost:
                    pass
            await asyncio.sleep(0.005)
    raise DatabaseError(
        f"The new PostgreSQL server does not start: {instance.last_complaint()}",
        f"Its log is {instance.settings.log_file}.",
    )


async def _run_statements(instance: Instance, connection: Connection) -> None:
    password = await instance.on_disk(lambda: _client_password(instance))
    verifier = connection.encrypt_password(password, CLIENT_ROLE)
    statements = [
        f"create role {REPLICATION_ROLE} login replication connection limit 8",
        f"grant pg_checkpoint, pg_monitor to {REPLICATION_ROLE}",
        *(
            f"grant execute on function pg_catalog.{function} to {REPLICATION_ROLE}"
            for function in REWIND_FUNCTIONS
        ),
        f"create role {CLIENT_ROLE} login password '{verifier}'",
        f"create database {CLIENT_DATABASE} owner {CLIENT_ROLE}",
        f"revoke connect on database {CLIENT_DATABASE} from public",
    ]
    for statement in statements:
        await connection.query(statement, deadline_s=STATEMENT_DEADLINE_S)


def _client_password(instance: Instance) -> str:
    """A new password for clients, kept in the state directory for root alone."""
    password = secrets.token_urlsafe(24)
    path = instance.settings.state_dir / "client_password"
    write_file(path, password.encode(), mode=0o600)
    return password
