"""Users, sessions and tokens in the store."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from openmse.console.errors import Conflict, ConsoleStoreError, NotFound
from openmse.console.people.roles import Principal, Role
from openmse.console.people.secrets import digest
from openmse.console.store.schema import sessions, tokens, users
from openmse.console.store.store import Store, now


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person who may log in."""

    id: int
    name: str
    password_hash: str
    role: Role
    language: str
    theme: str
    is_disabled: bool
    created_at: str
    seen_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A program's access; its secret is shown once and kept as a hash."""

    id: int
    name: str
    role: Role
    user_id: int
    owner: str
    created_at: str
    expires_at: str
    used_at: str


class People:
    """The repository."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def count(self) -> int:
        """How many users there are."""
        with self._store.read() as c:
            return int(c.scalar(select(func.count()).select_from(users)) or 0)

    def all(self) -> list[User]:
        """Everybody, by name."""
        with self._store.read() as c:
            return [_user(row) for row in c.execute(select(users).order_by(users.c.name))]

    def find(self, name: str) -> User | None:
        """The user of that name."""
        with self._store.read() as c:
            row = c.execute(select(users).where(users.c.name == name)).first()
            return _user(row) if row else None

    def add(self, name: str, password_hash: str, role: Role) -> None:
        """A new user; raises Conflict where the name is taken."""
        if self.find(name):
            raise Conflict(f"There is a user '{name}' already; nothing was changed.")
        try:
            with self._store.write() as c:
                c.execute(
                    insert(users).values(
                        name=name,
                        password_hash=password_hash,
                        role=role.value,
                        created_at=now(),
                    )
                )
        except ConsoleStoreError as error:
            if isinstance(error.__cause__, IntegrityError):
                raise Conflict(f"There is a user '{name}' already.") from error
            raise

    def change(self, name: str, **values: Any) -> None:
        """Change columns of a user; the last administrator can neither be lowered nor disabled."""
        with self._store.write() as c:
            if "role" in values or "is_disabled" in values:
                _hold_administrators(c)
            done = c.execute(update(users).where(users.c.name == name).values(**values))
            if done.rowcount != 1:
                raise NotFound(f"There is no user '{name}'.")
            _keep_an_administrator(c)
            if values.get("is_disabled") or "password_hash" in values:
                row = c.scalar(select(users.c.id).where(users.c.name == name))
                c.execute(delete(sessions).where(sessions.c.user_id == row))

    def remove(self, name: str) -> None:
        """Remove a user with sessions and tokens; never the last administrator."""
        with self._store.write() as c:
            _hold_administrators(c)
            if c.execute(delete(users).where(users.c.name == name)).rowcount != 1:
                raise NotFound(f"There is no user '{name}'.")
            _keep_an_administrator(c)

    def begin_session(self, user: User, secret: str, csrf: str, address: str) -> None:
        """Keep a new session."""
        with self._store.write() as c:
            c.execute(
                insert(sessions).values(
                    hash=digest(secret),
                    user_id=user.id,
                    csrf=csrf,
                    created_at=now(),
                    used_at=now(),
                    address=address,
                )
            )
            c.execute(update(users).where(users.c.id == user.id).values(seen_at=now()))

    def session(self, session_hash: str, used_since: str, made_since: str) -> Principal | None:
        """Who a session belongs to, if it is neither idle for too long nor too old."""
        query = (
            select(users, sessions.c.csrf)
            .join(sessions, sessions.c.user_id == users.c.id)
            .where(
                sessions.c.hash == session_hash,
                sessions.c.used_at >= used_since,
                sessions.c.created_at >= made_since,
                users.c.is_disabled.is_(False),
            )
        )
        with self._store.read() as c:
            row = c.execute(query).first()
        if row is None:
            return None
        user = _user(row)
        return Principal(
            user_id=user.id,
            name=user.name,
            role=user.role,
            kind="user",
            language=user.language,
            theme=user.theme,
            csrf=row.csrf,
            session=session_hash,
        )

    def touch(self, session_hash: str) -> None:
        """A session was used by a person."""
        with self._store.write() as c:
            c.execute(update(sessions).where(sessions.c.hash == session_hash).values(used_at=now()))

    def end_session(self, session_hash: str) -> None:
        """Log out."""
        with self._store.write() as c:
            c.execute(delete(sessions).where(sessions.c.hash == session_hash))

    def forget_sessions(self, used_before: str) -> None:
        """Remove sessions that have ended by themselves."""
        with self._store.write() as c:
            c.execute(delete(sessions).where(sessions.c.used_at < used_before))

    def tokens(self) -> list[Token]:
        """All tokens, the newest first."""
        query = (
            select(tokens, users.c.name.label("owner"))
            .join(users, users.c.id == tokens.c.user_id)
            .order_by(tokens.c.id.desc())
        )
        with self._store.read() as c:
            return [_token(row) for row in c.execute(query)]

    def add_token(self, secret: str, name: str, role: Role, user_id: int, expires_at: str) -> int:
        """Keep a token's hash; its id."""
        with self._store.write() as c:
            done = c.execute(
                insert(tokens).values(
                    hash=digest(secret),
                    name=name,
                    role=role.value,
                    user_id=user_id,
                    created_at=now(),
                    expires_at=expires_at,
                )
            )
            key = done.inserted_primary_key
            assert key is not None
            return int(key[0])

    def remove_token(self, token_id: int) -> str:
        """End a token; its name."""
        with self._store.write() as c:
            name = c.scalar(select(tokens.c.name).where(tokens.c.id == token_id))
            if name is None:
                raise NotFound("There is no such token.")
            c.execute(delete(tokens).where(tokens.c.id == token_id))
            return str(name)

    def by_token(self, secret: str) -> Principal | None:
        """Who a token belongs to: never more than its owner may at this moment."""
        query = (
            select(tokens, users.c.role.label("owner_role"), users.c.name.label("owner"))
            .join(users, users.c.id == tokens.c.user_id)
            .where(tokens.c.hash == digest(secret), users.c.is_disabled.is_(False))
        )
        with self._store.write() as c:
            row = c.execute(query).first()
            if row is None or (row.expires_at and row.expires_at < now()):
                return None
            if row.used_at < now(-60):
                c.execute(update(tokens).where(tokens.c.id == row.id).values(used_at=now()))
        role = min(Role(row.role), Role(row.owner_role), key=lambda role: role.rank)
        return Principal(
            user_id=row.user_id,
            name=row.name,
            role=role,
            kind="token",
            owner=row.owner,
            ends_at=row.expires_at,
        )


def _hold_administrators(c: Connection) -> None:
    """Let nobody else change who is one until this is through: two that lower each other at the
    same moment would leave none (SQLite has one writer anyway)."""
    mine = select(users.c.id).where(users.c.role == Role.ADMINISTRATOR.value)
    c.execute(mine.order_by(users.c.id).with_for_update())


def _keep_an_administrator(c: Connection) -> None:
    query = (
        select(func.count())
        .select_from(users)
        .where(users.c.role == Role.ADMINISTRATOR.value, users.c.is_disabled.is_(False))
    )
    if not c.scalar(query):
        raise Conflict(
            "This is the last administrator who can log in; nothing was changed.",
            "Make another administrator first.",
        )


def _user(row: Row[Any]) -> User:
    return User(
        id=row.id,
        name=row.name,
        password_hash=row.password_hash,
        role=Role(row.role),
        language=row.language,
        theme=row.theme,
        is_disabled=row.is_disabled,
        created_at=row.created_at,
        seen_at=row.seen_at,
    )


def _token(row: Row[Any]) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        user_id=row.user_id,
        owner=row.owner,
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
    )
