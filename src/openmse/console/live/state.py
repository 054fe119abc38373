"""What is known of each engine at this moment, and how old that is. No I/O."""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from openmse.console.nodes.licences import Licences
from openmse.console.nodes.models import Info, LogEntry, Operation, Readmission, Snapshot, Summary
from openmse.console.store.engines import Engine
from openmse.console.store.past import Event
from openmse.errors import MseError

STALE_AFTER_S = 3.0
SAMPLES_MAX = 600


class Reach(StrEnum):
    """Whether the engine's management process is heard."""

    UNKNOWN = "unknown"
    """Not asked yet since this console started."""
    UP = "up"
    SILENT = "silent"
    UNTRUSTED = "untrusted"
    """Somebody answers with another certificate."""
    TAKEN = "taken"
    """Another console manages it now, or our token has ended."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One point of the charts; None where nothing was measured."""

    at_ms: int
    """Wall clock, milliseconds since 1970."""
    round_trip_ms: float | None
    lag_bytes: int | None


@dataclass(slots=True, kw_only=True)
class EngineLive:
    """The picture of one engine; written by its feed only."""

    engine: Engine
    reach: Reach = Reach.UNKNOWN
    error: MseError | None = None
    heard_at_s: float = 0.0
    """Monotonic; 0.0 for never."""
    since_s: float = 0.0
    """Since when ``reach`` is what it is."""
    info: Info | None = None
    summary: Summary | None = None
    snapshot: Snapshot | None = None
    is_monitor_up: bool = False
    licences: Licences | None = None
    """As they were last read; None where that failed: ``licences_error`` says why."""
    licences_at: str = ""
    """When they were read: ISO 8601, UTC."""
    licences_error: MseError | None = None
    operations: dict[str, Operation] = field(default_factory=dict)
    new_events: list[LogEntry] = field(default_factory=list)
    readmission: Readmission | None = None
    """The wait for a new machine, while there is one."""
    readmitted: LogEntry | None = None
    """What it last told of a new machine that came in place of a lost one."""
    latest: list[Event] | None = None
    """The newest events that are stored of it, newest first; None while nobody looks."""
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    version: int = 0
    """Grows with each change that somebody could see."""

    def age_s(self, now_s: float) -> float:
        """How old the picture is; -1.0 if there has never been one."""
        return now_s - self.heard_at_s if self.heard_at_s else -1.0

    def is_fresh(self, now_s: float) -> bool:
        """Whether figures may be shown as of now."""
        return self.reach is Reach.UP and self.age_s(now_s) <= STALE_AFTER_S

    def stamp(self, now_s: float) -> tuple[int, int, int]:
        """The same as before: everything that lists show of this engine is, too."""
        return (
            self.engine.id,
            self.version,
            -1 if self.is_fresh(now_s) else int(self.age_s(now_s)),
        )

    def fresh_summary(self, now_s: float) -> Summary | None:
        """The summary if it is of now and the health monitor answers: never the last known."""
        s = self.summary
        return s if s is not None and s.is_monitor_up and self.is_fresh(now_s) else None

    def fresh_snapshot(self, now_s: float) -> Snapshot | None:
        """The full picture, under the same rule."""
        is_shown = self.is_monitor_up and self.is_fresh(now_s)
        return self.snapshot if is_shown else None

    def become(self, reach: Reach, now_s: float, error: MseError | None = None) -> None:
        """Change the reachability, noting since when."""
        if reach is not self.reach:
            self.since_s = now_s
        if reach is not self.reach or error is not self.error:
            self.version += 1
        self.reach, self.error = reach, error
