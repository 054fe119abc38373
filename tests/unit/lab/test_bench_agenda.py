"""The order in which the bench measures."""

from openmse.lab.bench import agenda

COUNTS = {"power-off": 20, "secondary-lost": 20, "rest-cpu": 3, "rejoin-1gb": 20}


def test_everything_once_and_the_large_database_last() -> None:
    found = agenda(COUNTS, set())
    assert sorted((e, n) for e, ns in found for n in ns) == sorted(
        (event, n) for event, count in COUNTS.items() for n in range(1, count + 1)
    )
    assert [event for event, _ in found[-4:]] == ["rejoin-1gb"] * 4
    assert next(ns for event, ns in found if event == "power-off") == (1, 2, 3, 4, 5)


def test_losses_of_the_peer_are_kept_few_in_a_row() -> None:
    assert {len(ns) for event, ns in agenda(COUNTS, set()) if event == "secondary-lost"} == {2}


def test_what_was_measured_is_left_out() -> None:
    done = {("power-off", n) for n in (1, 2, 4)} | {("rest-cpu", n) for n in (1, 2, 3)}
    found = agenda(COUNTS, done)
    assert ("power-off", (3, 5)) in found
    assert not [event for event, _ in found if event == "rest-cpu"]
