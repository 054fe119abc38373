"""What the health monitor asks a running server, and what the answers mean."""

from dataclasses import dataclass
from pathlib import Path

from openmse.errors import DatabaseError
from openmse.node.drivers.postgres.connection import Connection, ConnectionLost, StatementFailed
from openmse.node.drivers.postgres.settings import GENERATION, MIB, InstanceSettings
from openmse.node.drivers.postgres.tools import format_lsn, parse_lsn

STATUS_SQL = f"""
select pg_is_in_recovery(),
       case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
            else pg_current_wal_flush_lsn() end,
       current_setting('{GENERATION}', true),
       receiver.status, receiver.pid,
       peer.state, peer.flush_lsn, peer.reply_time, peer.pid
  from (select 1) one
  left join lateral (select status, pid from pg_stat_wal_receiver) receiver on true
  left join lateral (
       select state, flush_lsn, reply_time, pid from pg_stat_replication
        where application_name = $1 order by backend_start desc limit 1) peer on true
"""

RECOVERY_SQL = f"""
select pg_is_in_recovery(), current_setting('{GENERATION}', true),
       (select count(*) from pg_stat_activity where backend_type = 'walreceiver'),
       startup.pid, startup.wait_event, pg_last_wal_replay_lsn()
  from (select 1) one
  left join lateral (
       select pid, wait_event from pg_stat_activity where backend_type = 'startup') startup on true
"""

WEAK_SQL = """
select coalesce('role ' || r.rolname, '') ||
       case when r.oid is not null and d.oid is not null then ' in ' else '' end ||
       coalesce('database ' || d.datname, '')
  from pg_db_role_setting s
  left join pg_roles r on r.oid = s.setrole
  left join pg_database d on d.oid = s.setdatabase
 where exists (select from unnest(s.setconfig) c
                where c in ('synchronous_commit=off', 'synchronous_commit=local',
                            'synchronous_commit=remote_write', 'synchronous_commit=false',
                            'synchronous_commit=no', 'synchronous_commit=0'))
 order by 1
"""

PROBE_SQL = "select pg_logical_emit_message(true, 'openmse.probe', '')"
OUT_OF_WAL = "RecoveryRetrieveRetryInterval"
"""Wait event of a startup process that found no further record anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One answer of a running server. LSNs are byte positions, 0 where unknown."""

    is_in_recovery: bool
    lsn: int
    """Flushed on a primary; replayed (hence received and flushed) on a standby."""
    generation: str
    is_receiving: bool
    is_peer_streaming: bool
    peer_flush_lsn: int
    peer_sign: str
    """Changes with each sign of life of the peer's replication connection."""
    link_pid: int
    """The process that holds the replication connection to the peer; 0 while there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What a standby's recovery is doing."""

    is_in_recovery: bool
    generation: str
    has_receiver: bool
    startup_pid: int
    is_out_of_wal: bool
    replay_lsn: int


def _lsn(text: str | None) -> int:
    return parse_lsn(text) if text else 0


async def ask_status(connection: Connection, peer_id: str, *, deadline_s: float) -> Status:
    """One round trip, cheap enough for every poll. Raises: DatabaseError."""
    (row,) = await connection.query(STATUS_SQL, [peer_id], deadline_s=deadline_s)
    return Status(
        is_in_recovery=row[0] == "t",
        lsn=_lsn(row[1]),
        generation=row[2] or "",
        is_receiving=row[3] == "streaming",
        is_peer_streaming=row[5] == "streaming",
        peer_flush_lsn=_lsn(row[6]),
        peer_sign=f"{row[6]} {row[7]}" if row[5] else "",
        link_pid=int(row[4] or row[8] or 0),
    )


async def ask_recovery(connection: Connection, *, deadline_s: float) -> Recovery:
    """Whether the WAL receiver is gone and everything received is replayed."""
    (row,) = await connection.query(RECOVERY_SQL, deadline_s=deadline_s)
    return Recovery(
        is_in_recovery=row[0] == "t",
        generation=row[1] or "",
        has_receiver=row[2] != "0",
        startup_pid=int(row[3] or 0),
        is_out_of_wal=row[4] == OUT_OF_WAL,
        replay_lsn=_lsn(row[5]),
    )


async def ask_weak_sessions(connection: Connection, *, deadline_s: float) -> tuple[str, ...]:
    """Roles and databases whose commits are not guaranteed (protocol §5.1)."""
    rows = await connection.query(WEAK_SQL, deadline_s=deadline_s)
    return tuple(row[0] or "everybody" for row in rows)


async def keep_slot(
    connection: Connection, settings: InstanceSettings, peer_flush_lsn: int
) -> None:
    """Keep WAL for the peer from what it has flushed on, within max_slot_wal_keep_size.

    The peer never attaches to the slot, so a walsender that lingers after its death cannot lock
    it out; a slot that lost its WAL is made anew.
    """
    name, deadline_s = settings.slot_name, settings.status_deadline_s
    rows = await connection.query(
        "select wal_status = 'lost', restart_lsn from pg_replication_slots where slot_name = $1",
        [name],
        deadline_s=deadline_s,
    )
    if rows and rows[0][0] == "t":
        await connection.query("select pg_drop_replication_slot($1)", [name], deadline_s=deadline_s)
        rows = []
    if not rows:
        await connection.query(_DROP_OTHERS, [name], deadline_s=deadline_s)
        await connection.query(
            "select pg_create_physical_replication_slot($1, true)", [name], deadline_s=deadline_s
        )
    elif peer_flush_lsn > _lsn(rows[0][1]) + 16 * MIB:
        await connection.query(
            "select pg_replication_slot_advance($1, $2::pg_lsn)",
            [name, format_lsn(peer_flush_lsn)],
            deadline_s=deadline_s,
        )


_DROP_OTHERS = (
    "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
    r" where slot_name like 'openmse\_%' and slot_name <> $1 and not active"
)
"""Of peers that were replaced: nothing would ever advance theirs."""


async def drop_slot(connection: Connection, settings: InstanceSettings) -> None:
    """A standby keeps no WAL for anybody by a slot: it would never be advanced."""
    await connection.query(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1",
        [settings.slot_name],
        deadline_s=settings.status_deadline_s,
    )


async def drop_stale_link(connection: Connection, settings: InstanceSettings) -> bool:
    """End the peer's replication connection over the direct path once it has another.

    A dead path leaves its sender behind, and commits would wait for that one, the elder of two of
    a name. Returns whether one was ended. Raises: DatabaseError.
    """
    rows = await connection.query(
        "select pg_terminate_backend(old.pid) from pg_stat_replication old"
        " where old.application_name = $1 and old.client_addr = $2::inet and exists ("
        "select from pg_stat_replication new where new.application_name = $1"
        " and new.client_addr <> $2::inet and new.backend_start > old.backend_start)",
        [settings.peer_id, settings.peer_direct_address],
        deadline_s=settings.status_deadline_s,
    )
    return bool(rows)


async def probe_write(connection: Connection, settings: InstanceSettings) -> str:
    """Commit one tiny transaction to the local disk; a sentence if that fails, else ''.

    The session has synchronous_commit=local, so the probe never waits for the peer.
    Raises: ConnectionLost when there is no answer within the deadline, or no server.
    """
    try:
        await connection.query(PROBE_SQL, deadline_s=settings.probe_deadline_s)
    except StatementFailed as error:
        return explain_write_failure(error.sqlstate, error.sentence, settings.data_dir)
    return ""


def explain_write_failure(sqlstate: str, sentence: str, data_dir: Path) -> str:
    """The operator's sentence for a refused write (SQLSTATE: PostgreSQL, appendix A)."""
    if sqlstate == "53100":
        return f"The disk of {data_dir} is full: PostgreSQL cannot write. Free some space."
    if sqlstate == "58030":
        return f"The disk of {data_dir} fails ({sentence}) See the kernel's log."
    if sqlstate == "25006":
        return "PostgreSQL takes no writes: it is in recovery or read-only."
    return f"PostgreSQL refused a test write. {sentence}"


class Session:
    """A connection that is opened when it is needed and forgotten when it breaks."""

    def __init__(self, settings: InstanceSettings) -> None:
        self._settings = settings
        self._connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._connection is not None and self._connection.is_open

    async def connection(self) -> Connection:
        """The open connection, or a new one. Raises: ConnectionLost."""
        if self._connection is None or not self._connection.is_open:
            self._connection = None
            self._connection = await Connection.open(
                self._settings.monitor_conninfo, deadline_s=self._settings.status_deadline_s
            )
        return self._connection

    def close(self) -> None:
        """Close at once; whoever waits for an answer gets ConnectionLost."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


async def checkpoint(settings: InstanceSettings, *, deadline_s: float) -> None:
    """Write a checkpoint (on a standby: a restart point) now, in a session of its own.

    Raises: DatabaseError.
    """
    session = Session(settings)
    try:
        connection = await session.connection()
        await connection.query("checkpoint", deadline_s=deadline_s)
    except ConnectionLost as error:
        raise DatabaseError(f"The checkpoint did not finish. {error.sentence}") from error
    finally:
        session.close()
