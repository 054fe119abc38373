"""Datagrams between two parties: nothing forged, replayed or left over is ever delivered."""

import itertools
from collections.abc import Callable

import pytest

from openmse.wire.datagrams import (
    HELLO_BURST,
    RESEND_WITHIN_NS,
    Channel,
    Kind,
    Outcome,
    Reason,
    names_key,
    pair_root,
    peek,
    witness_root,
)

KEY = bytes(range(32))
ROOT = pair_root(KEY)


def tokens(seed: int) -> Callable[[], bytes]:
    numbers = itertools.count(seed << 32 | 1)
    return lambda: next(numbers).to_bytes(8, "big")


def channel(me: str, peer: str, seed: int, group: str = "floor1", root: bytes = ROOT) -> Channel:
    return Channel(group, me, peer, root=root, token=tokens(seed))


def introduced() -> tuple[Channel, Channel]:
    """Two parties; the first has been told the second's session."""
    one, two = channel("mse1", "mse2", 1), channel("mse2", "mse1", 2)
    hello = two.open(one.seal(b"first", 0), 0)
    assert hello.kind is Kind.SEND
    again = one.open(hello.data, 0)
    assert again.kind is Kind.SEND
    assert two.open(again.data, 0) == Outcome(Kind.DELIVERED, b"first")
    return one, two


def test_the_first_payload_arrives_by_the_second_try() -> None:
    introduced()


def test_what_follows_is_delivered_at_once() -> None:
    one, two = introduced()
    assert two.open(one.seal(b"", 1), 1) == Outcome(Kind.DELIVERED, b"")
    assert two.open(one.seal(b"x" * 500, 1), 1) == Outcome(Kind.DELIVERED, b"x" * 500)


def test_an_old_payload_is_not_sent_again() -> None:
    one, two = channel("mse1", "mse2", 1), channel("mse2", "mse1", 2)
    hello = two.open(one.seal(b"old", 0), 0)
    late = RESEND_WITHIN_NS + 1
    assert one.open(hello.data, late) == Outcome(Kind.REJECTED, reason=Reason.HELLO)
    assert two.open(one.seal(b"new", late), late).data == b"new"


def test_a_repeated_or_overtaken_datagram_is_refused() -> None:
    one, two = introduced()
    early, late = one.seal(b"early", 1), one.seal(b"late", 1)
    assert two.open(late, 1).kind is Kind.DELIVERED
    for data in (early, late):
        assert two.open(data, 2) == Outcome(Kind.REJECTED, reason=Reason.REPLAYED)


def test_nothing_recorded_before_the_receiver_restarted_is_delivered() -> None:
    one, two = introduced()
    recorded = [one.seal(b"grant", 1) for _ in range(3)]
    assert two.open(recorded[0], 1).kind is Kind.DELIVERED
    two = channel("mse2", "mse1", 3)
    for data in recorded:  # delivered before or not
        assert two.open(data, 2).kind is not Kind.DELIVERED
    answer = two.open(one.seal(b"real", 2), 2)
    resent = one.open(answer.data, 2)
    assert two.open(resent.data, 2).data == b"real"
    for data in recorded:
        assert two.open(data, 3).kind is not Kind.DELIVERED


def test_nothing_recorded_before_the_sender_restarted_is_delivered() -> None:
    one, two = introduced()
    delivered, withheld = one.seal(b"grant", 1), one.seal(b"grant", 1)
    two.open(delivered, 1)
    one = channel("mse1", "mse2", 4)
    resent = one.open(two.open(one.seal(b"real", 2), 2).data, 2)
    assert two.open(resent.data, 2).data == b"real"
    for data in (delivered, withheld):
        outcome = two.open(data, 3)
        assert outcome.kind is not Kind.DELIVERED
    assert two.open(one.seal(b"next", 4), 4).data == b"next"  # and the session was not disturbed


def test_a_recorded_hello_teaches_nothing() -> None:
    one, two = channel("mse1", "mse2", 1), channel("mse2", "mse1", 2)
    hello = two.open(one.seal(b"a", 0), 0).data
    one.open(hello, 0)
    assert one.open(hello, 0) == Outcome(Kind.REJECTED, reason=Reason.STALE_HELLO)
    restarted = channel("mse1", "mse2", 5)
    restarted.seal(b"b", 0)
    assert restarted.open(hello, 0) == Outcome(Kind.REJECTED, reason=Reason.STALE_HELLO)


def test_a_replayed_question_is_not_answered_twice() -> None:
    one, two = channel("mse1", "mse2", 1), channel("mse2", "mse1", 2)
    question = one.seal(b"a", 0)
    assert two.open(question, 0).kind is Kind.SEND
    assert two.open(question, 0) == Outcome(Kind.REJECTED, reason=Reason.REPLAYED)


def test_hellos_are_limited_and_come_back() -> None:
    two = channel("mse2", "mse1", 2)
    one = channel("mse1", "mse2", 1)
    answers = [two.open(one.seal(b"a", 0), 10**9).kind for _ in range(HELLO_BURST * 2)]
    assert answers.count(Kind.SEND) == HELLO_BURST + 1
    assert two.open(one.seal(b"a", 0), 2 * 10**9).kind is Kind.SEND


@pytest.mark.parametrize(("me", "peer"), [("a", "b" * 63), ("a" * 63, "b"), ("a", "b")])
def test_a_hello_is_never_longer_than_its_question(me: str, peer: str) -> None:
    for payload in (b"", b"x", b"x" * 100):
        one, two = channel(me, peer, 1), channel(peer, me, 2)
        question = one.seal(payload, 0)
        answer = two.open(question, 0)
        assert answer.kind is Kind.SEND
        assert len(answer.data) <= len(question)
        assert two.open(one.open(answer.data, 0).data, 0).data == payload


def test_a_question_too_short_to_answer_is_not_answered() -> None:
    one, two = channel("a", "b" * 63, 1), channel("b" * 63, "a", 2)
    one._body_at = 0  # a sender that does not pad
    assert two.open(one.seal(b"", 0), 10**9) == Outcome(Kind.REJECTED, reason=Reason.OTHER_SESSION)


def test_other_keys_are_forged() -> None:
    one, two = introduced()
    for root in (pair_root(bytes(32)), witness_root(KEY, "w"), witness_root(KEY, "mse1")):
        forged = channel("mse1", "mse2", 1, root=root).seal(b"x", 0)
        assert two.open(forged, 0) == Outcome(Kind.REJECTED, reason=Reason.FORGED)
    mirrored = two.seal(b"x", 0)  # its own datagram sent back to it
    assert two.open(mirrored, 0).reason is Reason.FORGED
    assert one.open(mirrored, 0).kind is Kind.SEND


def test_a_group_is_part_of_the_key() -> None:
    _, two = introduced()
    other = channel("mse1", "mse2", 1, group="floor2").seal(b"x", 0)
    assert two.open(other, 0).reason is Reason.FORGED


def test_names_are_found_in_the_clear_header() -> None:
    data = channel("mse1", "mse2", 1).seal(b"x", 0)
    assert peek(data) == names_key("floor1", "mse1")
    assert peek(b"OM\x07" + data[3:]) is Reason.OTHER_VERSION
    assert peek(b"XX" + data[2:]) is Reason.MALFORMED
    assert peek(b"") is Reason.MALFORMED


def test_a_genuine_datagram_with_an_impossible_length_is_malformed() -> None:
    one, two = introduced()
    lying = one._write(1, one._session, one._their_token, 99)
    header = bytearray(lying)
    header[28:30] = b"\xff\xff"
    body = bytes(header[:-16])
    mac = one._send_mac.copy()
    mac.update(body)
    tag = mac.digest()[:16]
    assert two.open(body + tag, 1).reason is Reason.MALFORMED
    unknown = one._write(7, one._session, one._their_token, 100)
    assert two.open(unknown, 1).reason is Reason.MALFORMED
    assert two.open(b"short", 1).reason is Reason.MALFORMED
