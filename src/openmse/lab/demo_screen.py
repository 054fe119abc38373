"""What a demo shows while it runs: a live table in a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from openmse.lab.exercises import Exercise
from openmse.lab.ledger import now_ns
from openmse.lab.report_story import BY_DESIGN, Story
from openmse.lab.report_svg import duration
from openmse.lab.stage import Outcome, Stage
from openmse.lab.workload import machine_of

REFRESH_S = 0.2
SILENCE_NS = 60_000_000
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class LiveScreen:
    """A table of all events that fills itself, and above it what the clients see right now."""

    def __init__(self, exercises: Sequence[Exercise], console: Console) -> None:
        self._exercises = exercises
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._outcomes: dict[int, Outcome] = {}
        self._current: int | None = None
        self._step = "setting up"
        self._remarks: list[str] = []
        self._stage: Stage | None = None
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="screen", daemon=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._current = None
        self._step = "stopped" if error else "done"
        self._live.update(self._draw(), refresh=True)
        self._live.__exit__(kind, error, trace)

    def setting_up(self, step: str) -> None:
        """Show a step of the set-up."""
        self._step = step

    def remark(self, sentence: str) -> None:
        """Keep a line above the table."""
        self._remarks.append(sentence)

    def follow(self, stage: Stage) -> None:
        """Show this load from now on."""
        self._stage = stage
        self._began = time.monotonic()
        self._step = "under load"

    def begins(self, index: int) -> None:
        """Mark an event as running."""
        self._current = index

    def ended(self, index: int, outcome: Outcome) -> None:
        """Fill an event's row."""
        self._current = None
        self._outcomes[index] = outcome

    def _refresh(self) -> None:
        while not self._over.wait(REFRESH_S):
            self._live.update(self._draw(), refresh=True)

    def _draw(self) -> Group:
        remarks = [Text(f"         {remark}", style="bold") for remark in self._remarks]
        return Group(self._now(), *remarks, self._table())

    def _now(self) -> Text:
        text = Text(f" {int(time.monotonic() - self._began):>4} s  {self._step}")
        if self._stage is None:
            return text
        self._stage.load.writer.catch_up()
        found = self._stage.load.writer.acknowledged
        if found:
            last = found[-1]
            text.append(f"   {len(found):,} writes acknowledged, now by {machine_of(last.by)}")
            silent = now_ns() - last.at
            if silent > SILENCE_NS:
                text.append(f"   no write for {duration(silent / 1e6)}", style="bold red")
        return text

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=True)
        table.add_column("")
        table.add_column("event")
        for name in ("outage", "acknowledged"):
            table.add_column(name, justify="right")
        table.add_column("who served")
        for index, exercise in enumerate(self._exercises):
            outcome = self._outcomes.get(index)
            if outcome is not None:
                table.add_row(
                    "[green]✓[/green]",
                    exercise.title,
                    duration(outcome.gap_ms),
                    f"{outcome.acknowledged:,}",
                    who(outcome),
                )
            elif index == self._current:
                tick = SPINNER[int(time.monotonic() * 8) % len(SPINNER)]
                table.add_row(f"[cyan]{tick}[/cyan]", f"[bold]{exercise.title}[/bold]")
            else:
                table.add_row("", f"[dim]{exercise.title}[/dim]")
        return table


class PlainScreen:
    """One line per event, for logs and pipes."""

    def __init__(self, exercises: Sequence[Exercise]) -> None:
        self._exercises = exercises
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s  {text}", flush=True)

    def setting_up(self, step: str) -> None:
        """A line for a step of the set-up."""
        self._say(f"set-up: {step}")

    def remark(self, sentence: str) -> None:
        """A line like any other."""
        self._say(sentence)

    def follow(self, stage: Stage) -> None:
        """A line for the beginning of the load."""
        self._say(f"under load, served by {stage.owner()}")

    def begins(self, index: int) -> None:
        """A line for an event's beginning."""
        self._say(f"{index + 1}. {self._exercises[index].title} ...")

    def ended(self, index: int, outcome: Outcome) -> None:
        """A line for an event's end."""
        self._say(
            f"   longest gap {duration(outcome.gap_ms)}, {outcome.acknowledged} acknowledged, "
            f"served by {who(outcome)}"
        )


def who(outcome: Outcome) -> str:
    """Who served before and after, in words."""
    names = [outcome.served_before or "nobody"]
    if outcome.served_after != outcome.served_before:
        names.append(outcome.served_after or "nobody")
    return " → ".join(names)


def print_result(story: Story, console: Console) -> None:
    """The table at the end, and the verdict in a sentence."""
    table = Table(title="What clients saw", title_justify="left")
    table.add_column("event")
    for name in ("outage ms", "ordinary client ms", "acknowledged", "lost"):
        table.add_column(name, justify="right")
    table.add_column("who served")
    for outcome, lost in zip(story.outcomes, story.lost_in, strict=True):
        ordinary = outcome.ordinary_gap_ms
        table.add_row(
            outcome.title + ("*" if outcome.event in BY_DESIGN else ""),
            f"{outcome.gap_ms:,.0f}",
            f"{ordinary:,.0f}" if ordinary is not None else "",
            f"{outcome.acknowledged:,}",
            f"[red]{lost}[/red]" if lost else "0",
            who(outcome),
        )
    console.print(table)
    for outcome in story.outcomes:
        if outcome.event in BY_DESIGN:
            console.print(f"* {outcome.title}: {BY_DESIGN[outcome.event]}.")
    totals = story.totals
    for sentence in totals.violations:
        console.print(f"[bold red]VIOLATION[/bold red] {sentence}")
    if story.is_good:
        console.print(
            f"[bold green]Nothing was lost[/bold green]: all {totals.acknowledged:,} acknowledged "
            f"writes are there, and in {totals.signs:,} signs of presence never two nodes at once."
        )


def print_end(story: Story, console: Console, *, report: Path, diagnostics: Path) -> int:
    """The result and where it is kept; the exit status, 0 only for a run without a fault."""
    print_result(story, console)
    console.print(f"The timeline: {report.resolve()}")
    if story.is_good:
        return 0
    console.print(f"Diagnostics: {diagnostics.resolve()}")
    return 1


def screen_for(exercises: Sequence[Exercise]) -> LiveScreen | PlainScreen:
    """A live table where a person looks, plain lines elsewhere."""
    console = Console()
    if sys.stdout.isatty() and console.is_terminal and not console.is_dumb_terminal:
        return LiveScreen(exercises, console)
    return PlainScreen(exercises)
