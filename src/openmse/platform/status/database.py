"""What PostgreSQL itself tells of its size and its clients, over its local socket.

Only reads, in a read-only transaction with a deadline; for root and PostgreSQL's own user.
"""

from datetime import datetime
from pathlib import Path

from msgspec import Struct

from openmse.node.drivers.postgres.settings import ADMIN_ROLE, REPLICATION_ROLE

WITHIN_S = 3
MAX_SESSIONS = 1000

SIZE_SQL = "select coalesce(sum(pg_database_size(oid)), 0)::bigint from pg_database"
SESSIONS_SQL = """
select pid, usesysid::bigint, coalesce(host(client_addr), ''), backend_start,
       coalesce(state_change, backend_start)
  from pg_stat_activity
 where backend_type = 'client backend' and usename not in (%s, %s)
 order by backend_start, pid limit %s
"""


class DatabaseSession(Struct, frozen=True):
    """One client's session. ``address``: '' for one on this machine."""

    id: int
    user_id: int
    address: str
    started_at: datetime
    last_access_at: datetime


class DatabaseFacts(Struct, frozen=True):
    """``size_bytes``: of all databases of the instance, without the write-ahead log."""

    size_bytes: int
    sessions: tuple[DatabaseSession, ...]


OPTIONS = f"-c statement_timeout={WITHIN_S * 1000} -c synchronous_commit=local"
"""Never holds a lock for long, and never waits for the other node: a commit that gave up that wait
would be counted by the health monitor as one whose client was warned."""


def conninfo(socket_dir: Path, port: int) -> str:
    """How a local process of root reaches the instance (peer authentication)."""
    from psycopg.conninfo import make_conninfo  # 0.1 s to import, only where it is needed

    return make_conninfo(
        host=str(socket_dir),
        port=port,
        user=ADMIN_ROLE,
        dbname="postgres",
        application_name="openmse-platform",
        connect_timeout=WITHIN_S,
        sslmode="disable",
        options=OPTIONS,
    )


def read(socket_dir: Path, port: int) -> DatabaseFacts | None:
    """The facts of this moment; None where PostgreSQL does not answer, or not to this user."""
    import psycopg

    if not (socket_dir / f".s.PGSQL.{port}").exists():
        return None
    try:
        with psycopg.connect(conninfo(socket_dir, port)) as connection:
            connection.read_only = True
            size = connection.execute(SIZE_SQL).fetchone()
            rows = connection.execute(
                SESSIONS_SQL, (ADMIN_ROLE, REPLICATION_ROLE, MAX_SESSIONS)
            ).fetchall()
    except (psycopg.Error, OSError):
        return None
    return DatabaseFacts(size[0] if size else 0, tuple(DatabaseSession(*row) for row in rows))
