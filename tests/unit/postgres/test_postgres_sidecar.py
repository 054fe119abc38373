"""What is kept beside the data directory, and what is read from the server's log."""

from pathlib import Path

import pytest

from openmse.errors import StateError
from openmse.ha.values import Lineage
from openmse.node.drivers.postgres.log import LogWatch
from openmse.node.drivers.postgres.sidecar import DirectoryRecord, Proof, Sidecar

RECORD = DirectoryRecord(
    directory_id="ab12cd34",
    system_identifier="7711485676308266068",
    lineage=Lineage(1, 5, "mse1"),
    parent_lineage=Lineage(1, 4, "mse2"),
    fork_lsn=123,
)


def test_the_record_round_trips(tmp_path: Path) -> None:
    sidecar = Sidecar(tmp_path)
    assert sidecar.read_record() is None
    sidecar.write_record(RECORD)
    assert sidecar.read_record() == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["directory.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"directory_id"',
        "[]",
        '{"directory_id": "a", "system_identifier": "1", "lineage": [1, 2, "x"], "more": 1}',
        '{"directory_id": "a", "system_identifier": "1", "lineage": [1, 2, "x"], "version": 2}',
    ],
)
def test_a_record_that_is_not_understood_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "directory.json").write_text(text)
    with pytest.raises(StateError):
        Sidecar(tmp_path).read_record()


def test_the_marker_stays_until_it_is_cleared(tmp_path: Path) -> None:
    sidecar = Sidecar(tmp_path)
    assert sidecar.read_marker() is None
    sidecar.set_marker("rewinding")
    assert Sidecar(tmp_path).read_marker() == "rewinding"
    sidecar.clear_marker()
    assert sidecar.read_marker() is None


def test_an_unreadable_proof_is_no_proof(tmp_path: Path) -> None:
    sidecar = Sidecar(tmp_path)
    proof = Proof(server="12:34", names=True, barrier_id=3, barrier_lsn=99)
    sidecar.write_proof(proof)
    assert sidecar.read_proof() == proof
    (tmp_path / "proof.json").write_text("{")
    assert sidecar.read_proof() is None
    sidecar.write_proof(None)
    assert sidecar.read_proof() is None


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be written"):
        Sidecar(tmp_path / "absent").write_record(RECORD)


def test_the_log_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "postgres.log"
    path.write_text("WARNING:  canceling the wait for synchronous replication\n")
    watch = LogWatch(path)
    watch.begin()
    watch.read()
    assert watch.cancelled_waits == 0, "what an earlier server wrote is past"
    with path.open("a") as log:
        log.write("WARNING:  canceling wait for synchronous replication due to user request\n")
        log.write("FATAL:  requested WAL segment 000 has already been removed\n")
    watch.read()
    watch.read()
    assert watch.cancelled_waits == 1
    assert watch.is_wal_gone
    path.write_text("x\n")  # trimmed
    watch.begin()
    watch.read()
    assert not watch.is_wal_gone
    assert watch.cancelled_waits == 1
