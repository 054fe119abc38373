"""Parting: the owner dissolves the pair and serves on, the other node forgets the group."""

import asyncio

from msgspec.structs import replace

from openmse.errors import CommandFailed, CommandRefused, MseError
from openmse.ha.effects import Note
from openmse.ha.events import Command, Maintenance
from openmse.ha.names import is_heard
from openmse.node.config import NodeConfig, Role
from openmse.node.group import GroupInfo
from openmse.node.runtime.notices import Dissolve, Dissolved, DissolveWish
from openmse.node.runtime.pairing_host import IN_FORCE_WITHIN_S, Host, group_of, in_force

TELL_WITHIN_S = 5.0


class Parting:
    """The steps of ``mse ha unpair``, on either node."""

    def __init__(self, config: NodeConfig, host: Host) -> None:
        self._config = config
        self._host = host
        self._dissolved = asyncio.Event()

    async def dissolve(self, group: GroupInfo, *, without_peer: bool) -> str:
        """As the owner; the sentence for who asked. Raises CommandRefused, CommandFailed."""
        node, me = self._host.node, self._config.node.name
        is_reachable = is_heard(node, node.peer) and node.peer.is_link_up
        if group.primary != me and is_reachable:
            raise CommandRefused(
                f"The secondary {me} owns: unpaired, the primary {group.primary} would serve an "
                "older copy. Nothing was changed.",
                "Hand back first: 'mse ha failback'.",
            )
        if not is_reachable and not without_peer:
            raise _peer_silent(node.peer.id)
        await self._must(Maintenance(True))  # nobody takes over from here on
        self._dissolved.clear()
        is_told = self._host.send_notice(Dissolve(group.group))
        if is_told:
            await self._wait_dissolved()
        if not self._dissolved.is_set() and not without_peer:
            await self._must(Maintenance(False))
            raise _peer_silent(node.peer.id)
        alone = tuple(info for info in group.nodes if info.name == me)
        self._host.take_group(
            replace(group, primary=me, nodes=alone, witness=None, revision=group.revision + 1)
        )
        await in_force(self._host)
        await self._must(Maintenance(False))
        sentence = f"The pair is dissolved; {me} serves on, unpaired."
        if self._dissolved.is_set():
            return sentence
        return f"{sentence} {node.peer.id} does not know it: unpair it too, --without-peer."

    async def leave(self, group: GroupInfo, *, without_peer: bool) -> str:
        """As the other node; the sentence for who asked. Raises CommandRefused, CommandFailed."""
        node, me = self._host.node, self._config.node.name
        if not without_peer:
            if not self._host.send_notice(DissolveWish(group.group)):
                raise _peer_silent(node.peer.id)
            if not await self._wait_group_gone():
                raise CommandFailed(
                    f"{node.peer.id} was asked to dissolve the pair, but has not done so in time.",
                    "Look at 'mse ha events' there.",
                )
            return f"The pair is dissolved; {node.peer.id} serves on, {me} has stopped its copy."
        if self._config.node.role is Role.PRIMARY:
            raise CommandRefused(
                f"{me} is the configured primary and does not own: unpaired, it would serve its "
                "older copy beside the owner. Nothing was changed.",
                "Bring the owner back and 'mse ha failback'; or make this node a secondary (role "
                "in [node] of the configuration file, then restart the daemon) and unpair then; "
                "or decide for this node's data with 'mse ha takeover --force'.",
            )
        await self._host.forget_group()
        return f"{me} has stopped its copy and forgotten the group; it can be paired anew."

    async def obey(self) -> None:
        """The owner dissolves the pair: answer it, and forget the group."""
        self._host.note(
            Note("dissolved", "warning", "The owner dissolves the pair; this node stops its copy.")
        )
        group = group_of(self._host)
        self._host.send_notice(Dissolved(group.group))
        try:
            await self._host.forget_group()
        except MseError as error:
            sentence = f"{error.sentence} {error.hint}".strip()
            self._host.note(Note("dissolve_failed", "error", sentence))

    def on_dissolved(self) -> None:
        """The other node has obeyed."""
        self._dissolved.set()

    async def _must(self, command: Command) -> None:
        answer = await self._host.submit(command, operator="unpair")
        if not answer.is_done:
            raise CommandFailed(answer.sentence, "The pair was not dissolved.")

    async def _wait_dissolved(self) -> None:
        try:
            async with asyncio.timeout(TELL_WITHIN_S):
                await self._dissolved.wait()
        except TimeoutError:
            return

    async def _wait_group_gone(self) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + IN_FORCE_WITHIN_S
        while loop.time() < deadline:
            if self._host.is_live and self._host.group is None:
                return True
            await asyncio.sleep(0.05)
        return False


def _peer_silent(peer: str) -> CommandRefused:
    return CommandRefused(
        f"{peer} cannot be told, so nothing was changed.",
        "Bring it back; or, if it is gone for good, add --without-peer.",
    )
