"""Feeds as datagrams: what is taken, and what is not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmse.guard.feed import DATAGRAM_BYTES_MAX, Feed, decode, encode, updated

FULL = Feed(
    12, 345, "SYNC", 10**18, 10**10, 99, 100, "/var/lib/openmse/d", "mse1", ("mse1", "mse2")
)


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
        {"groups": "mse1"},
        {"groups": [1]},
        {"groups": None},
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


def test_what_was_said_of_a_group_left_behind_is_void() -> None:
    """Found in the laboratory: a restarted health monitor spoke before it knew its group's name,
    and PostgreSQL was stopped at the deadline it had given for the group without a name."""
    nameless = Feed(1, 2, "SYNC", 5, postmaster_pid=7)
    named = nameless._replace(group="one", deadline_ns=9)
    assert updated(updated({}, nameless), named) == {"one": named}


def test_of_several_groups_each_feed_replaces_its_own() -> None:
    one = Feed(1, 2, "SYNC", 5, group="one", groups=("one", "two"))
    two = one._replace(group="two")
    newer = one._replace(deadline_ns=9)
    assert updated({"one": one, "two": two}, newer) == {"one": newer, "two": two}
    assert updated({"one": one, "two": two}, newer._replace(groups=())).keys() == {"one"}
    assert updated({"one": one}, Feed(1, 2)) == {"one": one}, "a mere sign of life changes nothing"
