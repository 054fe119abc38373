"""The witness process: its sockets, and every group that it keeps.

One loop. Datagrams and links bring messages to the group's ``GroupVoter``; a group that cannot be
used is told with a sentence and refused, while the others are served.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from openmse.errors import CommandRefused, MseError, PeerError, StateError
from openmse.ha.messages import DATAGRAMS, Message
from openmse.ha.values import Instant, Record
from openmse.node.drivers.peer.mesh import MeshGroup, TlsMesh
from openmse.node.drivers.peer.udp import DatagramTransport
from openmse.node.runtime.clock import now
from openmse.pki.files import read_file
from openmse.pki.names import Role
from openmse.wire.codec import VOTERS, Codec, Spoken
from openmse.witness import groups
from openmse.witness.config import WitnessConfig
from openmse.witness.groups import Credentials, GroupFacts, LoadedGroup
from openmse.witness.voter import GroupVoter

DISK_THREADS = 8
"""Writes under way at once; what lies in the journal together is made durable together."""
_LOG = logging.getLogger("openmse.witness")


class Trouble(Struct, frozen=True):
    """A group that is not served, or whose disk refuses: the sentence for people."""

    sentence: str
    is_served: bool


class _Entry(Struct):
    loaded: LoadedGroup
    voter: GroupVoter
    parties: tuple[str, ...]


class WitnessServer:
    """Everything but enrolment and control."""

    def __init__(self, config: WitnessConfig, *, clock: Callable[[], Instant] = now) -> None:
        host, ports = config.witness.address, config.ports
        self._dir = config.groups_dir
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._troubles: dict[str, Trouble] = {}
        self._codec = Codec({VOTERS: Message})
        self._spoken = Spoken()
        self._disk = ThreadPoolExecutor(DISK_THREADS, "disk")
        self._changing = asyncio.Lock()
        self.udp = DatagramTransport((host, ports.witness_udp), self._on_data)
        self.mesh = TlsMesh(
            (host, ports.witness_tls),
            on_message=self._on_data,
            on_link=lambda *_: None,
            on_refused=self._on_refused,
        )
        self.refused = 0
        """Messages and parties that were refused, beside what the transports count."""

    async def open(self) -> None:
        """Listen, then load the groups; raises NetworkError or StateError."""
        self.udp.open()
        await self.mesh.open()
        waiting = groups.names(self._dir)
        await asyncio.gather(*(self._load(name) for name in waiting))

    async def close(self) -> None:
        """Stop listening; what is being written is written."""
        self.udp.close()
        await self.mesh.close()
        for entry in list(self._entries.values()):
            await entry.voter.close()
            entry.loaded.opened.close()
        self._entries.clear()
        self._disk.shutdown()

    @property
    def names(self) -> tuple[str, ...]:
        """Every group that has a directory, served or not."""
        return tuple(sorted({*self._entries, *self._troubles}))

    def trouble(self, group: str) -> Trouble | None:
        """What is wrong with a group; None while it is served and its disk writes."""
        return self._troubles.get(group)

    def voter(self, group: str) -> GroupVoter | None:
        """The vote of a group that is served."""
        entry = self._entries.get(group)
        return entry.voter if entry is not None else None

    def authority(self, group: str) -> bytes | None:
        """The authority (PEM) of a group that is served; raises StateError if it is unreadable."""
        entry = self._entries.get(group)
        return read_file(entry.loaded.files.authority) if entry is not None else None

    def nodes(self, group: str) -> tuple[str, ...]:
        """The nodes that may speak for a group."""
        entry = self._entries.get(group)
        return entry.parties if entry is not None else ()

    async def enrol(self, facts: GroupFacts, credentials: Credentials, incarnation: str) -> None:
        """Keep a group from now on, or its new keys; durable on return. Raises StateError.

        ``incarnation`` is used for a group that was not kept.
        """
        async with self._changing:
            run = asyncio.get_running_loop().run_in_executor
            entry = self._entries.get(facts.group)
            if entry is None and facts.group in self._troubles:
                raise StateError(
                    f"The witness keeps group {facts.group!r}, but cannot use what it kept: "
                    f"{self._troubles[facts.group].sentence}",
                    f"'mse witness forget {facts.group}' on its machine, then enrol again.",
                )
            if entry is None:
                args = (self._dir, facts, credentials, incarnation)
                await run(self._disk, groups.create, *args)
                await self._load(facts.group)
                trouble = self._troubles.get(facts.group)
                if trouble is not None:
                    raise StateError(trouble.sentence)
            else:
                directory = self._dir / facts.group
                await run(self._disk, groups.write, directory, facts, credentials)
                entry.loaded.facts = facts
                self._serve(entry)
            _LOG.info("group_enrolled: group %s, nodes %s", facts.group, ", ".join(facts.nodes))

    async def forget(self, group: str) -> None:
        """Serve a group no more and remove what is kept of it. Raises MseError."""
        async with self._changing:
            entry = self._entries.pop(group, None)
            if entry is None and group not in self._troubles:
                raise CommandRefused(
                    f"The witness keeps no group {group!r}.", "'mse witness groups' lists them."
                )
            self.udp.remove_group(group)
            self.mesh.remove_group(group)
            if entry is not None:
                await entry.voter.close()
                entry.loaded.opened.close()
            await asyncio.get_running_loop().run_in_executor(
                self._disk, groups.remove, self._dir, group
            )
            self._troubles.pop(group, None)
            _LOG.info("group_forgotten: group %s", group)

    def incarnation(self, group: str) -> str:
        """Under which memory this witness votes in a group; a fresh one where it keeps none."""
        entry = self._entries.get(group)
        return secrets.token_hex(8) if entry is None else entry.voter.state.record.incarnation

    async def _load(self, group: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            loaded = await loop.run_in_executor(self._disk, groups.load, self._dir, group)
        except StateError as error:
            self._refuse_group(group, error)
            return
        voter = GroupVoter(
            loaded.opened.store,
            loaded.opened.record,
            send=lambda to, message: self._send(group, to, message),
            on_record=lambda record: self._on_record(group, record),
            on_trouble=lambda sentence: self._on_trouble(group, sentence),
            clock=self._clock,
            disk=self._disk,
        )
        entry = _Entry(loaded, voter, ())
        try:
            self._serve(entry)
        except StateError as error:
            loaded.opened.close()
            self._refuse_group(group, error)
            return
        self._entries[group] = entry

    def _refuse_group(self, group: str, error: StateError) -> None:
        sentence = f"{error.sentence} {error.hint}".strip()
        self._troubles[group] = Trouble(sentence, is_served=False)
        _LOG.error("group_refused: group %s: %s", group, sentence)

    def _serve(self, entry: _Entry) -> None:
        """Let the group's nodes in, as far as they are known; raises StateError."""
        facts, record = entry.loaded.facts, entry.voter.state.record
        entry.parties = _nodes_of(facts, record)
        parties = dict.fromkeys(entry.parties, (Role.NODE, None))
        files = entry.loaded.files
        self.mesh.set_group(MeshGroup(group=facts.group, files=files, parties=parties))
        roots = dict.fromkeys(entry.parties, (facts.root, None))
        self.udp.set_group(facts.group, facts.me, roots)

    def _on_record(self, group: str, record: Record) -> None:
        entry = self._entries.get(group)
        if entry is not None and _nodes_of(entry.loaded.facts, record) != entry.parties:
            try:
                self._serve(entry)
            except StateError as error:
                self._on_trouble(group, error.sentence)

    def _on_trouble(self, group: str, sentence: str) -> None:
        if sentence:
            self._troubles[group] = Trouble(sentence, is_served=True)
            _LOG.error("group_trouble: group %s: %s", group, sentence)
        else:
            self._troubles.pop(group, None)
            _LOG.info("group_trouble_over: group %s", group)

    def _on_data(self, group: str, party: str, data: bytes) -> None:
        entry = self._entries.get(group)
        if entry is None:
            return
        try:
            envelope = self._codec.decode(data)
            message = envelope.message
            claimed = (envelope.group, envelope.sender, message.stamp.id)
            if claimed != (group, party, party):
                raise PeerError(f"{party} sent a message in another party's name.")
        except PeerError as error:
            self._on_refused(error)
            return
        self._spoken.heard(envelope)
        entry.voter.receive(message)

    def _send(self, group: str, to: str, message: Message) -> None:
        entry = self._entries[group]
        version = self._spoken.version_for(group, to)
        data = self._codec.encode(
            message, group=group, sender=entry.loaded.facts.me, version=version
        )
        if isinstance(message, DATAGRAMS):
            self.udp.send(group, to, data)
        else:
            self.mesh.send(group, to, data)

    def _on_refused(self, error: MseError) -> None:
        self.refused += 1
        _LOG.debug("refused: %s", error.sentence)


def _nodes_of(facts: GroupFacts, record: Record) -> tuple[str, ...]:
    """Who may speak for the group: whom enrolment named, and the nodes of the configs kept."""
    found = set(facts.nodes)
    for config in (record.known, record.value):
        if config is not None:
            found.update(voter.id for voter in config.voters if not voter.is_witness)
    return tuple(sorted(found - {facts.me}))
