"""``mse lab demo``: a pair under load, everything that can happen to it, and what clients saw.

Builds a laboratory of its own, removes it at the end, also after Ctrl-C or an error.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from openmse.errors import DriverError, MseError
from openmse.lab import client, demo_console, demo_exercises, judgement, records, report
from openmse.lab.diagnostics import collect, up_or_explain
from openmse.lab.exercises import Exercise
from openmse.lab.judgement import Judgement
from openmse.lab.laboratory import Laboratory, Wanted
from openmse.lab.ledger import now_ns
from openmse.lab.report_story import (
    Story,
    Totals,
    served_stretches,
    state_stretches,
    ticks_around,
    write_gaps,
)
from openmse.lab.stage import Outcome, Stage
from openmse.lab.workload import ORDINARY, READER, WRITER, Workload

PGBENCH_SCALE, PGBENCH_RATE, PGBENCH_CLIENTS = 4, 60, 3
BETWEEN_S = 0.7
"""Undisturbed time under load before each event, so that the picture shows what normal is."""
SAMPLE_S = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the command line says."""

    name: str
    is_quick: bool
    failover_wait_s: float
    report: Path
    diagnostics: Path
    only: tuple[str, ...] = ()
    """Show these exercises alone; none for all."""
    console_port: int | None = None
    """Where the web console listens on 127.0.0.1 meanwhile; None for none."""

    @property
    def exercises(self) -> list[Exercise]:
        """What is shown, in order. Raises: UsageError for a name in ``only`` that is none."""
        return demo_exercises.chosen(self.only, is_quick=self.is_quick)


class Screen(Protocol):
    """Where progress is shown."""

    def setting_up(self, step: str) -> None:
        """A step of the set-up begins."""

    def remark(self, sentence: str) -> None:
        """Something to keep in sight, such as where the console is."""

    def follow(self, stage: Stage) -> None:
        """The load runs from now on."""

    def begins(self, index: int) -> None:
        """An event begins."""

    def ended(self, index: int, outcome: Outcome) -> None:
        """An event has ended."""


def run(options: DemoOptions, screen: Screen) -> Story:
    """The whole demo; the story of what happened, its page written.

    Raises: MseError when it could not be carried through; the laboratory is gone then too.
    """
    wanted = Wanted(failover_wait_s=options.failover_wait_s)
    with _ends_in_order():
        laboratory = up_or_explain(options.name, wanted, screen.setting_up, options.diagnostics)
        try:
            screen.setting_up("opening the console")
            with demo_console.beside(laboratory, options.console_port, screen.remark):
                return _perform(laboratory, options, screen)
        finally:
            with _uninterrupted():
                laboratory.down()


def _perform(laboratory: Laboratory, options: DemoOptions, screen: Screen) -> Story:
    conninfo = client.dsn(laboratory.places)
    if conninfo is None:
        raise DriverError("The laboratory has no connection string for clients.")
    load = Workload(laboratory, conninfo, "demo")
    stage = Stage(laboratory, load, options.failover_wait_s)
    try:
        screen.setting_up("filling pgbench's tables")
        load.create_table()
        load.start_pgbench(PGBENCH_SCALE, PGBENCH_RATE, PGBENCH_CLIENTS)
        load.start_presence()
        load.start(WRITER, READER, ORDINARY)
        begin = stage.until_served(now_ns())
        screen.follow(stage)
        with sampled(stage):
            outcomes = _play(stage, options.exercises, screen)
            stage.watch(BETWEEN_S)
        end = now_ns()
        verdict = judgement.finish(stage, has_pgbench=True)
        story = tell(stage, outcomes, verdict, (begin, end))
    except MseError:
        collect(laboratory, load, options.diagnostics)
        raise
    finally:
        load.stop()
    if not story.is_good:
        collect(laboratory, load, options.diagnostics)
    options.report.write_text(report.page(story))
    options.report.with_suffix(".json").write_bytes(msgspec.json.encode(story))
    return story


def _play(stage: Stage, exercises: Sequence[Exercise], screen: Screen) -> list[Outcome]:
    outcomes = []
    for index, exercise in enumerate(exercises):
        if not exercise.is_repair:
            stage.until_sync()
        stage.watch(BETWEEN_S)
        screen.begins(index)
        window = exercise.play(stage)
        outcome = stage.measure(exercise.key, exercise.title, window)
        outcomes.append(outcome)
        screen.ended(index, outcome)
    return outcomes


def tell(stage: Stage, outcomes: list[Outcome], verdict: Judgement, span: tuple[int, int]) -> Story:
    """The story of a run that is over."""
    begin, end = span
    written = verdict.written.acknowledged
    edges = [outcome.begin for outcome in outcomes[1:]] + [end]
    with stage.lock:
        pictures = sorted(stage.pictures, key=lambda picture: picture.at)
    counts = verdict.verdict
    return Story(
        title="OpenMSE: what clients saw while machines failed",
        made_at=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        host=records.host(),
        code=records.code_version(),
        failover_wait_s=stage.failover_wait_s,
        begin=begin,
        end=end,
        machines=[*stage.nodes],
        served=served_stretches(written),
        states=state_stretches(pictures, end),
        marks=list(stage.marks),
        gaps=write_gaps(written),
        outcomes=outcomes,
        lost_in=[
            judgement.lost_between(verdict, o.begin, edge)
            for o, edge in zip(outcomes, edges, strict=True)
        ],
        ticks=[ticks_around(written, outcome) for outcome in outcomes],
        totals=Totals(
            acknowledged=counts.acknowledged,
            lost=len(counts.lost),
            unknown=counts.unknown,
            unknown_found=counts.unknown_found,
            rows_read=verdict.rows_read,
            vanished=len(counts.vanished),
            warnings=counts.warnings,
            double_presences=len(verdict.doubles),
            signs=verdict.signs,
            connect_ms=stage.load.undisturbed_connect_ms(),
            pgbench_transactions=verdict.pgbench_transactions,
            violations=list(verdict.violations),
        ),
    )


@contextlib.contextmanager
def sampled(stage: Stage) -> Iterator[None]:
    """Ask the nodes for their state again and again meanwhile, for the timeline."""
    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            stage.picture()

    thread = threading.Thread(target=sample, name="state-sampler")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _ends_in_order() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the block as Ctrl-C does, so that it cleans up."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let nothing but SIGKILL disturb the clean-up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def missing_rights() -> str:
    """What a demo needs and this user lacks, as a sentence; '' if nothing."""
    if os.geteuid() == 0:
        return ""
    return (
        "The demo needs root. Its machines are network, mount and process namespaces with disks of "
        "their own, and only root may make those; PostgreSQL in them runs as an unprivileged user, "
        "and this computer's own network is not touched."
    )
