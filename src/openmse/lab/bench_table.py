"""What ``mse lab bench`` measures, its targets, and the table of results. Pure.

Milliseconds throughout, but for the health monitor at rest (percent of a core, MiB). The targets
are those of the project's figures, and so is what others take: the words of the project's second
issue ("Figures"), measured there on the same kind of machine, not by this bench.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from msgspec import Struct

from openmse.lab.outage import percentile

WAITS_S = (2.0, 5.0)
REPETITIONS = 20
LONG_FREEZES = 3
"""Of the repetitions of ``freeze``: how many last for 60 s."""


class BenchResult(Struct, frozen=True, kw_only=True):
    """One repetition, as it is kept."""

    version: str
    host: str
    event: str
    failover_wait_s: float
    repetition: int
    value: float
    """What the event is judged by, in its unit."""
    made_at: str
    gap_ms: float | None = None
    control_gap_ms: float | None = None
    ordinary_gap_ms: float | None = None
    sync_after_s: float | None = None
    connect_ms: float | None = None
    unknown: int = 0
    lost: int = 0
    doubles: int = 0
    violations: list[str] = []


@dataclass(frozen=True, slots=True)
class Target:
    """The most that percentiles may be; None where nothing is demanded."""

    p50: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table: an event, what it is judged by, and its targets per failover wait."""

    event: str
    title: str
    targets: dict[float, Target]
    unit: str = "ms"
    repetitions: int = REPETITIONS
    others: str = ""
    """What other products take, at their defaults / tuned; given text, not measured here."""


def _both(p50: float | None = None, p99: float | None = None) -> dict[float, Target]:
    return dict.fromkeys(WAITS_S, Target(p50, p99))


_TAKEOVER = {2.0: Target(2400, 2800), 5.0: Target(None, 5800)}
_FROZEN = {2.0: Target(None, 2800), 5.0: Target(None, 5800)}
_OTHERS_TAKE_OVER = "Patroni 24 / 22 s, pg_auto_failover 55 / 5.7 s"
FIGURES: dict[str, Figure] = {
    figure.event: figure
    for figure in (
        Figure(
            event="power-off",
            title="machine loses power",
            targets=_TAKEOVER,
            others=_OTHERS_TAKE_OVER,
        ),
        Figure(
            event="cut-off",
            title="machine is cut off",
            targets=_TAKEOVER,
            others=_OTHERS_TAKE_OVER,
        ),
        Figure(
            event="kill-postgres",
            title="PostgreSQL killed, health monitor alive",
            targets=_both(400, 800),
            others="Patroni 3.9 / 3.7 s, pg_auto_failover 5.0 / 5.0 s",
        ),
        Figure(
            event="kill-health-monitor",
            title="health monitor killed: gap more than without",
            targets=_both(None, 100),
            others="keepalived: address on both machines",
        ),
        Figure(
            event="freeze",
            title="health monitor frozen",
            targets=_FROZEN,
            others="Patroni: both are primary for 37 s",
        ),
        Figure(
            event="freeze-all",
            title="all programs of the owner frozen, guard included",
            targets=_FROZEN,
        ),
        Figure(
            event="planned",
            title="planned switchover, failback",
            targets=_both(450, 800),
            others="Patroni 2.5 s, pg_auto_failover 1.2–1.35 s",
        ),
        Figure(
            event="planned-pgbench",
            title="planned, under pgbench",
            targets=_both(None, 1200),
        ),
        Figure(
            event="secondary-lost",
            title="secondary lost: longest write stall",
            targets={2.0: Target(None, 1200), 5.0: Target(None, 3000)},
            others="Patroni 32 / 20.5 s, pg_auto_failover 24 / 2.9 s",
        ),
        Figure(
            event="rejoin-1gb",
            title="old owner back in SYNC, 1 GB",
            targets=_both(None, 15_000),
        ),
        Figure(
            event="rest-cpu",
            title="health monitor at rest: processor",
            targets=_both(None, 2),
            unit="% of a core",
            repetitions=3,
        ),
        Figure(
            event="rest-memory",
            title="health monitor at rest: memory",
            targets=_both(None, 100),
            unit="MiB",
            repetitions=3,
        ),
        Figure(
            event="witness-load",
            title="one witness process, 1,000 groups",
            targets={5.0: Target(None, 100)},
            unit="% of a core",
            repetitions=3,
        ),
    )
}


class Spread(NamedTuple):
    """How values lie: nearest-rank percentiles and the greatest, in the values' unit."""

    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of at least one value."""
        return cls(percentile(values, 50), percentile(values, 99), max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the printed table. ``ordinary``: the gaps of the libpq client beside it."""

    figure: Figure
    failover_wait_s: float
    count: int
    spread: Spread
    ordinary: Spread | None
    lost: int
    doubles: int
    is_met: bool


def lines(results: Sequence[BenchResult]) -> list[Line]:
    """The table of everything that was measured, in the order of the figures."""
    found = []
    for figure in FIGURES.values():
        for wait in WAITS_S:
            chosen = [r for r in results if r.event == figure.event and r.failover_wait_s == wait]
            if chosen:
                found.append(_line(figure, wait, chosen))
    return found


def _line(figure: Figure, wait: float, results: Sequence[BenchResult]) -> Line:
    spread = Spread.of([result.value for result in results])
    ordinary = [r.ordinary_gap_ms for r in results if r.ordinary_gap_ms is not None]
    target = figure.targets[wait]
    is_met = (target.p50 is None or spread.p50 <= target.p50) and (
        target.p99 is None or spread.p99 <= target.p99
    )
    return Line(
        figure=figure,
        failover_wait_s=wait,
        count=len(results),
        spread=spread,
        ordinary=Spread.of(ordinary) if ordinary else None,
        lost=sum(result.lost for result in results),
        doubles=sum(result.doubles for result in results),
        is_met=is_met and not any(result.violations for result in results),
    )


_HEADS = (
    *("event", "failover wait", "n", "p50", "p99", "max"),
    "ordinary client p50 / p99 / max, ms",
    *("lost", "double presence", "target", "", "others, default / tuned"),
)


def as_markdown(results: Sequence[BenchResult]) -> str:
    """The table for a note or a document."""
    rows = [_row(_HEADS), _row(["---"] * len(_HEADS))]
    rows += [_row(_cells(line)) for line in lines(results)]
    hosts = sorted({result.host for result in results})
    lost = sum(result.lost for result in results)
    doubles = sum(result.doubles for result in results)
    rows.append("")
    rows.append(f"Lost acknowledged writes: {lost}. Double presence: {doubles}.")
    rows.append("Others: as the project's figures give them, not measured by this bench.")
    rows += [f"Machine: {host}." for host in hosts]
    return "\n".join(rows)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(line: Line) -> tuple[str, ...]:
    return (
        f"{line.figure.title} ({line.figure.unit})",
        f"{line.failover_wait_s:g} s",
        str(line.count),
        *map(number, line.spread),
        " / ".join(map(number, line.ordinary)) if line.ordinary else "",
        str(line.lost),
        str(line.doubles),
        target_words(line),
        "met" if line.is_met else "MISSED",
        line.figure.others,
    )


def target_words(line: Line) -> str:
    """A line's targets in words."""
    target = line.figure.targets[line.failover_wait_s]
    words = [f"p50 ≤ {number(target.p50)}"] if target.p50 is not None else []
    words += [f"p99 ≤ {number(target.p99)}"] if target.p99 is not None else []
    return ", ".join(words)


def number(value: float | None) -> str:
    """A figure with as many digits as it means."""
    if value is None:
        return ""
    return f"{value:.1f}" if abs(value) < 10 else f"{value:,.0f}"
