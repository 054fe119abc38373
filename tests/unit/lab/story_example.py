"""A made-up run for the tests of the page: seven events, both machines, all kinds of marks."""

import random

from openmse.lab.ledger import Acknowledged
from openmse.lab.report_story import (
    Story,
    Totals,
    served_stretches,
    state_stretches,
    ticks_around,
    write_gaps,
)
from openmse.lab.stage import MachineView, Mark, Outcome, Picture

SECOND = 1_000_000_000
BEGIN = 1000 * SECOND
EVENTS = (
    ("planned switchover", 10, 0.31, "mse1", "mse2", "mse ha switchover"),
    ("planned failback", 25, 0.28, "mse2", "mse1", "mse ha failback"),
    ("health monitor killed", 40, 0.02, "mse1", "mse1", "health monitor killed"),
    ("PostgreSQL killed", 55, 0.35, "mse1", "mse2", "PostgreSQL killed"),
    ("owner loses power", 70, 5.31, "mse2", "mse1", "power off"),
    ("old owner back, rejoins", 85, 0.03, "mse1", "mse1", "power on"),
    ("cut: P/S, both see W", 100, 2.75, "mse1", "mse1", "P/S cut"),
    ("health monitor frozen", 125, 5.22, "mse1", "mse2", "health monitor frozen"),
)


def _acknowledged() -> list[Acknowledged]:
    dice = random.Random(7)
    at, number, owner = BEGIN, 0, "mse1"
    found = []
    pending = list(EVENTS)
    while at < BEGIN + 150 * SECOND:
        if pending and at >= BEGIN + pending[0][1] * SECOND:
            _, _, gap, _, owner, _ = pending.pop(0)
            at += int(gap * SECOND)
        at += int(dice.uniform(5e6, 9e6))
        number += 1
        found.append(Acknowledged(number, at - 3_000_000, at, number, f"{owner}.x"))
    return found


def _outcome(index: int, acknowledged: list[Acknowledged]) -> Outcome:
    title, second, gap, before, after, _ = EVENTS[index]
    begin = BEGIN + second * SECOND
    previous = max(a.at for a in acknowledged if a.at <= begin + 9_000_000)
    following = min(a.at for a in acknowledged if a.at > previous)
    return Outcome(
        event=f"event-{index}",
        title=title,
        begin=begin,
        end=begin + 8 * SECOND,
        gap_ms=(following - previous) / 1e6,
        gap_begin=previous,
        gap_end=following,
        is_open=False,
        acknowledged=int(1000 - gap * 100),
        unknown=int(gap * 10),
        served_before=before,
        served_after=after,
        sync_after_s=4.2 if index % 2 else None,
    )


def _pictures() -> list[Picture]:
    words = [("PRIMARY_ACTIVE", "SECONDARY_ACTIVE"), ("TERMINATED", "FAILOVER_ACTIVE")]
    return [
        Picture(
            BEGIN + second * SECOND,
            "mse1",
            "SYNC",
            1,
            {
                "mse1": MachineView(words[(second // 25) % 2][0]),
                "mse2": MachineView(words[(second // 25) % 2][1]),
                "witness": MachineView("WITNESS"),
                "client": MachineView(),
            },
        )
        for second in range(150)
    ]


def _totals(acknowledged: list[Acknowledged], violations: tuple[str, ...]) -> Totals:
    return Totals(
        acknowledged=len(acknowledged),
        lost=3 if violations else 0,
        unknown=71,
        unknown_found=4,
        rows_read=len(acknowledged),
        vanished=0,
        warnings=0,
        double_presences=0,
        signs=31234,
        connect_ms=11.2,
        pgbench_transactions=12345,
        violations=list(violations),
    )


def story(*violations: str) -> Story:
    """The run; with ``violations`` a bad one."""
    acknowledged = _acknowledged()
    outcomes = [_outcome(i, acknowledged) for i in range(len(EVENTS))]
    pictures = _pictures()
    end = BEGIN + 150 * SECOND
    return Story(
        title="OpenMSE demo",
        made_at="2026-01-01 12:00 UTC",
        host="an example with 2 cores",
        code="0123456789ab",
        failover_wait_s=5.0,
        begin=BEGIN,
        end=end,
        machines=["mse1", "mse2", "witness"],
        served=served_stretches(acknowledged),
        states=state_stretches(pictures, end),
        marks=[
            Mark(o.begin, o.served_before, EVENTS[i][5], "on" in EVENTS[i][5].split())
            for i, o in enumerate(outcomes)
        ],
        gaps=write_gaps(acknowledged),
        outcomes=outcomes,
        lost_in=[len(violations) and 3] + [0] * (len(outcomes) - 1),
        ticks=[ticks_around(acknowledged, o) for o in outcomes],
        totals=_totals(acknowledged, violations),
    )
