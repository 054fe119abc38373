"""The exhaustive explorer: breadth first over every order of events, then deep from what is left.

Each scenario begins in a state that the core itself was brought to. All distinct states (by hash)
are judged by the invariants; from some of them everything is healed and the pair must find back to
a healthy state by itself (L3).
"""

import time
from collections import deque
from collections.abc import Callable
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from openmse.ha.invariants import Violation, describe, is_healthy_sync
from openmse.ha.values import MILLISECOND, SECOND, Mode, Settings
from openmse.lab.exploration import start
from openmse.lab.exploration.steps import TICK_NS, Budget, Steps

SETTINGS = Settings(failover_wait_ns=SECOND, boot_patience_ns=2 * SECOND)
BACK_TICKS = 400
"""Bound of L3: 100 s of abstract time."""
SAMPLE = 400
"""From one state in so many, L3 is tried."""
ENDLESS = Budget(10**6, 0, 0, 0, 0, 0, 0, 0)


class Found(Struct, frozen=True):
    """A broken rule, and the way to it."""

    scenario: str
    violation: Violation
    moves: tuple[str, ...]


class Report(Struct, frozen=True):
    """What the exploration of one scenario came to."""

    scenario: str
    states: int
    transitions: int
    depth: int
    healed: int
    seconds: float
    found: Found | None = None


class Scenario(Struct, frozen=True):
    """A starting state, and what may happen from there."""

    name: str
    build: Callable[[], Steps]
    budget: Budget


def fair(world: Steps, until: Callable[[Steps], bool], ticks: int) -> bool:
    """Run without faults, everything in its turn, until a condition holds; False if it never does.

    Changes the world in place.
    """
    world.budget = replace(ENDLESS, ticks=10**6)
    for _ in range(ticks):
        for _ in range(60):
            if until(world):
                return True
            if not _advance(world):
                break
        world.tick()
        world.settle()
    return until(world)


def _advance(world: Steps) -> bool:
    """One thing that is due; False if nothing is."""
    if world.flight:
        world.deliver(world.flight[0])
        world.settle()
        return True
    if world.shots:
        world.shoot(world.shots[0])
        world.settle()
        return True
    for m in (*world.nodes(), *world.retired()):
        if m.data.op is not None and m.is_on:
            world.finish(m)
            world.settle()
            return True
    for m in world.nodes():
        if world._can_stream(m) and world.stream(m):
            world.settle()
            return True
    return False


def heal_all(world: Steps) -> None:
    """Put everything right."""
    world.budget = ENDLESS
    world.refusing = frozenset()
    for shot in [shot for shot in world.shots if not shot.has_struck]:
        world.shoot(shot)
    world.heal()
    for m in world.machines.values():
        while m.is_frozen:
            world.thaw_monitor(m)
        world.power_on(m)
        world.start_monitor(m)
        if not m.is_witness:
            world.lane(m)
        world.settle()


def comes_back(world: Steps) -> bool:
    """L3: whether, once all is healed, the pair finds back to a healthy state by itself."""
    twin = world.fork()
    twin.instant = []
    heal_all(twin)
    for _ in range(BACK_TICKS):
        if fair(twin, lambda w: is_healthy_sync(w.picture()), 1):
            return not twin.faults()
        for m in twin.nodes():
            twin.power_on(m)  # a fencing agent may have switched it off since
        twin.settle()
    return False


def base(
    mode: Mode = Mode.SYNC, *, has_witness: bool = True, settings: Settings = SETTINGS
) -> Steps:
    """A pair that runs and is healthy (for PINNED and ALONE: as far as it can be)."""
    made = start.machines(mode, settings, has_witness=has_witness)
    world = Steps(made, start.history(mode, settings, has_witness=has_witness), Budget())
    for m in world.machines.values():
        world.power_on(m)
        world.settle()
    return world


def follow(scenario: Scenario, moves: tuple[str, ...], *, keep_trace: bool = False) -> Steps:
    """The world at the end of a path, by the names of its moves."""
    world = scenario.build()
    world.budget = scenario.budget
    if keep_trace:
        world.trace = []
    for name in moves:
        world = world.apply(next(move for move in world.moves() if move[0] == name))
    return world


def explore(
    scenario: Scenario,
    states: int,
    *,
    seed: int = 0,
    planted: frozenset[str] = frozenset(),
    deep_share: float = 0.5,
) -> Report:
    """Walk from the scenario's start until ``states`` distinct states were seen, or all."""
    began = time.monotonic()
    first = scenario.build()
    first.budget = scenario.budget
    first.planted = planted
    search = _Search(scenario.name, Random(seed), int(states * (1 - deep_share)), states)
    search.enter(first, ())
    while search.frontier and len(search.seen) < states and search.found is None:
        search.expand()
    return Report(
        scenario.name,
        len(search.seen),
        search.transitions,
        search.depth,
        search.healed,
        time.monotonic() - began,
        search.found,
    )


class _Search:
    """The bookkeeping of one search: breadth first up to a share, then from anywhere, deep."""

    def __init__(self, name: str, rng: Random, broad: int, most: int) -> None:
        self.name, self.rng, self.broad, self.most = name, rng, broad, most
        self.frontier: deque[tuple[Steps, tuple[str, ...]]] = deque()
        self.seen: set[int] = set()
        self.transitions = self.depth = self.healed = 0
        self.found: Found | None = None

    def enter(self, world: Steps, path: tuple[str, ...]) -> None:
        """A state was reached: judge it if it is new, and come back to it later."""
        key = world.key()
        if key in self.seen:
            return
        self.seen.add(key)
        self.depth = max(self.depth, len(path))
        faults = world.faults()
        if faults:
            self.found = Found(self.name, faults[0], path)
            return
        if self.rng.randrange(SAMPLE) == 0:
            self.healed += 1
            if not comes_back(world):
                last = describe(world.history.newest.config)
                wedged = Violation("L3", f"From {last} the pair does not find back.")
                self.found = Found(self.name, wedged, path)
                return
        self.frontier.append((world, path))

    def expand(self) -> None:
        """Take a state and try everything that may happen next."""
        if len(self.seen) < self.broad:
            world, path = self.frontier.popleft()
        else:
            index = self.rng.randrange(max(0, len(self.frontier) - 40), len(self.frontier))
            self.frontier.rotate(-index)
            world, path = self.frontier.popleft()
            self.frontier.rotate(index)
        for move in world.moves():
            self.transitions += 1
            self.enter(world.apply(move), (*path, move[0]))
            if self.found is not None or len(self.seen) >= self.most:
                return


__all__ = ["MILLISECOND", "TICK_NS", "Found", "Report", "Scenario", "base", "explore", "fair"]
