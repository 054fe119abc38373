"""The ways to the other voters: what cannot be sent is dropped, and said."""

from openmse.errors import PeerError
from openmse.ha.messages import Beat, Stamp, Standing
from openmse.ha.values import Ballot, Instant
from openmse.node.config import NodeConfig, NodeSection, Role
from openmse.node.group import GroupInfo, NodeInfo
from openmse.node.runtime.links import Links


async def test_a_message_that_is_too_long_is_dropped() -> None:
    """It was raised into the core's step: the effects after it were lost with it."""
    config = NodeConfig(node=NodeSection(name="mse1", role=Role.PRIMARY, address="127.0.0.1/8"))
    refused: list[PeerError] = []
    links = Links(config, lambda _: None, refused.append, lambda _: None)
    nodes = (NodeInfo("mse1", "127.0.0.1"), NodeInfo("mse2", "127.0.0.2"))
    group = GroupInfo("g1", "mse1", nodes, ())
    links._group = group.group
    beat = Beat(
        stamp=Stamp("mse1", "a", 1, Ballot()),
        nonce=Instant(1),
        term=1,
        epoch=1,
        chosen=Ballot(),
        owner="mse1",
        wants_grant=True,
        wait_ns=1,
        standing=Standing(note="x" * 9000),
    )
    links.send("mse2", beat)
    assert [type(error) for error in refused] == [PeerError]
