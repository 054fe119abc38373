"""What ``mse lab bench`` measures, its targets, and the table of results. Pure.

Milliseconds throughout, but for the health monitor at rest (percent of a core, MiB). The targets
are those of the project's figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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


def _both(p50: float | None = None, p99: float | None = None) -> dict[float, Target]:
    return dict.fromkeys(WAITS_S, Target(p50, p99))


_TAKEOVER = {2.0: Target(2400, 2800), 5.0: Target(None, 5800)}
FIGURES: dict[str, Figure] = {
    figure.event: figure
    for figure in (
        Figure(event="power-off", title="machine loses power", targets=_TAKEOVER),
        Figure(event="cut-off", title="machine is cut off", targets=_TAKEOVER),
        Figure(
            event="kill-postgres",
            title="PostgreSQL killed, health monitor alive",
            targets=_both(400, 800),
        ),
        Figure(
            event="kill-health-monitor",
            title="health monitor killed: gap more than without",
            targets=_both(None, 100),
        ),
        Figure(
            event="freeze",
            title="health monitor frozen",
            targets={2.0: Target(None, 2800), 5.0: Target(None, 5800)},
        ),
        Figure(
            event="freeze-all",
            title="all programs of the owner frozen, guard included",
            targets={2.0: Target(None, 2800), 5.0: Target(None, 5800)},
        ),
        Figure(event="planned", title="planned switchover, failback", targets=_both(450, 800)),
        Figure(
            event="planned-pgbench",
            title="planned, under pgbench",
            targets=_both(None, 1200),
        ),
        Figure(
            event="secondary-lost",
            title="secondary lost: longest write stall",
            targets={2.0: Target(None, 1200), 5.0: Target(None, 3000)},
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the printed table."""

    figure: Figure
    failover_wait_s: float
    count: int
    p50: float
    p99: float
    longest: float
    ordinary_p50: float | None
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
    values = [result.value for result in results]
    ordinary = [r.ordinary_gap_ms for r in results if r.ordinary_gap_ms is not None]
    target = figure.targets[wait]
    p50, p99 = percentile(values, 50), percentile(values, 99)
    is_met = (target.p50 is None or p50 <= target.p50) and (target.p99 is None or p99 <= target.p99)
    return Line(
        figure=figure,
        failover_wait_s=wait,
        count=len(values),
        p50=p50,
        p99=p99,
        longest=max(values),
        ordinary_p50=percentile(ordinary, 50) if ordinary else None,
        lost=sum(result.lost for result in results),
        doubles=sum(result.doubles for result in results),
        is_met=is_met and not any(result.violations for result in results),
    )


def as_markdown(results: Sequence[BenchResult]) -> str:
    """The table for a note or a document."""
    rows = [
        "| event | failover wait | n | p50 | p99 | max | ordinary client p50 | target | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines(results):
        ordinary = f"{line.ordinary_p50:,.0f}" if line.ordinary_p50 is not None else ""
        rows.append(
            f"| {line.figure.title} ({line.figure.unit}) | {line.failover_wait_s:g} s "
            f"| {line.count} | {number(line.p50)} | {number(line.p99)} | {number(line.longest)} "
            f"| {ordinary} | {target_words(line)} | {'met' if line.is_met else 'MISSED'} |"
        )
    hosts = sorted({result.host for result in results})
    lost = sum(result.lost for result in results)
    doubles = sum(result.doubles for result in results)
    rows.append("")
    rows.append(f"Lost acknowledged writes: {lost}. Double presence: {doubles}.")
    rows += [f"Machine: {host}." for host in hosts]
    return "\n".join(rows)


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
