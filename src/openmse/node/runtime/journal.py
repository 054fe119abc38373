"""The decision journal: every event and what the core made of it, so that an incident replays.

The core is deterministic, so a state and the events after it reproduce every decision. In quiet
times this keeps the last stretch in memory and forgets the one before: references only, nothing is
encoded, nothing written. When the core decides something, the stretch from its beginning and
everything for a while after it goes to disk, through the background thread. A file consists of
*segments*, each a full state (checkpoint) and all events after it without a gap. No secrets pass
through the core, so there are none here.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from openmse import __version__
from openmse.ha import effects as effect_kinds
from openmse.ha.effects import Effect
from openmse.ha.events import Event
from openmse.ha.state import Node
from openmse.ha.values import SECOND
from openmse.node.runtime.background import Background
from openmse.node.runtime.event_log import append, wall_now

FORMAT = 1
SUFFIX = ".journal.jsonl"
SEGMENT_ENTRIES = 1000
SEGMENT_NS = 20 * SECOND
AFTERMATH_NS = 10 * SECOND
"""How long everything is written after a decision."""
BATCH_ENTRIES = 100
MAX_FILE_BYTES = 4_000_000
KEPT_FILES = 16

QUIET = (effect_kinds.Send, effect_kinds.SetLease, effect_kinds.WantWatchdog)
"""Effects of the ordinary beat; any other is a decision worth keeping."""


class Head(Struct, frozen=True):
    """The first line of a segment. ``node`` is the core's state before the first event."""

    node: Node
    made_at: str
    software: str = __version__
    format: int = FORMAT


Pair = tuple[Event, tuple[Effect, ...]]


class Line(Struct, frozen=True, omit_defaults=True):
    """One line: a head, or an event (kind, value) with its effects."""

    head: Head | None = None
    e: tuple[str, Any] | None = None
    x: tuple[tuple[str, Any], ...] = ()


class Journal:
    """Records one process's decisions into ``directory``."""

    def __init__(self, directory: Path, background: Background) -> None:
        self._directory = directory
        self._background = background
        self._file: Path | None = None
        self._size = 0
        self._dropped = 0
        self._after: Node | None = None
        self._waiting: list[Head | Pair] = []
        """Not handed to the thread yet; begins with a head unless it continues what was."""
        self._previous: list[Head | Pair] = []
        """The stretch before it, so that a decision never stands without its history."""
        self._entries = 0
        self._segment_at = 0
        self._hot_until = 0

    @property
    def dropped(self) -> int:
        """Entries that could not be kept since this process started."""
        return self._dropped

    def record(self, before: Node, event: Event, after: Node, effects: tuple[Effect, ...]) -> None:
        """Take note of one step. Cheap: two references, unless there was a decision.

        A step whose ``before`` is not the last one's ``after`` begins a new segment.
        """
        is_full = self._entries >= SEGMENT_ENTRIES or event.at - self._segment_at > SEGMENT_NS
        if before is not self._after or is_full:
            self._begin(before, event)
        self._after = after
        self._entries += 1
        self._waiting.append((event, effects))
        is_decision = any(not isinstance(effect, QUIET) for effect in effects)
        if is_decision:
            self._hot_until = event.at + AFTERMATH_NS
        is_hot = event.at < self._hot_until
        if is_decision or (is_hot and len(self._waiting) >= BATCH_ENTRIES):
            self._hand_over()

    def flush(self) -> None:
        """Hand everything in memory to the thread."""
        self._hand_over()

    def _begin(self, before: Node, event: Event) -> None:
        if event.at < self._hot_until:
            self._hand_over()
        self._previous = self._waiting
        self._waiting = [Head(before, wall_now())]
        self._entries = 0
        self._segment_at = event.at

    def _hand_over(self) -> None:
        items = self._previous + self._waiting
        self._previous, self._waiting = [], []
        if items and not self._background.put(lambda: self._write(items)):
            self._lose(items)

    def _lose(self, items: Sequence[Head | Pair]) -> None:
        """A gap: the next step begins a new segment."""
        self._dropped += sum(not isinstance(item, Head) for item in items)
        self._after = None

    def _write(self, items: Sequence[Head | Pair]) -> None:
        """In the thread. A batch that cannot be written is lost as a whole, and so is what follows
        it in its segment."""
        if self._file is None and not isinstance(items[0], Head):
            self._lose(items)
            return
        data = b"".join(_line(item) for item in items)
        try:
            if self._file is None or (self._size > MAX_FILE_BYTES and isinstance(items[0], Head)):
                self._next_file()
            assert self._file is not None
            append(self._file, data)
            self._size += len(data)
        except OSError:
            self._file = None
            self._lose(items)

    def _next_file(self) -> None:
        self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        old = files(self._directory)
        number = _number(old[-1]) + 1 if old else 1
        self._file, self._size = self._directory / f"{number:08d}{SUFFIX}", 0
        for path in old[: max(0, len(old) - KEPT_FILES + 1)]:
            with suppress(OSError):
                path.unlink()


_encoder = msgspec.json.Encoder()


def _line(item: Head | Pair) -> bytes:
    if isinstance(item, Head):
        return _encoder.encode(Line(head=item)) + b"\n"
    event, effects = item
    named = tuple((type(effect).__name__, effect) for effect in effects)
    return _encoder.encode(Line(e=(type(event).__name__, event), x=named)) + b"\n"


def files(directory: Path) -> list[Path]:
    """The journal's files, oldest first."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def _number(path: Path) -> int:
    digits = path.name.removesuffix(SUFFIX)
    return int(digits) if digits.isdigit() else 0
