"""An owner that only the cable still reaches is not heard, so that the standby takes over."""

import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from live_core import config, serving

from openmse.ha.messages import Beat, OrderAnswer, Stamp, Standing
from openmse.ha.state import Node
from openmse.ha.values import Ballot, FailoverType, Mode, Settings, Voter
from openmse.node.runtime.detached import is_detached

VOTERS = (Voter("mse1", "a"), Voter("mse2", "b"), Voter("witness", "w", True))


def standby(mode: Mode = Mode.SYNC, owner: str = "mse2", **settings: object) -> Node:
    """mse1 as it hears its witness."""
    changes = replace(Settings(), **settings)
    node = serving("mse1", config(mode, owner, voters=VOTERS, settings=changes))
    return replace(
        node,
        peer=replace(node.peer, id="mse2"),
        witness=replace(node.witness, id="witness", heard_at=node.now),
    )


def beat(*, hears_witness: bool, is_handing_over: bool = False) -> Beat:
    stamp = Stamp("mse2", "b", 1, Ballot())
    standing = Standing(hears_witness=hears_witness, is_handing_over=is_handing_over)
    return Beat(stamp, standby().now, 1, 1, Ballot(), "mse2", True, 1, standing)


def test_the_beat_of_an_owner_that_lost_the_witness_is_not_heard() -> None:
    assert is_detached(standby(), beat(hears_witness=False), was_detached=False)
    assert not is_detached(standby(), beat(hears_witness=True), was_detached=True)
    assert not is_detached(
        standby(), beat(hears_witness=False, is_handing_over=True), was_detached=False
    )


def test_other_messages_follow_the_last_beat() -> None:
    answer = OrderAnswer(Stamp("mse2", "b", 1, Ballot()), "1", True, "done")
    assert is_detached(standby(), answer, was_detached=True)
    assert not is_detached(standby(), answer, was_detached=False)


@pytest.mark.parametrize(
    "node",
    [
        standby(Mode.ALONE),
        standby(Mode.PINNED),
        standby(owner="mse1"),
        standby(failover_type=FailoverType.MANUAL),
        standby(maintenance=True),
        replace(standby(), witness=replace(standby().witness, heard_at=0)),
    ],
    ids=["alone", "pinned", "own", "manual", "maintenance", "no witness"],
)
def test_where_nobody_would_take_over_everything_is_heard(node: Node) -> None:
    assert not is_detached(node, beat(hears_witness=False), was_detached=True)
