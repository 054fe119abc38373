"""The explorer on the production core: a short walk from every start finds no broken rule."""

import pytest

from openmse.lab.exploration.explorer import Scenario, explore, follow
from openmse.lab.exploration.scenarios import scenarios


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda scenario: scenario.name)
def test_no_rule_breaks_near_any_start(scenario: Scenario) -> None:
    report = explore(scenario, 1200)
    assert report.found is None
    assert report.states == 1200
    assert report.healed > 0


def test_a_path_is_followed_by_its_names() -> None:
    """A counterexample is a list of moves: it must lead to the same state again."""
    scenario = next(one for one in scenarios() if one.name == "sync")
    moves = ("kill a", "tick", "restart a", "tick")
    assert follow(scenario, moves).key() == follow(scenario, moves).key()
    assert follow(scenario, moves).key() != follow(scenario, moves[:2]).key()


def test_moving_leaves_the_world_before_as_it_was() -> None:
    scenario = next(one for one in scenarios() if one.name == "handover")
    world = scenario.build()
    world.budget = scenario.budget
    before = world.key()
    for move in world.moves():
        world.apply(move)
        assert world.key() == before, move[0]
