"""A rule with a warning sign is on the list: removed it is found, or another one covers it."""

from pathlib import Path

import pytest

import openmse
from openmse.lab.exploration.marks import CODE, PROTOCOL, Mark
from openmse.lab.exploration.mutants import COVERED, MUTANTS, Mutant, planted

SOURCE = Path(openmse.__file__).parent
DECISION = SOURCE.parents[1] / "docs" / "adr" / "0042-rules-that-overlap.md"
EXPLORATION = SOURCE / "lab" / "exploration"


def _marked_lines() -> list[tuple[str, str]]:
    files = (p for p in sorted(SOURCE.rglob("*.py")) if EXPLORATION not in p.parents)
    return [
        (path.relative_to(SOURCE).as_posix(), line)
        for path in files
        for line in path.read_text(encoding="utf-8").splitlines()
        if "⚠" in line
    ]


def test_every_warning_sign_of_the_code_is_on_the_list() -> None:
    lines = _marked_lines()
    for place, line in lines:
        fitting = [mark for mark in CODE if mark.place == place and mark.words in line]
        assert len(fitting) == 1, f"{place}: {line.strip()}"
    assert len(lines) == len(CODE)


@pytest.mark.parametrize("mark", [*PROTOCOL, *CODE], ids=lambda mark: f"{mark.place}-{mark.words}")
def test_a_mark_has_mutants_or_is_decided_upon(mark: Mark) -> None:
    assert {*mark.mutants} <= {mutant.name for mutant in MUTANTS}
    if not mark.mutants:
        assert f"`{mark.place}`, “{mark.words}”" in DECISION.read_text(encoding="utf-8")


def test_every_mutant_stands_for_a_mark_or_says_which_rule() -> None:
    names = [mutant.name for mutant in (*MUTANTS, *COVERED)]
    assert len(set(names)) == len(names)
    assert all(mutant.rule.startswith(("§", "I12")) for mutant in (*MUTANTS, *COVERED))


@pytest.mark.parametrize("mutant", COVERED, ids=lambda mutant: mutant.name)
def test_a_covered_rule_can_still_be_removed_and_is_decided_upon(mutant: Mutant) -> None:
    """Whoever changes its neighbour measures again: ``explore --without NAME``."""
    with planted(mutant):
        assert f"`{mutant.name}`" in DECISION.read_text(encoding="utf-8")
