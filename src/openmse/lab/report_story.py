"""What a demo tells: everything its page and its table are made from, as one value.

Pure; kept beside the page as JSON, so that a page can be drawn again without a run.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from openmse.lab.ledger import Acknowledged
from openmse.lab.outage import Gap, gaps_over
from openmse.lab.stage import Mark, Outcome, Picture
from openmse.lab.workload import machine_of

SERVED_BREAK_NS = 80_000_000
"""A longer time without an acknowledgement divides a stretch of service."""
GAP_MS = 80.0
BY_DESIGN = {
    "cut-all": "by design: with all three apart nobody has a quorum, so nobody may serve",
}
"""Events whose outage is what the protocol wants, and why (protocol §6)."""


class Stretch(Struct, frozen=True):
    """A machine served, or showed one state word, from ``begin`` to ``end`` (ns)."""

    machine: str
    begin: int
    end: int
    word: str = ""


class Totals(Struct, frozen=True, kw_only=True):
    """The counts of a whole run; ``violations`` are sentences."""

    acknowledged: int
    lost: int
    unknown: int
    unknown_found: int
    rows_read: int
    vanished: int
    warnings: int
    double_presences: int
    signs: int
    connect_ms: float | None
    pgbench_transactions: int | None
    violations: list[str]


class Story(Struct, frozen=True, kw_only=True):
    """One demo."""

    title: str
    made_at: str
    host: str
    code: str
    failover_wait_s: float
    begin: int
    end: int
    machines: list[str]
    served: list[Stretch]
    states: list[Stretch]
    marks: list[Mark]
    gaps: list[tuple[int, int]]
    outcomes: list[Outcome]
    lost_in: list[int]
    """Of each outcome: how many rows acknowledged in its window are lost."""
    ticks: list[list[tuple[int, str]]]
    """Of each outcome: acknowledgements (ns, machine) around its longest gap, thinned out."""
    totals: Totals

    @property
    def is_good(self) -> bool:
        """Nothing lost, never two served, nothing else wrong."""
        counts = self.totals
        return not (counts.violations or counts.lost or counts.vanished or counts.double_presences)


def served_stretches(acknowledged: Sequence[Acknowledged]) -> list[Stretch]:
    """Who acknowledged, as stretches without a break."""
    found: list[Stretch] = []
    for ack in acknowledged:
        machine = machine_of(ack.by)
        last = found[-1] if found else None
        if last and last.machine == machine and ack.at - last.end <= SERVED_BREAK_NS:
            found[-1] = Stretch(machine, last.begin, ack.at)
        else:
            found.append(Stretch(machine, ack.at, ack.at))
    return found


def state_stretches(pictures: Iterable[Picture], end: int) -> list[Stretch]:
    """The state words of each machine over time, as they were seen."""
    running: dict[str, Stretch] = {}
    found: list[Stretch] = []
    for picture in pictures:
        for machine, view in picture.machines.items():
            word = view.state or ""
            now = running.get(machine)
            if now is None or now.word != word:
                if now is not None and now.word:
                    found.append(Stretch(machine, now.begin, picture.at, now.word))
                running[machine] = Stretch(machine, picture.at, picture.at, word)
    found += [Stretch(s.machine, s.begin, end, s.word) for s in running.values() if s.word]
    return sorted(found, key=lambda stretch: (stretch.machine, stretch.begin))


def write_gaps(acknowledged: Sequence[Acknowledged]) -> list[tuple[int, int]]:
    """Every time without an acknowledged write that a person could notice."""
    gaps: list[Gap] = gaps_over([ack.at for ack in acknowledged], GAP_MS)
    return [(gap.begin, gap.end) for gap in gaps]


def ticks_around(
    acknowledged: Sequence[Acknowledged], outcome: Outcome, most: int = 240
) -> list[tuple[int, str]]:
    """Acknowledgements around an outcome's longest gap, at most ``most`` of them."""
    begin, end = zoom(outcome)
    inside = [(a.at, machine_of(a.by)) for a in acknowledged if begin <= a.at <= end]
    step = max(len(inside) // most + 1, 1)
    return inside[::step]


def zoom(outcome: Outcome) -> tuple[int, int]:
    """The time that an outcome's small picture shows (ns): its gap, and as much around it."""
    length = outcome.gap_end - outcome.gap_begin
    around = max(length // 2, 150_000_000)
    begin = min(outcome.gap_begin - around, max(outcome.begin, outcome.gap_begin - 4 * around))
    return begin, outcome.gap_end + around
