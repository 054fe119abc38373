"""Every way in which a run can be wrong is named, and nothing else."""

import pytest

from openmse.lab.checker import Account, Row, judge
from openmse.lab.ledger import Acknowledged, Entry, Refused, Seen, Unknown

WRITTEN: tuple[Entry, ...] = (
    Acknowledged(1, 10, 12, 100, "mse1"),
    Acknowledged(2, 15, 17, 101, "mse1"),
    Unknown(3, 20, 120, "no answer"),
    Refused(4, 130, 131, "ERROR"),
    Acknowledged(5, 140, 142, 134, "mse2"),
)
ROWS = (Row(1, 100), Row(2, 101), Row(5, 134))


def _judge(rows: tuple[Row, ...], *more: Entry) -> tuple[str, ...]:
    account = Account.of((*WRITTEN, *more))
    reader = Account.of([Seen(13, [1], "mse1"), Seen(18, [2], "mse1")])
    return judge(account, rows, reader).violations


@pytest.mark.parametrize("extra", [(), (Row(3, 102),)], ids=["absent", "present"])
def test_what_was_not_answered_may_be_there_or_not(extra: tuple[Row, ...]) -> None:
    assert _judge((*ROWS, *extra)) == ()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((Row(1, 100), Row(2, 101)), ["acknowledged and is not"]),
        ((Row(1, 100), Row(5, 134)), ["acknowledged and is not", "read through the virtual IP"]),
        ((*ROWS, Row(2, 101)), ["more than once"]),
        ((*ROWS, Row(4, 103)), ["refused and is there"]),
        ((*ROWS, Row(99, 103)), ["never sent"]),
        ((Row(1, 100), Row(2, 77), Row(5, 134)), ["another number"]),
    ],
    ids=["lost", "vanished", "twice", "refused", "stranger", "renumbered"],
)
def test_each_wrong_outcome_is_said(rows: tuple[Row, ...], words: list[str]) -> None:
    found = _judge(rows)
    assert len(found) == len(words)
    for sentence, word in zip(found, words, strict=True):
        assert word in sentence


def test_numbers_that_go_back_are_said() -> None:
    found = _judge((*ROWS, Row(6, 120)), Acknowledged(6, 150, 152, 120, "mse2"))
    assert len(found) == 1
    assert "lower number" in found[0]


def test_the_counts() -> None:
    verdict = judge(Account.of(WRITTEN), (*ROWS, Row(3, 102)))
    assert (verdict.acknowledged, verdict.unknown, verdict.unknown_found) == (3, 1, 1)
    assert (verdict.refused, verdict.warnings) == (1, 0)


def test_a_warning_is_counted_as_such() -> None:
    warned = Unknown(7, 1, 2, "canceling wait for synchronous replication", is_warning=True)
    assert judge(Account.of([warned]), ()).warnings == 1
