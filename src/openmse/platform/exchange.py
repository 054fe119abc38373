"""How the other node gets the licences, and either the other's UDI: through the group's database.

A small schema in the instance's own database ``postgres`` (not the clients'), replicated like
everything: what the owner has acknowledged is on both disks. The owner writes through its local
socket. The node that does not own reads its own copy, and sends what it has to the owner's server
with its replication certificate. Both keep what they read as files, so licences also survive the
loss of the database. Level-triggered: ``reconcile`` may run at any time, on both, in any order.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from openmse.errors import DatabaseError, MseError
from openmse.node.config import NodeConfig
from openmse.node.control.snapshot import Snapshot
from openmse.node.drivers.postgres.settings import REPLICATION_ROLE, peer_conninfo
from openmse.node.group import GroupInfo
from openmse.node.runtime.database_settings import instance_settings
from openmse.platform import licence_keys, merge, peers
from openmse.platform.engine import Engine
from openmse.platform.merge import Row
from openmse.platform.peers import Told
from openmse.platform.status.database import OPTIONS, WITHIN_S, conninfo
from openmse.platform.store import Line

if TYPE_CHECKING:
    from psycopg import Connection

SCHEMA = "openmse_platform"
_MAKE = (
    f"create schema if not exists {SCHEMA}",
    f"create table if not exists {SCHEMA}.node (name text primary key, told text not null)",
    f"create table if not exists {SCHEMA}.licence"
    " (id text primary key, text text not null, line text not null)",
    f"grant usage on schema {SCHEMA} to {REPLICATION_ROLE}",
    f"grant select, insert, update on {SCHEMA}.node, {SCHEMA}.licence to {REPLICATION_ROLE}",
)
_EXISTS = f"select to_regclass('{SCHEMA}.licence') is not null"


class Exchanged(Struct, frozen=True):
    """What came of it. ``sentence`` is for people."""

    is_shared: bool
    """Whether the other node has, or will get by itself, everything that this one has."""
    taken: int
    """Licences that changed here."""
    given: int
    """Licences that changed in the group's database."""
    sentence: str


class ExchangeError(DatabaseError):
    """The group's database could not be reached; files stay as they are."""

    code = "MSE-PLT-004"


class _Shared(Struct, frozen=True):
    """What the group's database holds."""

    rows: dict[str, Row]
    nodes: dict[str, Told]


class Right(Struct, frozen=True):
    """Whether something may be written now, by the word of this node's health monitor."""

    is_serving: bool
    """This node owns, and clients are admitted."""
    is_peer_owner: bool
    """The other node is heard, and its server is the primary."""


def right(picture: Snapshot) -> Right:
    """The right that a picture amounts to. Pure."""
    peer = picture.peer
    is_peer_owner = peer is not None and peer.is_heard and peer.is_primary
    return Right(picture.admits_clients, is_peer_owner)


def reconcile(engine: Engine, config: NodeConfig, group: GroupInfo | None, may: Right) -> Exchanged:
    """Bring this node's licences and the group's database to the same. Raises MseError.

    Nothing is written unless ``may`` allows it. Raises ExchangeError where the database cannot be
    read or written: what is installed here stays, and the next call goes on.
    """
    if group is None or group.peer_of(config.node.name) is None:
        return Exchanged(True, 0, 0, "This node is not paired: its licences are its own.")
    here = _rows_here(engine)
    with _local(config) as connection:
        is_copy = bool(_one(connection, "select pg_is_in_recovery()"))
        shared = _read(connection)
        wanted = merge.merged(here, shared.rows)
        taken = _take(engine, merge.missing(here, wanted))
        _keep_peers(config, group, shared.nodes)
        give = Given(merge.missing(shared.rows, wanted), engine.told(config.node.name))
        if not give.rows and shared.nodes.get(config.node.name) == give.told:
            return Exchanged(True, taken, 0, "Both nodes have the same licences.")
        why_not = _why_no_write(may, is_copy=is_copy)
        if why_not:
            raise ExchangeError(f"The other node could not be told: {why_not}.", _LATER)
        if not is_copy:
            is_flushed = _write_here(connection, give, group, config)
    if is_copy:
        _write_to_owner(config, group, give)
        is_flushed = True  # the owner has it on disk now, and this node has its files
    sentence = _SHARED if is_flushed else _WAITS
    return Exchanged(is_flushed, taken, len(give.rows), sentence)


_SHARED = "The other node has this node's licences now."
_WAITS = "The other node gets this node's licences as soon as it follows again."
_LATER = "What is installed here stays. Repeat 'mse license sync' once the pair is in step."


class Given(Struct, frozen=True):
    """What this node adds to the group's database."""

    rows: dict[str, Row]
    told: Told


def _why_no_write(may: Right, *, is_copy: bool) -> str:
    """Why nothing may be written now, as half a sentence; a node about to stop must not."""
    if is_copy:
        return "" if may.is_peer_owner else "the node that owns is not heard now"
    return "" if may.is_serving else "this node owns, but does not serve now"


def _rows_here(engine: Engine) -> dict[str, Row]:
    held = engine.held()
    rows = {}
    for one in held.installed:
        identity = one.licence.id
        line = held.ledger.lines.get(identity) or Line(one.first_installed, False, "")
        rows[identity] = Row(held.texts[identity], line)
    for identity, line in held.ledger.lines.items():
        if line.is_removed:
            rows[identity] = Row(b"", line)
    return rows


def _take(engine: Engine, new: dict[str, Row]) -> int:
    """Keep what the other node brought, as far as this engine can prove it; how many."""
    texts, lines = {}, {}
    for identity, row in new.items():
        if not row.line.is_removed:
            try:
                licence = licence_keys.verify(row.text, engine.trusted).licence
            except MseError:
                continue  # a key that only the other node trusts yet: taken once it is here too
            if licence.id != identity:
                continue
            texts[identity] = row.text
        lines[identity] = row.line
    if lines:
        engine.store.put(texts, lines, engine.today)
    return len(lines)


def _keep_peers(config: NodeConfig, group: GroupInfo, nodes: dict[str, Told]) -> None:
    names = {node.name for node in group.nodes}
    known = {name: told for name, told in nodes.items() if name in names}
    state_dir = config.places.state_dir
    if known != peers.read(state_dir):
        peers.write(state_dir, known)


@contextmanager
def _local(config: NodeConfig) -> Iterator["Connection[Any]"]:
    """A session of the administrator on this node's own server."""
    import psycopg

    target = conninfo(config.places.run_dir / "postgres", config.database.port)
    try:
        with psycopg.connect(target) as connection:
            yield connection
    except psycopg.Error as error:
        raise _unreachable("this node's database", error) from error


def _write_here(
    connection: "Connection[Any]", give: Given, group: GroupInfo, config: NodeConfig
) -> bool:
    """Write, and tell whether the other node has it on disk within the deadline."""
    _make(connection)
    _write(connection, give)
    connection.commit()
    peer = group.peer_of(config.node.name)
    position = _one(connection, "select pg_current_wal_flush_lsn()")
    deadline = time.monotonic() + WITHIN_S
    while peer is not None and time.monotonic() < deadline:
        row = connection.execute(_HAS_FLUSHED, (position, peer.name)).fetchone()
        connection.commit()
        if row and row[0]:
            return True
        time.sleep(0.02)
    return False


_HAS_FLUSHED = (
    "select coalesce(bool_or(flush_lsn >= %s::pg_lsn), false) from pg_stat_replication"
    " where application_name = %s"
)


def _write_to_owner(config: NodeConfig, group: GroupInfo, give: Given) -> None:
    """Send to the other node's server, as the node that replicates from it."""
    import psycopg

    settings = instance_settings(config, group)
    target = f"{peer_conninfo(settings, purpose='platform')} options='{OPTIONS}'"
    try:
        with psycopg.connect(target) as connection:
            _write(connection, give)
    except psycopg.Error as error:
        raise _unreachable(f"the database of {settings.peer_id}", error) from error


def _unreachable(what: str, error: Exception) -> ExchangeError:
    lines = str(error).strip().splitlines() or ["it does not answer"]
    return ExchangeError(
        f"The other node could not be told: {what} does not take it now ({lines[-1]}).", _LATER
    )


def _make(connection: "Connection[Any]") -> None:
    if not _one(connection, _EXISTS):
        for statement in _MAKE:
            connection.execute(statement)


def _one(connection: "Connection[Any]", statement: str) -> Any:
    row = connection.execute(statement).fetchone()
    return row[0] if row else None


def _read(connection: "Connection[Any]") -> _Shared:
    """What is there; rows that cannot be read are as good as absent."""
    if not _one(connection, _EXISTS):
        return _Shared({}, {})
    rows = {}
    for identity, text, line in connection.execute(f"select id, text, line from {SCHEMA}.licence"):
        found = _decoded(line, Line)
        if found is not None:
            rows[identity] = Row(text.encode(), found)
    nodes = {}
    for name, told in connection.execute(f"select name, told from {SCHEMA}.node"):
        one = _decoded(told, Told)
        if one is not None and one.name == name:
            nodes[name] = one
    return _Shared(rows, nodes)


def _decoded(text: str, kind: Callable[..., Any]) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError:
        return None


def _write(connection: "Connection[Any]", give: Given) -> None:
    """In a transaction that does not wait for the other node: its caller says what came of it."""
    told = give.told
    connection.execute(
        f"insert into {SCHEMA}.node values (%s, %s) on conflict (name)"
        " do update set told = excluded.told",
        (told.name, msgspec.json.encode(told).decode()),
    )
    for identity, row in give.rows.items():
        connection.execute(
            f"insert into {SCHEMA}.licence values (%s, %s, %s)"
            " on conflict (id) do update set text = excluded.text, line = excluded.line",
            (identity, row.text.decode(), msgspec.json.encode(row.line).decode()),
        )
