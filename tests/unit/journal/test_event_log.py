"""The event log: bounded, readable, and honest about what it could not keep."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from openmse.node.runtime.background import Background
from openmse.node.runtime.event_log import Entry, EventLog, read, rotated


@pytest.fixture
def background() -> Iterator[Background]:
    """The writing thread."""
    thread = Background("test writer")
    yield thread
    thread.close()


def entry(number: int, at: str = "2026-01-01T00:00:00.000+00:00") -> Entry:
    """An event."""
    return Entry(at, number, "mse1", "tested", "info", f"Event {number}.", 1, number)


async def test_events_come_back_in_order(tmp_path: Path, background: Background) -> None:
    log = EventLog(tmp_path / "events.jsonl", background)
    for number in range(20):
        log.write(entry(number))
    await background.wait_idle()
    assert [found.boot_ns for found in read(tmp_path / "events.jsonl")] == list(range(20))
    assert [found.boot_ns for found in read(tmp_path / "events.jsonl", limit=3)] == [17, 18, 19]
    assert log.dropped == 0


async def test_since_is_inclusive(tmp_path: Path, background: Background) -> None:
    log = EventLog(tmp_path / "events.jsonl", background)
    for hour in (1, 2, 3):
        log.write(entry(hour, f"2026-01-01T0{hour}:00:00.000+00:00"))
    await background.wait_idle()
    found = read(tmp_path / "events.jsonl", since="2026-01-01T02:00:00.000+00:00")
    assert [event.boot_ns for event in found] == [2, 3]


async def test_it_stays_bounded_and_keeps_the_newest(
    tmp_path: Path, background: Background
) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, background, max_bytes=2000, kept_files=3)
    for number in range(200):
        log.write(entry(number))
        if number % 50 == 0:
            await background.wait_idle()
    await background.wait_idle()
    files = [file for file in (path, *(rotated(path, n) for n in range(1, 9))) if file.exists()]
    assert files == [path, rotated(path, 1), rotated(path, 2)]
    assert all(file.stat().st_size <= 2000 for file in files)
    numbers = [found.boot_ns for found in read(path)]
    assert numbers == list(range(numbers[0], 200))


async def test_a_full_disk_drops_counts_and_says_so_later(
    tmp_path: Path, background: Background
) -> None:
    path = tmp_path / "events.jsonl"
    path.symlink_to("/dev/full")  # every write fails with "no space left on device"
    log = EventLog(path, background)
    for number in range(3):
        log.write(entry(number))
    await background.wait_idle()
    assert log.dropped == 3
    path.unlink()
    log.write(entry(3))
    await background.wait_idle()
    found = read(path)
    assert [event.kind for event in found] == ["events_dropped", "tested"]
    assert found[0].sentence.startswith("3 events could not be written")
    log.write(entry(4))
    await background.wait_idle()
    assert [event.kind for event in read(path)][2:] == ["tested"]


async def test_a_queue_that_is_full_never_blocks(tmp_path: Path) -> None:
    import threading

    gate = threading.Event()
    background = Background("test writer", limit=2)
    try:
        assert background.put(gate.wait)
        log = EventLog(tmp_path / "events.jsonl", background)
        for number in range(10):
            log.write(entry(number))
        assert log.dropped >= 7
        gate.set()
        await background.wait_idle()
        log.write(entry(10))
        await background.wait_idle()
        kinds = [event.kind for event in read(tmp_path / "events.jsonl")]
        assert "events_dropped" in kinds
    finally:
        gate.set()
        background.close()


async def test_damaged_lines_are_skipped(tmp_path: Path, background: Background) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, background)
    log.write(entry(1))
    await background.wait_idle()
    path.write_bytes(b"\x00\xff garbage\n" + path.read_bytes() + b'{"at": "2026')
    assert [event.boot_ns for event in read(path)] == [1]


async def test_each_line_is_json_for_other_tools(tmp_path: Path, background: Background) -> None:
    log = EventLog(tmp_path / "events.jsonl", background)
    log.write(entry(1))
    await background.wait_idle()
    value = json.loads((tmp_path / "events.jsonl").read_text())
    assert value["kind"] == "tested"
    assert value["epoch"] == 1


def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    assert read(tmp_path / "events.jsonl") == []
