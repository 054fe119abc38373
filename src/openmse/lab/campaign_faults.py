"""Carries a campaign's plan out on a real laboratory, and mends everything afterwards."""

import contextlib
import heapq
import subprocess
from collections.abc import Callable
from typing import Any

from openmse.errors import CommandRefused, MseError, UsageError
from openmse.lab.campaign_plan import Plan, Step
from openmse.lab.laboratory import Laboratory
from openmse.lab.ledger import now_ns
from openmse.lab.programs import GUARD, HEALTH_MONITOR, POSTGRES, WITNESS
from openmse.lab.stage import Stage

MS = 1_000_000
SLOW_DELAY_MS, SLOW_LOSS_PERCENT = 20.0, 1.0


class Doer:
    """Does and undoes the steps of one run; roles are those of its beginning."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._laboratory = stage.laboratory
        owner = stage.owner()
        self.machines = {"P": owner, "S": stage.other(owner), "W": stage.witness}
        self.skipped: list[str] = []
        self._commands: list[subprocess.Popen[Any]] = []

    def perform(self, plan: Plan) -> int:
        """Carry the plan out in time; return the instant of its first fault (ns)."""
        agenda: list[tuple[int, int, Step, bool]] = []
        for number, step in enumerate(plan.steps):
            agenda.append((step.at_ms, number, step, False))
            if step.until_ms:
                agenda.append((step.until_ms, number, step, True))
        heapq.heapify(agenda)
        begin = now_ns()
        while agenda:
            at_ms, _, step, is_end = heapq.heappop(agenda)
            self._stage.stopping.wait(max(at_ms / 1000 - (now_ns() - begin) / 1e9, 0))
            self._do(step, is_end=is_end)
        return begin

    def reap(self) -> None:
        """Wait for the commands that were started; each is bounded."""
        for process in self._commands:
            process.wait()
        self._commands.clear()

    def close(self) -> None:
        """End the commands that have not ended yet."""
        for process in self._commands:
            process.terminate()
        self.reap()

    def _do(self, step: Step, *, is_end: bool) -> None:
        who, other = self.machines[step.who], self.machines.get(step.other, "")
        table = ENDS if is_end else BEGINNINGS
        try:
            if step.fault == "switchover":
                at = self._switchover(who)
            else:
                at = table[step.fault](self._laboratory, who, other)
        except (CommandRefused, UsageError) as error:
            # What a fault needs may be gone by an earlier one: its process died, its power is off.
            self.skipped.append(f"{step.name}: {error.sentence}")
            return
        text = f"{step.fault} {other}".strip() + (" mended" if is_end else "")
        self._stage.mark(at, who, text, is_mend=is_end)

    def _switchover(self, who: str) -> int:
        """Ask for it and do not wait: other faults of the run fall into it."""
        process = self._laboratory.popen(
            who,
            ["timeout", "60", "mse", "ha", "switchover"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._commands.append(process)
        return now_ns()


Act = Callable[[Laboratory, str, str], int]


BEGINNINGS: dict[str, Act] = {
    "power": lambda lab, who, _: lab.power_off(who),
    "cut": lambda lab, who, other: lab.cut(who, other),
    "one-way": lambda lab, who, other: lab.one_way(who, other),
    "cut-heartbeats": lambda lab, who, other: lab.cut(who, other, "heartbeats"),
    "cut-replication": lambda lab, who, other: lab.cut(who, other, "replication"),
    "flap": lambda lab, who, other: lab.flap(who, other, period_s=0.6),
    "slow": lambda lab, who, _: lab.slow(who, SLOW_DELAY_MS, SLOW_LOSS_PERCENT),
    "freeze-health-monitor": lambda lab, who, _: lab.freeze(who, HEALTH_MONITOR),
    "freeze-postgres": lambda lab, who, _: lab.freeze(who, POSTGRES),
    "freeze-all": lambda lab, who, _: lab.freeze(who, "all"),
    "kill-health-monitor": lambda lab, who, _: lab.kill(who, HEALTH_MONITOR),
    "kill-postgres": lambda lab, who, _: lab.kill(who, POSTGRES),
    "kill-guard": lambda lab, who, _: lab.kill(who, GUARD),
    "kill-witness": lambda lab, who, _: lab.kill(who, WITNESS),
    "fill-disk": lambda lab, who, _: lab.fill_disk(who),
}
ENDS: dict[str, Act] = {
    "power": lambda lab, who, _: lab.power_on(who),
    "cut": lambda lab, who, other: lab.heal(who, other),
    "one-way": lambda lab, who, other: lab.heal(who, other),
    "cut-heartbeats": lambda lab, who, other: lab.heal(who, other),
    "cut-replication": lambda lab, who, other: lab.heal(who, other),
    "flap": lambda lab, who, other: lab.heal(who, other),
    "slow": lambda lab, who, _: lab.slow(who),
    "freeze-health-monitor": lambda lab, who, _: lab.thaw(who, HEALTH_MONITOR),
    "freeze-postgres": lambda lab, who, _: lab.thaw(who, POSTGRES),
    "freeze-all": lambda lab, who, _: lab.thaw(who, "all"),
    "fill-disk": lambda lab, who, _: lab.free_disk(who),
}


def mend(laboratory: Laboratory) -> int:
    """Undo every fault that may still be in force; return the instant it was done (ns)."""
    laboratory.heal()
    for name in laboratory.machines:
        if not laboratory.has_power(name):
            laboratory.power_on(name)
            continue
        with contextlib.suppress(MseError):
            laboratory.thaw(name, "all")
        with contextlib.suppress(MseError):
            laboratory.free_disk(name)
    return now_ns()
