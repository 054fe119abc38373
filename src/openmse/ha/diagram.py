"""Draws the table of transitions: docs/generated/states.md is this module's output, kept true by
a test. Pure."""

from openmse.ha.transitions import MOVES, STAY, Owner, Post, Verdict, row
from openmse.ha.values import Mode

_STATE = {
    Post.OWNER_SYNC: "SYNC_me",
    Post.OWNER_ALONE: "ALONE_me",
    Post.OWNER_PINNED: "PINNED_me",
    Post.PEER_SYNC: "SYNC_peer",
    Post.PEER_ALONE: "ALONE_peer",
    Post.PEER_PINNED: "PINNED_peer",
    Post.UNPAIRED: "unpaired",
}


def target(mode: Mode, owner: Owner) -> str:
    """The name of a state in the diagram."""
    return f"{mode}_{owner}"


def mermaid() -> str:
    """The moves as a Mermaid state diagram, seen from one node ("me")."""
    lines = ["stateDiagram-v2", "  direction LR"]
    for (post, verdict), found in MOVES.items():
        if found.mode is None or verdict is Verdict.FORCED:
            continue
        lines.append(f"  {_STATE[post]} --> {target(found.mode, found.owner)}: {verdict.value}")
    lines.append("  note right of ALONE_me: forced, from any state (a new term)")
    return "\n".join(lines)


def table() -> str:
    """Every pair of post and verdict with what becomes of it."""
    lines = ["| where this node stands | verdict | becomes | sentence |", "|---|---|---|---|"]
    for post in Post:
        for verdict in Verdict:
            found = row(post, verdict)
            becomes = "stays" if found.mode is None else f"{found.mode}({found.owner})"
            lines.append(f"| {post} | {verdict} | {becomes} | {found.sentence} |")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    return (
        "# The transitions of the register\n\n"
        "Drawn from `openmse.ha.transitions` by `python -m openmse.ha.diagram`; a test keeps it "
        "true.\n\n```mermaid\n" + mermaid() + "\n```\n\n" + table() + "\n"
    )


assert set(STAY) == set(Verdict)

if __name__ == "__main__":
    print(page(), end="")
