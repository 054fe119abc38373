"""Feeds as datagrams: what is taken, and what is not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmse.guard.feed import DATAGRAM_BYTES_MAX, Feed, decode, encode

FULL = Feed(12, 345, "SYNC", 10**18, 10**10, 99, 100, "/var/lib/openmse/d", "mse1")


def test_a_feed_survives_the_datagram() -> None:
    for feed in (FULL, Feed(1, 2), FULL._replace(deadline_ns=None)):
        assert decode(encode(feed)) == feed
    assert len(encode(FULL._replace(data_dir="/" + "x" * 4000))) < DATAGRAM_BYTES_MAX


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"pid": "12"},
        {"pid": True},
        {"pid": -1},
        {"start": None},
        {"deadline_ns": 1.5},
        {"deadline_ns": -1},
        {"mode": None},
        {"data_dir": 7},
        {"group": ["mse1"]},
    ],
)
def test_a_field_of_another_kind_is_refused(change: dict[str, object]) -> None:
    fields = json.loads(encode(FULL)) | change
    assert decode(json.dumps(fields).encode()) is None


def test_fields_of_a_later_guard_are_passed_over_and_missing_ones_refused() -> None:
    fields = json.loads(encode(FULL))
    assert decode(json.dumps(fields | {"more": 1}).encode()) == FULL
    del fields["pid"]
    assert decode(json.dumps(fields).encode()) is None


@given(st.binary(max_size=200))
def test_rubbish_is_refused_quietly(datagram: bytes) -> None:
    assert decode(datagram) is None or datagram.startswith(b"{")
