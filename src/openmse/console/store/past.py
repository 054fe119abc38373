"""Copies of the engines' events, and long actions with their steps."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from openmse.console.errors import NotFound
from openmse.console.store.schema import actions, events, fitting
from openmse.console.store.store import Store, now

EVENTS_MAX = 20_000
"""Events kept for each engine."""
FORGET_EVERY = 500
"""Events of an engine, before the oldest are counted again."""
SEVERITIES = ("info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of an engine's event log."""

    id: int = 0
    engine_id: int
    cursor: str
    at: str
    node: str
    kind: str
    severity: str
    sentence: str
    term: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events; '' and 0 mean any. ``before`` is an instant, for paging."""

    engine_ids: tuple[int, ...]
    severity: str = ""
    kind: str = ""
    text: str = ""
    since: str = ""
    before: str = ""
    limit: int = 50


SEEN = "seen"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an action: ``ms`` since its beginning, -1 where unknown. What was ``seen`` of a
    machine has its side as name, the new word as sentence, and the console's own clock."""

    machine: str
    name: str
    state: str
    """waiting, running, done, failed or seen"""
    ms: float = -1.0
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A long action."""

    id: str
    kind: str
    engine_id: int
    title: str
    who: str
    state: str
    """running, done, refused, failed or lost"""
    started_at: str
    ended_at: str = ""
    sentence: str = ""
    hint: str = ""
    steps: tuple[Step, ...] = field(default_factory=tuple)
    progress_percent: int = -1

    @property
    def told(self) -> tuple[Step, ...]:
        """The steps of the operation."""
        return tuple(step for step in self.steps if step.state != SEEN)

    @property
    def seen(self) -> dict[str, list[Step]]:
        """What each machine showed meanwhile."""
        found: dict[str, list[Step]] = {}
        for step in self.steps:
            if step.state == SEEN:
                found.setdefault(step.machine, []).append(step)
        return found


class Past:
    """The repository."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._added: dict[int, int] = {}
        """By engine: events added since the oldest were last forgotten."""

    def add_events(self, found: list[Event]) -> None:
        """Keep events (of any engines) that are not kept yet, in one transaction. Of each engine
        the oldest beyond ``EVENTS_MAX`` are forgotten, now and then."""
        if not found:
            return
        added = Counter(event.engine_id for event in found)
        with self._store.write() as c:
            kind = postgresql.insert if c.dialect.name == "postgresql" else sqlite.insert
            statement = kind(events).on_conflict_do_nothing(index_elements=["engine_id", "cursor"])
            c.execute(statement, [_row(event) for event in found])
            for engine_id, count in added.items():
                self._added[engine_id] = self._added.get(engine_id, FORGET_EVERY) + count
                if self._added[engine_id] >= FORGET_EVERY:
                    self._added[engine_id] = 0
                    self._forget_oldest(c, engine_id)

    @staticmethod
    def _forget_oldest(c: Connection, engine_id: int) -> None:
        of_engine = events.c.engine_id == engine_id
        count = c.scalar(select(func.count()).select_from(events).where(of_engine)) or 0
        if count > EVENTS_MAX:
            oldest = select(events.c.id).where(of_engine).order_by(events.c.at)
            ids = oldest.limit(int(count) - EVENTS_MAX)
            c.execute(delete(events).where(events.c.id.in_(ids)))

    def last_cursors(self, engine_id: int = 0) -> dict[int, str]:
        """The cursor of the newest event that is kept, by engine; 0: of all."""
        newest = select(func.max(events.c.id)).group_by(events.c.engine_id)
        if engine_id:
            newest = newest.where(events.c.engine_id == engine_id)
        query = select(events.c.engine_id, events.c.cursor).where(events.c.id.in_(newest))
        with self._store.read() as c:
            return {int(key): str(cursor) for key, cursor in c.execute(query)}

    def events(self, wanted: EventQuery) -> list[Event]:
        """The newest that match, newest first."""
        query = (
            _matching(wanted)
            .order_by(events.c.at.desc(), events.c.id.desc())
            .limit(min(max(wanted.limit, 1), 10_000))
        )
        with self._store.read() as c:
            return [Event(**row._mapping) for row in c.execute(query)]

    def event_kinds(self, engine_ids: tuple[int, ...]) -> list[str]:
        """All kinds that these engines have told."""
        query = (
            select(events.c.kind)
            .where(events.c.engine_id.in_(engine_ids))
            .distinct()
            .order_by(events.c.kind)
        )
        with self._store.read() as c:
            return [str(kind) for kind in c.scalars(query)]

    def keep_action(self, action: Action) -> None:
        """Add or replace an action."""
        values = {
            "id": action.id,
            "kind": action.kind,
            "engine_id": action.engine_id,
            "title": action.title,
            "who": action.who,
            "state": action.state,
            "started_at": action.started_at,
            "ended_at": action.ended_at,
            "sentence": action.sentence,
            "hint": action.hint,
            "progress_percent": action.progress_percent,
            "steps": json.dumps([_step_row(step) for step in action.steps]),
        }
        row = fitting(actions, values)
        with self._store.write() as c:
            changed = c.execute(update(actions).where(actions.c.id == action.id).values(**row))
            if not changed.rowcount:
                c.execute(insert(actions).values(**row))

    def forget_action(self, action_id: str) -> None:
        """Remove an action that was refused before it began."""
        with self._store.write() as c:
            c.execute(delete(actions).where(actions.c.id == action_id))

    def action(self, action_id: str) -> Action:
        """One action; raises NotFound."""
        with self._store.read() as c:
            row = c.execute(select(actions).where(actions.c.id == action_id)).first()
        if row is None:
            raise NotFound("There is no such action in this console.")
        return _action(row)

    def actions(self, engine_ids: tuple[int, ...], limit: int = 20) -> list[Action]:
        """The newest first."""
        query = (
            select(actions)
            .where(actions.c.engine_id.in_(engine_ids))
            .order_by(actions.c.started_at.desc())
            .limit(limit)
        )
        with self._store.read() as c:
            return [_action(row) for row in c.execute(query)]

    def running_actions(self) -> list[Action]:
        """Those that were under way when this console last ended."""
        with self._store.read() as c:
            query = select(actions).where(actions.c.state == "running")
            return [_action(row) for row in c.execute(query)]


def _matching(wanted: EventQuery) -> Select[Any]:
    conditions: list[ColumnElement[bool]] = [events.c.engine_id.in_(wanted.engine_ids)]
    if wanted.severity in SEVERITIES[1:]:
        at_least = SEVERITIES[SEVERITIES.index(wanted.severity) :]
        conditions.append(events.c.severity.in_(at_least))
    if wanted.kind:
        conditions.append(events.c.kind == wanted.kind)
    if wanted.text:
        conditions.append(events.c.sentence.ilike(f"%{wanted.text}%"))
    if wanted.since:
        conditions.append(events.c.at >= wanted.since)
    if wanted.before:
        conditions.append(events.c.at < wanted.before)
    return select(events).where(and_(*conditions))


def _row(event: Event) -> dict[str, Any]:
    names = ("engine_id", "cursor", "at", "node", "kind", "severity", "sentence", "term", "epoch")
    return fitting(events, {name: getattr(event, name) for name in names})


def _step_row(step: Step) -> dict[str, Any]:
    return {name: getattr(step, name) for name in Step.__dataclass_fields__}


def _action(row: Row[Any]) -> Action:
    values = dict(row._mapping)
    values["steps"] = tuple(Step(**step) for step in json.loads(values["steps"]))
    return Action(**values)


def new_action_id() -> str:
    """Sorts by time, cannot be guessed, reads well in a link."""
    import secrets

    return f"{now()[:19].replace('-', '').replace(':', '')}-{secrets.token_hex(4)}"
