"""All engines: a feed for each, started and stopped as engines come and go."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from openmse.console.errors import NotFound
from openmse.console.live.feed import NEW_EVENTS_MAX, EngineFeed
from openmse.console.live.state import EngineLive, Reach
from openmse.console.nodes.models import LogEntry
from openmse.console.store.engines import Engine, Engines
from openmse.console.store.past import Event, EventQuery, Past
from openmse.errors import MseError

CONNECT_AT_ONCE = 8
FULL_VIEW_UP_TO = 40
"""With more engines than this, only those that somebody looks at send their full picture."""
WATCH_LINGER_S = 30.0
LATEST = 8
"""As many events are kept at hand of each engine, for pages that show them live."""


@dataclass(slots=True)
class _Running:
    feed: EngineFeed
    task: asyncio.Task[None]


class Fleet:
    """The living picture of everything that this console manages."""

    def __init__(self, engines: Engines, past: Past, on_change: Callable[[], None]) -> None:
        self._engines = engines
        self._past = past
        self._on_change = on_change
        self._running: dict[int, _Running] = {}
        self._slots = asyncio.Semaphore(CONNECT_AT_ONCE)
        self._watched_until_s: dict[int, float] = {}
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin with what the store knows."""
        cursors = await asyncio.to_thread(self._past.last_cursors)
        for engine in await asyncio.to_thread(self._engines.all):
            self.take(engine, cursors.get(engine.id, ""))
        self._keeper = asyncio.create_task(self._keep_events(), name="keep events")

    async def stop(self) -> None:
        """Hang up everywhere."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        for engine_id in list(self._running):
            await self.drop(engine_id)

    def take(self, engine: Engine, cursor: str = "") -> None:
        """Begin to listen to an engine; ``cursor``: of its newest event that is kept here."""
        live = EngineLive(engine=engine, since_s=time.monotonic())
        feed = EngineFeed(
            live,
            view=lambda: self._view(engine.id),
            slots=self._slots,
            on_change=self._on_change,
            cursor=cursor,
        )
        task = asyncio.create_task(feed.run(), name=f"feed of {engine.name}")
        self._running[engine.id] = _Running(feed, task)
        self._on_change()

    async def drop(self, engine_id: int) -> None:
        """Listen to an engine no more."""
        running = self._running.pop(engine_id, None)
        self._watched_until_s.pop(engine_id, None)
        if running is None:
            return
        running.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await running.task
        await running.feed.client.close()
        self._on_change()

    async def renew(self, engine_id: int) -> None:
        """An engine was edited: connect anew."""
        await self.drop(engine_id)
        cursor = (await asyncio.to_thread(self._past.last_cursors, engine_id)).get(engine_id, "")
        self.take(await asyncio.to_thread(self._engines.get, engine_id), cursor)

    def all(self) -> list[EngineLive]:
        """Every engine, by name."""
        lives = [running.feed.live for running in list(self._running.values())]
        return sorted(lives, key=lambda live: live.engine.name)

    def get(self, engine_id: int) -> EngineLive:
        """One engine; raises NotFound."""
        return self.feed(engine_id).live

    def feed(self, engine_id: int) -> EngineFeed:
        """One engine's feed, with its client; raises NotFound."""
        running = self._running.get(engine_id)
        if running is None:
            raise NotFound("There is no such engine in this console.")
        return running.feed

    def watch(self, engine_id: int) -> None:
        """Somebody looks at this engine: have it send its full picture for a while."""
        if engine_id in self._running:  # a page may name any
            self._watched_until_s[engine_id] = time.monotonic() + WATCH_LINGER_S

    def dead_feeds(self) -> list[str]:
        """Feeds that ended by a mistake of ours; for tests and the health page."""
        return [r.feed.live.engine.name for r in self._running.values() if r.task.done()]

    def _watched(self) -> tuple[int, ...]:
        now_s = time.monotonic()
        return tuple(one for one, until_s in self._watched_until_s.items() if now_s < until_s)

    def _view(self, engine_id: int) -> str:
        if len(self._running) <= FULL_VIEW_UP_TO:
            return "full"
        until_s = self._watched_until_s.get(engine_id, 0.0)
        return "full" if time.monotonic() < until_s else "summary"

    async def _keep_events(self) -> None:
        """Write what the engines told to the store, once a second, off the loop: all at once."""
        looked_at: dict[int, int] = {}
        while True:
            await asyncio.sleep(1.0)
            lives = [running.feed.live for running in list(self._running.values())]
            with contextlib.suppress(MseError):  # told on the health page; tried again
                await self._keep_log(lives)
                await self.read_latest(self._watched())
                changed = [live for live in lives if looked_at.get(live.engine.id) != live.version]
                await self._keep_facts(changed)
                looked_at = {live.engine.id: live.version for live in lives}

    async def _keep_log(self, lives: list[EngineLive]) -> None:
        found = [(live, live.new_events) for live in lives if live.new_events]
        if not found:
            return
        for live, _ in found:
            live.new_events = []
        events = [_event(live.engine.id, entry) for live, log in found for entry in log]
        try:
            await asyncio.to_thread(self._past.add_events, events)
        except MseError:
            for live, log in found:  # not lost: the next second may work
                live.new_events = (log + live.new_events)[-NEW_EVENTS_MAX:]
            raise
        for live, log in found:
            if live.latest is not None:
                new = [_event(live.engine.id, entry) for entry in log[-LATEST:]]
                live.latest = newest([*live.latest, *new])
                live.version += 1

    async def read_latest(self, engine_ids: tuple[int, ...]) -> None:
        """Somebody looks: have the newest events of these engines at hand, from now on."""
        for engine_id in engine_ids:
            running = self._running.get(engine_id)
            if running is not None and running.feed.live.latest is None:
                live = running.feed.live
                query = EventQuery(engine_ids=(live.engine.id,), limit=LATEST)
                live.latest = await asyncio.to_thread(self._past.events, query)
                live.version += 1

    async def _keep_facts(self, lives: list[EngineLive]) -> None:
        """What the list shows of an engine that is silent, where it has changed."""
        changes: dict[int, dict[str, str]] = {}
        for live in lives:
            facts = _facts(live)
            if facts and facts != _kept(live.engine):
                changes[live.engine.id] = dict(zip(FACTS, facts, strict=True))
        if not changes:
            return
        await asyncio.to_thread(self._engines.change_all, changes)
        for live in lives:
            if live.engine.id in changes:
                live.engine = replace(live.engine, **changes[live.engine.id])  # type: ignore[arg-type]
                live.version += 1


FACTS = ("version", "role", "udi", "device_type", "group_key")


def newest(events: list[Event]) -> list[Event]:
    """As many as are shown, newest first, each once. Pure."""
    each = {(event.engine_id, event.cursor): event for event in events}.values()
    return sorted(each, key=lambda event: event.at, reverse=True)[:LATEST]


def _kept(engine: Engine) -> tuple[str, ...]:
    return (engine.version, engine.role, engine.udi, engine.device_type, engine.group_key)


def _facts(live: EngineLive) -> tuple[str, ...]:
    """What the list shows of an engine even while it is silent; () while it is not known."""
    info, summary = live.info, live.summary
    if live.reach is not Reach.UP or info is None or summary is None or not summary.is_monitor_up:
        return ()
    platform = (info.udi or live.engine.udi, info.device_type or live.engine.device_type)
    return (info.version, info.role, *platform, group_key(live))


def group_key(live: EngineLive) -> str:
    """The same for both engines of a pair; '' while unpaired or unknown."""
    info, summary = live.info, live.summary
    if info is None or summary is None or not summary.peer:
        return ""
    here = f"{info.node}@{info.health_monitor_address}"
    return "|".join(sorted((here, f"{summary.peer}@{summary.peer_address or ''}")))


def _event(engine_id: int, entry: LogEntry) -> Event:
    return Event(
        engine_id=engine_id,
        cursor=entry.cursor,
        at=entry.at,
        node=entry.node,
        kind=entry.kind,
        severity=entry.severity,
        sentence=entry.sentence,
        term=entry.term,
        epoch=entry.epoch,
    )
