"""The opened store: connections, the schema brought up to date, and single facts."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, delete, event, insert, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from openmse.console.errors import ConsoleConfigError, ConsoleStoreError
from openmse.console.settings import ConsoleSettings
from openmse.console.store import schema

SETUP_LINK = "setup_link"
"""The fact that holds the hash of a set-up link that is open."""
CONNECT_WITHIN_S = 5
POSTGRESQL = {
    "connect_timeout": CONNECT_WITHIN_S,
    "tcp_user_timeout": 10_000,  # a server that is gone without a word is given up, ms
    "keepalives_idle": 15,
    "options": "-c statement_timeout=20s -c lock_timeout=10s",
    "application_name": "openmse-console",
}
"""No page may wait for ever for a server that does not answer."""


def now(ahead_s: float = 0.0) -> str:
    """This moment (or ``ahead_s`` later) as the store keeps instants."""
    moment = datetime.now(UTC) + timedelta(seconds=ahead_s)
    return moment.isoformat(timespec="milliseconds")


class Store:
    """The database; every method of the repositories is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        try:
            self._bring_up_to_date()
            self.console_id = self._console_id()
        except BaseException:
            engine.dispose()
            raise

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction; raises ConsoleStoreError where the database fails."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise _cannot_be_used(error) from error

    read = write

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Everything as of one moment, although others write meanwhile; raises as ``write``."""
        with self.write() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")  # Python begins none for what only reads
            else:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield connection

    def get(self, key: str) -> str:
        """A single fact, or ''."""
        with self.read() as connection:
            query = select(schema.keep.c.value).where(schema.keep.c.key == key)
            return str(connection.scalar(query) or "")

    def put(self, key: str, value: str) -> None:
        """Keep a single fact; '' forgets it."""
        with self.write() as connection:
            connection.execute(delete(schema.keep).where(schema.keep.c.key == key))
            if value:
                connection.execute(insert(schema.keep).values(key=key, value=value))

    def take(self, key: str, value: str) -> bool:
        """Forget a fact if it has exactly this value; whether it had. Works once."""
        with self.write() as connection:
            gone = connection.execute(
                delete(schema.keep).where(schema.keep.c.key == key, schema.keep.c.value == value)
            )
            return gone.rowcount == 1

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    def _bring_up_to_date(self) -> None:
        with self.write() as connection:
            version = schema.version_of(connection)
            if version > schema.VERSION:
                raise ConsoleStoreError(
                    f"The store has schema version {version}; this console knows up to "
                    f"{schema.VERSION}. Nothing was changed.",
                    "Use the newer console, or restore a backup that this version made.",
                )
            for step in schema.MIGRATIONS[version:]:
                step(connection)
            key = schema.keep.c.key
            connection.execute(delete(schema.keep).where(key == "schema_version"))
            connection.execute(
                insert(schema.keep).values(key="schema_version", value=str(schema.VERSION))
            )

    def _console_id(self) -> str:
        found = self.get("console_id")
        if not found:
            found = f"console-{secrets.token_hex(8)}"
            self.put("console_id", found)
        return found


def open_store(settings: ConsoleSettings) -> Store:
    """The store that the settings name, made and brought up to date where needed.

    Raises: ConsoleConfigError where the URL cannot be used, ConsoleStoreError where the database
    does not let us in; neither tells a password.
    """
    if settings.is_sqlite:
        return open_sqlite(settings.sqlite_file)
    return Store(_server(settings))


def open_existing(settings: ConsoleSettings) -> Store:
    """The store that the settings name, for what makes no sense without one; makes none.

    Raises: as ``open_store``, and ConsoleStoreError where there is none.
    """
    where = f"in {settings.sqlite_file}" if settings.is_sqlite else "in that database"
    if not _is_there(settings):
        raise ConsoleStoreError(
            f"There is no store of a console {where}; nothing was changed, and none was made.",
            "Name the settings of the console that you mean (--config FILE); a new console makes "
            "its store when it is started for the first time.",
        )
    return open_store(settings)


def _is_there(settings: ConsoleSettings) -> bool:
    """Whether a console has made its tables there. Changes nothing; raises as ``open_store``."""
    path = settings.sqlite_file
    try:
        if settings.is_sqlite and not path.stat().st_size:
            return False
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _cannot_be_opened(path, error) from error
    engine = _file(path) if settings.is_sqlite else _server(settings)
    try:
        with engine.connect() as connection:
            return schema.version_of(connection) > 0
    except SQLAlchemyError as error:
        raise _cannot_be_used(error) from error
    finally:
        engine.dispose()


def _server(settings: ConsoleSettings) -> Engine:
    """A PostgreSQL server, not asked yet."""
    try:
        url = make_url(settings.store.url)
    except (ArgumentError, ValueError):
        raise ConsoleConfigError(
            "store.url is no address of a database.",
            "It reads postgresql+psycopg://user@host:5432/database; the password belongs into "
            "the file that store.password_file names.",
        ) from None  # the cause would show the address, and what is secret in it
    if settings.store.password_file:
        url = url.set(password=_first_line(Path(settings.store.password_file)))
    return _engine(url)


def open_sqlite(path: Path) -> Store:
    """A store in a file that only its owner may read: it holds the engines' tokens."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _cannot_be_opened(path, error) from error
    return Store(_file(path))


def _file(path: Path) -> Engine:
    return _engine(URL.create("sqlite", database=str(path)))


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=10,
            pool_timeout=CONNECT_WITHIN_S,
            hide_parameters=True,
            connect_args=POSTGRESQL,
        )
    engine = create_engine(url, connect_args={"timeout": 10.0}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def _first_line(path: Path) -> str:
    try:
        return path.read_text("utf-8").splitlines()[0]
    except (OSError, IndexError) as error:
        raise ConsoleStoreError(
            f"The password file {path} of the store cannot be read, or is empty."
        ) from error


def _cannot_be_opened(path: Path, error: OSError) -> ConsoleStoreError:
    return ConsoleStoreError(
        f"The store {path} cannot be opened: {error.strerror}.",
        "Check the directory and who may write there ([paths] state_dir).",
    )


def _cannot_be_used(error: SQLAlchemyError) -> ConsoleStoreError:
    return ConsoleStoreError(
        f"The console's store cannot be used: {_reason(error)}.",
        "Check its disk (or the PostgreSQL server); pairs are not affected.",
    )


def _reason(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
