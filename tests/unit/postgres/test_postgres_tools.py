"""Parsing and arithmetic about PostgreSQL, on text captured from 17.10."""

from pathlib import Path

import pytest

from openmse.errors import ConfigError, DatabaseError
from openmse.node.drivers.postgres.rejoin import parse_wal_end
from openmse.node.drivers.postgres.session import explain_write_failure
from openmse.node.drivers.postgres.tools import (
    ClusterState,
    ToolResult,
    check_version,
    format_lsn,
    locate_binaries,
    parse_control_data,
    parse_lsn,
    parse_percent,
    parse_version,
    record_end,
    segment_name,
)

CONTROL_DATA = """\
pg_control version number:            1700
Catalog version number:               202406281
Database system identifier:           7711485676308266068
Database cluster state:               shut down
pg_control last modified:             Mon Nov 23 21:42:54 2026
Latest checkpoint location:           0/16C37F8
Latest checkpoint's REDO location:    0/16C37F8
Latest checkpoint's REDO WAL file:    000000010000000000000001
Latest checkpoint's TimeLineID:       1
Latest checkpoint's PrevTimeLineID:   1
Time of latest checkpoint:            Mon Nov 23 21:42:54 2026
Minimum recovery ending location:     0/0
Min recovery ending loc's timeline:   0
Bytes per WAL segment:                16777216
Data page checksum version:           1
"""
SEGMENT = 16 * 1024 * 1024


def test_control_data_is_read() -> None:
    control = parse_control_data(CONTROL_DATA)
    assert control.system_identifier == "7711485676308266068"
    assert control.state is ClusterState.SHUT_DOWN
    assert control.checkpoint_lsn == 0x16C37F8
    assert control.timeline == 1
    assert control.segment_bytes == SEGMENT
    assert control.has_checksums


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("shut down", "having lunch"),
        ("Database system identifier:", "Something else:"),
        ("0/16C37F8", "nowhere"),
    ],
)
def test_control_data_that_is_not_understood_is_said(old: str, new: str) -> None:
    with pytest.raises(DatabaseError, match="control file"):
        parse_control_data(CONTROL_DATA.replace(old, new))


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("postgres (PostgreSQL) 17.10\n", (17, 10)),
        ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n", (15, 14)),
        ("postgres (PostgreSQL) 19devel\n", (19, 0)),
    ],
)
def test_versions(text: str, version: tuple[int, int]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("version", [(14, 99), (15, 12), (16, 8), (17, 4)])
def test_releases_that_cannot_keep_the_promise_are_refused(version: tuple[int, int]) -> None:
    with pytest.raises(ConfigError):
        check_version(*version, Path("/usr/lib/postgresql"))


@pytest.mark.parametrize("version", [(15, 13), (16, 9), (17, 10), (18, 0)])
def test_repaired_releases_are_taken(version: tuple[int, int]) -> None:
    check_version(*version, Path("/usr/lib/postgresql"))


def test_the_server_of_the_wheel_is_found() -> None:
    assert locate_binaries().major >= 17


def test_a_directory_without_a_server_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lacks the PostgreSQL programs postgres, initdb"):
        locate_binaries(str(tmp_path))


def test_a_server_that_does_not_run_is_said(tmp_path: Path) -> None:
    for name in ("postgres", "initdb", "pg_basebackup", "pg_controldata", "pg_rewind"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "pg_waldump").symlink_to("postgres")
    with pytest.raises(ConfigError, match="cannot be run here"):
        locate_binaries(str(tmp_path))


def test_lsn_round_trip() -> None:
    assert parse_lsn("16/B374D848") == 0x16_B374_D848
    assert format_lsn(0x16_B374_D848) == "16/B374D848"
    assert format_lsn(0) == "0/0"


@pytest.mark.parametrize(
    ("lsn", "name"),
    [
        (0x16C37F8, "000000010000000000000001"),
        (0x1_0000_0000, "000000010000000100000000"),
        (0xFF00_0000, "0000000100000000000000FF"),
    ],
)
def test_segment_names(lsn: int, name: str) -> None:
    assert segment_name(1, lsn, SEGMENT) == name


@pytest.mark.parametrize(
    ("lsn", "length", "end"),
    [
        (0x16C37F8, 114, 0x16C3870),  # captured: the shutdown checkpoint of an initdb
        (0x2000028, 114, 0x20000A0),
        # 16 bytes left on the page; 98 more after a header of 24.
        (0x2001FF0, 114, 0x2002000 + 24 + 104),
        # the same across a segment, whose header is 40
        (0x2FFFFF0, 114, 0x3000000 + 40 + 104),
        (0x2001F88, 120, 0x2002000),  # exactly to the end of the page
    ],
)
def test_where_a_record_ends(lsn: int, length: int, end: int) -> None:
    assert record_end(lsn, length, SEGMENT) == end


def test_progress_lines() -> None:
    assert parse_percent("  4096/25600 kB (16%), 0/1 tablespace") == 16
    assert parse_percent("23176/23176 kB (100%) copied") == 100
    assert parse_percent("pg_rewind: Done!") is None


def test_the_end_of_wal_is_read_from_the_complaint_of_waldump() -> None:
    complaint = (
        "pg_waldump: error: error in WAL record at 0/16C3870: invalid record length at "
        "0/16C38E8: expected at least 24, got 0"
    )
    assert parse_wal_end(complaint) == 0x16C38E8
    missing = 'pg_waldump: error: could not find file "000000010000000000000009"'
    assert parse_wal_end(missing) is None


def test_the_line_that_says_why_a_tool_failed() -> None:
    result = ToolResult(1, "", "pg_rewind: connected\npg_rewind: error: no such thing\nhint")
    assert result.last_line == "pg_rewind: error: no such thing"
    assert ToolResult(3, "", "").last_line == "exit status 3"


@pytest.mark.parametrize(
    ("sqlstate", "word"), [("53100", "is full"), ("58030", "fails"), ("25006", "takes no writes")]
)
def test_refused_writes_have_names(sqlstate: str, word: str) -> None:
    assert word in explain_write_failure(sqlstate, "PostgreSQL says: no", Path("/var/lib/x"))
