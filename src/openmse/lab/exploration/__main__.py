"""``python -m openmse.lab.exploration explore | simulate | replay``: look for a broken rule."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import cpu_count
from typing import TypeVar

import click

from openmse.lab.exploration import simulator
from openmse.lab.exploration.explorer import Report, explore
from openmse.lab.exploration.mutants import COVERED, MUTANTS, planted
from openmse.lab.exploration.scenarios import scenarios

Job = TypeVar("Job")
Result = TypeVar("Result")


_WITHOUT = click.option(
    "--without",
    "rule",
    default="",
    type=click.Choice(["", *(mutant.name for mutant in (*MUTANTS, *COVERED))]),
    show_choices=False,
    metavar="RULE",
    help="Remove a rule from the core first (a name of mutants.py): is it found?",
)


_REPLACES = click.option(
    "--replaces",
    is_flag=True,
    help="Machines are lost for good as well, and others take their places (decision 60).",
)


def _in_parallel(
    work: Callable[[Job], Result], jobs: Iterable[Job], processes: int
) -> Iterator[Result]:
    """The results as they come. A worker that dies is an error, never a wait without end."""
    with ProcessPoolExecutor(processes or cpu_count()) as pool:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()


@click.group()
def main() -> None:
    """Explore and simulate the HA protocol with the production core."""


@contextmanager
def _without(rule: str) -> Iterator[frozenset[str]]:
    """The core without one rule; what of it has to be planted in the model."""
    if not rule:
        yield frozenset()
        return
    mutant = next(one for one in (*MUTANTS, *COVERED) if one.name == rule)
    with planted(mutant):
        yield mutant.planted


def _explore_one(job: tuple[str, int, int, str]) -> Report:
    name, states, seed, rule = job
    scenario = next(one for one in scenarios() if one.name == name)
    with _without(rule) as plants:
        return explore(scenario, states, seed=seed, planted=plants)


def _simulate_one(job: tuple[int, str, bool]) -> simulator.Outcome:
    seed, rule, replaces = job
    with _without(rule) as plants:
        return simulator.run(seed, plants, replaces=replaces)


@main.command("explore")
@click.option("--states", default=1_050_000, help="Distinct states in all, over all scenarios.")
@click.option("--seed", default=0, help="Seed of the deep part of each search.")
@click.option("--processes", default=0, help="Processes; 0 for one per core.")
@click.option("--only", default="", help="Only scenarios whose name contains this.")
@_WITHOUT
def explore_command(states: int, seed: int, processes: int, only: str, rule: str) -> None:
    """Walk every order of events at small bounds from each starting state."""
    chosen = [one for one in scenarios() if only in one.name]
    if not chosen:
        raise click.UsageError(f"No scenario has {only!r} in its name.")
    began = time.monotonic()
    share = states // len(chosen) + 1
    total, bad = 0, 0
    print(f"{'scenario':<30} {'states':>9} {'moves':>9} {'depth':>6} {'healed':>7} {'s':>6}")
    jobs = [(one.name, share, seed, rule) for one in chosen]
    for report in _in_parallel(_explore_one, jobs, processes):
        total += report.states
        print(
            f"{report.scenario:<30} {report.states:>9} {report.transitions:>9} "
            f"{report.depth:>6} {report.healed:>7} {report.seconds:>6.0f}",
            flush=True,
        )
        bad += _show(report)
    seconds = time.monotonic() - began
    print(f"{total} distinct states in {seconds:.0f} s; {bad} broken rule(s).")
    sys.exit(1 if bad else 0)


def _show(report: Report) -> int:
    found = report.found
    if found is None:
        return 0
    print(f"BROKEN {found.violation.rule}: {found.violation.sentence}")
    print(f"  from {found.scenario!r}, {len(found.moves)} moves:")
    for move in found.moves:
        print(f"    {move}")
    return 1


@main.command("simulate")
@click.option("--seeds", default=1000, help="How many seeds.")
@click.option("--first", default=0, help="The first seed.")
@click.option("--processes", default=0, help="Processes; 0 for one per core.")
@_WITHOUT
@_REPLACES
def simulate_command(seeds: int, first: int, processes: int, rule: str, replaces: bool) -> None:
    """Play random faults in virtual time, then heal everything and wait for the pair."""
    began = time.monotonic()
    counts: Counter[str] = Counter()
    virtual = steps = 0
    jobs = [(seed, rule, replaces) for seed in range(first, first + seeds)]
    for outcome in _in_parallel(_simulate_one, jobs, processes):
        counts[outcome.rule] += 1
        virtual += outcome.virtual_ns
        steps += outcome.steps
        if outcome.rule:
            print(f"BROKEN {outcome.rule}, seed {outcome.seed}: {outcome.sentence}")
            option = f" --without {rule}" if rule else ""
            option += " --replaces" if replaces else ""
            print(f"  replay: python -m openmse.lab.exploration replay {outcome.seed}{option}")
            sys.stdout.flush()
    seconds = time.monotonic() - began
    bad = sum(n for rule, n in counts.items() if rule)
    print(
        f"{seeds} seeds, {virtual / 3.6e12:.1f} h of virtual time, {steps} steps in "
        f"{seconds:.0f} s ({seeds * 60 / max(seconds, 0.001):.0f} seeds a minute); "
        f"{bad} broken rule(s)."
    )
    sys.exit(1 if bad else 0)


@main.command("replay")
@click.argument("seed", type=int)
@click.option("--all", "everything", is_flag=True, help="Heartbeats and views as well.")
@_WITHOUT
@_REPLACES
def replay_command(seed: int, everything: bool, rule: str, replaces: bool) -> None:
    """Play one seed again and print what happened."""
    with _without(rule) as plants:
        outcome = simulator.run(seed, plants, keep_trace=True, replaces=replaces)
    noise = ("Beat", "database seen", "address seen", "> lease", "acknowledges", "Watchdog")
    for line in outcome.trace:
        if everything or not any(word in line for word in noise):
            print(line)
    verdict = f"BROKEN {outcome.rule}: {outcome.sentence}" if outcome.rule else "No rule broken."
    print(verdict)
    sys.exit(1 if outcome.rule else 0)


if __name__ == "__main__":
    main()
