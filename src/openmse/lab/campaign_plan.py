"""What a campaign's run does to a pair, drawn from its seed. Pure.

A run has one fault, or several that overlap: each begins some time after the run's beginning and
is mended some time later, whatever the pair does meanwhile. The draw depends on (seed, run) only,
so ``--seed S`` with the run's number replays the same faults; timing on a real machine differs.
Roles: "P" is the machine that owns when the run begins, "S" the other node, "W" the witness.
"""

import random
from dataclasses import dataclass

from msgspec import Struct

KILLS = ("kill-health-monitor", "kill-postgres", "kill-guard")
MENDED_ANYWAY = frozenset({*KILLS, "switchover", "kill-witness"})
"""Faults that the pair mends by itself; nothing is undone."""
MOST_TOGETHER = 3
HEALTHY_MS = 1500


class Step(Struct, frozen=True):
    """One fault of a run. Milliseconds from the run's beginning; ``until_ms`` 0: not undone."""

    fault: str
    who: str
    other: str = ""
    at_ms: int = 0
    until_ms: int = 0

    @property
    def name(self) -> str:
        """For tables: what is done to whom."""
        return f"{self.fault} {self.who}{'-' + self.other if self.other else ''}"


class Plan(Struct, frozen=True):
    """All steps of one run, by their beginning."""

    run: int
    seed: int
    steps: tuple[Step, ...]

    @property
    def kind(self) -> str:
        """One fault's name, or the names of all that overlap."""
        return " + ".join(sorted({step.name for step in self.steps}))


@dataclass(frozen=True, slots=True)
class _Kind:
    fault: str
    parties: tuple[tuple[str, str], ...]
    weight: int


_NODES = (("P", ""), ("S", ""))
_PAIRS = (("P", "S"), ("P", "W"), ("S", "W"))
_KINDS = (
    _Kind("power", (("P", ""), ("P", ""), ("S", ""), ("W", "")), 6),
    _Kind("cut", (*_PAIRS, ("P", ""), ("S", ""), ("W", "")), 6),
    _Kind("one-way", (*_PAIRS, ("S", "P"), ("W", "P"), ("W", "S")), 3),
    _Kind("cut-heartbeats", (("P", "S"),), 1),
    _Kind("cut-replication", (("P", "S"),), 2),
    _Kind("flap", (("P", "S"), ("P", "W")), 1),
    _Kind("slow", _NODES, 2),
    _Kind("freeze-health-monitor", _NODES, 3),
    _Kind("freeze-postgres", _NODES, 2),
    _Kind("freeze-all", (*_NODES, ("W", "")), 2),
    _Kind("kill-health-monitor", _NODES, 3),
    _Kind("kill-postgres", _NODES, 3),
    _Kind("kill-guard", _NODES, 1),
    _Kind("kill-witness", (("W", ""),), 1),
    _Kind("fill-disk", _NODES, 1),
    _Kind("switchover", (("P", ""),), 2),
)


def draw(seed: int, run: int, failover_wait_s: float, *, has_witness: bool = True) -> Plan:
    """The faults of run number ``run``."""
    dice = random.Random(f"openmse-campaign-{seed}-{run}")
    together = dice.choices(range(1, MOST_TOGETHER + 1), (5, 3, 2))[0]
    wait_ms = int(failover_wait_s * 1000)
    steps: list[Step] = []
    while len(steps) < together:
        step = _draw_step(dice, wait_ms, is_first=not steps)
        if _is_possible(step, steps, has_witness=has_witness):
            steps.append(step)
    return Plan(run, seed, tuple(sorted(steps, key=lambda step: step.at_ms)))


def _draw_step(dice: random.Random, wait_ms: int, *, is_first: bool) -> Step:
    kind = dice.choices(_KINDS, [k.weight for k in _KINDS])[0]
    who, other = dice.choice(kind.parties)
    at = 0 if is_first else int(dice.triangular(0, wait_ms * 2, wait_ms // 2))
    if kind.fault in MENDED_ANYWAY:
        return Step(kind.fault, who, other, at)
    # Some faults end before anybody can have decided, some just around the decision, some late.
    lasts = dice.choice((dice.uniform(50, wait_ms), wait_ms * dice.uniform(0.8, 1.2), wait_ms * 2))
    return Step(kind.fault, who, other, at, at + int(lasts))


def _is_possible(step: Step, others: list[Step], *, has_witness: bool) -> bool:
    """Whether ``step`` can be added: one power switch and one freezer per machine at a time."""
    if "W" in (step.who, step.other) and not has_witness:
        return False
    touched = {other.who for other in others if other.fault not in ("cut", "one-way", "flap")}
    is_cable = step.fault in ("cut", "one-way", "flap", "cut-heartbeats", "cut-replication")
    same = any(o.fault == step.fault and o.who == step.who for o in others)
    return not same and (is_cable or step.who not in touched)
