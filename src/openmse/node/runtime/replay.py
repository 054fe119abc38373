"""Replays a decision journal through the production core, and says where it decides otherwise."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct

from openmse.errors import StateError
from openmse.ha.effects import Effect
from openmse.ha.events import Event
from openmse.ha.state import Node
from openmse.node.runtime.journal import FORMAT, Head

Step = Callable[[Node, Event], tuple[Node, tuple[Effect, ...]]]

_EVENTS: dict[str, type] = {kind.__name__: kind for kind in get_args(Event)}
_EFFECTS: dict[str, type] = {kind.__name__: kind for kind in get_args(Effect)}


class Entry(Struct, frozen=True):
    """One step as it was recorded, with where it stands."""

    line: int
    segment: int
    before: Node | None
    """The state, at the first entry of a segment."""
    software: str
    event: Event
    effects: tuple[Effect, ...]


class Difference(Struct, frozen=True):
    """A step that the present core answers with other effects."""

    line: int
    event: str
    recorded: tuple[str, ...]
    replayed: tuple[str, ...]


class Replayed(Struct, frozen=True):
    """What became of a replay; ``damaged``: lines that could not be read."""

    file: str
    segments: int
    steps: int
    damaged: int
    differences: tuple[Difference, ...]


class _RawLine(Struct, frozen=True):
    head: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Not ``Raw | None``, which msgspec reads as null only."""
    e: tuple[str, msgspec.Raw] | None = None
    x: tuple[tuple[str, msgspec.Raw], ...] = ()


def replay(path: Path, step: Step) -> Replayed:
    """Run every segment of a file through ``step``; raises StateError where it cannot be read."""
    reader = Reader(path)
    differences: list[Difference] = []
    node: Node | None = None
    steps = segments = 0
    for entry in reader:
        if entry.before is not None:
            node, segments = entry.before, segments + 1
        assert node is not None
        node, effects = step(node, entry.event)
        steps += 1
        if effects != entry.effects:
            differences.append(
                Difference(entry.line, repr(entry.event), _shown(entry.effects), _shown(effects))
            )
    return Replayed(path.name, segments, steps, reader.damaged, tuple(differences))


def _shown(effects: tuple[Effect, ...]) -> tuple[str, ...]:
    return tuple(repr(effect) for effect in effects)


class Reader:
    """Yields the steps of a journal file. A line that cannot be read ends its segment."""

    def __init__(self, path: Path) -> None:
        try:
            self._lines = path.read_bytes().splitlines()
        except OSError as error:
            raise StateError(
                f"The journal {path} cannot be read: {error.strerror}.", "Run it as root."
            ) from error
        self.damaged = 0

    def __iter__(self) -> Iterator[Entry]:
        head: Head | None = None
        is_first, segment = False, 0
        for number, data in enumerate(self._lines, 1):
            try:
                value = _read(data)
            except (msgspec.MsgspecError, LookupError, ValueError):
                self.damaged += 1
                head = None
                continue
            if isinstance(value, Head):
                head, is_first, segment = value, True, segment + 1
            elif head is not None:
                before = head.node if is_first else None
                is_first = False
                yield Entry(number, segment, before, head.software, *value)


def _read(data: bytes) -> Head | tuple[Any, tuple[Any, ...]]:
    raw = msgspec.json.decode(data, type=_RawLine)
    if raw.head is not msgspec.UNSET:
        head = msgspec.json.decode(raw.head, type=Head)
        if head.format != FORMAT:
            raise ValueError("another format")
        return head
    if raw.e is None:
        raise ValueError("neither a head nor an event")
    event: Any = msgspec.json.decode(raw.e[1], type=_EVENTS[raw.e[0]])
    effects: tuple[Any, ...] = tuple(
        msgspec.json.decode(data, type=_EFFECTS[kind]) for kind, data in raw.x
    )
    return event, effects
