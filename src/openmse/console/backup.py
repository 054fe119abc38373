"""Backup and restore: one file with every row of the store, and the certificate of the pages.

The format is the console's own (JSON lines), so that a backup of SQLite can be restored into
PostgreSQL and the other way round.
"""

import base64
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Connection, Integer, Table, func, insert, literal, select

from openmse import __version__
from openmse.console.errors import Conflict, ConsoleStoreError
from openmse.console.settings import ConsoleSettings
from openmse.console.store import schema
from openmse.console.store.store import (
    SETUP_LINK,
    Store,
    now,
    open_existing,
    open_sqlite,
    open_store,
)

FORMAT = 1
FILES = ("tls.crt", "tls.key")
LEFT_OUT = {"sessions", "drafts"}
"""What a restored console does without: people log in again. So it does without a set-up link: one
that was used since would make an administrator once more."""
BESIDE = ("-wal", "-shm")
"""What SQLite may have beside its file."""

_Row = tuple[Table, dict[str, Any]]


def save(settings: ConsoleSettings, file: Path) -> str:
    """Write a backup (mode 0600, all of it or nothing); a sentence about it.

    Raises: MseError, also where there is no store: an empty backup would replace a good one.
    """
    store = open_existing(settings)
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
    """Put a backup back: all of it, or nothing is changed."""
    rows, files = _read(file)
    with not_running(settings):
        is_used = _is_in_use(settings)
        if is_used and (not is_replacing or not settings.is_sqlite):
            raise Conflict(
                "There is a store with entries already; nothing was changed.",
                "--replace keeps it aside and restores the backup (SQLite); for PostgreSQL name an "
                "empty database.",
            )
        try:
            aside = _put_back(settings, rows, files)
        except ConsoleStoreError as error:
            raise ConsoleStoreError(f"{error.sentence} Nothing was changed.", error.hint) from error
        except OSError as error:
            raise ConsoleStoreError(
                f"The backup cannot be put back: {error.strerror}.",
                "Check the state directory ([paths] state_dir) and its disk, then repeat it.",
            ) from error
    kept = f" What was there is kept as {aside}." if is_used else ""
    return (
        f"{len(rows)} rows are restored. Start the console; people log in again. Users, passwords "
        f"and tokens are those of the backup: end once more what was ended since.{kept}"
    )


def _read(file: Path) -> tuple[list[_Row], dict[str, bytes]]:
    """The rows that are kept, and the files by their names; raises ConsoleStoreError."""
    try:
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        is_whole = all(isinstance(line, dict) for line in lines) and lines[-1] == {"end": True}
        if not is_whole or lines[0]["format"] != FORMAT:
            raise ValueError
        is_newer = int(lines[0]["schema"]) > schema.VERSION
        rows = [] if is_newer else [_row(line) for line in lines if "table" in line]
        files = {line["file"]: base64.b64decode(line["data"]) for line in lines if "file" in line}
        if not set(files) <= set(FILES):
            raise ValueError
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConsoleStoreError(
            f"{file} is not a whole backup of a console; nothing was changed.",
            "Take another backup.",
        ) from error
    if is_newer:
        raise ConsoleStoreError(
            "The backup is of a newer console; nothing was changed.", "Install that version."
        )
    return [(table, row) for table, row in rows if _is_kept(table.name, row)], files


def _row(line: dict[str, Any]) -> _Row:
    """A row of a backup; raises LookupError, TypeError or ValueError where it is none. Pure."""
    table = schema.metadata.tables[line["table"]]
    values = {
        key: base64.b64decode(value["base64"]) if isinstance(value, dict) else value
        for key, value in line["row"].items()
    }
    return table, schema.fitting(table, values)


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


def _is_in_use(settings: ConsoleSettings) -> bool:
    """Whether a store is there that has anything but what each new one has."""
    if settings.is_sqlite and not settings.sqlite_file.exists():
        return False
    with closing(open_store(settings)) as store, store.read() as connection:
        return any(
            connection.execute(select(literal(1)).select_from(table).limit(1)).first() is not None
            for table in schema.metadata.sorted_tables
            if table is not schema.keep
        )


def _put_back(settings: ConsoleSettings, rows: list[_Row], files: dict[str, bytes]) -> Path | None:
    """Build everything beside what is there, and then put it in its place. A store in SQLite that
    is there is kept under the name that this returns; a database in PostgreSQL is its owner's."""
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    parts = {settings.state_dir / f"{name}.part": settings.state_dir / name for name in files}
    built, aside = settings.sqlite_file.with_name(f"{settings.sqlite_file.name}.part"), None
    try:
        for (part, _), data in zip(parts.items(), files.values(), strict=True):
            _write(part, data)
        if settings.is_sqlite:
            _remove(built)
            with closing(open_sqlite(built)) as store:
                _put_rows(store, rows)
            aside = _exchange(built, settings.sqlite_file)
        else:
            with closing(open_store(settings)) as store:
                _put_rows(store, rows)
        for part, path in parts.items():
            part.replace(path)
    finally:
        _remove(built)
        for part in parts:
            part.unlink(missing_ok=True)
    return aside


def _exchange(built: Path, path: Path) -> Path | None:
    """Put a store that is closed in its place; where one is there, where that is kept."""
    aside = None
    if path.exists():
        aside = path.with_name(f"console-{now()[:19].replace(':', '')}.db")
        for suffix in ("", *BESIDE):
            with suppress(FileNotFoundError):
                path.with_name(f"{path.name}{suffix}").replace(f"{aside}{suffix}")
    built.replace(path)
    return aside


def _remove(path: Path) -> None:
    for suffix in ("", *BESIDE):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def _put_rows(store: Store, rows: list[_Row]) -> None:
    with store.write() as connection:
        connection.execute(schema.keep.delete())
        for table, row in rows:
            connection.execute(insert(table).values(**row))
        if connection.dialect.name == "postgresql":
            _count_on(connection)


def _count_on(connection: Connection) -> None:
    """Rows came with their numbers: the next number of each table follows the greatest."""
    for table in schema.metadata.sorted_tables:
        column = table.c.get("id")
        if column is not None and isinstance(column.type, Integer):
            sequence = func.pg_get_serial_sequence(table.name, "id")
            greatest = select(func.coalesce(func.max(column), 0)).scalar_subquery()
            connection.execute(select(func.setval(sequence, greatest + 1, False)))


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
