"""The owner's side of a re-admission: a new machine takes the place of one that is lost for good.

It gets the group's keys and facts over the pairing conversation, and a name of its own: the lost
machine's name is never used again, so whatever comes back under it is no party any more. The owner
changes the facts last; from there on the runtime works by level, and makes it a voter.
"""

import time
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec.structs import replace

from openmse import __version__
from openmse.errors import CommandRefused, MseError, PairingError, StateError
from openmse.ha.draft import is_owner
from openmse.ha.effects import Note
from openmse.ha.names import is_heard
from openmse.ha.state import Node
from openmse.ha.values import Mode
from openmse.node.config import NodeConfig
from openmse.node.group import GroupInfo, NodeInfo
from openmse.node.identity import keyring
from openmse.pki.files import read_file, write_file
from openmse.pki.names import Role as Party
from openmse.pki.pairing_exchange import PairingOffer, PairingResult, Responder
from openmse.pki.pairing_server import PairingServer
from openmse.pki.password import PairingStore

NAME_MAX = 63
ONCE_MORE = "'mse ha status' shows who owns and who is heard."


class Host(Protocol):
    """The daemon around it."""

    @property
    def node(self) -> Node:
        """The core's state at this moment."""

    @property
    def group(self) -> GroupInfo | None:
        """The group's facts that are in force."""

    def note(self, note: Note) -> None:
        """An entry of the event log."""

    def take_group(self, group: GroupInfo) -> None:
        """Save the facts and live by them from now on. Raises StateError."""


class ReadmissionDesk:
    """Listens on the pairing port of an owner while a password for a re-admission is set."""

    def __init__(self, config: NodeConfig, host: Host) -> None:
        self._config = config
        self._host = host
        self._store = PairingStore(config.places.readmission)
        self._server: PairingServer | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether a new machine is waited for; a password that cannot be read waits for nobody."""
        group = self._host.group
        try:
            is_armed = self._store.armed(time.time()) is not None
        except StateError:
            return False
        return is_armed and group is not None and len(group.nodes) > 1

    def arm(self, password: str, valid_for_s: float) -> str:
        """Wait with this password; the sentence for who asked. Raises CommandRefused, UsageError,
        StateError; nothing is changed then."""
        lost = self._lost_node()
        self._store.set_password(password, now_s=time.time(), valid_for_s=valid_for_s)
        return (
            f"{self._config.node.name} waits {valid_for_s / 60:.0f} minutes for a machine in place "
            f"of {lost.name}. On that machine: 'mse setup --recover-from {self._config.node.host}'."
            f" {lost.name} itself must never come back as it was: erase its disk."
        )

    def disarm(self) -> None:
        """Wait no longer. Raises StateError."""
        self._store.clear()

    def awaited(self) -> NodeInfo:
        """The lost node that a new machine is waited for in place of; raises CommandRefused."""
        group = self._host.group
        lost = group.peer_of(self._config.node.name) if group is not None else None
        if lost is None or not self.is_wanted:
            raise CommandRefused(
                "No new machine is waited for; nothing was changed.",
                "It may have come already: 'mse ha status' names the other node.",
            )
        return lost

    async def refresh(self) -> None:
        """Open or close the port as the group and the password ask for."""
        if not self.is_wanted:
            await self.close()
        elif self._server is None:
            bind = (self._config.node.host, self._config.ports.pairing)
            server = PairingServer(self._store, self, bind=bind, on_refused=self._on_refused)
            await server.open()
            self._server = server

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.close()

    # -- what the pairing server asks ------------------------------------------------------

    def responder(self) -> Responder:
        """Who gives."""
        group = self._host.group
        groups = (group.group,) if group is not None else ()
        return Responder(self._config.node.name, Party.NODE, __version__, groups)

    def offer(self) -> tuple[str, PairingOffer]:
        """The new machine's name, and the group with it in the lost one's place.

        The name is saved before it is told: who has stored it may break off before it is admitted.
        """
        lost, group = self._lost_node(), self._host.group
        assert group is not None
        name = self._name_for(lost, group)
        ring, info = keyring(self._config), succeeded(group, lost, name)
        return name, PairingOffer(
            kind=Party.NODE,
            me=self._config.node.name,
            software=__version__,
            group=group.group,
            authority_certificate=read_file(ring.authority),
            authority_key=read_file(ring.authority_key),
            heartbeat_key=read_file(ring.heartbeat),
            virtual_ips=tuple(ip.partition("/")[0] for ip in group.virtual_ips),
            group_info=msgspec.json.encode(info),
            settings=msgspec.json.encode(self._config.group.settings),
        )

    async def admit(self, result: PairingResult) -> None:
        """Name it in the facts; the owner's core then makes it a voter. Raises MseError."""
        lost, group = self._lost_node(), self._host.group
        assert group is not None
        new = _node_info(result)
        self._host.note(
            Note(
                "readmitted",
                "warning",
                f"{new.name} at {new.address} takes the place of {lost.name}, which is no party of "
                "this group any more.",
            )
        )
        info = succeeded(group, lost, new.name)
        nodes = tuple(new if node.name == new.name else node for node in info.nodes)
        self._host.take_group(replace(info, nodes=nodes, revision=group.revision + 1))

    def _name_for(self, lost: NodeInfo, group: GroupInfo) -> str:
        """The name of who comes in this wait, now saved; raises CommandRefused, StateError."""
        armed = self._store.armed(time.time())
        if armed is None:
            raise CommandRefused("No new machine is waited for; nothing was changed.", ONCE_MORE)
        path = self._config.places.readmission_names
        before = _offered(path)
        after = offered_next(before, lost.name, group, wait=armed.salt.hex())
        if after != before:
            write_file(path, msgspec.json.encode(after))
        return after.names[-1]

    def _lost_node(self) -> NodeInfo:
        """Who may be replaced now; raises CommandRefused."""
        group = self._host.group
        lost = group.peer_of(self._config.node.name) if group is not None else None
        if lost is None:
            raise CommandRefused("This node is not paired; nothing was changed.")
        fault = why_not(self._host.node)
        if fault:
            raise CommandRefused(f"{fault} Nothing was changed.", ONCE_MORE)
        return lost

    def _on_refused(self, error: MseError, address: str) -> None:
        sentence = f"A re-admission from {address}: {error.sentence}"
        self._host.note(Note("pairing_refused", "warning", sentence))


def why_not(node: Node) -> str:
    """Why the other node cannot be replaced now, in a sentence; '' if it can. Pure."""
    known = node.record.known
    if known is None or not is_owner(node):
        owner = known.owner if known is not None else "nobody"
        return (
            f"{owner} owns, and only the owner changes the voters. Run it there; if that machine "
            "is the lost one, take over first ('mse ha takeover --force')."
        )
    if is_heard(node, node.peer):
        return f"{node.peer.id} is heard, so it is not lost."
    if known.mode is not Mode.ALONE:
        return f"The config in force still counts on {node.peer.id}."
    return ""


class Offered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The names that were offered in ``group``, the last of them in ``wait``."""

    group: str = ""
    wait: str = ""
    """What is different each time that a machine is waited for."""
    names: tuple[str, ...] = ()


def offered_next(before: Offered, lost: str, group: GroupInfo, *, wait: str) -> Offered:
    """The names with one for the machine that comes in place of ``lost``, as the last. Pure.

    Within one wait it is the same again, for a machine that repeats what broke off; another wait
    may be for another machine.
    """
    names = before.names if before.group == group.group else ()
    if names and before.wait == wait and names[-1] != lost:
        return before
    name = successor(lost)
    while name in names or name in group.parties:
        name = successor(name)
    return Offered(group.group, wait, (*names, name))


def _offered(path: Path) -> Offered:
    if not path.exists():
        return Offered()
    try:
        return msgspec.json.decode(read_file(path), type=Offered)
    except msgspec.MsgspecError as error:
        raise StateError(
            f"{path} is damaged, so that a name could be given twice; nothing was changed.",
            "Erase the machines that were offered a name before and have not come, then remove "
            "the file.",
        ) from error


def succeeded(group: GroupInfo, lost: NodeInfo, name: str) -> GroupInfo:
    """The group with ``name`` in the place of ``lost``, its address still that one's. Pure."""
    new = replace(lost, name=name, incarnation="")
    nodes = tuple(new if node.name == lost.name else node for node in group.nodes)
    primary = new.name if group.primary == lost.name else group.primary
    return replace(group, nodes=nodes, primary=primary)


def successor(name: str) -> str:
    """The name after ``name``: mse1, mse1-2, mse1-3 … Pure."""
    base, dash, number = name.rpartition("-")
    is_counted = bool(dash and base) and number.isdecimal() and number.isascii() and len(number) < 5
    end = f"-{int(number) + 1}" if is_counted else "-2"
    return (base if is_counted else name)[: NAME_MAX - len(end)] + end


def _node_info(result: PairingResult) -> NodeInfo:
    try:
        found = msgspec.json.decode(result.facts.info, type=NodeInfo)
    except msgspec.MsgspecError as error:
        raise PairingError(
            "What the new machine says of itself cannot be read.",
            "Install the same version on both machines, then repeat it there.",
        ) from error
    return replace(found, name=result.facts.id, incarnation=result.facts.incarnation)
