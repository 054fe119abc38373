"""What the guard is told to do should the health monitor die."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from live_core import START, config, serving
from msgspec.structs import replace

from openmse.ha.values import SECOND, Ballot, Instant, Mode
from openmse.node.config import NodeConfig, NodeSection, PathsSection, Role
from openmse.node.runtime.guard_link import GuardLink


def _link(tmp_path: Path) -> tuple[GuardLink, list[dict[str, Any]]]:
    paths = PathsSection(state_dir=str(tmp_path), run_dir=str(tmp_path))
    node = NodeSection(name="mse1", role=Role.PRIMARY, address="10.0.0.1/24")
    link = GuardLink(NodeConfig(node=node, paths=paths))
    told: list[dict[str, Any]] = []
    link._feed.send = lambda **fields: bool(told.append(fields))  # type: ignore[method-assign]
    return link, told


def test_each_end_of_the_lease_is_told_at_once_and_the_same_one_four_times_a_second(
    tmp_path: Path,
) -> None:
    """A guard that believes in an earlier end stops a frozen owner's database too soon; one that
    believes in a later end, too late."""
    link, told = _link(tmp_path)
    n = serving(known=config(Mode.SYNC))
    ends = (
        (0, 1000, True),
        (100, 1100, True),
        (110, 900, True),
        (200, 900, False),
        (350, 900, False),
        (370, 900, True),
    )
    for at_ms, until_ms, _ in ends:
        n.now, n.lease_until = Instant(START + at_ms * 10**6), Instant(START + until_ms * 10**6)
        link.on_step(n)
    link._feed.close()
    expected = [START + until_ms * 10**6 for _, until_ms, is_told in ends if is_told]
    assert [fields["deadline_ns"] for fields in told] == expected


def test_a_sync_in_flight_has_a_deadline_already(tmp_path: Path) -> None:
    """The others may have chosen it: a health monitor that freezes now must be outlived by nothing.
    The deadline was told, but with mode ALONE, in which the guard leaves PostgreSQL alone."""
    link, told = _link(tmp_path)
    n = serving(known=config(Mode.ALONE))
    link.on_step(n)
    n.record = replace(n.record, accepted=Ballot(1, 9, "mse1"), value=config(Mode.SYNC, epoch=4))
    n.lease_until = Instant(START + SECOND)
    link.on_step(n)
    link._feed.close()
    assert [(f["mode"], f["deadline_ns"]) for f in told] == [
        ("ALONE", None),
        ("SYNC", START + SECOND),
    ]
