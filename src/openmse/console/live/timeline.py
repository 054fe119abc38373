"""The past of a pair from its events: who owned when, faults, each failover's phases. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from openmse.console.store.past import Event

_CONFIG = re.compile(
    r"^(?P<mode>[A-Z]+)\((?P<owner>[^)]*)\), term (?P<term>\d{1,18}), epoch (?P<epoch>\d{1,18})"
)
_LOST = re.compile(r"\b(is|was) lost\b")
_STEPS = re.compile(r" Steps: (?P<steps>[^.]*(?:\.\d[^.]*)*)\.$")
_STEP = re.compile(r"(?P<name>[^,]+?) (?P<ms>\d{1,18}) ms")
MOVES = (
    *("handover_done", "handover_failed", "takeover_done", "forced_takeover"),
    *("release_done", "release_failed"),
)


@dataclass(frozen=True, slots=True)
class Reign:
    """Somebody owned from ``start`` to ``end`` (ISO; '' for until now)."""

    owner: str
    mode: str
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a move, in milliseconds."""

    name: str
    ms: int


@dataclass(frozen=True, slots=True)
class Move:
    """A switchover, a takeover or a release, with its phases."""

    at: str
    node: str
    kind: str
    is_done: bool
    sentence: str
    phases: tuple[Phase, ...]

    @property
    def total_ms(self) -> int:
        """All phases together."""
        return sum(phase.ms for phase in self.phases)


@dataclass(frozen=True, slots=True)
class Timeline:
    """All of it, oldest first."""

    reigns: tuple[Reign, ...]
    faults: tuple[Event, ...]
    moves: tuple[Move, ...]


def timeline(events: list[Event]) -> Timeline:
    """Read events (any order) of both nodes of a pair."""
    ordered = sorted(events, key=lambda event: (event.at, event.id))
    moves = [_move(event) for event in ordered if event.kind in MOVES]
    return Timeline(_reigns(ordered), tuple(_faults(ordered)), tuple(moves))


def _faults(ordered: list[Event]) -> Iterator[Event]:
    """Errors, and each config that somebody's loss led to, by the first node that knew it."""
    seen: set[tuple[str, str]] = set()
    for event in ordered:
        match = _CONFIG.match(event.sentence) if event.kind == "config_chosen" else None
        if match is not None and _LOST.search(event.sentence):
            version = (match["term"], match["epoch"])
            if version not in seen:
                seen.add(version)
                yield event
        elif event.severity == "error":
            yield event


def _reigns(ordered: list[Event]) -> tuple[Reign, ...]:
    """Each config counts from the first node that knew it chosen."""
    starts: list[tuple[str, str, str, tuple[int, int]]] = []
    newest = (-1, -1)
    for event in ordered:
        match = _CONFIG.match(event.sentence) if event.kind == "config_chosen" else None
        if match is None:
            continue
        version = (int(match["term"]), int(match["epoch"]))
        if version <= newest:
            continue
        newest = version
        same = starts and (starts[-1][0], starts[-1][1]) == (match["owner"], match["mode"])
        if not same:
            starts.append((match["owner"], match["mode"], event.at, version))
    if not starts:
        return ()
    ends = [start[2] for start in starts[1:]] + [""]
    return tuple(Reign(s[0], s[1], s[2], end) for s, end in zip(starts, ends, strict=True))


def _move(event: Event) -> Move:
    match = _STEPS.search(event.sentence)
    phases = tuple(
        Phase(step["name"].strip(), int(step["ms"]))
        for step in (_STEP.finditer(match["steps"]) if match else ())
    )
    sentence = event.sentence[: match.start()] if match else event.sentence
    return Move(
        event.at, event.node, event.kind, not event.kind.endswith("_failed"), sentence, phases
    )


@dataclass(frozen=True, slots=True)
class Bar:
    """A reign as a part of a drawing: ``x`` and ``width`` in thousandths of it."""

    reign: Reign
    x: float
    width: float
    seconds: float


def bars(reigns: tuple[Reign, ...], since: str, until: str) -> tuple[Bar, ...]:
    """The reigns between two instants, as parts of a drawing of width 1000."""
    start, end = _s(since), _s(until)
    span = max(1.0, end - start)
    found = []
    for reign in reigns:
        left = max(start, _s(reign.start))
        right = min(end, _s(reign.end)) if reign.end else end
        if right > left:
            x = (left - start) / span * 1000
            found.append(
                Bar(reign, round(x, 1), round((right - left) / span * 1000, 1), right - left)
            )
    return tuple(found)


def place(at: str, since: str, until: str) -> float:
    """Where an instant is in a drawing of width 1000."""
    span = max(1.0, _s(until) - _s(since))
    return round(min(1000.0, max(0.0, (_s(at) - _s(since)) / span * 1000)), 1)


def _s(text: str) -> float:
    """Seconds since 1970; 0.0 for what is no instant, since it is an engine's word."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
