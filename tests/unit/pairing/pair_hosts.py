"""Two daemons' worth of what pairing needs: real files, real core, real sockets on loopback.

The control link between the nodes is a call here; everything else is the production code.
"""

import asyncio
import os
import pwd
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from live_core import LiveCore, serving
from msgspec.structs import replace

from openmse.ha.effects import Answer, Note
from openmse.ha.events import ChangeVoters, Command, LinkChanged, Received
from openmse.ha.messages import Beat, BeatAck, Stamp, Standing
from openmse.ha.state import Node
from openmse.ha.values import Ballot, Config, Lineage, Mode, Settings, Voter
from openmse.node import group as group_file
from openmse.node.config import (
    DatabaseSection,
    GroupSection,
    NodeConfig,
    NodeSection,
    PathsSection,
    PortsSection,
    Role,
)
from openmse.node.group import GroupInfo
from openmse.node.identity import create_group
from openmse.node.runtime.group_runtime import desired_voters
from openmse.node.runtime.notices import Notice
from openmse.node.runtime.pairing import NodePairing

PASSWORD = "correct horse battery"
KEPT_PORTS: list[socket.socket] = []
"""Other tests beside this one, and whatever connects, are given ports of the same range."""


def free_port(address: str) -> int:
    """A TCP port that nobody else is given as long as this process lives.

    It stays bound and listens to nobody; a server that sets SO_REUSEADDR, as ours do, gets it.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind((address, 0))
    KEPT_PORTS.append(kept)
    return int(kept.getsockname()[1])


def node_config(directory: Path, name: str, last: int, **database: object) -> NodeConfig:
    """A machine's configuration on loopback."""
    address = f"127.0.0.{last}"
    user = pwd.getpwuid(os.geteuid()).pw_name
    return NodeConfig(
        node=NodeSection(
            name=name,
            role=Role.PRIMARY if name == "mse1" else Role.SECONDARY,
            address=f"{address}/8",
        ),
        group=GroupSection(virtual_ips=("127.0.0.100/8",)),
        database=DatabaseSection(user=user, **database),  # type: ignore[arg-type]
        ports=PortsSection(pairing=free_port(address)),
        paths=PathsSection(state_dir=str(directory / name), run_dir=str(directory / "run")),
    )


def with_cable(config: NodeConfig, address: str) -> NodeConfig:
    """The same machine with an end of a direct connection."""
    node = replace(config.node, direct_interface="eth1", direct_address=address)
    return replace(config, node=node)


class Machine:
    """``pairing.Host`` of one node."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        config.places.state_dir.mkdir(exist_ok=True)
        self.group: GroupInfo | None = None
        self.core: LiveCore | None = None
        self.notes: list[Note] = []
        self.other: Machine | None = None
        self.has_forgotten = False
        self.pairing = NodePairing(config, self)

    def found(self) -> None:
        """An unpaired primary after its first start."""
        self.group = create_group(self.config)
        group_file.save(self.config.places.group, self.group)
        known = Config(
            term=1,
            epoch=1,
            mode=Mode.ALONE,
            owner="mse1",
            voters=(Voter("mse1", "a"),),
            lineage=Lineage(1, 1, "mse1"),
            settings=Settings(),
            primary="mse1",
        )
        self.core = LiveCore(serving("mse1", known))

    @property
    def node(self) -> Node:
        """The core's state."""
        assert self.core is not None
        return self.core.node

    @property
    def incarnation(self) -> str:
        """Of its memory."""
        return {"mse1": "a", "mse2": "b"}[self.config.node.name]

    @property
    def is_live(self) -> bool:
        """Whether a core runs, or none is needed."""
        return self.core is not None or self.has_forgotten

    async def submit(self, command: Command, *, operator: str) -> Answer:
        """To the core."""
        assert self.core is not None
        return await self.core.submit(command, operator=operator)

    def note(self, note: Note) -> None:
        """Kept."""
        self.notes.append(note)

    def take_group(self, group: GroupInfo) -> None:
        """Saved, and its parties made voters as the runtime does."""
        group_file.save(self.config.places.group, group)
        self.group = group
        if self.core is not None:
            known = self.core.node.record.known
            assert known is not None
            wanted = desired_voters(self.core.node, known, group)
            if wanted is not None:
                work = self.core.submit(ChangeVoters(wanted), operator="runtime")
                self._task = asyncio.ensure_future(work)

    async def forget_group(self) -> None:
        """The facts are gone."""
        group_file.remove(self.config.places.group)
        self.group = None
        self.has_forgotten = True

    def send_notice(self, notice: Notice) -> bool:
        """To the other machine, if it runs."""
        if self.other is None:
            return False
        asyncio.get_running_loop().call_soon(self.other.pairing.on_notice, notice)
        return True

    def hear(self, name: str, incarnation: str) -> None:
        """The other node's beat arrives, and its link is up."""
        assert self.core is not None
        known = self.core.node.record.known
        assert known is not None
        now = self.core.node.now
        stamp = Stamp(name, incarnation, 1, Ballot())
        beat = Beat(
            stamp, now, known.term, known.epoch, Ballot(), known.owner, False, 0, Standing()
        )
        self.core.post(Received(now, beat))
        self.core.post(LinkChanged(now, name, True))

    def hear_witness(self, incarnation: str) -> None:
        """The witness answers the beats, with this memory."""
        assert self.core is not None
        node = self.core.node
        known = node.record.known
        assert known is not None
        stamp = Stamp("witness", incarnation, 1, Ballot())
        ack = BeatAck(stamp, node.now, False, known.term, known.epoch, Ballot())
        self.core.post(Received(node.now, ack))
        self.core.pass_time(1.0)


def follower(machine: Machine, owner: Machine) -> None:
    """Give a paired secondary a core that knows the owner's config."""
    known = owner.node.record.known
    assert known is not None
    node = serving(machine.config.node.name, replace(known, owner="mse1"))
    machine.core = LiveCore(node)
