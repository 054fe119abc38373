"""The journal replays through the production core; what it leaves out never breaks that."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from live_core import START, LiveCore, config, serving
from msgspec.structs import replace

from openmse.ha.effects import Effect, Note, Send
from openmse.ha.events import (
    ChangeSettings,
    Commanded,
    DbObserved,
    Event,
    LeaseLapsed,
    LinkChanged,
    Maintenance,
    Received,
    Ticked,
)
from openmse.ha.messages import Beat, Stamp, Standing
from openmse.ha.node import step
from openmse.ha.state import Node
from openmse.ha.values import SECOND, Ballot, Instant, Mode, Settings
from openmse.node.runtime.background import Background
from openmse.node.runtime.journal import QUIET, SEGMENT_NS, Journal, files
from openmse.node.runtime.replay import Reader, replay


@pytest.fixture
def background() -> Iterator[Background]:
    """The writing thread."""
    thread = Background("test writer")
    yield thread
    thread.close()


def beat(now: Instant, count: int) -> Received:
    """A heartbeat of mse2."""
    standing = Standing(end_lsn=count, is_complete=True, is_streaming=True, is_ready=True)
    message = Beat(
        Stamp("mse2", "b", 1, Ballot(1, 1, "mse1")),
        Instant(count),
        1,
        3,
        Ballot(1, 1, "mse1"),
        "mse1",
        False,
        5 * SECOND,
        standing,
    )
    return Received(now, message)


def incident(core: LiveCore) -> None:
    """Beats, link changes, observations, commands: a while in the life of a pair."""
    now = START
    for count in range(1, 200):
        now = Instant(now + SECOND // 5)
        core.post(beat(now, count))
        core.post(Ticked(now))
        if count % 20 == 0:
            core.post(LinkChanged(now, "mse2", count % 40 == 0, True))
            view = replace(core.node.db, end_lsn=core.node.db.end_lsn + 100, peer_streaming=True)
            core.post(DbObserved(now, view))
        if count == 60:
            settings = replace(Settings(), failover_wait_ns=7 * SECOND)
            core.post(Commanded(now, "c1", ChangeSettings(settings)))
        if count == 90:
            core.post(Commanded(now, "c2", Maintenance(True)))
        if count == 120:
            core.post(LeaseLapsed(now))


async def written(
    directory: Path, background: Background, core: LiveCore, *, flush: bool = True
) -> Journal:
    """The core's steps, put through a journal."""
    journal = Journal(directory, background)
    for before, event, after, effects in core.steps:
        journal.record(before, event, after, effects)
    if flush:
        journal.flush()
    await background.wait_idle()
    return journal


async def test_an_incident_replays(tmp_path: Path, background: Background) -> None:
    core = LiveCore(serving(known=config(Mode.ALONE)))
    incident(core)
    journal = await written(tmp_path, background, core)
    results = [replay(path, step) for path in files(tmp_path)]
    assert journal.dropped == 0
    assert sum(result.steps for result in results) > 300
    assert all(not result.differences and not result.damaged for result in results)
    entries = [entry for path in files(tmp_path) for entry in Reader(path)]
    loud = [e for e in core.steps if any(not isinstance(x, QUIET) for x in e[3])]
    kept = [e for e in entries if any(not isinstance(x, QUIET) for x in e.effects)]
    assert len(loud) >= 2
    assert [(e.event, e.effects) for e in kept] == [(step_[1], step_[3]) for step_ in loud]


async def test_a_core_that_decides_otherwise_is_found(
    tmp_path: Path, background: Background
) -> None:
    core = LiveCore(serving(known=config(Mode.ALONE)))
    incident(core)
    await written(tmp_path, background, core)

    def other(node: Node, event: Event) -> tuple[Node, tuple[Effect, ...]]:
        after, effects = step(node, event)
        return after, tuple(effect for effect in effects if not isinstance(effect, Note))

    results = [replay(path, other) for path in files(tmp_path)]
    assert any(result.differences for result in results)
    assert "Note(" in " ".join(results[0].differences[0].recorded)


async def test_quiet_times_write_nothing_and_forget(tmp_path: Path, background: Background) -> None:
    core = LiveCore(serving(known=config(Mode.ALONE)))
    core.pass_time(1)
    core.steps.clear()  # the first second decides things
    core.pass_time(100)
    quiet = [e for e in core.steps if all(isinstance(x, QUIET) for x in e[3])]
    assert len(quiet) == len(core.steps)
    journal = await written(tmp_path, background, core, flush=False)
    assert files(tmp_path) == []
    held = len(journal._previous) + len(journal._waiting)
    assert 100 < held <= 2 * SEGMENT_NS // (SECOND // 10) + 4


async def test_a_decision_is_written_with_what_came_before(
    tmp_path: Path, background: Background
) -> None:
    core = LiveCore(serving(known=config(Mode.ALONE)))
    core.pass_time(1)
    core.steps.clear()
    core.pass_time(60)
    core.post(Commanded(core.node.now, "c", Maintenance(True)))
    await written(tmp_path, background, core, flush=False)
    entries = list(Reader(files(tmp_path)[0]))
    assert isinstance(entries[-1].event, Commanded | Ticked)
    assert entries[-1].event.at - entries[0].event.at >= 10 * SECOND
    result = replay(files(tmp_path)[0], step)
    assert not result.differences


async def test_a_full_disk_costs_a_stretch_but_never_faithfulness(
    tmp_path: Path, background: Background
) -> None:
    directory = tmp_path / "journal"
    directory.mkdir()
    core = LiveCore(serving(known=config(Mode.ALONE)))
    incident(core)
    (directory / "00000001.journal.jsonl").symlink_to("/dev/full")
    journal = Journal(directory, background)
    journal._file = directory / "00000001.journal.jsonl"
    third = len(core.steps) // 3
    for number, (before, event, after, effects) in enumerate(core.steps):
        journal.record(before, event, after, effects)
        if number == third:
            journal.flush()
        await background.wait_idle()
    journal.flush()
    await background.wait_idle()
    assert journal.dropped > 0
    (directory / "00000001.journal.jsonl").unlink()
    results = [replay(path, step) for path in files(directory)]
    assert sum(result.steps for result in results) > 50
    assert all(not result.differences and not result.damaged for result in results)


async def test_the_directory_stays_bounded(
    tmp_path: Path, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openmse.node.runtime import journal as module

    monkeypatch.setattr(module, "MAX_FILE_BYTES", 5000)
    monkeypatch.setattr(module, "KEPT_FILES", 3)
    monkeypatch.setattr(module, "SEGMENT_ENTRIES", 10)
    core = LiveCore(serving(known=config(Mode.ALONE)))
    incident(core)
    await written(tmp_path, background, core)
    kept = files(tmp_path)
    assert len(kept) == 3
    assert int(kept[-1].name.split(".")[0]) > 3
    assert all(not replay(path, step).differences for path in kept)


async def test_a_new_process_goes_on_in_a_new_file(tmp_path: Path, background: Background) -> None:
    core = LiveCore(serving(known=config(Mode.ALONE)))
    core.post(Commanded(core.node.now, "c", Maintenance(True)))
    await written(tmp_path, background, core)
    await written(tmp_path, background, core)
    assert [path.name for path in files(tmp_path)] == [
        "00000001.journal.jsonl",
        "00000002.journal.jsonl",
    ]


async def test_damage_ends_a_segment_only(tmp_path: Path, background: Background) -> None:
    core = LiveCore(serving(known=config(Mode.ALONE)))
    incident(core)
    await written(tmp_path, background, core)
    path = files(tmp_path)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[5] = lines[5][:20] + b"\n"
    path.write_bytes(b"".join(lines) + lines[-1][:-30])
    result = replay(path, step)
    assert result.damaged == 2
    assert not result.differences


async def test_a_slow_disk_never_blocks_the_loop(tmp_path: Path) -> None:
    gate = threading.Event()
    background = Background("test writer", limit=1)
    try:
        assert background.put(gate.wait)
        core = LiveCore(serving(known=config(Mode.ALONE)))
        incident(core)
        journal = Journal(tmp_path, background)
        for before, event, after, effects in core.steps:
            journal.record(before, event, after, effects)
            assert len(journal._waiting) + len(journal._previous) < 2500
        assert journal.dropped > 0
        gate.set()
        await background.wait_idle()
        journal.flush()
        await background.wait_idle()
        assert all(not replay(path, step).differences for path in files(tmp_path))
    finally:
        gate.set()
        background.close()


def test_sends_alone_are_no_decision() -> None:
    assert Send in QUIET
    assert Note not in QUIET
