"""The tables of the console's store, and the steps from one schema version to the next.

Instants are ISO 8601 text in UTC with milliseconds: they sort as text in both databases.
Passwords and tokens are kept as hashes only; the token of an engine must be kept as it is.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    select,
    text,
)

VERSION = 3

INTEGER_MAX = 2**31 - 1
"""What PostgreSQL's INTEGER holds."""

metadata = MetaData()

keep = Table(
    "keep",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""Single facts: the schema version, the console's own id, a set-up link's hash."""

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("language", String(8), nullable=False, default=""),
    Column("theme", String(8), nullable=False, default=""),
    Column("is_disabled", Boolean, nullable=False, default=False),
    Column("created_at", String(32), nullable=False),
    Column("seen_at", String(32), nullable=False, default=""),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("used_at", String(32), nullable=False),
    Column("address", String(64), nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False, default=""),
    Column("used_at", String(32), nullable=False, default=""),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("who", String(80), nullable=False),
    Column("role", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(128), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("detail", Text, nullable=False),
)
"""Append-only: a trigger refuses every change and removal."""

engines = Table(
    "engines",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("address", String(64), nullable=False),
    Column("port", Integer, nullable=False),
    Column("contact", String(128), nullable=False, default=""),
    Column("certificate", LargeBinary, nullable=False),
    Column("fingerprint", String(95), nullable=False),
    Column("token", Text, nullable=False),
    Column("node", String(64), nullable=False),
    Column("udi", String(128), nullable=False, default=""),
    Column("device_type", String(64), nullable=False, default=""),
    Column("version", String(32), nullable=False, default=""),
    Column("role", String(16), nullable=False, default=""),
    Column("group_key", String(256), nullable=False, default=""),
    Column("added_at", String(32), nullable=False),
    Column("added_by", String(80), nullable=False),
)
Index("engines_by_group", engines.c.group_key)

drafts = Table(
    "drafts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("user_name", String(80), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("data", Text, nullable=False),
    Column("changed_at", String(32), nullable=False),
)
"""Half-filled wizards, so that a restart or the back button loses nothing; never a password."""

actions = Table(
    "actions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("engine_id", Integer, nullable=False),
    Column("title", Text, nullable=False),
    Column("who", String(80), nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", String(32), nullable=False),
    Column("ended_at", String(32), nullable=False, default=""),
    Column("sentence", Text, nullable=False, default=""),
    Column("hint", Text, nullable=False, default=""),
    Column("steps", Text, nullable=False),
    Column("progress_percent", Integer, nullable=False, default=-1),
)
"""Long actions with their steps, kept after the end and linkable."""
Index("actions_by_engine", actions.c.engine_id, actions.c.started_at)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("engine_id", Integer, nullable=False),
    Column("cursor", String(64), nullable=False),
    Column("at", String(32), nullable=False),
    Column("node", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("sentence", Text, nullable=False),
    Column("term", Integer, nullable=False, default=0),
    Column("epoch", Integer, nullable=False, default=0),
)
"""Copies of the engines' event logs, so that a dead machine's past can still be read."""
Index("events_once", events.c.engine_id, events.c.cursor, unique=True)
Index("events_by_time", events.c.engine_id, events.c.at)

syncs = Table(
    "syncs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("engine_id", Integer, nullable=False),
    Column("at", String(32), nullable=False),
    Column("what", String(64), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("sentence", Text, nullable=False),
)
"""Synchronization history: what was sent to or read from an engine, failures included."""
Index("syncs_by_engine", syncs.c.engine_id, syncs.c.at)

_APPEND_ONLY_SQLITE = (
    "CREATE TRIGGER audit_is_kept_u BEFORE UPDATE ON audit BEGIN "
    "SELECT RAISE(ABORT, 'the audit is append-only'); END",
    "CREATE TRIGGER audit_is_kept_d BEFORE DELETE ON audit BEGIN "
    "SELECT RAISE(ABORT, 'the audit is append-only'); END",
)
_APPEND_ONLY_POSTGRESQL = (
    "CREATE OR REPLACE FUNCTION audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$",
    "CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE ON audit "
    "FOR EACH ROW EXECUTE FUNCTION audit_is_kept()",
)
_APPEND_ONLY_ALSO_SQLITE = (
    # INSERT OR REPLACE removes a row without asking the trigger for that.
    "CREATE TRIGGER IF NOT EXISTS audit_is_kept_i BEFORE INSERT ON audit "
    "WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id) BEGIN "
    "SELECT RAISE(ABORT, 'the audit is append-only'); END",
)
_APPEND_ONLY_ALSO_POSTGRESQL = (
    "DROP TRIGGER IF EXISTS audit_is_kept_whole ON audit",
    "CREATE TRIGGER audit_is_kept_whole BEFORE TRUNCATE ON audit "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_kept()",
)


def _to_1(connection: Connection) -> None:
    """From nothing."""
    metadata.create_all(connection)
    is_sqlite = connection.dialect.name == "sqlite"
    for statement in _APPEND_ONLY_SQLITE if is_sqlite else _APPEND_ONLY_POSTGRESQL:
        connection.execute(text(statement))


def _to_2(connection: Connection) -> None:
    """Two long names with two IPv6 addresses need more room (SQLite counts no characters)."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("ALTER TABLE engines ALTER COLUMN group_key TYPE VARCHAR(256)"))


def _to_3(connection: Connection) -> None:
    """The ways to change the audit that are neither UPDATE nor DELETE."""
    is_sqlite = connection.dialect.name == "sqlite"
    for statement in _APPEND_ONLY_ALSO_SQLITE if is_sqlite else _APPEND_ONLY_ALSO_POSTGRESQL:
        connection.execute(text(statement))


MIGRATIONS = (_to_1, _to_2, _to_3)
"""``MIGRATIONS[n]`` leads from version n to n + 1."""


def version_of(connection: Connection) -> int:
    """The schema version in force; 0 for an empty store."""
    if not connection.dialect.has_table(connection, "keep"):
        return 0
    found = connection.scalar(select(keep.c.value).where(keep.c.key == "schema_version"))
    return int(found) if found else 0


def fitting(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the table can hold them: what comes from engines or people may be longer, and
    PostgreSQL, unlike SQLite, refuses that (and NUL in text). Pure."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        kind = table.c[key].type
        if isinstance(value, str):
            value = value.replace("\0", "")
            value = value[: kind.length] if isinstance(kind, String) and kind.length else value
        elif isinstance(kind, Integer) and isinstance(value, int):
            value = max(-INTEGER_MAX, min(value, INTEGER_MAX))
        found[key] = value
    return found
