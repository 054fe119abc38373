"""Every test in three phases: ``make test``. Arguments are passed on to pytest in each.

First what measures no time, ``--jobs`` files side by side. Then the laboratories, as many files
side by side: they mostly wait, for boots and leases, and each is a world of its own. Then, one
after another with nothing beside it, what is marked ``alone``: it holds the product to
milliseconds.
A phase runs also when one before has failed. One seed gives all their random order.

``python tests/everything.py [--jobs N] [-m EXPRESSION] [what pytest takes]``
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
NOTHING_COLLECTED = 5
"""pytest's exit status if no test is of this phase."""
INTERRUPTED = 130
NOT_COMPILED = "PYTHONDONTWRITEBYTECODE"
"""Under this variable each of hundreds of processes would compile the sources anew."""
LONG_S = 10.0
"""Files that take longer are named at the end, so that whoever adds a test sees what it costs."""
KINDS = {"passed": "", "failed": "failure", "broken": "error", "skipped": "skipped"}
"""What can become of a test, and the element of the report that says so."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: sent to this process alone."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One run of pytest. ``expression``: which marks; ``options``: how they are run."""

    name: str
    expression: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a phase. ``bad``: tests that went wrong; ``seconds``: those of each file."""

    phase: Phase
    status: int
    took_s: float
    counts: Counter[str]
    bad: tuple[str, ...]
    seconds: dict[str, float]

    @property
    def is_well(self) -> bool:
        """Whether nothing failed; having had nothing to run is no failure."""
        return self.status in (0, NOTHING_COLLECTED)

    def sentence(self) -> str:
        """One line for people."""
        words = ", ".join(f"{self.counts[kind]} {kind}" for kind in KINDS if self.counts[kind])
        ended = "" if self.is_well else f"; pytest ended with {self.status}"
        return f"{self.phase.name:<15} {words or 'no tests'} in {self.took_s:.0f} s{ended}"

    def longest(self) -> list[str]:
        """A line for each file that took long, the longest first."""
        files = sorted(self.seconds.items(), key=lambda item: -item[1])
        return [f"{took_s:6.0f} s  {name}" for name, took_s in files if took_s >= LONG_S]


def phases(jobs: int, expression: str) -> tuple[Phase, ...]:
    """The phases, in their order; ``expression`` narrows each down."""
    also = f" and ({expression})" if expression else ""
    beside = ("-n", str(jobs), "--dist", "loadfile", "--no-loadscope-reorder")
    return (
        Phase("side by side", f"not laboratory and not alone{also}", beside),
        Phase("laboratories", f"laboratory and not alone{also}", beside),
        Phase("one by one", f"alone{also}", ("-p", "no:xdist")),
    )


def read_report(path: Path) -> tuple[Counter[str], tuple[str, ...], dict[str, float]]:
    """What pytest's JUnit report tells: counts, tests that went wrong, seconds of each file."""
    counts: Counter[str] = Counter()
    bad: list[str] = []
    seconds: dict[str, float] = defaultdict(float)
    if not path.exists():
        return counts, (), seconds
    for case in ElementTree.parse(path).iter("testcase"):
        told = (kind for kind, tag in KINDS.items() if tag and case.find(tag) is not None)
        kind = next(told, "passed")
        counts[kind] += 1
        seconds[str(case.get("file"))] += float(case.get("time", 0))
        if kind in ("failed", "broken"):
            bad.append(f"{case.get('file')}::{case.get('name')}")
    return counts, tuple(bad), seconds


def run_to_its_end(command: list[str]) -> int:
    """Its exit status. Whoever interrupts or ends us waits until pytest has tidied up."""
    kept = {name: value for name, value in os.environ.items() if name != NOT_COMPILED}
    process = subprocess.Popen(command, cwd=ROOT, env=kept)
    try:
        return process.wait()
    except KeyboardInterrupt as interrupt:  # Ctrl-C reaches pytest by itself; twice is too much
        if isinstance(interrupt, Terminated):
            process.send_signal(signal.SIGINT)
        process.wait()
        raise


def perform(phase: Phase, arguments: list[str], seed: int, folder: Path) -> Outcome:
    """Run a phase; what it prints is shown as it comes."""
    report = folder / f"{phase.name}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", phase.expression, *phase.options]
    command += [f"--junit-xml={report}", "-o", "junit_family=xunit1", f"--randomly-seed={seed}"]
    print(f"=== {phase.name}", flush=True)
    began = time.monotonic()
    status = run_to_its_end([*command, *arguments])
    return Outcome(phase, status, time.monotonic() - began, *read_report(report))


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def main() -> int:
    """Run all phases and tell what came of them; 0 if nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--jobs", type=int, default=int(os.environ.get("JOBS", "2")))
    parser.add_argument("--randomly-seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("-m", default="", metavar="EXPRESSION")
    chosen, arguments = parser.parse_known_args()
    todo = phases(chosen.jobs, chosen.m)
    signal.signal(signal.SIGTERM, _terminate)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="openmse-tests-") as name:
        try:
            for phase in todo:
                outcomes.append(perform(phase, arguments, chosen.randomly_seed, Path(name)))
        except KeyboardInterrupt:
            print("Interrupted; the rest was not run.", file=sys.stderr)
    print(f"=== all tests (--randomly-seed={chosen.randomly_seed})")
    for outcome in outcomes:
        print(outcome.sentence(), *outcome.longest(), sep="\n")
    for test in (test for outcome in outcomes for test in outcome.bad):
        print(f"FAILED {test}")
    if len(outcomes) < len(todo):
        return INTERRUPTED
    if all(outcome.status == NOTHING_COLLECTED for outcome in outcomes):
        return NOTHING_COLLECTED
    return 0 if all(outcome.is_well for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
