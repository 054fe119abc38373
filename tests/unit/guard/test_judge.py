"""The guard's rules, with every instant written down."""

import pytest

from openmse.guard.feed import Feed
from openmse.guard.judge import (
    FROZEN_NS,
    NEVER,
    START_LIMIT_NS,
    Monitor,
    judge,
    restart_delay_ns,
)

S = 1_000_000_000
OWNER = Feed(10, 1, "SYNC", 5 * S, 10 * S, postmaster_pid=77, postmaster_start=3)
FED_AT_4 = Monitor(started_at=0, fed_at=4 * S)


def test_nothing_happens_before_the_lease_ends() -> None:
    verdict = judge(FED_AT_4, [OWNER], 5 * S - 1)
    assert (verdict.stop, verdict.is_stuck) == ((), False)
    assert verdict.look_again_at == 5 * S


@pytest.mark.parametrize("monitor", [FED_AT_4, None, Monitor(started_at=4 * S)])
def test_at_the_deadline_postgresql_is_stopped_whatever_became_of_the_monitor(
    monitor: Monitor | None,
) -> None:
    assert judge(monitor, [OWNER], 5 * S).stop == (OWNER,)


def test_a_monitor_that_still_speaks_past_the_deadline_is_not_killed() -> None:
    busy = Monitor(started_at=0, fed_at=5 * S + FROZEN_NS // 2)
    assert judge(busy, [OWNER], 6 * S).is_stuck is False
    assert judge(busy, [OWNER], 6 * S).look_again_at == 5 * S + FROZEN_NS * 3 // 2


def test_a_silent_one_is_killed_at_the_deadline_and_not_before() -> None:
    assert judge(FED_AT_4, [OWNER], 5 * S - 1).is_stuck is False
    assert judge(FED_AT_4, [OWNER], 5 * S).is_stuck is True
    long_lease = OWNER._replace(deadline_ns=100 * S)
    assert judge(FED_AT_4, [long_lease], 99 * S).is_stuck is False, "the silence limit is not used"


@pytest.mark.parametrize("mode", ["ALONE", "PINNED"])
def test_outside_sync_nothing_times_out(mode: str) -> None:
    alone = OWNER._replace(mode=mode)
    assert judge(FED_AT_4, [alone], 14 * S - 1) == ((), False, 14 * S)
    assert judge(FED_AT_4, [alone], 14 * S) == ((), True, NEVER)
    assert judge(None, [alone], 1000 * S) == ((), False, NEVER)


def test_a_standby_in_sync_has_no_deadline() -> None:
    standby = OWNER._replace(deadline_ns=None)
    assert judge(FED_AT_4, [standby], 14 * S - 1).is_stuck is False
    assert judge(FED_AT_4, [standby], 14 * S) == ((), True, NEVER)


def test_without_a_postmaster_there_is_nothing_to_stop() -> None:
    stopped = OWNER._replace(postmaster_pid=0)
    assert judge(FED_AT_4, [stopped], 6 * S) == ((), True, NEVER)


def test_a_starting_one_gets_time() -> None:
    new = Monitor(started_at=4 * S)
    assert judge(new, [], 4 * S + START_LIMIT_NS - 1).is_stuck is False
    assert judge(new, [], 4 * S + START_LIMIT_NS).is_stuck is True
    assert judge(new, [OWNER], 6 * S).is_stuck is False, "what an earlier one promised is not its"


def test_of_several_groups_each_is_judged_by_its_own_promise() -> None:
    other = OWNER._replace(group="two", deadline_ns=8 * S)
    alone = OWNER._replace(group="three", mode="ALONE")
    verdict = judge(Monitor(0, 5 * S), [OWNER, other, alone], 5 * S + 1)
    assert verdict.stop == (OWNER,)
    assert verdict.is_stuck is False
    assert verdict.look_again_at == 6 * S


def test_restarts_slow_down_to_one_per_second() -> None:
    delays = [restart_delay_ns(deaths) / S for deaths in range(8)]
    assert delays == [0, 0, 0.2, 0.5, 1, 1, 1, 1]
