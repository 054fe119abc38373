"""What the lane does next, for every pair of wanted and observed."""

import itertools

import pytest

from openmse.ha.local import DbProcess, DbRole, DbWanted, Rung
from openmse.ha.values import Lineage
from openmse.node.drivers.postgres.rejoin import Upstream, needed_rung
from openmse.node.drivers.postgres.sidecar import DirectoryRecord
from openmse.node.runtime.database_plan import Act, Facts, next_step

OURS = Lineage(0, 1, "mse1")
THEIRS = Lineage(0, 2, "mse2")
OTHER = Lineage(0, 3, "mse1")
RECORD = DirectoryRecord(directory_id="ab", system_identifier="1", lineage=OURS)
TOWARDS = Upstream(lineage=THEIRS, parent_lineage=OURS, fork_lsn=100)


def facts(process: DbProcess, role: DbRole, **changes: object) -> Facts:
    return Facts(process=process, role=role, record=RECORD, **changes)  # type: ignore[arg-type]


def act(wanted: DbWanted, seen: Facts) -> Act:
    return next_step(wanted, seen).act


FOLLOW = DbWanted(role=DbRole.STANDBY, lineage=THEIRS, parent_lineage=OURS, fork_lsn=100)


@pytest.mark.parametrize(
    ("end_lsn", "rung"),
    [(99, Rung.STREAM), (100, Rung.STREAM), (101, Rung.REWIND), (None, Rung.REWIND)],
)
def test_the_end_of_our_history_decides(end_lsn: int | None, rung: Rung) -> None:
    assert needed_rung(RECORD, end_lsn, TOWARDS) is rung


def test_an_unrelated_history_is_never_rewound() -> None:
    unrelated = Upstream(lineage=THEIRS, parent_lineage=OTHER, fork_lsn=100)
    assert needed_rung(RECORD, 1, unrelated) is Rung.REBUILD


def test_a_promotion_of_unknown_fate_is_rebuilt() -> None:
    doubtful = DirectoryRecord(
        directory_id="ab", system_identifier="1", lineage=OURS, promoting_to=OTHER
    )
    assert needed_rung(doubtful, 1, TOWARDS) is Rung.REBUILD


@pytest.mark.parametrize(
    ("end_lsn", "allowed", "expected"),
    [
        (50, Rung.STREAM, Act.START_STANDBY),
        (150, Rung.STREAM, Act.NOTHING),
        (150, Rung.REWIND, Act.REWIND),
        (150, Rung.REBUILD, Act.REWIND),
    ],
)
def test_the_ladder_goes_no_higher_than_allowed(end_lsn: int, allowed: Rung, expected: Act) -> None:
    wanted = DbWanted(
        role=DbRole.STANDBY, lineage=THEIRS, parent_lineage=OURS, fork_lsn=100, rung=allowed
    )
    step = next_step(wanted, facts(DbProcess.DOWN, DbRole.PRIMARY, end_lsn=end_lsn))
    assert step.act is expected
    assert step.rung is (Rung.STREAM if end_lsn <= 100 else Rung.REWIND)


@pytest.mark.parametrize("marker", ["creating", "rewinding", "swapping"])
def test_an_incomplete_directory_is_rebuilt_and_never_serves(marker: str) -> None:
    seen = facts(DbProcess.DOWN, DbRole.STANDBY, marker=marker, end_lsn=1)
    assert act(DbWanted(role=DbRole.PRIMARY, lineage=OURS), seen) is Act.REFUSE
    step = next_step(FOLLOW, seen)
    assert (step.act, step.rung) == (Act.NOTHING, Rung.REBUILD)


def test_a_settling_copy_runs_as_a_standby_only() -> None:
    seen = facts(DbProcess.DOWN, DbRole.STANDBY, marker="settling", end_lsn=1)
    assert act(DbWanted(role=DbRole.STANDBY, lineage=OURS), seen) is Act.START_STANDBY
    assert act(DbWanted(role=DbRole.PRIMARY, lineage=OURS), seen) is Act.REFUSE


def test_a_standby_is_promoted_only_when_cut() -> None:
    wanted = DbWanted(role=DbRole.PRIMARY, lineage=THEIRS, parent_lineage=OURS)
    assert act(wanted, facts(DbProcess.UP, DbRole.STANDBY)) is Act.CUT
    assert act(wanted, facts(DbProcess.UP, DbRole.STANDBY, is_cut=True)) is Act.PROMOTE
    promoting = facts(DbProcess.UP, DbRole.STANDBY, is_cut=True, is_promoting=True)
    assert act(wanted, promoting) is Act.NOTHING


def test_another_parent_is_not_continued() -> None:
    wanted = DbWanted(role=DbRole.PRIMARY, lineage=THEIRS, parent_lineage=OTHER)
    for process, role in itertools.product(
        (DbProcess.DOWN, DbProcess.UP), (DbRole.STANDBY, DbRole.PRIMARY)
    ):
        step = next_step(wanted, facts(process, role, is_cut=True))
        assert step.act is Act.REFUSE
        assert "is not promoted" in step.sentence


def test_a_primary_begins_a_new_history_through_a_promotion() -> None:
    wanted = DbWanted(role=DbRole.PRIMARY, lineage=OTHER, parent_lineage=OURS)
    assert act(wanted, facts(DbProcess.UP, DbRole.PRIMARY)) is Act.STOP
    assert act(wanted, facts(DbProcess.DOWN, DbRole.PRIMARY)) is Act.START_STANDBY


def test_a_refused_directory_is_never_touched() -> None:
    for role, rung in itertools.product((DbRole.PRIMARY, DbRole.STANDBY), Rung):
        wanted = DbWanted(role=role, lineage=OURS, rung=rung)
        seen = facts(DbProcess.DOWN, DbRole.PRIMARY, refusal="not ours", end_lsn=1)
        assert act(wanted, seen) is Act.REFUSE


@pytest.mark.parametrize("wanted_role", list(DbRole))
@pytest.mark.parametrize("role", list(DbRole))
@pytest.mark.parametrize("process", list(DbProcess))
def test_every_pair_has_an_answer(wanted_role: DbRole, role: DbRole, process: DbProcess) -> None:
    if role is DbRole.DOWN and process is not DbProcess.DOWN:
        return
    step = next_step(DbWanted(role=wanted_role, lineage=OURS), facts(process, role, end_lsn=1))
    if process is DbProcess.STOPPING:
        assert step.act is Act.NOTHING
    if process is DbProcess.DOWN:
        assert step.act not in (Act.STOP, Act.CUT, Act.RECEIVE, Act.PROMOTE)
    elif process is not DbProcess.STOPPING and wanted_role is DbRole.DOWN:
        assert step.act is Act.STOP
    if process is not DbProcess.DOWN:
        assert step.act not in (Act.START_PRIMARY, Act.START_STANDBY, Act.REWIND, Act.REBUILD)


def test_a_standby_that_lacks_wal_runs_on_until_a_rebuild_is_allowed() -> None:
    seen = facts(DbProcess.UP, DbRole.STANDBY, is_told_to_receive=True, least_rung=Rung.REBUILD)
    kept = next_step(DbWanted(role=DbRole.STANDBY, lineage=OURS), seen)
    assert (kept.act, kept.rung) == (Act.NOTHING, Rung.REBUILD)
    assert act(DbWanted(role=DbRole.STANDBY, lineage=OURS, rung=Rung.REBUILD), seen) is Act.STOP
