"""Backup and restore: one file with every row of the store, and the certificate of the pages.

The format is the console's own (JSON lines), so that a backup of SQLite can be restored into
PostgreSQL and the other way round.
"""

import base64
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Connection, Integer, func, insert, literal, select

from openmse import __version__
from openmse.console import certificate
from openmse.console.errors import Conflict, ConsoleStoreError
from openmse.console.settings import ConsoleSettings
from openmse.console.store import schema
from openmse.console.store.store import SETUP_LINK, Store, now, open_store

FORMAT = 1
FILES = ("tls.crt", "tls.key")
LEFT_OUT = {"sessions", "drafts"}
"""What a restored console does without: people log in again. So it does without a set-up link: one
that was used since would make an administrator once more."""


def save(settings: ConsoleSettings, file: Path) -> str:
    """Write a backup (mode 0600, all of it or nothing); a sentence about it."""
    certificate.files(settings)
    store = open_store(settings)
    part = file.with_name(f"{file.name}.part")
    count = 0
    try:
        part.unlink(missing_ok=True)  # one that is there could be readable by others
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            for line in _lines(settings, store):
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConsoleStoreError(
            f"The backup {file} cannot be written: {error.strerror}."
        ) from error
    finally:
        store.close()
    return f"{count} entries are saved in {file}. It holds secrets: keep it as you keep passwords."


def _lines(settings: ConsoleSettings, store: Store) -> Iterator[dict[str, Any]]:
    yield {
        "format": FORMAT,
        "schema": schema.VERSION,
        "version": __version__,
        "saved_at": now(),
    }
    for name in FILES:
        path = settings.state_dir / name
        if path.exists():
            yield {"file": name, "data": base64.b64encode(path.read_bytes()).decode()}
    with store.snapshot() as connection:
        for table in schema.metadata.sorted_tables:
            for row in connection.execute(select(table)):
                values = {k: _plain(v) for k, v in row._mapping.items()}
                if _is_kept(table.name, values):
                    yield {"table": table.name, "row": values}
    yield {"end": True}


def _is_kept(table: str, row: dict[str, Any]) -> bool:
    """Whether a row belongs into a backup, or out of one into a store. Pure."""
    return table not in LEFT_OUT and (table, row.get("key")) != ("keep", SETUP_LINK)


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def restore(settings: ConsoleSettings, file: Path, *, is_replacing: bool) -> str:
    """Put a backup back; nothing is changed unless the whole file can be used."""
    lines = _read(file)
    with not_running(settings):
        aside = _make_room(settings, is_replacing=is_replacing)
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = open_store(settings)
        try:
            rows = _put_rows(store, lines)
        finally:
            store.close()
        for line in lines:
            if "file" in line:
                _put_file(settings.state_dir / str(line["file"]), base64.b64decode(line["data"]))
    kept = f" What was there is kept as {aside}." if aside else ""
    return (
        f"{rows} rows are restored. Start the console; people log in again. Users, passwords and "
        f"tokens are those of the backup: end once more what was ended since.{kept}"
    )


def _read(file: Path) -> list[dict[str, Any]]:
    fault = f"{file} is not a whole backup of a console; nothing was changed."
    try:
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ConsoleStoreError(fault, "Take another backup.") from error
    is_whole = bool(lines) and all(isinstance(line, dict) for line in lines)
    if not is_whole or lines[0].get("format") != FORMAT or lines[-1] != {"end": True}:
        raise ConsoleStoreError(fault, "Take another backup.")
    if int(lines[0].get("schema", 0)) > schema.VERSION:
        raise ConsoleStoreError(
            "The backup is of a newer console; nothing was changed.", "Install that version."
        )
    names = {table.name for table in schema.metadata.sorted_tables}
    if any(line.get("file") not in (None, *FILES) for line in lines) or any(
        line["table"] not in names for line in lines if "table" in line
    ):
        raise ConsoleStoreError(fault, "Take another backup.")
    return lines


@contextmanager
def not_running(settings: ConsoleSettings) -> Iterator[None]:
    """Hold the lock that a running console holds; raises Conflict."""
    with _lock_file(settings) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(
                f"A console runs with the state directory {settings.state_dir}; nothing was "
                "changed.",
                "Stop it first.",
            ) from error
        yield


def _lock_file(settings: ConsoleSettings) -> TextIO:
    try:
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return (settings.state_dir / "lock").open("w")
    except OSError as error:
        raise ConsoleStoreError(
            f"The state directory {settings.state_dir} cannot be used: {error.strerror}.",
            "Check the directory and who may write there ([paths] state_dir).",
        ) from error


def _make_room(settings: ConsoleSettings, *, is_replacing: bool) -> str:
    """Move a store that is there aside; only where that was asked for. A database in PostgreSQL is
    its owner's: it has to be empty."""
    store = (
        open_store(settings) if not settings.is_sqlite or settings.sqlite_file.exists() else None
    )
    if store is None:
        return ""
    is_used = _is_used(store)
    store.close()
    if is_used and (not is_replacing or not settings.is_sqlite):
        raise Conflict(
            "There is a store with entries already; nothing was changed.",
            "--replace keeps it aside and restores the backup (SQLite); for PostgreSQL name an "
            "empty database.",
        )
    if not settings.is_sqlite:
        return ""
    aside = settings.sqlite_file.with_name(f"console-{now()[:19].replace(':', '')}.db")
    settings.sqlite_file.replace(aside)
    for suffix in ("-wal", "-shm"):
        settings.sqlite_file.with_name(f"{settings.sqlite_file.name}{suffix}").unlink(
            missing_ok=True
        )
    return str(aside) if is_used else ""


def _is_used(store: Store) -> bool:
    """Whether there is anything but what each new store has."""
    with store.read() as connection:
        return any(
            connection.execute(select(literal(1)).select_from(table).limit(1)).first() is not None
            for table in schema.metadata.sorted_tables
            if table is not schema.keep
        )


def _put_rows(store: Store, lines: list[dict[str, Any]]) -> int:
    tables = schema.metadata.tables
    rows = [line for line in lines if "table" in line and _is_kept(line["table"], line["row"])]
    with store.write() as connection:
        connection.execute(schema.keep.delete())
        for line in rows:
            values = {
                key: base64.b64decode(value["base64"]) if isinstance(value, dict) else value
                for key, value in line["row"].items()
            }
            table = tables[line["table"]]
            connection.execute(insert(table).values(**schema.fitting(table, values)))
        if connection.dialect.name == "postgresql":
            _count_on(connection)
    return len(rows)


def _count_on(connection: Connection) -> None:
    """Rows came with their numbers: the next number of each table follows the greatest."""
    for table in schema.metadata.sorted_tables:
        column = table.c.get("id")
        if column is not None and isinstance(column.type, Integer):
            sequence = func.pg_get_serial_sequence(table.name, "id")
            greatest = select(func.coalesce(func.max(column), 0)).scalar_subquery()
            connection.execute(select(func.setval(sequence, greatest + 1, False)))


def _put_file(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
