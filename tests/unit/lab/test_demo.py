"""What a demo shows, in which order, and how its end is told and counted."""

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from story_example import story

from openmse.errors import UsageError
from openmse.lab import demo_exercises
from openmse.lab.demo_screen import print_end
from openmse.lab.report import page
from openmse.lab.report_story import Story

SHAPES = {
    "P/S cut, both see W": "cut-ps",
    "P/W cut": "cut-pw",
    "S/W cut": "cut-sw",
    "P alone": "cut-p",
    "P alone, clients reach it": "cut-p-voters",
    "S alone": "cut-s",
    "W alone": "lose-w",
    "already PINNED or ALONE": "lose-w-then-s",
    "all apart at once": "cut-all",
    "heartbeats lost, WAL flowing": "cut-heartbeats",
    "one way": "one-way",
    "flapping": "flap",
}
"""Protocol §6, and the one-way loss of §3."""


def _ended(told: Story) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=160)
    code = print_end(told, console, report=Path("r.html"), diagnostics=Path("why"))
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def test_every_shape_of_a_cut_is_shown() -> None:
    assert set(SHAPES.values()) <= set(demo_exercises.FULL)


@pytest.mark.parametrize("is_quick", [True, False])
def test_a_repair_follows_what_it_repairs(is_quick: bool) -> None:
    shown = demo_exercises.chosen((), is_quick=is_quick)
    keys = [exercise.key for exercise in shown]
    assert len(set(keys)) == len(keys)
    assert not shown[0].is_repair
    for second in (exercise.key for exercise in shown if exercise.is_repair):
        pair = demo_exercises.chosen((second,), is_quick=is_quick)
        first = pair[0].key
        assert [exercise.key for exercise in pair] == [first, second]
        assert keys.index(second) == keys.index(first) + 1
        assert demo_exercises.chosen((first,), is_quick=is_quick) == pair


def test_chosen_ones_keep_the_order_of_the_demo() -> None:
    shown = demo_exercises.chosen(("freeze", "switchover"), is_quick=False)
    assert [exercise.key for exercise in shown] == ["switchover", "freeze"]


def test_an_exercise_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="no such exercise: explode") as refused:
        demo_exercises.chosen(("switchover", "explode"), is_quick=False)
    assert "cut-w-brief" in refused.value.hint


def test_a_good_run_ends_with_0() -> None:
    code, text = _ended(story())
    assert code == 0
    assert "Nothing was lost" in text
    assert "r.html" in text
    for column in ("event", "outage ms", "acknowledged", "lost", "who served"):
        assert column in text


def test_a_run_with_a_loss_ends_with_1_and_names_its_diagnostics() -> None:
    code, text = _ended(story("3 rows were lost."))
    assert code == 1
    assert "VIOLATION 3 rows were lost." in text
    assert "why" in text
    assert "Nothing was lost" not in text


@pytest.mark.parametrize("count", ["lost", "vanished", "double_presences"])
def test_a_count_alone_makes_a_run_bad(count: str) -> None:
    good = story()
    bad = msgspec.structs.replace(good, totals=msgspec.structs.replace(good.totals, **{count: 1}))
    assert good.is_good
    assert not bad.is_good
    assert _ended(bad)[0] == 1


def test_an_outage_by_design_is_told_as_one() -> None:
    told = story()
    outcomes = [*told.outcomes]
    outcomes[4] = msgspec.structs.replace(outcomes[4], event="cut-all", gap_ms=8300.0)
    apart = msgspec.structs.replace(told, outcomes=outcomes)
    text = page(apart)
    assert text.count("nobody has a quorum") == 2  # its card and its row
    assert "longest time without a write, all apart: by design" in text
    assert "nobody has a quorum" in _ended(apart)[1]
    assert "by design" not in page(told)
    assert "by design" not in _ended(told)[1]
