"""``mse lab bench``: every figure, repeated, appended to a file and resumed on the same code.

One laboratory per failover wait. Each repetition has a load of its own (writer, reader, ordinary
client, presence monitor) and is judged like a campaign's run: a figure of a run that lost a write
is worth nothing.
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
                for event, repetition in agenda:
                    if until is not None and time.monotonic() > until:
                        self.say("time is up; run it again to go on")
                        return self.results()
                    self._one(lab, wait_s, event, repetition)
        return self.results()

    def _missing(self, wait_s: float) -> list[tuple[str, int]]:
        """What is still to be measured: all events in turn, the large database last."""
        wanted = [e for e in self.options.only or FIGURES if wait_s in FIGURES[e].targets]
        done = {(r.event, r.repetition) for r in self.results() if r.failover_wait_s == wait_s}
        agenda = []
        for event in wanted:
            count = self.options.repetitions or FIGURES[event].repetitions
            agenda += [(event, n) for n in range(1, count + 1) if (event, n) not in done]
        return sorted(agenda, key=lambda pair: (pair[0] == "rejoin-1gb", pair[1]))

    def _one(self, laboratory: Laboratory, wait_s: float, event: str, repetition: int) -> None:
        result = Repetition(laboratory, wait_s, event, repetition).run(self)
        records.append(self.options.results, result)
        bad = "".join(f"\n  VIOLATION {sentence}" for sentence in result.violations)
        unit = FIGURES[event].unit
        self.say(f"{event}, wait {wait_s:g} s, {repetition}: {result.value:,.1f} {unit}{bad}")


@dataclass(slots=True)
class Repetition:
    """One event, once."""

    laboratory: Laboratory
    wait_s: float
    event: str
    number: int

    def run(self, bench: Bench) -> BenchResult:
        """Measure. Raises: MseError, diagnostics collected."""
        if self.event == "witness-load":
            return self._alone(bench, _witness_load(self.wait_s))
        if self.event.startswith("rest-"):
            return self._alone(bench, self._rest())
        conninfo = client.dsn(self.laboratory.places)
        if conninfo is None:
            raise DriverError("The laboratory has no connection string for clients.")
        if self.event == "rejoin-1gb":
            _fill(self.laboratory, conninfo)
        load = Workload(self.laboratory, conninfo, f"bench-{self.event}-{self.number}")
        stage = Stage(self.laboratory, load, self.wait_s)
        where = bench.options.diagnostics / f"{self.event}-{self.wait_s:g}-{self.number}"
        try:
            outcome, verdict = self._measure(stage)
        except MseError:
            collect(self.laboratory, load, where)
            mend(self.laboratory)
            raise
        finally:
            load.stop()
        if verdict.violations:
            collect(self.laboratory, load, where)
        shutil.rmtree(load.directory, ignore_errors=True)
        return self._result(bench, outcome, verdict, stage)

    def _measure(self, stage: Stage) -> tuple[Outcome, judgement.Judgement]:
        load = stage.load
        load.create_table()
        load.start_presence()
        if self.event == "planned-pgbench":
            load.start_pgbench(PGBENCH_SCALE, PGBENCH_RATE, PGBENCH_CLIENTS)
        load.start(WRITER, READER, ORDINARY)
        stage.until_served(now_ns())
        stage.until_sync()
        control_until = now_ns() + int((self.wait_s + 1) * 1e9)
        stage.watch(BEFORE_S)
        if self.event == "kill-health-monitor":
            stage.watch(max(control_until - now_ns(), 0) / 1e9)  # as long as the event is watched
        window = self._play(stage)
        outcome = stage.measure(self.event, FIGURES[self.event].title, window)
        stage.until_sync()
        return outcome, judgement.finish(stage)

    def _play(self, stage: Stage) -> Window:
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
                total_s = 60.0 if self.number <= LONG_FREEZES else 0.0
                return exercises.freeze_health_monitor(stage, total_s=total_s)
            case "freeze-all":
                return exercises.freeze_machine(stage)
            case "planned" | "planned-pgbench":
                return exercises.there_or_back(stage)
            case "secondary-lost":
                return exercises.power_cycle_peer(stage)
        raise AssertionError(f"no such event: {self.event}")

    def _result(
        self, bench: Bench, outcome: Outcome, verdict: judgement.Judgement, stage: Stage
    ) -> BenchResult:
        value = outcome.gap_ms
        violations = list(verdict.violations)
        if self.event == "kill-health-monitor":
            value = outcome.gap_ms - (outcome.control_gap_ms or 0.0)
            if outcome.unknown:
                violations.append(f"{outcome.unknown} writes failed; none may.")
        elif self.event == "rejoin-1gb":
            value = (outcome.sync_after_s or 0.0) * 1000
        return BenchResult(
            version=bench.version,
            host=bench.host,
            event=self.event,
            failover_wait_s=self.wait_s,
            repetition=self.number,
            value=value,
            made_at=_now(),
            gap_ms=outcome.gap_ms,
            control_gap_ms=outcome.control_gap_ms,
            ordinary_gap_ms=outcome.ordinary_gap_ms,
            sync_after_s=outcome.sync_after_s,
            connect_ms=stage.load.undisturbed_connect_ms(),
            unknown=verdict.verdict.unknown,
            lost=len(verdict.verdict.lost),
            doubles=len(verdict.doubles),
            violations=violations,
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

    def _alone(self, bench: Bench, value: float) -> BenchResult:
        """The result of a figure that has no writes."""
        return BenchResult(
            version=bench.version,
            host=bench.host,
            event=self.event,
            failover_wait_s=self.wait_s,
            repetition=self.number,
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
    Pgbench(laboratory, conninfo, folder).fill_once(GIGABYTE_SCALE)


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
