"""A pair that gives up its witness lives in PINNED: two are no majority once one is gone."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from live_core import START, VOTERS, config, record, serving
from msgspec.structs import replace

from openmse.ha.events import ChangeVoters, Commanded, Received
from openmse.ha.messages import Learn, Stamp
from openmse.ha.node import boot, step
from openmse.ha.state import Node, Party
from openmse.ha.values import SECOND, Ballot, Instant, Mode

TWO = tuple(voter for voter in VOTERS if not voter.is_witness)


def owner(mode: Mode) -> Node:
    """mse1 owning with mse2 streaming and a witness."""
    n = serving("mse1", config(mode))
    n.db = replace(n.db, peer_streaming=True, peer_flush_lsn=n.db.end_lsn, peer_signed_at=START)
    n.peer = Party("mse2", heard_at=START, first_heard_at=START)
    n.witness = Party("witness", heard_at=START, first_heard_at=START)
    n.lease_until = n.cutoff_at = Instant(START + 4 * SECOND)
    n.next_attempt_at = Instant(0)
    return n


@pytest.mark.parametrize(
    ("mode", "after"),
    [(Mode.SYNC, Mode.PINNED), (Mode.PINNED, Mode.PINNED), (Mode.ALONE, Mode.ALONE)],
)
def test_the_mode_it_leads_to(mode: Mode, after: Mode) -> None:
    n, _ = step(owner(mode), Commanded(START, "1", ChangeVoters(TWO)))
    target = n.proposal.move if n.proposal is not None else n.record.known
    assert target is not None
    assert (target.mode, target.voters) == (after, TWO)


def test_keeping_the_witness_keeps_sync() -> None:
    other = (*TWO, replace(VOTERS[2], id="w2", incarnation="w2"))
    n, _ = step(owner(Mode.SYNC), Commanded(START, "1", ChangeVoters(other)))
    assert n.proposal is not None
    assert n.proposal.move is not None
    assert n.proposal.move.mode is Mode.SYNC


def test_a_voter_that_was_removed_is_no_party_any_more() -> None:
    n = boot(record("mse2", config(Mode.SYNC)), now=START, is_machine_boot=False)
    assert n.witness.id == "witness"
    known = config(Mode.PINNED, voters=TWO, epoch=4)
    stamp = Stamp("mse1", "a", 1, Ballot(1, 2, "mse1"))
    n, _ = step(n, Received(START, Learn(stamp, Ballot(1, 2, "mse1"), known)))
    assert n.record.known == known
    assert (n.witness.id, n.peer.id) == ("", "mse1")


def test_a_party_that_is_yet_to_become_a_voter_stays() -> None:
    alone = record("mse1", config(voters=VOTERS[:1]))
    n = boot(alone, now=START, is_machine_boot=False, peer="mse2", witness="witness")
    n, _ = step(n, Commanded(START, "1", ChangeVoters(VOTERS[:1])))
    assert (n.peer.id, n.witness.id) == ("mse2", "witness")
