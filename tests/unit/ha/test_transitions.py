"""The one table: total, reachable, and drawn as it is."""

from pathlib import Path

import pytest

from openmse.ha.diagram import page
from openmse.ha.transitions import MOVES, Owner, Post, Verdict, row
from openmse.ha.values import Mode

GENERATED = Path(__file__).resolve().parents[3] / "docs" / "generated" / "states.md"


@pytest.mark.parametrize("post", Post)
@pytest.mark.parametrize("verdict", Verdict)
def test_every_pair_has_a_row_with_a_sentence(post: Post, verdict: Verdict) -> None:
    found = row(post, verdict)
    assert found.sentence.endswith(".")


def test_every_state_is_reached_by_some_row() -> None:
    reached = {(found.mode, found.owner) for found in MOVES.values()}
    assert {(mode, Owner.ME) for mode in Mode} <= reached
    assert (Mode.SYNC, Owner.PEER) in reached
    assert (Mode.PINNED, Owner.PEER) in reached


def test_alone_and_pinned_never_lead_to_another_owner_but_by_handover_or_force() -> None:
    """I4, on the table itself."""
    for (post, verdict), found in MOVES.items():
        if post is Post.OWNER_ALONE:
            assert found.owner is Owner.ME
        if post in (Post.PEER_ALONE, Post.PEER_PINNED):
            assert found.is_forced
        if post is Post.OWNER_PINNED and found.owner is Owner.PEER:
            assert verdict is Verdict.HANDED_OVER


def test_only_a_peer_in_sync_takes_over_without_force() -> None:
    takeovers = [
        post
        for (post, _), found in MOVES.items()
        if found.owner is Owner.ME and post.value.startswith("peer") and not found.is_forced
    ]
    assert takeovers == [Post.PEER_SYNC]


def test_the_diagram_in_the_docs_is_drawn_from_the_table() -> None:
    assert GENERATED.read_text() == page(), (
        "docs/generated/states.md is out of date: python -m openmse.ha.diagram > "
        "docs/generated/states.md"
    )
