"""Who may be replaced, under which name, and what the group is afterwards."""

import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from live_core import config, serving

from openmse.ha.node import _primary_in
from openmse.ha.values import Mode, Voter
from openmse.node.group import GroupInfo, NodeInfo
from openmse.node.runtime.readmission import (
    NAME_MAX,
    Offered,
    offered_next,
    succeeded,
    successor,
    why_not,
)

NODES = (NodeInfo("mse1", "10.10.10.11", incarnation="a"), NodeInfo("mse2", "10.10.10.12"))
GROUP = GroupInfo("floor1", "mse1", NODES, ("10.10.10.10/24",))


@pytest.mark.parametrize(
    ("name", "following"),
    [
        ("mse1", "mse1-2"),
        ("mse1-2", "mse1-3"),
        ("mse1-9", "mse1-10"),
        ("floor-3", "floor-4"),
        ("mse-", "mse--2"),
        ("-7", "-7-2"),
        ("a-99999", "a-99999-2"),
        ("n" * NAME_MAX, "n" * (NAME_MAX - 2) + "-2"),
    ],
)
def test_a_name_is_never_used_again(name: str, following: str) -> None:
    assert successor(name) == following
    assert len(following) <= NAME_MAX


def test_each_wait_offers_a_name_that_no_other_did() -> None:
    first = offered_next(Offered(), "mse1", GROUP, wait="a")
    assert first.names == ("mse1-2",)
    assert offered_next(first, "mse1", GROUP, wait="a") == first, "it came once more"
    second = offered_next(first, "mse1", GROUP, wait="b")
    assert second.names == ("mse1-2", "mse1-3"), "who broke off may have stored the other one"
    came = offered_next(second, "mse1-3", GROUP, wait="b")
    assert came.names[-1] == "mse1-4", "mse1-3 has come, and is lost in its turn"
    other = replace(GROUP, group="floor2")
    assert offered_next(came, "mse1", other, wait="d").names == ("mse1-2",)
    taken = replace(GROUP, nodes=(replace(NODES[0], name="mse1-2"), NODES[1]))
    assert offered_next(Offered(), "mse1", taken, wait="e").names == ("mse1-3",)


def test_the_new_node_stands_where_the_lost_one_stood() -> None:
    found = succeeded(GROUP, NODES[0], "mse1-2")
    assert [node.name for node in found.nodes] == ["mse1-2", "mse2"]
    assert (found.primary, found.nodes[0].incarnation) == ("mse1-2", "")
    assert succeeded(GROUP, NODES[1], "mse2-2").primary == "mse1", "a secondary is replaced as such"


def test_only_an_owner_that_goes_on_alone_replaces_who_is_not_heard() -> None:
    alone = serving(known=config(Mode.ALONE))
    alone = replace(alone, peer=replace(alone.peer, id="mse2"))
    assert why_not(alone) == ""
    known = alone.record.known
    assert known is not None
    of_other = replace(alone, record=replace(alone.record, known=replace(known, owner="mse2")))
    assert why_not(of_other).startswith("mse2 owns, and only the owner changes the voters.")
    in_step = replace(alone, record=replace(alone.record, known=replace(known, mode=Mode.SYNC)))
    assert why_not(in_step) == "The config in force still counts on mse2."
    unborn = replace(alone, record=replace(alone.record, known=None))
    assert why_not(unborn).startswith("nobody owns")


def test_who_joins_as_the_primary_leaves_is_the_primary() -> None:
    known = config(Mode.ALONE, "mse2")
    assert known.primary == "mse1"
    second, witness = Voter("mse2", "b"), Voter("witness", "w", True)
    new = Voter("mse1-2", "c")
    assert _primary_in(replace(known, voters=(second, witness, new)), known) == "mse1-2"
    assert _primary_in(replace(known, voters=(second,)), known) == "mse2", "the owner stays alone"
    assert _primary_in(replace(known, voters=known.voters), known) == "mse1"
    other = replace(known, primary="mse2")
    assert _primary_in(replace(other, voters=(second, witness, new)), other) == "mse2"
