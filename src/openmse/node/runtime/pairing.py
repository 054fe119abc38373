"""Making, changing and dissolving the group: the daemon's side of pairing.

The order makes every break harmless. The witness is enrolled first (a group that it keeps in vain
costs nothing), then the secondary stores everything in one step, then the primary saves the
group's facts. From there on the runtime works by level: the owner makes voters of the parties in
the facts, and tells the other node facts that are newer than its own.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec.structs import replace

from openmse import __version__
from openmse.errors import (
    CommandFailed,
    CommandRefused,
    MseError,
    PairingError,
    UsageError,
)
from openmse.ha.draft import is_owner
from openmse.ha.effects import Answer, Note
from openmse.ha.events import Command, Maintenance
from openmse.ha.names import is_heard
from openmse.ha.state import Node
from openmse.node.config import NodeConfig, Role, WitnessKind
from openmse.node.control.commands import PairArgs, ReadmitArgs, WitnessArgs
from openmse.node.direct import is_address, keeping_direct, with_direct, without_direct
from openmse.node.group import GroupInfo, NodeInfo, WitnessInfo
from openmse.node.identity import keyring
from openmse.node.runtime.notices import (
    DirectTold,
    Dissolve,
    Dissolved,
    DissolveWish,
    GroupTold,
    Notice,
)
from openmse.node.runtime.pairing_desk import PairingDesk, write_witness_key
from openmse.node.runtime.readmission import ReadmissionDesk
from openmse.pki.files import read_file
from openmse.pki.names import Role as Party

if TYPE_CHECKING:
    from openmse.pki.pairing import PairingResult

IN_FORCE_WITHIN_S = 60.0
TELL_WITHIN_S = 5.0
Progress = Callable[[str], Awaitable[None]]


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


class NodePairing:
    """What ``mse ha pair``, ``unpair`` and ``witness`` do, and the answering side of pairing."""

    def __init__(self, config: NodeConfig, host: Host) -> None:
        self._config = config
        self._host = host
        self._desk = PairingDesk(config, host)
        self._readmission = ReadmissionDesk(config, host)
        self._is_busy = False
        self._dissolved = asyncio.Event()
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
        group = self._group()
        if self._config.node.role is not Role.PRIMARY or len(group.nodes) > 1:
            raise CommandRefused(
                "Only a primary that is not paired yet can pair; nothing was changed.",
                "'mse ha unpair' dissolves a pair first.",
            )
        if args.peer in _addresses(group):
            raise UsageError(f"{args.peer} is an address of this node; nothing was changed.")
        with self._one_at_a_time():
            if args.witness is not None:
                await progress("enrolling the witness")
                group = replace(group, witness=await self._enrol(group, args.witness))
            await progress("pairing with the secondary")
            peer = await self._pair_with(group, args)
            nodes = (*group.nodes, peer)
            self._host.take_group(replace(group, nodes=nodes, revision=group.revision + 1))
            await progress("making them voters")
            await self._in_force()
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
            witness = await self._enrol(group, args)
            self._host.take_group(replace(group, witness=witness, revision=group.revision + 1))
            await self._in_force()
        return f"{witness.name} is the witness now."

    async def remove_witness(self) -> str:
        """Go on without a third vote; raises CommandRefused."""
        group = self._owned_pair()
        if group.witness is None:
            raise CommandRefused("This pair has no witness; nothing was changed.")
        with self._one_at_a_time():
            self._host.take_group(replace(group, witness=None, revision=group.revision + 1))
            await self._in_force()
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
                return await self._dissolve(group, without_peer=without_peer)
            return await self._leave(group, without_peer=without_peer)

    # -- steps -----------------------------------------------------------------------------

    async def _enrol(self, group: GroupInfo, args: WitnessArgs) -> WitnessInfo:
        if args.kind == WitnessKind.ETCD:
            from openmse.node.drivers.witness.wiring import etcd_witness

            info = WitnessInfo(
                name=args.name,
                kind=args.kind,
                endpoints=args.endpoints,
                ca_file=args.ca_file,
                cert_file=args.cert_file,
                key_file=args.key_file,
            )
            driver = etcd_witness(info, group.group, self._config.node.name, lambda _: None)
            return replace(info, incarnation=(await driver.identity()).incarnation)
        if args.address in _addresses(group):
            raise UsageError(
                f"A witness at {args.address} would be lost together with that node; nothing was "
                "changed.",
                "Run the witness on a third machine.",
            )
        result = await self._converse(group, Party.WITNESS, args.address, args)
        write_witness_key(self._config, result.facts.id)
        return WitnessInfo(
            name=result.facts.id,
            kind=WitnessKind.CONSOLE.value,
            address=args.address,
            tls_port=self._config.ports.witness_tls,
            udp_port=self._config.ports.witness_udp,
            incarnation=result.facts.incarnation,
        )

    async def _pair_with(self, group: GroupInfo, args: PairArgs) -> NodeInfo:
        result = await self._converse(group, Party.NODE, args.peer, args)
        try:
            peer = msgspec.json.decode(result.facts.info, type=NodeInfo)
        except msgspec.MsgspecError as error:
            raise PairingError(
                "The secondary has stored the pairing, but what it says of itself cannot be read.",
                "'mse ha unpair --without-peer' there; then pair two machines of one version.",
            ) from error
        return replace(peer, name=result.facts.id, incarnation=result.facts.incarnation)

    async def _converse(
        self, group: GroupInfo, kind: Party, address: str, args: PairArgs | WitnessArgs
    ) -> "PairingResult":
        from openmse.pki.pairing import PairingOffer, pair_with

        ring = keyring(self._config)
        offer = PairingOffer(
            kind=kind,
            me=self._config.node.name,
            software=__version__,
            group=group.group,
            authority_certificate=read_file(ring.authority),
            authority_key=read_file(ring.authority_key),
            heartbeat_key=read_file(ring.heartbeat),
            virtual_ips=tuple(ip.partition("/")[0] for ip in group.virtual_ips),
            group_info=msgspec.json.encode(group),
            settings=msgspec.json.encode(self._config.group.settings),
        )
        return await pair_with(address, args.pairing_port, args.password, offer)

    async def _in_force(self) -> None:
        """Wait until the register's voters are the parties of the facts; raises CommandFailed."""
        group = self._group()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + IN_FORCE_WITHIN_S
        while loop.time() < deadline:
            group = self._host.group or group
            known = self._host.node.record.known if self._host.is_live else None
            if known is not None and {v.id for v in known.voters} == _party_names(group):
                return
            await asyncio.sleep(0.05)
        raise CommandFailed(
            f"The group's facts are stored, but its voters did not change within "
            f"{IN_FORCE_WITHIN_S:.0f} s; the daemon goes on trying.",
            "Watch 'mse ha status' and 'mse ha events'.",
        )

    async def _dissolve(self, group: GroupInfo, *, without_peer: bool) -> str:
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
        await self._in_force()
        await self._must(Maintenance(False))
        sentence = f"The pair is dissolved; {me} serves on, unpaired."
        if self._dissolved.is_set():
            return sentence
        return f"{sentence} {node.peer.id} does not know it: unpair it too, --without-peer."

    async def _leave(self, group: GroupInfo, *, without_peer: bool) -> str:
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
                self._dissolved.set()
            case Dissolve(group=name) if name == group.group:
                if not is_owner(self._host.node):
                    self._spawn(self._obey())
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

    async def _obey(self) -> None:
        self._note(
            "dissolved", "warning", "The owner dissolves the pair; this node stops its copy."
        )
        group = self._group()
        self._host.send_notice(Dissolved(group.group))
        try:
            await self._host.forget_group()
        except MseError as error:
            self._note("dissolve_failed", "error", f"{error.sentence} {error.hint}".strip())

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

    def _group(self) -> GroupInfo:
        group = self._host.group
        if group is None:
            raise CommandRefused(
                "This node belongs to no group yet; nothing was changed.",
                "A primary founds one when its daemon starts; a secondary is paired from there.",
            )
        return group

    def _pair(self) -> GroupInfo:
        group = self._group()
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


def _addresses(group: GroupInfo) -> set[str]:
    """The addresses of the group's nodes, and the virtual ones."""
    own = {a for node in group.nodes for a in (node.address, node.address6, node.direct)}
    return (own | {ip.partition("/")[0] for ip in group.virtual_ips}) - {""}


def _party_names(group: GroupInfo) -> set[str]:
    names = {node.name for node in group.nodes}
    return names | ({group.witness.name} if group.witness is not None else set())


def _peer_silent(peer: str) -> CommandRefused:
    return CommandRefused(
        f"{peer} cannot be told, so nothing was changed.",
        "Bring it back; or, if it is gone for good, add --without-peer.",
    )
