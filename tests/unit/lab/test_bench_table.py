"""The table of figures judges by the targets and counts what was lost."""

import pytest

from openmse.lab.bench_table import FIGURES, BenchResult, as_markdown, lines, number


def _result(event: str, value: float, wait: float = 2.0, **more: object) -> BenchResult:
    return BenchResult(
        version="v",
        host="a machine",
        event=event,
        failover_wait_s=wait,
        repetition=1,
        value=value,
        made_at="2026-01-01",
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("values", "is_met"),
    [([2300.0] * 20, True), ([2300.0] * 19 + [2900.0], False), ([2450.0] * 20, False)],
    ids=["good", "p99 missed", "p50 missed"],
)
def test_both_percentiles_count(values: list[float], is_met: bool) -> None:
    (line,) = lines([_result("power-off", value) for value in values])
    assert line.is_met is is_met
    assert line.count == 20


def test_a_violation_is_never_a_met_target() -> None:
    (line,) = lines([_result("planned", 100.0, violations=["a row was lost"], lost=1)])
    assert not line.is_met
    assert line.lost == 1


def test_waits_are_told_apart() -> None:
    found = lines([_result("power-off", 5000.0, 5.0), _result("power-off", 2300.0, 2.0)])
    assert [(line.failover_wait_s, line.is_met) for line in found] == [(2.0, True), (5.0, True)]


def test_the_page_names_the_machine_and_the_losses() -> None:
    text = as_markdown([_result("planned", 300.0, ordinary_gap_ms=900.0)])
    assert "a machine" in text
    assert "Lost acknowledged writes: 0" in text
    assert "| 900 / 900 / 900 |" in text
    assert "met" in text


def test_the_ordinary_client_has_percentiles_of_its_own() -> None:
    gaps = [1000.0] * 10 + [1300.0] * 9 + [2100.0]
    text = as_markdown([_result("planned", 300.0, ordinary_gap_ms=gap) for gap in gaps])
    assert "| 1,000 / 2,100 / 2,100 |" in text


def test_what_was_lost_stands_in_the_line_where_it_was_lost() -> None:
    good = _result("planned", 300.0)
    bad = _result("power-off", 2300.0, lost=3, doubles=1, violations=["3 rows were lost"])
    text = as_markdown([good, bad]).splitlines()
    (power,) = (row for row in text if row.startswith("| machine loses power"))
    (planned,) = (row for row in text if row.startswith("| planned"))
    assert "| 3 | 1 | p50 ≤ 2,400, p99 ≤ 2,800 | MISSED |" in power
    assert "| 0 | 0 | p50 ≤ 450, p99 ≤ 800 | met |" in planned
    assert len({row.count("|") for row in text if row.startswith("|")}) == 1


def test_what_others_take_is_given_text() -> None:
    text = as_markdown([_result("power-off", 2300.0), _result("rest-cpu", 1.0)])
    assert "| Patroni 24 / 22 s, pg_auto_failover 55 / 5.7 s |" in text
    assert "not measured by this bench" in text


def test_every_figure_has_a_target() -> None:
    for figure in FIGURES.values():
        assert figure.targets
        for target in figure.targets.values():
            assert target.p50 is not None or target.p99 is not None


def test_small_numbers_keep_a_digit() -> None:
    assert [number(1.25), number(1234.5), number(None)] == ["1.2", "1,234", ""]
