"""What an attack is, how it is run, and the small things that attacks are built from."""

from collections.abc import Callable

from msgspec import Struct

from openmse.lab.exploration.explorer import Scenario, comes_back, explore, fair
from openmse.lab.exploration.steps import Budget, Steps
from openmse.lab.exploration.world import KINDS, Machine

CALM = Budget(ticks=6, writes=1, losses=0, repeats=0, crashes=0, cuts=0)


def _always(_: Steps) -> bool:
    return True


class Attack(Struct, frozen=True):
    """A start; what must hold at every tick from there; what else may happen."""

    name: str
    build: Callable[[], Steps]
    holds: Callable[[Steps], bool] = _always
    act: Callable[[Steps], object] = _always
    """What clients do at every tick."""
    ticks: int = 30
    budget: Budget = CALM
    states: int = 400
    forgives: frozenset[str] = frozenset()
    """Rules that nobody can keep from this start; it is about the others."""
    recovers: bool = True
    """Once all is healed the pair must find back by itself (L3); without that an operator must."""


def assault(attack: Attack, planted: frozenset[str] = frozenset()) -> str:
    """The rule that breaks under the attack, or '' for none."""
    Steps.plants = planted
    try:
        world = attack.build()
    except AssertionError as error:
        return f"unreachable: {error}"
    finally:
        Steps.plants = frozenset()
    rule = _watch(attack, world.fork())
    if not rule and attack.recovers and not comes_back(world):
        rule = "L3"
    if rule or not attack.states:
        return rule
    scenario = Scenario(attack.name, lambda: world.fork(), attack.budget)
    report = explore(scenario, attack.states, planted=planted, deep_share=0.3)
    return report.found.violation.rule if report.found is not None else ""


def _watch(attack: Attack, world: Steps) -> str:
    world.instant = []
    for _ in range(attack.ticks):
        attack.act(world)
        fair(world, lambda w: bool(_broken(attack, w)), 1)
        rule = _broken(attack, world)
        if rule:
            return rule
        if not attack.holds(world):
            return "L1"
    return ""


def _broken(attack: Attack, world: Steps) -> str:
    """The first rule that is broken and not forgiven; '' for none."""
    return next((f.rule for f in world.faults() if f.rule not in attack.forgives), "")


def lose_flight(world: Steps) -> None:
    world.flight = ()


def cut(world: Steps, *pairs: str, kinds: tuple[str, ...] = KINDS) -> None:
    """Cut ``a>b`` one way each."""
    cuts = {(source, to, kind) for source, to in (p.split(">") for p in pairs) for kind in kinds}
    world.cuts = world.cuts | cuts
    world.cut_at = world.now


def restart(world: Steps, m: Machine) -> None:
    world.kill_monitor(m)
    world.start_monitor(m)
    world.settle()


def deliver(world: Steps, kind: type, source: str, to: str) -> None:
    """Deliver what is in flight of this kind on this way."""
    for flight in world.flight:
        if flight[:2] == (source, to) and isinstance(flight[2], kind):
            world.deliver(flight)
            world.settle()


def idle(world: Steps, count: int) -> None:
    """Time goes on; databases finish what they do; nobody answers."""
    for _ in range(count):
        for m in world.nodes():
            while m.data.op is not None:
                world.finish(m)
                world.settle()
        world.tick()
        world.settle()


def write_at_a(world: Steps) -> None:
    """A client commits through a, if it can."""
    world.write(world.machines["a"])
    world.settle()
