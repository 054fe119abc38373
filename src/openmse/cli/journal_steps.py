"""The steps of a journal file as ``mse ha journal show`` and the management API give them."""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from openmse.ha.effects import Effect
from openmse.node.runtime.journal import QUIET
from openmse.node.runtime.replay import Entry, Reader


class JournalStep(Struct, frozen=True):
    """A recorded step for programs: event and effects by kind, as the core names them."""

    line: int
    """In the file, from 1."""
    software: str
    """The version that recorded it."""
    event: dict[str, Any]
    """``kind`` and ``value``."""
    effects: list[dict[str, Any]]


Shown = tuple[Entry, tuple[Effect, ...]]


def shown(reader: Reader, *, decisions: bool) -> Iterator[Shown]:
    """Each step with the effects to be shown; ``decisions``: only steps that decided something,
    and of those only what was decided."""
    for entry in reader:
        if not decisions:
            yield entry, entry.effects
            continue
        loud = tuple(effect for effect in entry.effects if not isinstance(effect, QUIET))
        if loud:
            yield entry, loud


def step_of(entry: Entry, effects: tuple[Effect, ...]) -> JournalStep:
    """The same for programs. Pure."""
    return JournalStep(entry.line, entry.software, _named(entry.event), [*map(_named, effects)])


def _named(value: object) -> dict[str, Any]:
    return {"kind": type(value).__name__, "value": value}
