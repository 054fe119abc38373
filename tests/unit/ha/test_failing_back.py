"""Automatic failback: what it waits for, and that each repeat waits longer (protocol §9)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

import pytest
from live_core import START, config, serving
from msgspec.structs import replace

from openmse.ha import failback
from openmse.ha.effects import Effect, Note
from openmse.ha.events import DbObserved, Event, Ticked
from openmse.ha.messages import Standing
from openmse.ha.node import step
from openmse.ha.state import Node, OperationKind
from openmse.ha.values import SECOND, FailoverType, Instant, Mode, Settings

STABLE_S = 10


def _away(after_s: float = STABLE_S + 1, **settings: object) -> Node:
    """The secondary owns in SYNC, and the primary has streamed to it for so long."""
    wanted = Settings(
        failback_type=FailoverType.AUTOMATIC, failback_stable_ns=STABLE_S * SECOND, **settings
    )
    known = config(Mode.SYNC, owner="mse2", settings=wanted, lineage=config().lineage)
    n = serving("mse2", known)
    n.software = "1.2"
    n.streaming_since = Instant(START)
    n.now = Instant(START + round(after_s * SECOND))
    return _hears(n)


def _hears(n: Node, **changes: object) -> Node:
    """Both others are heard at this moment, the lease is fresh, the primary as good as can be."""
    ready = Standing(
        is_streaming=True, is_ready=True, is_complete=True, end_lsn=n.db.end_lsn, software="1.2"
    )
    n.peer = replace(n.peer, id="mse1", heard_at=n.now, standing=replace(ready, **changes))
    n.witness = replace(n.witness, id="witness", heard_at=n.now)
    n.db = replace(n.db, peer_streaming=True)
    n.lease_until = n.cutoff_at = Instant(n.now + SECOND)
    return n


def _go(n: Node, event: Event) -> tuple[Node, list[str]]:
    n, effects = step(n, event)
    return n, [_kind(effect) for effect in effects]


def _kind(effect: Effect) -> str:
    return effect.kind if isinstance(effect, Note) else type(effect).__name__


def test_what_it_waits_for() -> None:
    """Each in a sentence; with nothing left it begins."""
    far = _away().db.end_lsn - (17 << 20)
    for n, said in (
        (_away(3.0), "mse1 has to be stable for another 7 s."),
        (_away(maintenance=True), "Maintenance is on."),
        (_hears(_away(), end_lsn=far), "mse1 has 17 MiB of changes still to replay."),
        (_hears(_away(), software="1.1"), "mse1 runs version 1.1, this node 1.2."),
        (_hears(_away(), software=""), "does not tell which version"),
        (_hears(_away(), is_ready=False, note="Its disk is full."), "Its disk is full."),
    ):
        assert said in failback.why_not(n)
        n, told = _go(n, Ticked(n.now))
        assert "switchover_started" not in told
    n, told = _go(_away(), Ticked(_away().now))
    assert "switchover_started" in told
    assert n.operation is not None
    assert n.operation.kind is OperationKind.HANDOVER


def _dropped(n: Node) -> Node:
    """The one under way is dropped: for a moment the primary does not stream."""
    n, told = _go(n, DbObserved(n.now, replace(n.db, peer_streaming=False)))
    assert "handover_failed" in told
    n.streaming_since, n.unstreamed_at = Instant(START), Instant(0)
    return n


@pytest.mark.parametrize(("repeats", "wait_s"), [(1, 20), (2, 40), (6, 640), (9, 640)])
def test_each_repeat_waits_twice_as_long(repeats: int, wait_s: int) -> None:
    """Also of one that was dropped, though the primary streamed on; a day later it is forgotten."""
    n = _away()
    for _ in range(repeats):
        assert not failback.why_not(n)
        n, told = _go(n, Ticked(n.now))
        assert "switchover_started" in told
        n = _dropped(n)
        n.now = Instant(n.now + 640 * SECOND)
        n = _hears(n)
    last = n.failbacks[-1]
    n.now = Instant(last + (wait_s - 1) * SECOND)
    n = _hears(n)
    assert "another 1 s" in failback.why_not(n)
    n.now = Instant(last + wait_s * SECOND)
    assert not failback.why_not(_hears(n))
    n.now = Instant(last + failback.REMEMBERED_NS)
    n.streaming_since = Instant(n.now - STABLE_S * SECOND)
    assert not failback.why_not(_hears(n))
