"""Properties of the core along random paths: pure, total, lawful in its order, never forgetful."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openmse.ha import effects as fx
from openmse.ha import events as ev
from openmse.ha import node as core
from openmse.ha.local import DbRole
from openmse.ha.messages import Message
from openmse.ha.state import Node
from openmse.ha.values import Instant, Record
from openmse.lab.exploration.explorer import Scenario
from openmse.lab.exploration.scenarios import scenarios
from openmse.lab.exploration.steps import Steps
from openmse.lab.exploration.world import Machine

encode = msgspec.msgpack.Encoder().encode
SCENARIOS = scenarios()
STARTS: dict[str, Steps] = {}
PATHS = st.lists(st.integers(0, 10_000), min_size=1, max_size=40)
THOROUGH = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def start_of(scenario: Scenario) -> Steps:
    """The scenario's start, built once."""
    if scenario.name not in STARTS:
        world = scenario.build()
        world.budget = scenario.budget
        STARTS[scenario.name] = world
    return STARTS[scenario.name]


def walk(world: Steps, choices: list[int]) -> Steps:
    """Follow a path given by numbers."""
    for choice in choices:
        moves = world.moves()
        if not moves:
            break
        world = world.apply(moves[choice % len(moves)])
    return world


class Watched(Steps):
    """Checks each step of a core, and each record on its way to the disk."""

    def _step(self, m: Machine, event: ev.Event) -> None:
        node = m.node
        if node is None or not m.runs or m.is_frozen:
            return
        before = encode(node)
        after, effects = core.step(node, event)
        assert encode(node) == before, "step changed its argument"
        assert (encode(after), effects) == (encode(core.step(node, event)[0]), effects)
        check_order(node, effects)
        super()._step(m, event)

    def persist(self, m: Machine, record: Record) -> None:
        before = m.record
        if record.incarnation == before.incarnation:
            assert record.promised >= before.promised
            assert record.accepted >= before.accepted
            assert record.chosen >= before.chosen
            assert record.largest_wait_ns >= before.largest_wait_ns
        super().persist(m, record)


def check_order(before: Node, effects: tuple[fx.Effect, ...]) -> None:
    """What lowers comes first; then the disk; then what is told; then what raises."""
    kinds = [type(effect) for effect in effects]
    if fx.Persist in kinds and fx.Send in kinds:
        assert kinds.index(fx.Persist) < kinds.index(fx.Send)
    for index, effect in enumerate(effects):
        is_down = isinstance(effect, fx.WantDb) and effect.wanted.role is DbRole.DOWN
        if is_down and before.db_wanted.role is not DbRole.DOWN and fx.Send in kinds:
            assert index < kinds.index(fx.Send), "it tells before it stops"
        if isinstance(effect, fx.WantDb) and effect.wanted.role is DbRole.PRIMARY:
            if fx.Persist in kinds:
                assert index > kinds.index(fx.Persist), "it serves before the disk knows"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@given(choices=PATHS)
@THOROUGH
def test_invariants_hold_along_any_path(scenario: Scenario, choices: list[int]) -> None:
    """Also: a step changes nothing it was given, and gives the same again."""
    world = start_of(scenario).fork()
    world.__class__ = Watched
    end = walk(world, choices)
    assert end.faults() == ()


def messages_of(world: Steps) -> list[Message]:
    """Messages that were on their way somewhere along a path."""
    return [message for _, _, message in world.flight]


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_step_is_total(data: Any) -> None:
    """Any message of any other moment, and any event, in any state: no error, only effects."""
    one = walk(start_of(data.draw(st.sampled_from(SCENARIOS))), data.draw(PATHS))
    other = walk(start_of(data.draw(st.sampled_from(SCENARIOS))), data.draw(PATHS))
    later = Instant(one.now + data.draw(st.integers(0, 10**12)))
    events: list[ev.Event] = [ev.Received(later, message) for message in messages_of(other)]
    events += [
        ev.Ticked(later),
        ev.LeaseLapsed(later),
        ev.CheckpointDone(later, "no such operation"),
        ev.FencingAnswered(later, data.draw(st.booleans())),
        ev.LinkChanged(later, "nobody", data.draw(st.booleans()), True),
        ev.Commanded(later, "x", data.draw(st.sampled_from(COMMANDS))),
    ]
    for donor in other.nodes():
        if donor.node is not None:
            events.append(ev.DbObserved(later, donor.node.db))
            events.append(ev.NetObserved(later, donor.node.net))
    for m in one.nodes():
        node = m.node
        for event in events:
            if node is None:
                break
            before = node
            node, effects = core.step(node, event)
            assert node.wake_at > node.now
            check_order(before, effects)


COMMANDS: list[ev.Command] = [
    ev.Switchover(),
    ev.Switchover("a"),
    ev.ForceTakeover("someone"),
    ev.ConfirmAlone(),
    ev.ReleaseProtect(),
    ev.Maintenance(True),
    ev.Maintenance(False),
    ev.StopNode(),
    ev.StopNode(handover=True),
    ev.LeaveQuarantine(),
    ev.ChangeVoters(()),
]
