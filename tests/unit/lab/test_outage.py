"""Gaps between acknowledged writes, and percentiles."""

import pytest

from openmse.lab.outage import Gap, gaps_over, longest_gap, percentile

MS = 1_000_000


def _at(*milliseconds: int) -> list[int]:
    return [value * MS for value in milliseconds]


def test_the_longest_gap_after_the_event_counts() -> None:
    assert longest_gap(_at(0, 5, 10, 310, 315), 12 * MS, 400 * MS).ms == 300


def test_a_gap_that_began_before_the_event_counts_in_full() -> None:
    assert longest_gap(_at(0, 100, 105), 50 * MS, 104 * MS).ms == 100


def test_a_gap_outside_the_window_does_not_count() -> None:
    assert longest_gap(_at(0, 500, 505, 510, 900), 506 * MS, 508 * MS).ms == 5


def test_the_gap_that_reaches_beyond_the_end_counts_to_the_next_write() -> None:
    assert longest_gap(_at(0, 5, 900), 6 * MS, 100 * MS) == Gap(5 * MS, 900 * MS)


def test_no_write_ever_again_is_an_open_gap() -> None:
    assert longest_gap(_at(0, 5), 6 * MS, 100 * MS) == Gap(5 * MS, 100 * MS, is_open=True)
    assert longest_gap([], 6 * MS, 100 * MS) == Gap(6 * MS, 100 * MS, is_open=True)


def test_before_the_first_write_the_gap_begins_with_the_window() -> None:
    assert longest_gap(_at(50, 55), 10 * MS, 60 * MS).ms == 40


def test_gaps_over_a_threshold() -> None:
    assert [gap.ms for gap in gaps_over(_at(0, 5, 60, 65, 165), 50)] == [55, 100]


@pytest.mark.parametrize(("percent", "expected"), [(50, 10), (99, 20), (100, 20), (95, 19), (1, 1)])
def test_percentiles_are_values_that_were_measured(percent: float, expected: int) -> None:
    assert percentile([float(i) for i in range(20, 0, -1)], percent) == expected


def test_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
