"""``mse lab campaign``: random faults, alone and overlapping, on a pair under load, each judged.

Each run begins with a healthy pair in SYNC under load, carries out the plan drawn from (seed,
run), mends everything, waits for SYNC again and checks. A pair that does not come back is a
violation ("wedged"). Results are appended to a file and resumed on the same version of the code.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Struct

from openmse.errors import DriverError, MseError, UsageError
from openmse.lab import client, judgement, records, state
from openmse.lab.campaign_faults import Doer, mend
from openmse.lab.campaign_plan import Plan, Step, draw
from openmse.lab.diagnostics import collect, up_or_explain
from openmse.lab.laboratory import Laboratory, Wanted
from openmse.lab.ledger import now_ns
from openmse.lab.outage import longest_gap, percentile
from openmse.lab.stage import NotInTime, Stage
from openmse.lab.topology import Places
from openmse.lab.workload import READER, WRITER, Workload

SETTLE_S = 0.5
PGBENCH_SCALE, PGBENCH_CLIENTS = 2, 2
SYNC_S = 180.0
"""From the last repair to SYNC. Longest lawful path: flapping is damped by 10 s and more, a base
backup may be needed; far beyond that is wedged."""


class RunResult(Struct, frozen=True, kw_only=True):
    """One run, as it is kept. Milliseconds and seconds as named."""

    version: str
    seed: int
    run: int
    failover_wait_s: float
    kind: str
    steps: tuple[Step, ...]
    made_at: str
    gap_ms: float
    sync_after_s: float | None
    acknowledged: int
    unknown: int
    warnings: int
    lost: int
    doubles: int
    signs: int
    pgbench_rate: int = 0
    skipped: list[str] = []
    violations: list[str] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignOptions:
    """What the command line says. ``minutes`` 0: no limit."""

    name: str
    runs: int
    seed: int
    results: Path
    diagnostics: Path
    failover_wait_s: float = 5.0
    minutes: float = 0.0
    pgbench_rate: int = 30
    """Transactions a second beside the writer; 0: none."""
    is_kept_going: bool = False


Say = Callable[[str], None]


@dataclass(slots=True)
class Campaign:
    """A campaign under way."""

    options: CampaignOptions
    say: Say
    version: str = field(default_factory=records.code_version)
    results: list[RunResult] = field(default_factory=list)

    def run(self) -> list[RunResult]:
        """All runs that are still to be done; every result of this campaign and version.

        Raises: MseError when a laboratory could not be built or used.
        """
        self.results = self._earlier()
        done = {result.run for result in self.results}
        pending = [n for n in range(1, self.options.runs + 1) if n not in done]
        if done:
            self.say(f"{len(done)} runs of this version are in {self.options.results} already")
        until = time.monotonic() + self.options.minutes * 60 if self.options.minutes else None
        while pending:
            with self._opened() as laboratory:
                is_usable = True
                while pending and is_usable:
                    if until is not None and time.monotonic() > until:
                        self.say(f"time is up; {len(pending)} runs are left")
                        return self.results
                    result, is_usable = self._one(laboratory, pending.pop(0))
                    if result.violations and not self.options.is_kept_going:
                        return self.results
        return self.results

    def _opened(self) -> AbstractContextManager[Laboratory]:
        options = self.options
        return opened(options.name, options.failover_wait_s, self.say, options.diagnostics)

    def _earlier(self) -> list[RunResult]:
        options = self.options
        return [
            result
            for result in records.load(options.results, RunResult)
            if result.version == self.version
            and result.seed == options.seed
            and result.failover_wait_s == options.failover_wait_s
        ]

    def _one(self, laboratory: Laboratory, run: int) -> tuple[RunResult, bool]:
        """One run; its result (kept), and whether the laboratory can be used further."""
        options = self.options
        plan = draw(
            options.seed,
            run,
            options.failover_wait_s,
            has_witness="witness" in laboratory.machines,
        )
        result, is_usable = perform(laboratory, plan, options, self.version)
        records.append(options.results, result)
        self.results.append(result)
        self.say(line_of(result))
        return result, is_usable


def perform(
    laboratory: Laboratory, plan: Plan, options: CampaignOptions, version: str
) -> tuple[RunResult, bool]:
    """Carry one plan out and judge it; whether the laboratory is in SYNC again."""
    conninfo = client.dsn(laboratory.places)
    if conninfo is None:
        raise DriverError("The laboratory has no connection string for clients.")
    load = Workload(laboratory, conninfo, f"seed{plan.seed}-run{plan.run}")
    stage = Stage(laboratory, load, options.failover_wait_s)
    run = _Run(stage, plan, options.pgbench_rate)
    try:
        run.play()
    except NotInTime as error:
        run.violations.append(f"Wedged: {error.sentence}")
    except MseError as error:
        run.violations.append(f"Not carried through: {error.sentence}")
    finally:
        load.stop()
        run.close()
    result = run.result(version, options.failover_wait_s)
    if result.violations:
        where = options.diagnostics / f"seed{plan.seed}-run{plan.run}-{int(time.time())}"
        collect(laboratory, load, where)
    shutil.rmtree(load.directory, ignore_errors=True)
    return result, run.is_in_sync


class _Run:
    """One run under way: what it found so far, also when it ends early."""

    def __init__(self, stage: Stage, plan: Plan, pgbench_rate: int) -> None:
        self._pgbench_rate = pgbench_rate
        self._stage = stage
        self._plan = plan
        self._begin = self._end = now_ns()
        self._sync_after_s: float | None = None
        self._judgement: judgement.Judgement | None = None
        self._doer: Doer | None = None
        self.violations: list[str] = []
        self.is_in_sync = False

    def play(self) -> None:
        """Load, faults, repair, SYNC, judgement. Raises: MseError."""
        stage = self._stage
        stage.load.create_table()
        if self._pgbench_rate:
            stage.load.start_pgbench(PGBENCH_SCALE, self._pgbench_rate, PGBENCH_CLIENTS)
        stage.load.start_presence()
        stage.load.start(WRITER, READER)
        stage.until_served(now_ns())
        stage.until_sync(SYNC_S)
        stage.watch(SETTLE_S)
        self._doer = Doer(stage)
        self._begin = self._doer.perform(self._plan)
        mended = mend(stage.laboratory)
        back = stage.until_sync(SYNC_S)
        self._sync_after_s = (back - mended) / 1e9
        self._doer.reap()
        stage.watch(SETTLE_S)
        self._end = stage.until_sync(SYNC_S)
        self._judgement = judgement.finish(stage, has_pgbench=self._pgbench_rate > 0)
        self.is_in_sync = True

    def close(self) -> None:
        """End commands that are still under way."""
        if self._doer is not None:
            self._doer.close()

    def result(self, version: str, failover_wait_s: float) -> RunResult:
        """What is kept of the run."""
        found = self._judgement
        written = self._stage.load.writer.account()
        counts = found.verdict if found else None
        end = self._end if found else now_ns()
        return RunResult(
            version=version,
            seed=self._plan.seed,
            run=self._plan.run,
            failover_wait_s=failover_wait_s,
            kind=self._plan.kind,
            steps=self._plan.steps,
            made_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            gap_ms=longest_gap(written.acknowledged_at, self._begin, end).ms,
            sync_after_s=self._sync_after_s,
            acknowledged=len(written.acknowledged),
            unknown=len(written.unknown),
            warnings=written.warnings,
            lost=len(counts.lost) if counts else 0,
            doubles=len(found.doubles) if found else 0,
            signs=found.signs if found else 0,
            pgbench_rate=self._pgbench_rate,
            skipped=self._doer.skipped if self._doer else [],
            violations=[*self.violations, *(found.violations if found else ())],
        )


@contextmanager
def opened(name: str, failover_wait_s: float, say: Say, diagnostics: Path) -> Iterator[Laboratory]:
    """The laboratory ``name`` if it is up (it stays), else one that lives as long as the block."""
    with state.in_use(Places.of(name)):
        yield from _opened(name, failover_wait_s, say, diagnostics)


def _opened(name: str, failover_wait_s: float, say: Say, diagnostics: Path) -> Iterator[Laboratory]:
    try:
        laboratory = Laboratory.open(name)
    except UsageError:
        wanted = Wanted(failover_wait_s=failover_wait_s)
        laboratory = up_or_explain(name, wanted, say, diagnostics / "set-up")
        try:
            yield laboratory
        finally:
            laboratory.down()
        return
    actual = laboratory.state().failover_wait_s
    if actual != failover_wait_s:
        raise UsageError(
            f"The laboratory '{name}' has a failover wait of {actual:g} s, not "
            f"{failover_wait_s:g} s.",
            f"Use another name, or remove it: mse lab down --name {name}",
        )
    with suppress(MseError):
        mend(laboratory)
    try:
        yield laboratory
    finally:
        laboratory.close()


def line_of(result: RunResult) -> str:
    """One run in one line."""
    sync = f"{result.sync_after_s:.1f} s" if result.sync_after_s is not None else "never"
    head = f"run {result.run} (seed {result.seed}): {result.kind}"
    body = (
        f"gap {result.gap_ms:.0f} ms, {result.acknowledged} acknowledged, {result.lost} lost, "
        f"{result.doubles} double, SYNC after {sync}"
    )
    bad = "".join(f"\n  VIOLATION {sentence}" for sentence in result.violations)
    return f"{head}: {body}{bad}"


def distribution(results: list[RunResult]) -> list[tuple[str, int, float, float, float]]:
    """Per fault: (name, runs, p50, p99, longest) of the outage in ms; overlapping ones last."""
    groups: dict[str, list[float]] = {}
    for result in results:
        single = len(result.steps) == 1
        name = result.kind if single else f"{len(result.steps)} overlapping faults"
        groups.setdefault(name, []).append(result.gap_ms)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0].isdigit(), item[0]))
    return [
        (name, len(gaps), percentile(gaps, 50), percentile(gaps, 99), max(gaps))
        for name, gaps in ordered
    ]
