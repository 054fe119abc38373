"""Fan-out: each topic is rendered once a tick and language; pages get only what has changed.

A topic is ``kind:argument``. Its renderer gives cells (id -> markup); a page that connects gets
all of them, from then on those that differ. Slow readers are dropped: they connect again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from openmse.console.errors import ConsoleError
from openmse.errors import MseError

QUEUE_MAX = 64
STREAMS_MAX = 400
OWN_STREAMS_MAX = 40
"""Of one person: all tabs of a browser share one, so nobody needs as many, and nobody takes all."""
TOPICS_MAX = 64
TICK_S = 1.0
SPACING_S = 0.2
_LOG = logging.getLogger("openmse.console")

Renderer = Callable[[str, str], Mapping[str, str]]
"""(argument, language) -> cells."""


class TooManyStreams(ConsoleError):
    """More pages are open than this console serves."""

    code = "MSE-CON-040"
    status = HTTPStatus.SERVICE_UNAVAILABLE


@dataclass(slots=True, eq=False)
class Subscriber:
    """One browser: its topics, and what waits to be sent."""

    topics: tuple[str, ...]
    language: str
    who: str
    queue: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(QUEUE_MAX))
    is_dropped: bool = False


class Hub:
    """All open streams."""

    def __init__(self, renderers: Mapping[str, Renderer]) -> None:
        self._renderers = renderers
        self._subscribers: set[Subscriber] = set()
        self._last: dict[tuple[str, str], Mapping[str, str]] = {}
        self._wake = asyncio.Event()
        self._told: set[tuple[str, type[Exception]]] = set()
        """What was impossible to render, so that the log has each once."""

    def changed(self) -> None:
        """Something that pages show has changed."""
        self._wake.set()

    @property
    def topics(self) -> set[str]:
        """Everything that somebody looks at."""
        return {topic for s in self._subscribers for topic in s.topics}

    @property
    def streams(self) -> int:
        """How many browsers are connected."""
        return len(self._subscribers)

    def close(self) -> None:
        """End all streams: the process is to stop."""
        for subscriber in list(self._subscribers):
            self._drop(subscriber)

    async def run(self) -> None:
        """Tick until cancelled: each second, and soon after a change."""
        beat_s = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            self._wake.clear()
            is_beat = time.monotonic() - beat_s >= TICK_S * 0.95
            if is_beat:
                beat_s = time.monotonic()
            self.tick(is_beat=is_beat)
            await asyncio.sleep(SPACING_S)

    def tick(self, *, is_beat: bool = True) -> None:
        """Render what is looked at, send what has changed."""
        frames: dict[tuple[str, str], bytes] = {}
        for key in {(t, s.language) for s in self._subscribers for t in s.topics}:
            cells = self._render(*key)
            before = self._last.get(key, {})
            changed = {cell: html for cell, html in cells.items() if before.get(cell) != html}
            self._last[key] = cells
            if changed:
                frames[key] = frame(key[0], changed)
        wanted = {(t, s.language) for s in self._subscribers for t in s.topics}
        self._last = {key: cells for key, cells in self._last.items() if key in wanted}
        beat = b'event: tick\ndata: {"at": %d}\n\n' % (time.time_ns() // 1_000_000)
        for subscriber in list(self._subscribers):
            found = [
                frames[(t, subscriber.language)]
                for t in subscriber.topics
                if (t, subscriber.language) in frames
            ]
            if is_beat:
                found.append(beat)
            if found:
                self._put(subscriber, b"".join(found))

    def require_room(self, who: str) -> None:
        """Raise TooManyStreams where there is no room for another stream, or for this person."""
        if len(self._subscribers) >= STREAMS_MAX:
            raise TooManyStreams(
                f"This console serves {STREAMS_MAX} live pages, and all are taken.",
                "Close a page that nobody looks at.",
            )
        if sum(1 for one in self._subscribers if one.who == who) >= OWN_STREAMS_MAX:
            raise TooManyStreams(
                f"One person has {OWN_STREAMS_MAX} live pages at most, and they are open.",
                "Close a page that nobody looks at.",
            )

    async def stream(
        self, topics: tuple[str, ...], language: str, who: str
    ) -> AsyncGenerator[bytes, None]:
        """What one browser of a person is sent; ends when it is too slow."""
        subscriber = self._subscribe(topics, language, who)
        try:
            while not subscriber.is_dropped:
                data = await subscriber.queue.get()
                if data:
                    yield data
        finally:
            self._subscribers.discard(subscriber)

    def _subscribe(self, topics: tuple[str, ...], language: str, who: str) -> Subscriber:
        self.require_room(who)
        known = tuple(t for t in topics[:TOPICS_MAX] if t.partition(":")[0] in self._renderers)
        subscriber = Subscriber(known, language, who)
        first = [frame(t, self._render(t, language)) for t in known]
        beat = b'event: tick\ndata: {"at": %d}\n\n' % (time.time_ns() // 1_000_000)
        self._put(subscriber, b"retry: 1000\n\n" + b"".join(first) + beat)
        self._subscribers.add(subscriber)
        return subscriber

    def _render(self, topic: str, language: str) -> Mapping[str, str]:
        kind, _, argument = topic.partition(":")
        try:
            return self._renderers[kind](argument, language)
        except MseError:
            return {}  # what it was about has been deleted; its page says so when it is loaded
        except Exception as error:  # of one topic: every other page goes on
            if (kind, type(error)) not in self._told:
                self._told.add((kind, type(error)))
                _LOG.exception("a page of the kind %s cannot be kept up to date", kind)
            return {}

    def _put(self, subscriber: Subscriber, data: bytes) -> None:
        try:
            subscriber.queue.put_nowait(data)
        except asyncio.QueueFull:
            self._drop(subscriber)

    def _drop(self, subscriber: Subscriber) -> None:
        subscriber.is_dropped = True
        self._subscribers.discard(subscriber)
        while not subscriber.queue.empty():
            subscriber.queue.get_nowait()
        subscriber.queue.put_nowait(b"")  # wakes its generator, which ends


def frame(topic: str, cells: Mapping[str, str]) -> bytes:
    """Cells as one server-sent event of out-of-band fragments (or data, for charts)."""
    if "json" in cells:
        body = cells["json"]
    else:
        body = "".join(
            f'<div id="{cell}" hx-swap-oob="innerHTML">{html}</div>' for cell, html in cells.items()
        )
    lines = "\n".join(f"data: {line}" for line in body.splitlines() or [""])
    return f"event: {topic}\n{lines}\n\n".encode()
