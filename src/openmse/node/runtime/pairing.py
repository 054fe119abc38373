"""Making, changing and dissolving the group: the daemon's side of pairing.

The order makes every break harmless. The witness is enrolled first (a group that it keeps in vain
costs nothing), then the secondary stores everything in one step, then the primary saves the
group's facts. From there on the runtime works by level: the owner makes voters of the parties in
the facts, and tells the other node facts that are newer than its own.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator

from msgspec.structs import replace

from openmse.errors import CommandRefused, MseError, UsageError
from openmse.ha.draft import is_owner
from openmse.ha.effects import Note
from openmse.node.config import NodeConfig, Role, WitnessKind
from openmse.node.control.commands import PairArgs, ReadmitArgs, WitnessArgs
from openmse.node.direct import is_address, keeping_direct, with_direct, without_direct
from openmse.node.group import GroupInfo
from openmse.node.runtime.notices import (
    DirectTold,
    Dissolve,
    Dissolved,
    DissolveWish,
    GroupTold,
    Notice,
)
from openmse.node.runtime.pairing_call import addresses, call_secondary, enrol
from openmse.node.runtime.pairing_desk import PairingDesk, write_witness_key
from openmse.node.runtime.pairing_host import Host, group_of, in_force
from openmse.node.runtime.parting import Parting
from openmse.node.runtime.readmission import ReadmissionDesk

Progress = Callable[[str], Awaitable[None]]


class NodePairing:
    """What ``mse ha pair``, ``unpair`` and ``witness`` do, and the answering side of pairing."""

    def __init__(self, config: NodeConfig, host: Host) -> None:
        self._config = config
        self._host = host
        self._desk = PairingDesk(config, host)
        self._readmission = ReadmissionDesk(config, host)
        self._parting = Parting(config, host)
        self._is_busy = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether a secondary's pairing port listens for its primary."""
        return self._desk.is_open

    async def refresh(self) -> None:
        """Open or close the pairing port as the group and the passwords ask for."""
        if self._readmission.is_wanted:
            await self._desk.close()  # there is one port, and one of two conversations on it
            await self._readmission.refresh()
        else:
            await self._readmission.close()
            await self._desk.refresh()

    async def close(self) -> None:
        """The daemon ends."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._desk.close()
        await self._readmission.close()

    # -- commands --------------------------------------------------------------------------

    async def pair(self, args: PairArgs, progress: Progress) -> str:
        """Pair this primary with the secondary at ``args.peer``; raises PairingError."""
        group = group_of(self._host)
        if self._config.node.role is not Role.PRIMARY or len(group.nodes) > 1:
            raise CommandRefused(
                "Only a primary that is not paired yet can pair; nothing was changed.",
                "'mse ha unpair' dissolves a pair first.",
            )
        if args.peer in addresses(group):
            raise UsageError(f"{args.peer} is an address of this node; nothing was changed.")
        with self._one_at_a_time():
            if args.witness is not None:
                await progress("enrolling the witness")
                group = replace(group, witness=await enrol(self._config, group, args.witness))
            await progress("pairing with the secondary")
            peer = await call_secondary(self._config, group, args)
            nodes = (*group.nodes, peer)
            self._host.take_group(replace(group, nodes=nodes, revision=group.revision + 1))
            await progress("making them voters")
            await in_force(self._host, peer)
        return (
            f"{self._config.node.name} and {peer.name} are a pair. {peer.name} now copies the "
            "database; 'mse ha status --watch' shows when they are in step."
        )

    async def replace_witness(self, args: WitnessArgs) -> str:
        """Give the third vote to another witness; raises PairingError, CommandRefused."""
        group = self._owned_pair()
        if args.name in [node.name for node in group.nodes]:
            raise UsageError(f"'{args.name}' is the name of a node; nothing was changed.")
        with self._one_at_a_time():
            witness = await enrol(self._config, group, args)
            self._host.take_group(replace(group, witness=witness, revision=group.revision + 1))
            await in_force(self._host, witness)
        return f"{witness.name} is the witness now."

    async def remove_witness(self) -> str:
        """Go on without a third vote; raises CommandRefused."""
        group = self._owned_pair()
        if group.witness is None:
            raise CommandRefused("This pair has no witness; nothing was changed.")
        with self._one_at_a_time():
            self._host.take_group(replace(group, witness=None, revision=group.revision + 1))
            await in_force(self._host)
        return f"{group.witness.name} is no witness of this pair any more."

    async def readmit(self, args: ReadmitArgs) -> str:
        """Wait for a new machine in place of the lost one; raises CommandRefused, UsageError."""
        with self._one_at_a_time():
            sentence = self._readmission.arm(args.password, args.valid_for_s)
            try:
                await self.refresh()
            except MseError:
                self._readmission.disarm()
                raise
            self._note("readmission_open", "warning", sentence)
        self._spawn(self._refresh_after(args.valid_for_s + 1.0))
        return sentence

    async def readmit_cancel(self, by: str) -> str:
        """Wait for no new machine any more, as ``by`` asks; raises CommandRefused, StateError.

        The password is void, the port closed and a conversation on it cut off when this returns.
        """
        with self._one_at_a_time():
            lost = self._readmission.awaited()
            self._readmission.disarm()
            self._note(
                "readmission_ended",
                "info",
                f"{by} ended the wait for a machine in place of {lost.name}.",
            )
            with contextlib.suppress(MseError):  # of the other desk's port: the next life looks
                await self.refresh()
        return f"{self._config.node.name} waits no longer for a machine in place of {lost.name}."

    async def _refresh_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self._host.is_live:
            with contextlib.suppress(MseError):  # the next life looks again
                await self.refresh()

    async def unpair(self, *, without_peer: bool) -> str:
        """Dissolve the group; raises CommandRefused."""
        group = self._pair()
        with self._one_at_a_time():
            if is_owner(self._host.node):
                return await self._parting.dissolve(group, without_peer=without_peer)
            return await self._parting.leave(group, without_peer=without_peer)

    # -- notices of the other node ---------------------------------------------------------

    def on_link_up(self) -> None:
        """A link to the other node came up: tell it the facts."""
        group = self._host.group
        peer = group.peer_of(self._config.node.name) if group is not None else None
        if group is not None and peer is not None:
            self._host.send_notice(GroupTold(without_direct(group)))
            own = self._config.node.direct_host
            if own or peer.direct:
                self._host.send_notice(DirectTold(group.group, own))

    def on_notice(self, notice: Notice) -> None:
        """Something the other node said over the proven link; never blocks."""
        group = self._host.group
        if group is None:
            return
        match notice:
            case GroupTold(info=info):
                self._on_told(group, info)
            case DirectTold(group=name, address=address) if name == group.group:
                self._on_direct(group, address)
            case Dissolved():
                self._parting.on_dissolved()
            case Dissolve(group=name) if name == group.group:
                if not is_owner(self._host.node):
                    self._spawn(self._parting.obey())
            case DissolveWish(group=name) if name == group.group:
                if is_owner(self._host.node) and not self._is_busy:
                    self._spawn(self._grant())
            case _:
                pass

    def _on_told(self, mine: GroupInfo, told: GroupInfo) -> None:
        me = self._config.node.name
        if told.group != mine.group or told.node(me) is None:
            return
        if told.revision < mine.revision:
            self._host.send_notice(GroupTold(without_direct(mine)))
        elif told.revision > mine.revision and not self._is_busy:
            try:
                if told.witness is not None and told.witness.kind == WitnessKind.CONSOLE:
                    write_witness_key(self._config, told.witness.name)
                self._host.take_group(keeping_direct(told, mine))
            except MseError as error:  # a full disk, say: it is told again with the next link
                self._note("group_not_saved", "error", f"{error.sentence} {error.hint}".strip())
                return
            self._note("group_changed", "info", "The other node told newer facts of the group.")

    def _on_direct(self, mine: GroupInfo, address: str) -> None:
        peer = mine.peer_of(self._config.node.name)
        if peer is None or peer.direct == address or self._is_busy or not is_address(address):
            return
        try:
            self._host.take_group(with_direct(mine, peer.name, address))
        except MseError as error:  # told again with the next link
            self._note("group_not_saved", "error", f"{error.sentence} {error.hint}".strip())
            return
        words = f"has the direct address {address}" if address else "has no direct connection now"
        self._note("direct_changed", "info", f"{peer.name} {words}.")

    async def _grant(self) -> None:
        try:
            sentence = await self.unpair(without_peer=False)
            self._note("dissolved", "warning", f"As the other node was asked to: {sentence}")
        except MseError as error:
            self._note("dissolve_failed", "warning", f"{error.sentence} {error.hint}".strip())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- small things ----------------------------------------------------------------------

    def _note(self, kind: str, severity: str, sentence: str) -> None:
        self._host.note(Note(kind, severity, sentence))

    def _pair(self) -> GroupInfo:
        group = group_of(self._host)
        if len(group.nodes) < 2:
            raise CommandRefused("This node is not paired; nothing was changed.")
        return group

    def _owned_pair(self) -> GroupInfo:
        group = self._pair()
        known = self._host.node.record.known
        if known is None or known.owner != self._config.node.name:
            owner = known.owner if known is not None else "another node"
            raise CommandRefused(
                f"{owner} owns, and only the owner changes the voters; nothing was changed.",
                f"Run the command on {owner}.",
            )
        return group

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if self._is_busy:
            raise CommandRefused("Another change of the group is under way; nothing was changed.")
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False
