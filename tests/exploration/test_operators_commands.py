"""The command line of exploration: what it makes of workers and runs that come to no end."""

import os
from concurrent.futures.process import BrokenProcessPool

import pytest

from openmse.lab.exploration import simulator, virtual
from openmse.lab.exploration.__main__ import _in_parallel


def _half(job: int) -> int:
    if job < 0:
        os._exit(9)
    return job // 2


def test_results_come_from_other_processes() -> None:
    assert sorted(_in_parallel(_half, [2, 4, 6], 2)) == [1, 2, 3]


def test_a_worker_that_dies_is_an_error() -> None:
    with pytest.raises(BrokenProcessPool):
        list(_in_parallel(_half, [2, -1, 4], 1))


def test_a_run_without_end_is_a_broken_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "EVENTS_MOST", 50)
    outcome = simulator.run(1)
    assert outcome.rule == "endless"
    assert "51 events" in outcome.sentence
