"""The engines that this console manages, half-filled wizards, and their synchronizations."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Update, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from openmse.console.errors import Conflict, ConsoleStoreError, NotFound
from openmse.console.store.schema import actions, drafts, engines, events, fitting, syncs
from openmse.console.store.store import Store, now

SENTENCE_MAX = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine as it was added; what it does at the moment is the live picture's matter."""

    id: int
    name: str
    address: str
    port: int
    contact: str
    certificate: bytes
    """The pinned one, DER."""
    fingerprint: str
    token: str
    """The console's own token at this engine; never shown."""
    node: str
    udi: str
    device_type: str
    version: str
    role: str
    group_key: str
    """Engines of one pair share it; '' while unpaired."""
    added_at: str
    added_by: str

    @property
    def is_primary(self) -> bool:
        """By configuration."""
        return self.role != "secondary"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncEntry:
    """One line of the synchronization history."""

    at: str
    what: str
    outcome: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A half-filled wizard."""

    id: str
    user_name: str
    kind: str
    data: dict[str, Any]


class Engines:
    """The repository."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self) -> list[Engine]:
        """Every engine, by name."""
        with self._store.read() as c:
            return [_engine(row) for row in c.execute(select(engines).order_by(engines.c.name))]

    def get(self, engine_id: int) -> Engine:
        """One engine; raises NotFound."""
        with self._store.read() as c:
            row = c.execute(select(engines).where(engines.c.id == engine_id)).first()
        if row is None:
            raise NotFound(
                "There is no such engine in this console.",
                "It may have been deleted: see the list.",
            )
        return _engine(row)

    def add(self, **values: Any) -> int:
        """A new engine; its id. Raises Conflict where the name is taken."""
        try:
            with self._store.write() as c:
                done = c.execute(insert(engines).values(added_at=now(), **fitting(engines, values)))
                key = done.inserted_primary_key
                assert key is not None
                return int(key[0])
        except ConsoleStoreError as error:
            if isinstance(error.__cause__, IntegrityError):
                raise Conflict(
                    f"An engine '{values['name']}' is here already; nothing was changed.",
                    "Choose another device name, or delete the other engine first.",
                ) from error
            raise

    def change(self, engine_id: int, **values: Any) -> None:
        """Change columns of an engine."""
        try:
            with self._store.write() as c:
                c.execute(_changed(engine_id, values))
        except ConsoleStoreError as error:
            if isinstance(error.__cause__, IntegrityError):
                raise Conflict("Another engine has this name; nothing was changed.") from error
            raise

    def change_all(self, changes: Mapping[int, Mapping[str, str]]) -> None:
        """Change columns of several engines (id -> column -> value), in one transaction."""
        with self._store.write() as c:
            for engine_id, values in changes.items():
                c.execute(_changed(engine_id, values))

    def remove(self, engine_id: int) -> None:
        """Forget an engine and what was copied from it; the audit stays."""
        with self._store.write() as c:
            c.execute(delete(engines).where(engines.c.id == engine_id))
            for table in (events, syncs, actions):
                c.execute(delete(table).where(table.c.engine_id == engine_id))

    def note_sync(self, engine_id: int, what: str, outcome: str, sentence: str) -> None:
        """Add to the synchronization history; the oldest beyond 500 are forgotten."""
        with self._store.write() as c:
            row = {"what": what, "outcome": outcome, "sentence": sentence[:SENTENCE_MAX]}
            c.execute(insert(syncs).values(engine_id=engine_id, at=now(), **fitting(syncs, row)))
            last = c.scalar(
                select(syncs.c.id)
                .where(syncs.c.engine_id == engine_id)
                .order_by(syncs.c.id.desc())
                .offset(500)
                .limit(1)
            )
            if last is not None:
                c.execute(delete(syncs).where(syncs.c.engine_id == engine_id, syncs.c.id <= last))

    def sync_history(self, engine_id: int, limit: int = 50) -> list[SyncEntry]:
        """The newest first."""
        query = (
            select(syncs.c.at, syncs.c.what, syncs.c.outcome, syncs.c.sentence)
            .where(syncs.c.engine_id == engine_id)
            .order_by(syncs.c.id.desc())
            .limit(limit)
        )
        with self._store.read() as c:
            return [SyncEntry(**row._mapping) for row in c.execute(query)]

    def new_draft(self, user_name: str, kind: str, data: dict[str, Any]) -> str:
        """Begin a wizard; the draft's id. Drafts that nobody touched for a week are forgotten."""
        draft_id = secrets.token_hex(8)
        with self._store.write() as c:
            c.execute(delete(drafts).where(drafts.c.changed_at < now(-7 * 86400)))
            c.execute(
                insert(drafts).values(
                    id=draft_id,
                    user_name=user_name,
                    kind=kind,
                    data=json.dumps(data),
                    changed_at=now(),
                )
            )
        return draft_id

    def draft(self, draft_id: str, user_name: str, kind: str) -> Draft:
        """Somebody's own draft; raises NotFound."""
        query = select(drafts).where(
            drafts.c.id == draft_id, drafts.c.user_name == user_name, drafts.c.kind == kind
        )
        with self._store.read() as c:
            row = c.execute(query).first()
        if row is None:
            raise NotFound(
                "This form is not kept any more: it was finished, or not touched for a week.",
                "Begin again.",
            )
        return Draft(id=row.id, user_name=row.user_name, kind=kind, data=json.loads(row.data))

    def keep_draft(self, draft: Draft, **data: Any) -> Draft:
        """Merge into a draft."""
        merged = {**draft.data, **data}
        with self._store.write() as c:
            c.execute(
                update(drafts)
                .where(drafts.c.id == draft.id)
                .values(data=json.dumps(merged), changed_at=now())
            )
        return Draft(id=draft.id, user_name=draft.user_name, kind=draft.kind, data=merged)

    def drop_draft(self, draft_id: str) -> None:
        """The wizard is finished."""
        with self._store.write() as c:
            c.execute(delete(drafts).where(drafts.c.id == draft_id))


def _changed(engine_id: int, values: Mapping[str, Any]) -> Update:
    return update(engines).where(engines.c.id == engine_id).values(**fitting(engines, values))


def _engine(row: Row[Any]) -> Engine:
    return Engine(**row._mapping)
