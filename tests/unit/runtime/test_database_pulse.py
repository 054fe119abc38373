"""What successive looks at a database say: since when the peer is certain, and what rest is."""

from typing import Any

import pytest

from openmse.ha.values import MILLISECOND, Instant
from openmse.node.drivers.postgres.session import Status
from openmse.node.runtime.database_pulse import QUIET_BYTES, Pulse


def _look(**changes: Any) -> Status:
    fields = {
        "is_in_recovery": False,
        "lsn": 1000,
        "generation": "",
        "is_receiving": False,
        "is_peer_streaming": True,
        "peer_flush_lsn": 1000,
        "peer_sign": "a",
        "link_pid": 7,
    }
    return Status(**(fields | changes))


def _at(ms: int) -> Instant:
    return Instant(ms * MILLISECOND)


def test_a_sign_counts_from_the_look_before_it() -> None:
    pulse = Pulse()
    pulse.take(_look(), _at(100))
    assert pulse.signed_at == _at(100)
    pulse.take(_look(), _at(300))
    assert pulse.signed_at == _at(100)
    pulse.take(_look(peer_sign="b"), _at(500))
    assert pulse.signed_at == _at(300)


def test_the_first_write_that_waits_gives_the_peer_its_time() -> None:
    """Its last sign is nearly a second old at rest: by that alone it would be lost at once."""
    pulse = Pulse()
    pulse.take(_look(), _at(100))
    pulse.take(_look(), _at(900))
    pulse.take(_look(lsn=1200), _at(1100))
    assert pulse.signed_at == _at(900)
    pulse.take(_look(lsn=1300), _at(1300))
    assert pulse.signed_at == _at(900), "the wait goes on"


@pytest.mark.parametrize(
    ("changes", "is_quiet"),
    [
        ({}, True),
        ({"lsn": 1000 + QUIET_BYTES, "peer_flush_lsn": 1000 + QUIET_BYTES}, True),
        ({"lsn": 1001 + QUIET_BYTES, "peer_flush_lsn": 1001 + QUIET_BYTES}, False),
        ({"lsn": 1001}, False),
        ({"lsn": 999, "peer_flush_lsn": 999}, False),
        ({"is_peer_streaming": False, "peer_sign": ""}, False),
        ({"is_in_recovery": True, "is_peer_streaming": False, "is_receiving": True}, True),
    ],
)
def test_rest_is_a_whole_pair_in_which_nothing_is_written(
    changes: dict[str, Any], is_quiet: bool
) -> None:
    pulse = Pulse()
    pulse.take(_look(), _at(100))
    assert not pulse.is_quiet
    pulse.take(_look(**changes), _at(200))
    assert pulse.is_quiet is is_quiet
    pulse.forget()
    assert not pulse.is_quiet
