"""The event log in pages, and its tail across rotation and a disk that filled up."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from openmse.api.events import Query, Tail, cursor_of, instant, page
from openmse.errors import UsageError
from openmse.node.runtime.background import Background
from openmse.node.runtime.event_log import Entry, EventLog, append

NOW = datetime(2026, 1, 31, 3, 0, tzinfo=UTC)


def entry(number: int, kind: str = "tick", severity: str = "info") -> Entry:
    at = f"2026-01-31T03:00:00.{number:03}+00:00"
    return Entry(at, 1000 + number, "mse1", kind, severity, f"Tick {number}.")


ENTRIES = [entry(number) for number in range(10)]


def sentences(query: Query) -> list[str]:
    return [event.sentence for event in page(ENTRIES, query).events]


def test_pages_forwards_and_backwards_meet() -> None:
    forwards, cursor = [], cursor_of(ENTRIES[0])
    while found := page(ENTRIES, Query(after=cursor, limit=3)).events:
        forwards += [event.sentence for event in found]
        cursor = found[-1].cursor
    backwards: list[str] = []
    cursor = cursor_of(ENTRIES[-1])
    while found := page(ENTRIES, Query(before=cursor, limit=4)).events:
        backwards = [event.sentence for event in found] + backwards
        cursor = found[0].cursor
    assert forwards == [f"Tick {n}." for n in range(1, 10)]
    assert backwards == [f"Tick {n}." for n in range(9)]


def test_is_more_says_whether_there_is() -> None:
    assert page(ENTRIES, Query(limit=9)).is_more
    assert not page(ENTRIES, Query(limit=10)).is_more
    assert not page(ENTRIES, Query(after=cursor_of(ENTRIES[-1]))).is_more


def test_a_cursor_that_was_rotated_away_still_has_a_place() -> None:
    gone = cursor_of(ENTRIES[2])
    found = page(ENTRIES[5:], Query(after=gone)).events
    assert found[0].sentence == "Tick 5."
    assert page(ENTRIES[5:], Query(before=gone)).events == ()


def test_several_kinds_and_severities() -> None:
    mixed = [entry(0, "a", "info"), entry(1, "b", "error"), entry(2, "a", "strange")]
    found = page(mixed, Query(kinds=("a", "b"), severity="error")).events
    assert [event.kind for event in found] == ["b"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        ("30m", "2026-01-31T02:30:00.000+00:00"),
        ("2026-01-31T12:00+09:00", "2026-01-31T03:00:00.000+00:00"),
        ("2026-01-31T03:00:00Z", "2026-01-31T03:00:00.000+00:00"),
    ],
)
def test_points_in_time(text: str, wanted: str) -> None:
    assert instant(text, NOW) == wanted


@pytest.mark.parametrize("text", ["soon", "1w", "-5m", "999999d", "2026-13-01"])
def test_what_is_no_point_in_time(text: str) -> None:
    with pytest.raises(UsageError):
        instant(text, NOW)


def put(path: Path, number: int) -> None:
    append(path, msgspec.json.encode(entry(number)) + b"\n")


def news(tail: Tail) -> list[str]:
    return [found.sentence for found in tail.new()]


def test_the_tail_begins_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    put(path, 0)
    tail = Tail(path)
    assert news(tail) == []
    put(path, 1)
    put(path, 2)
    assert news(tail) == ["Tick 1.", "Tick 2."]
    assert news(tail) == []
    tail.close()


def test_the_tail_waits_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = Tail(path)
    assert news(tail) == []
    put(path, 1)
    assert news(tail) == ["Tick 1."]
    tail.close()


def test_the_tail_follows_rotation_without_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    background = Background("test")
    log = EventLog(path, background, max_bytes=400)
    tail, found = Tail(path), []
    for number in range(40):
        log.write(entry(number))
        log.drain(60.0)
        if number % 2:
            found += news(tail)
    assert found == [f"Tick {n}." for n in range(40)]
    tail.close()


def test_half_a_line_is_told_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    put(path, 0)
    tail = Tail(path)
    data = msgspec.json.encode(entry(1)) + b"\n"
    append(path, data[:20])
    assert news(tail) == []
    append(path, data[20:])
    assert news(tail) == ["Tick 1."]
    tail.close()


def test_what_was_taken_back_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    put(path, 0)
    tail = Tail(path)
    size = path.stat().st_size
    append(path, b'{"half": ')
    assert news(tail) == []
    with path.open("r+b") as file:
        file.truncate(size)
    assert news(tail) == []
    put(path, 1)
    assert news(tail) == ["Tick 1."]
    tail.close()


def test_lines_that_are_none_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = Tail(path)
    append(path, b"garbage\n\xff\xfe\n")
    put(path, 1)
    assert news(tail) == ["Tick 1."]
    tail.close()
