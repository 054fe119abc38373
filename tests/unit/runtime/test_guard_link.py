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


def test_a_sync_in_flight_has_a_deadline_already(tmp_path: Path) -> None:
    """The others may have chosen it: a health monitor that freezes now must be outlived by nothing.
    The deadline was told, but with mode ALONE, in which the guard leaves PostgreSQL alone."""
    paths = PathsSection(state_dir=str(tmp_path), run_dir=str(tmp_path))
    node = NodeSection(name="mse1", role=Role.PRIMARY, address="10.0.0.1/24")
    link = GuardLink(NodeConfig(node=node, paths=paths))
    told: list[dict[str, Any]] = []
    link._feed.send = lambda **fields: bool(told.append(fields))  # type: ignore[method-assign]
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
