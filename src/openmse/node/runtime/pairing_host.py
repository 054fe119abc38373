"""What pairing needs of the daemon around it, and when a change of the group is in force."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from openmse.errors import CommandFailed, CommandRefused
from openmse.ha.effects import Answer, Note
from openmse.ha.events import Command
from openmse.ha.state import Node
from openmse.ha.values import Voter
from openmse.node.group import GroupInfo, NodeInfo, WitnessInfo
from openmse.node.runtime.notices import Notice

IN_FORCE_WITHIN_S = 60.0


class Host(Protocol):
    """The daemon around it."""

    @property
    def node(self) -> Node:
        """The core's state at this moment."""

    @property
    def group(self) -> GroupInfo | None:
        """The group's facts that are in force."""

    @property
    def incarnation(self) -> str:
        """Of this node's memory."""

    @property
    def is_live(self) -> bool:
        """Whether the core runs; it does not while a life ends and the next begins."""

    async def submit(self, command: Command, *, operator: str) -> Answer:
        """Give a command to the core."""

    def note(self, note: Note) -> None:
        """An entry of the event log."""

    def take_group(self, group: GroupInfo) -> None:
        """Save the facts and live by them from now on. Raises StateError."""

    async def forget_group(self) -> None:
        """Stop this node's database, forget the group and begin with an empty memory."""

    def send_notice(self, notice: Notice) -> bool:
        """Tell the other node; False where there is no link."""


def group_of(host: Host) -> GroupInfo:
    """The group's facts that are in force; raises CommandRefused where there are none."""
    group = host.group
    if group is None:
        raise CommandRefused(
            "This node belongs to no group yet; nothing was changed.",
            "A primary founds one when its daemon starts; a secondary is paired from there.",
        )
    return group


async def in_force(host: Host, new: NodeInfo | WitnessInfo | None = None) -> None:
    """Wait until the register's voters are the parties of the facts; raises CommandFailed.

    ``new``: who has come. It is a voter with the memory that it showed, not with another's of the
    same name; the others may have begun anew since the facts were written.
    """
    group = group_of(host)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + IN_FORCE_WITHIN_S
    while loop.time() < deadline:
        group = host.group or group
        known = host.node.record.known if host.is_live else None
        if known is not None and are_voters(known.voters, group, new):
            return
        await asyncio.sleep(0.05)
    raise CommandFailed(
        f"The group's facts are stored, but its voters did not change within "
        f"{IN_FORCE_WITHIN_S:.0f} s; the daemon goes on trying.",
        "Watch 'mse ha status' and 'mse ha events'.",
    )


def are_voters(
    voters: Sequence[Voter], group: GroupInfo, new: NodeInfo | WitnessInfo | None
) -> bool:
    """Whether ``voters`` are the parties of ``group``, and ``new`` is one of them itself. Pure."""
    if {voter.id for voter in voters} != group.parties:
        return False
    return new is None or (new.name, new.incarnation) in [(v.id, v.incarnation) for v in voters]
