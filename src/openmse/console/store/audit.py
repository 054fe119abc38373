"""The audit in the store: who did what, from where, and what came of it. Append-only."""

from dataclasses import dataclass

from sqlalchemy import insert, or_, select

from openmse.console.store.schema import audit, fitting
from openmse.console.store.store import Store, now

DETAIL_MAX = 4000
"""Characters: what is kept for ever may not be of any length, whoever said it."""
ID_MAX = 2**63 - 1
"""The greatest that a database counts to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One line of it."""

    id: int
    at: str
    who: str
    role: str
    address: str
    action: str
    target: str
    outcome: str
    """begun, done, refused, failed or lost"""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """What is looked for; '' means any. ``before``: an id, for paging."""

    who: str = ""
    action: str = ""
    text: str = ""
    before: int = 0
    limit: int = 50


class Audit:
    """The repository: it can add and read, nothing else."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, **values: str) -> None:
        """Keep an entry; the columns but ``id`` and ``at``."""
        row = {"role": "", "address": "", "target": "", "outcome": "done", "detail": "", **values}
        row["detail"] = row["detail"][:DETAIL_MAX]
        with self._store.write() as c:
            c.execute(insert(audit).values(at=now(), **fitting(audit, row)))

    def find(self, wanted: AuditQuery) -> list[AuditEntry]:
        """The newest entries that match."""
        query = select(audit).order_by(audit.c.id.desc()).limit(min(max(wanted.limit, 1), 5000))
        if wanted.who:
            query = query.where(audit.c.who == wanted.who)
        if wanted.action:
            query = query.where(audit.c.action == wanted.action)
        if wanted.before:
            query = query.where(audit.c.id < min(wanted.before, ID_MAX))
        if wanted.text:
            part = f"%{wanted.text}%"
            query = query.where(
                or_(audit.c.target.like(part), audit.c.detail.like(part), audit.c.who.like(part))
            )
        with self._store.read() as c:
            return [AuditEntry(**row._mapping) for row in c.execute(query)]

    def actions(self) -> list[str]:
        """All kinds of actions that were ever recorded."""
        with self._store.read() as c:
            query = select(audit.c.action).distinct().order_by(audit.c.action)
            return [str(action) for action in c.scalars(query)]
