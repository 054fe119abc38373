"""How long the owner does without a sign of its peer, at rest and while a commit waits (ADR 62)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

import pytest
from live_core import START, config, serving
from msgspec.structs import replace

from openmse.ha.facts import is_peer_lost
from openmse.ha.timing import QUIET_LOOK_NS, SIGN_INTERVAL_NS, timing
from openmse.ha.values import MILLISECOND, SECOND, Instant, Mode, Settings


@pytest.mark.parametrize(
    ("wait_s", "is_waiting", "lost_ms"),
    [(2, True, 1050), (2, False, 2500), (5, True, 2850), (5, False, 2850), (60, False, 3000)],
)
def test_the_peer_is_lost(wait_s: int, is_waiting: bool, lost_ms: int) -> None:
    n = serving(known=config(Mode.SYNC, settings=Settings(failover_wait_ns=wait_s * SECOND)))
    behind = n.db.end_lsn - 1 if is_waiting else n.db.end_lsn
    n.streaming_since = Instant(START - 100 * SECOND)
    n.peer = replace(n.peer, id="mse2", heard_at=Instant(START - 50 * SECOND))
    n.db = replace(n.db, peer_streaming=True, peer_signed_at=Instant(START), peer_flush_lsn=behind)
    n.now = Instant(START + lost_ms * MILLISECOND - 1)
    assert not is_peer_lost(n)
    n.now = Instant(n.now + 1)
    assert is_peer_lost(n)


def test_a_living_peer_at_rest_is_never_lost() -> None:
    """Its sign comes each interval, is seen a look late, and is dated a look back."""
    oldest = SIGN_INTERVAL_NS + 2 * QUIET_LOOK_NS
    assert timing(2 * SECOND).rest_loss_ns >= oldest + 400 * MILLISECOND
