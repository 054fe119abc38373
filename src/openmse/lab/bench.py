"""``mse lab bench``: every figure, repeated, appended to a file and resumed on the same code.

One laboratory per failover wait. Up to five repetitions of an event share one load (writer, reader,
ordinary client, presence monitor), which is judged like a campaign's run: a figure of a load that
lost a write is worth nothing.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from openmse.errors import DriverError, MseError
from openmse.lab import client, exercises, judgement, records
from openmse.lab.bench_table import FIGURES, LONG_FREEZES, BenchResult
from openmse.lab.campaign import opened
from openmse.lab.campaign_faults import mend
from openmse.lab.diagnostics import collect
from openmse.lab.laboratory import Laboratory
from openmse.lab.ledger import now_ns
from openmse.lab.programs import HEALTH_MONITOR
from openmse.lab.stage import Outcome, Stage, Window
from openmse.lab.workload import ORDINARY, READER, WRITER, Pgbench, Workload

BEFORE_S = 1.5
SITTING = 5
"""Repetitions under one load; so many are measured anew if a bench is interrupted."""
SHORT_SITTING = 2
"""Where each repetition is a loss of the peer: the third within a minute would be damped (10 s)."""
REST_S = 20.0
SETTLE_S = 12.0
"""Before the health monitor counts as at rest: it journals each step for 10 s after a decision."""
GIGABYTE_SCALE = 70
"""pgbench's scale at which the database is 1 GB."""
PGBENCH_SCALE, PGBENCH_RATE, PGBENCH_CLIENTS = 10, 120, 4
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What the command line says. ``only`` empty: every event. ``minutes`` 0: no limit."""

    name: str
    results: Path
    diagnostics: Path
    waits_s: tuple[float, ...]
    only: tuple[str, ...] = ()
    repetitions: int = 0
    """0: as each figure demands."""
    minutes: float = 0.0


@dataclass(slots=True)
class Bench:
    """A bench under way."""

    options: BenchOptions
    say: Say
    version: str = field(default_factory=records.code_version)
    host: str = field(default_factory=records.host)

    def results(self) -> list[BenchResult]:
        """What this version of the code has measured so far."""
        found = records.load(self.options.results, BenchResult)
        return [result for result in found if result.version == self.version]

    def run(self) -> list[BenchResult]:
        """Measure what is missing; everything that was measured. Raises: MseError."""
        options = self.options
        until = time.monotonic() + options.minutes * 60 if options.minutes else None
        for wait_s in options.waits_s:
            agenda = self._missing(wait_s)
            if not agenda:
                continue
            name = f"{options.name}-{wait_s:g}".replace(".", "-")
            with opened(name, wait_s, self.say, options.diagnostics) as lab:
                for event, repetitions in agenda:
                    if until is not None and time.monotonic() > until:
                        self.say("time is up; run it again to go on")
                        return self.results()
                    self._sitting(Sitting(lab, wait_s, event, repetitions))
        return self.results()

    def _missing(self, wait_s: float) -> list[tuple[str, tuple[int, ...]]]:
        """What is still to be measured, by sitting."""
        done = {(r.event, r.repetition) for r in self.results() if r.failover_wait_s == wait_s}
        wanted = [e for e in self.options.only or FIGURES if wait_s in FIGURES[e].targets]
        counts = {e: self.options.repetitions or FIGURES[e].repetitions for e in wanted}
        return agenda(counts, done)

    def _sitting(self, sitting: "Sitting") -> None:
        for result in sitting.run(self):
            records.append(self.options.results, result)
            bad = "".join(f"\n  VIOLATION {sentence}" for sentence in result.violations)
            what = f"{result.event}, wait {result.failover_wait_s:g} s, {result.repetition}"
            self.say(f"{what}: {result.value:,.1f} {FIGURES[result.event].unit}{bad}")


def agenda(counts: dict[str, int], done: set[tuple[str, int]]) -> list[tuple[str, tuple[int, ...]]]:
    """Events and the repetitions of each sitting, spread evenly over the whole bench, so that no
    hour of the machine falls on one event alone; the large database last."""
    found: list[tuple[float, str, tuple[int, ...]]] = []
    for place, (event, count) in enumerate(counts.items()):
        size = SHORT_SITTING if event == "secondary-lost" else SITTING
        starts = range(1, count + 1, size)
        for number, start in enumerate(starts):
            missing = range(start, min(start + size, count + 1))
            repetitions = tuple(n for n in missing if (event, n) not in done)
            at = (number + place / len(counts)) / len(starts) + (event == "rejoin-1gb")
            if repetitions:
                found.append((at, event, repetitions))
    return [(event, repetitions) for _, event, repetitions in sorted(found)]


@dataclass(slots=True)
class Sitting:
    """One event, some times in a row, under one load."""

    laboratory: Laboratory
    wait_s: float
    event: str
    repetitions: tuple[int, ...]

    def run(self, bench: Bench) -> list[BenchResult]:
        """Measure. Raises: MseError, diagnostics collected."""
        if self.event == "witness-load":
            return [self._alone(bench, n, _witness_load(self.wait_s)) for n in self.repetitions]
        if self.event.startswith("rest-"):
            return [self._alone(bench, n, self._rest()) for n in self.repetitions]
        conninfo = client.dsn(self.laboratory.places)
        if conninfo is None:
            raise DriverError("The laboratory has no connection string for clients.")
        if self.event == "rejoin-1gb":
            _fill(self.laboratory, conninfo)
        load = Workload(self.laboratory, conninfo, f"bench-{self.event}-{self.repetitions[0]}")
        stage = Stage(self.laboratory, load, self.wait_s)
        where = bench.options.diagnostics / f"{self.event}-{self.wait_s:g}-{self.repetitions[0]}"
        try:
            self._start(stage)
            outcomes = [self._measure(stage, number) for number in self.repetitions]
            verdict = judgement.finish(stage)
        except MseError:
            collect(self.laboratory, load, where)
            mend(self.laboratory)
            raise
        finally:
            load.stop()
        if verdict.violations:
            collect(self.laboratory, load, where)
        shutil.rmtree(load.directory, ignore_errors=True)
        found = [self._result(bench, n, outcomes[i]) for i, n in enumerate(self.repetitions)]
        connect_ms = load.undisturbed_connect_ms()
        return [self._judged(result, verdict, connect_ms) for result in found]

    def _start(self, stage: Stage) -> None:
        load = stage.load
        load.create_table()
        load.start_presence()
        if self.event == "planned-pgbench":
            load.start_pgbench(PGBENCH_SCALE, PGBENCH_RATE, PGBENCH_CLIENTS)
        load.start(WRITER, READER, ORDINARY)
        stage.until_served(now_ns())
        stage.until_sync()

    def _measure(self, stage: Stage, number: int) -> Outcome:
        before_s = BEFORE_S
        if self.event == "kill-health-monitor":
            before_s = self.wait_s + 1  # as long as the event is watched
        stage.watch(before_s)
        window = self._play(stage, number)
        outcome = stage.measure(self.event, FIGURES[self.event].title, window)
        stage.until_sync()
        return outcome

    def _play(self, stage: Stage, number: int) -> Window:
        match self.event:
            case "power-off" | "rejoin-1gb":
                return exercises.power_cycle_owner(stage)
            case "cut-off":
                return exercises.isolate_owner(stage)
            case "kill-postgres":
                return exercises.kill_postgres(stage)
            case "kill-health-monitor":
                return exercises.kill_health_monitor(stage)
            case "freeze":
                total_s = 60.0 if number <= LONG_FREEZES else 0.0
                return exercises.freeze_health_monitor(stage, total_s=total_s)
            case "freeze-all":
                return exercises.freeze_machine(stage)
            case "planned" | "planned-pgbench":
                return exercises.there_or_back(stage)
            case "secondary-lost":
                return exercises.power_cycle_peer(stage)
        raise AssertionError(f"no such event: {self.event}")

    def _result(self, bench: Bench, number: int, outcome: Outcome) -> BenchResult:
        value, violations = outcome.gap_ms, []
        if self.event == "kill-health-monitor":
            value = outcome.gap_ms - (outcome.control_gap_ms or 0.0)
            if outcome.unknown:
                violations.append(f"{outcome.unknown} writes failed; none may.")
        elif self.event == "rejoin-1gb":
            value = (outcome.sync_after_s or 0.0) * 1000
        return replace(
            self._alone(bench, number, value),
            gap_ms=outcome.gap_ms,
            control_gap_ms=outcome.control_gap_ms,
            ordinary_gap_ms=outcome.ordinary_gap_ms,
            sync_after_s=outcome.sync_after_s,
            unknown=outcome.unknown,
            violations=violations,
        )

    def _judged(
        self, result: BenchResult, found: judgement.Judgement, connect_ms: float | None
    ) -> BenchResult:
        """What was wrong with the load counts against its last repetition, once."""
        if result.repetition != self.repetitions[-1]:
            return replace(result, connect_ms=connect_ms)
        return replace(
            result,
            connect_ms=connect_ms,
            lost=len(found.verdict.lost),
            doubles=len(found.doubles),
            violations=[*result.violations, *found.violations],
        )

    def _rest(self) -> float:
        """The health monitor of the owner without any load: percent of a core, or MiB."""
        pid = self.laboratory.pids("mse1")[HEALTH_MONITOR]
        if pid is None:
            raise DriverError("The health monitor of mse1 does not run.")
        if self.event == "rest-memory":
            return _resident_mib(pid)
        time.sleep(SETTLE_S)  # "at rest" means that nothing has happened lately
        before, began = _processor_s(pid), time.monotonic()
        time.sleep(REST_S)
        return (_processor_s(pid) - before) / (time.monotonic() - began) * 100

    def _alone(self, bench: Bench, number: int, value: float) -> BenchResult:
        """A figure without the writes around it."""
        return BenchResult(
            version=bench.version,
            host=bench.host,
            event=self.event,
            failover_wait_s=self.wait_s,
            repetition=number,
            value=value,
            made_at=_now(),
        )


def _witness_load(wait_s: float) -> float:
    """What a witness of 1,000 groups costs, in percent of a core."""
    command = [sys.executable, "-m", "openmse.lab.witness_load", "--groups", "1000"]
    command += ["--failover-wait", str(wait_s), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise DriverError(f"The witness's load could not be measured: {done.stderr.strip()}")
    return float(json.loads(done.stdout)["cores"]) * 100


def _fill(laboratory: Laboratory, conninfo: str) -> None:
    """Make the database 1 GB large, once in a laboratory's life."""
    folder = laboratory.places.share / "fill"
    folder.mkdir(exist_ok=True)
    Pgbench(laboratory, conninfo, folder).fill_once(GIGABYTE_SCALE, is_gentle=True)


def _processor_s(pid: int) -> float:
    """Seconds of processor time a process has used, user and system."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
