"""The living picture: what is stale is unknown, never the last known; timelines from events."""

from dataclasses import replace as replace_view
from datetime import datetime

import pytest
from msgspec.structs import replace

from openmse.console.errors import NodeUnreachable
from openmse.console.filters import duration, milliseconds, size
from openmse.console.live.pairs import pair_of, pair_view
from openmse.console.live.specials import standing
from openmse.console.live.state import EngineLive, Reach
from openmse.console.live.timeline import bars, place, timeline
from openmse.console.live.views import SHOWN_MAX, ListQuery, engine_view, find
from openmse.console.lookback import as_csv, fitting_span
from openmse.console.nodes.models import Alarm, Party, Register, Snapshot, Summary, WhyNot
from openmse.console.nodes.sse import SseParser
from openmse.console.store.engines import Engine
from openmse.console.store.past import Event


def _engine(number: int, name: str, role: str = "primary", key: str = "a@1|b@2") -> Engine:
    return Engine(
        id=number,
        name=name,
        address=f"10.0.0.{number}",
        port=8466,
        contact="",
        certificate=b"",
        fingerprint="",
        token="",
        node=name,
        udi="",
        device_type="",
        version="1",
        role=role,
        group_key=key,
        added_at="",
        added_by="",
    )


def _live(engine: Engine, *, at_s: float, owner: str = "a", epoch: int = 1) -> EngineLive:
    live = EngineLive(engine=engine, reach=Reach.UP, heard_at_s=at_s, is_monitor_up=True)
    other = "b" if engine.name == "a" else "a"
    live.summary = Summary(
        node=engine.name, is_monitor_up=True, state="PRIMARY_ACTIVE", health="ok", owner=owner,
        peer=other, peer_address="x",
    )  # fmt: skip
    live.snapshot = Snapshot(
        node=engine.name,
        state="PRIMARY_ACTIVE",
        sync="sync",
        health="ok",
        register=Register(term=1, epoch=epoch, owner=owner, primary="a"),
        peer=Party(name=other, is_heard=True, round_trip_ms=0.4),
    )
    return live


def test_a_picture_older_than_three_seconds_is_unknown() -> None:
    """Its age is told, its state is not."""
    live = _live(_engine(1, "a"), at_s=100.0)
    now = engine_view(live, 102.0)
    assert (now.reach.kind, now.state.word, now.is_owner) == ("ok", "PRIMARY_ACTIVE", True)
    old = engine_view(live, 104.0)
    assert (old.reach.kind, old.state.word, old.state.kind) == ("bad", "Unknown", "off")
    assert not old.is_owner
    assert old.age_s == 4.0
    assert old.peer == "b"


def test_a_pair_believes_the_newest_register_that_is_heard() -> None:
    """And nobody where nobody is heard."""
    first = _live(_engine(1, "a"), at_s=100.0, owner="a", epoch=3)
    second = _live(_engine(2, "b", "secondary"), at_s=103.0, owner="b", epoch=4)
    pair = pair_of([second, first], 2)
    assert pair is not None
    assert pair.id == 1
    assert pair_view(pair, 102.0).owner == "b"
    assert pair_view(pair, 105.0).owner == "b"
    assert pair_view(pair, 105.0).owner_snapshot is second.snapshot
    nobody = pair_view(pair, 110.0)
    assert (nobody.owner, nobody.heartbeats.word, nobody.replication.word) == ("", *["Unknown"] * 2)
    assert "not known" in nobody.why_not.switchover


def test_an_engine_that_calls_itself_otherwise_is_shown() -> None:
    """Its node had another name when it was added: that must not end every page of the fleet."""
    live = _live(_engine(1, "a"), at_s=100.0)
    assert live.snapshot is not None
    live.snapshot = replace(live.snapshot, node="renamed")
    pair = pair_of([live], 1)
    assert pair is not None
    assert pair_view(pair, 101.0).summary.word == "PRIMARY_ACTIVE"


def test_no_page_grows_with_what_an_engine_tells() -> None:
    """More alarms than any engine has are not shown."""
    live = _live(_engine(1, "a"), at_s=100.0)
    assert live.summary is not None
    live.summary = replace(live.summary, alarms=tuple(Alarm(kind=str(n)) for n in range(999)))
    assert len(engine_view(live, 101.0).alarms) == SHOWN_MAX


def test_force_is_offered_where_only_it_helps() -> None:
    """The standby's own word (why it does not take over by itself) is another question."""
    standby = _live(_engine(1, "a"), at_s=110.0, owner="b", epoch=4)
    owner = _live(_engine(2, "b", "secondary"), at_s=110.0, owner="b", epoch=4)
    assert standby.snapshot is not None
    assert owner.snapshot is not None
    standby.snapshot = replace(standby.snapshot, why_not=WhyNot(takeover="b owns as ALONE."))
    owner.snapshot = replace(owner.snapshot, admits_clients=True)
    pair = pair_of([standby, owner], 1)
    assert pair is not None
    assert "a switchover loses nothing" in pair_view(pair, 111.0).why_not.takeover
    owner.heard_at_s = 100.0
    assert pair_view(pair, 111.0).why_not.takeover == ""
    owner.heard_at_s, standby.heard_at_s = 110.0, 100.0
    assert "standby is not heard" in pair_view(pair, 111.0).why_not.takeover


@pytest.mark.parametrize(
    ("mode", "owner", "stands"),
    [
        ("SYNC", "b", ""),
        ("ALONE", "b", "alone"),
        ("PINNED", "b", "pinned"),
        ("ALONE", "a", "owner"),
    ],
)
def test_a_takeover_by_force_says_how_the_machine_stands(
    mode: str, owner: str, stands: str
) -> None:
    """As the machine itself knows the register; the owner is silent."""
    live = _live(_engine(1, "a"), at_s=100.0, owner="b")
    pair = pair_of([live], 1)
    assert pair is not None
    assert standing(pair_view(pair, 110.0)) == ""
    assert live.snapshot is not None
    register = Register(term=1, epoch=2, owner=owner, primary="a", mode=mode)
    live.snapshot = replace(live.snapshot, register=register)
    view = replace_view(pair_view(pair, 101.0), standby_snapshot=live.snapshot)
    assert standing(view) == stands


@pytest.mark.parametrize(
    ("by_owner", "by_standby", "word", "kind", "deaf"),
    [
        (True, True, "Heard", "ok", ()),
        (True, False, "Heard by one", "warn", ("b",)),
        (False, True, "Heard by one", "warn", ("a",)),
        (False, False, "Silent", "warn", ("a", "b")),
        (None, None, "None", "warn", ()),
    ],
)
def test_a_witness_counts_as_heard_if_both_hear_it(
    by_owner: bool | None, by_standby: bool | None, word: str, kind: str, deaf: tuple[str, ...]
) -> None:
    """A standby that does not hear it cannot take over, whatever the owner hears."""
    lives = [
        _live(_engine(1, "a"), at_s=100.0),
        _live(_engine(2, "b", "secondary"), at_s=100.0),
    ]
    for live, is_heard in zip(lives, (by_owner, by_standby), strict=True):
        assert live.snapshot is not None
        party = None if is_heard is None else Party(name="w", is_heard=is_heard)
        live.snapshot = replace(live.snapshot, witness=party)
    pair = pair_of(lives, 1)
    assert pair is not None
    view = pair_view(pair, 101.0)
    assert (view.witness.word, view.witness.kind, view.witness_deaf) == (word, kind, deaf)
    assert view.witness_name == ("" if by_owner is None else "w")
    assert pair_view(pair, 110.0).witness.word == "Unknown"


def test_the_most_pressing_alarm_is_named_in_the_list() -> None:
    """An error before a warning; none once the picture is old."""
    live = _live(_engine(1, "a"), at_s=100.0)
    assert engine_view(live, 101.0).alarm == ""
    assert live.summary is not None
    alarms = (Alarm(kind="witness_lost"), Alarm(kind="peer_lost", severity="error"))
    live.summary = replace(live.summary, alarms=alarms)
    assert engine_view(live, 101.0).alarm == "peer_lost"
    assert engine_view(live, 110.0).alarm == ""


def test_trouble_comes_first_and_pages_are_whole() -> None:
    """Sorting, finding and paging."""
    lives = [_live(_engine(n, f"mse{n:03}", key=""), at_s=100.0) for n in range(120)]
    lives[77].become(Reach.SILENT, 50.0, NodeUnreachable("gone."))
    views = [engine_view(live, 101.0) for live in lives]
    rows, count = find(views, ListQuery())
    assert (rows[0].engine.name, len(rows), count) == ("mse077", 50, 120)
    assert len(find(views, ListQuery(page=3))[0]) == 20
    assert find(views, ListQuery(text="MSE07"))[1] == 10
    assert find(views, ListQuery(show="trouble"))[1] == 1
    down = find(views, ListQuery(sort="name", is_descending=True))[0]
    assert down[0].engine.name == "mse119"


def _event(number: int, at: str, kind: str, sentence: str, severity: str = "info") -> Event:
    return Event(
        id=number, engine_id=1, cursor=str(number), at=f"2026-01-31T03:{at}.000+00:00", node="a",
        kind=kind, severity=severity, sentence=sentence,
    )  # fmt: skip


def test_a_timeline_tells_reigns_and_phases() -> None:
    """Each config counts once, from the first node that knew it."""
    events = [
        _event(4, "30:00", "config_chosen", "ALONE(b), term 1, epoch 2: The owner is lost."),
        _event(6, "40:00", "config_chosen", "ALONE(b), term 1, epoch 2: The owner is lost."),
        _event(1, "00:00", "config_chosen", "SYNC(a), term 1, epoch 1: begun."),
        _event(2, "00:01", "config_chosen", "SYNC(a), term 1, epoch 1: begun."),
        _event(5, "30:01", "takeover_done", "b serves. Steps: choose 5 ms, promote 204 ms."),
        _event(3, "29:58", "lease_lost", "gone.", "error"),
    ]
    found = timeline(events)
    assert [(r.owner, r.mode) for r in found.reigns] == [("a", "SYNC"), ("b", "ALONE")]
    assert found.reigns[0].end == found.reigns[1].start
    assert [(p.name, p.ms) for p in found.moves[0].phases] == [("choose", 5), ("promote", 204)]
    assert found.moves[0].total_ms == 209
    assert [e.kind for e in found.faults] == ["lease_lost", "config_chosen"]
    since, until = "2026-01-31T03:00:00+00:00", "2026-01-31T04:00:00+00:00"
    drawn = bars(found.reigns, since, until)
    assert [(b.x, b.width) for b in drawn] == [(0.0, 500.0), (500.0, 500.0)]
    assert place("2026-01-31T03:15:00+00:00", since, until) == 250.0
    assert timeline([]).reigns == ()
    assert fitting_span(events, datetime.fromisoformat("2026-01-31T03:50:00+00:00")) == "1h"
    assert fitting_span(events, datetime.fromisoformat("2026-01-31T03:14:00+00:00")) == "15m"
    assert fitting_span(events, datetime.fromisoformat("2026-02-20T03:14:00+00:00")) == "24h"
    assert fitting_span([], datetime.fromisoformat("2026-02-20T03:14:00+00:00")) == "24h"


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_a_spreadsheet_gets_no_formula(begin: str) -> None:
    """An event's words cannot become a command on somebody's desk."""
    text = as_csv([_event(1, "00:00", "x", f"{begin}cmd()")])
    assert f"'{begin}cmd()" in text


@pytest.mark.parametrize("cut", range(1, 40))
def test_events_of_a_stream_survive_any_cut(cut: int) -> None:
    """Chunks end anywhere."""
    data = b': beat\n\nevent: a\nid: 7\ndata: {"x": 1}\n\ndata: y\r\ndata: z\r\n\r\n'
    parser = SseParser()
    found = [*parser.feed(data[:cut]), *parser.feed(data[cut:])]
    assert [(e.name, e.data, e.id) for e in found] == [
        ("a", '{"x": 1}', "7"),
        ("message", "y\nz", ""),
    ]


def test_figures_read_as_people_say_them() -> None:
    """And nothing is a dash."""
    assert (duration(12), duration(184), duration(18360), duration(-1)) == (
        "12 s",
        "3 min 4 s",
        "5 h 6 min",
        "–",
    )
    assert (milliseconds(0.41), milliseconds(1234.0), milliseconds(None)) == ("0.41", "1,234", "–")
    assert (size(512), size(1536), size(-1)) == ("512 B", "1.5 KiB", "–")
