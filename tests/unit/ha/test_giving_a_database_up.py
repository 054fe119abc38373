"""An owner whose PostgreSQL died: how long it is waited for before the other node is let in."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

import pytest
from live_core import START, config, serving
from msgspec.structs import replace

from openmse.ha.events import DbObserved, Ticked
from openmse.ha.local import DbProcess
from openmse.ha.messages import Standing
from openmse.ha.node import step
from openmse.ha.state import OperationKind
from openmse.ha.values import MILLISECOND, Instant, Mode


@pytest.mark.parametrize(
    ("is_healthy", "after_ms", "is_released"),
    [(True, 1, False), (True, 340, False), (True, 360, True), (False, 1, True)],
)
def test_one_that_restarts_is_waited_for_and_one_given_up_is_not(
    is_healthy: bool, after_ms: int, is_released: bool
) -> None:
    n = serving(known=config(Mode.SYNC))
    ready = Standing(is_streaming=True, is_ready=True)
    n.peer = replace(n.peer, heard_at=n.now, standing=ready)
    n.witness = replace(n.witness, heard_at=n.now)
    dead = replace(n.db, process=DbProcess.DOWN, is_healthy=is_healthy)
    n, _ = step(n, Ticked(n.now))
    assert n.operation is None
    n, _ = step(n, DbObserved(Instant(START + MILLISECOND), dead))
    n, _ = step(n, Ticked(Instant(START + (after_ms + 1) * MILLISECOND)))
    found = n.operation is not None and n.operation.kind is OperationKind.RELEASE
    assert found is is_released
