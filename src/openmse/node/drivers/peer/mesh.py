"""Links over mutual TLS between the parties of one or many groups.

Everybody listens, and dials each party whose address it was given; a message goes over the
newest link there is. A node dials its peer and the witness, so that either notices the other's
return; the witness of many groups only listens. Messages may be lost: the core expects that.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from openmse.errors import PeerError
from openmse.node.drivers.peer.dialer import Dialer
from openmse.node.drivers.peer.link import Greeting, Link
from openmse.node.drivers.peer.listener import Listener
from openmse.node.drivers.peer.paths import Path
from openmse.node.drivers.peer.tls import (
    TlsFiles,
    client_context,
    front_context,
    server_context,
    server_name,
)
from openmse.pki.names import Identity, Role
from openmse.sockets import Address, bind, open_socket

CLOSE_TIMEOUT_S = 1.0
_WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshGroup:
    """A group as seen by one party: what it proves itself with, and whom it expects.

    ``parties``: role and address of each other party; None for one that is not dialled.
    ``direct``: of those, the ones that are dialled over the direct connection too.
    """

    group: str
    files: TlsFiles
    parties: Mapping[str, tuple[Role, Address | None]]
    direct: Mapping[str, Address] = field(default_factory=dict)


@dataclass(slots=True)
class _Party:
    role: Role
    dialer: Dialer | None = None
    task: asyncio.Task[None] | None = None
    direct: Dialer | None = None
    direct_task: asyncio.Task[None] | None = None
    links: list[Link] = field(default_factory=list)
    """Ready ones, the newest last."""


@dataclass(slots=True)
class _Group:
    wanted: MeshGroup
    server: ssl.SSLContext
    client: ssl.SSLContext | None
    """None where nobody is dialled: a witness of 1,000 groups would make it for nothing."""
    parties: dict[str, _Party] = field(default_factory=dict)


class TlsMesh:
    """All links of this process.

    ``on_message(group, party, data)``; ``on_link(group, party, is_up, was_reset)``: up with the
    first link, down with the last; ``was_reset``: the other process closed it, so it has most
    likely ended. ``on_refused(error)``: a party that could not prove who it is, or would not
    take us. Counts in ``counters``.
    """

    def __init__(
        self,
        bind: Address,
        *,
        on_message: Callable[[str, str, bytes], None],
        on_link: Callable[[str, str, bool, bool], None],
        on_refused: Callable[[PeerError], None] | None = None,
        greeting: Greeting | None = None,
    ) -> None:
        self._bind = bind
        self._on_message = on_message
        self._on_link = on_link
        self._on_refused = on_refused
        self._greeting = greeting or Greeting()
        self._groups: dict[str, _Group] = {}
        self._servers: dict[str, ssl.SSLContext] = {}
        self._asked: WeakKeyDictionary[ssl.SSLContext, str] = WeakKeyDictionary()
        self._connected: set[Link] = set()
        self._incoming: set[Link] = set()
        self._listener: Listener | None = None
        self._direct_listener: Listener | None = None
        self.preferred = Path.NETWORK
        """Which way messages go while there are links of both."""
        self.counters: Counter[str] = Counter()

    @property
    def address(self) -> Address:
        """Where it listens; the port is the real one once open."""
        return self._bind if self._listener is None else self._listener.address

    @property
    def direct_address(self) -> Address | None:
        """Where it listens on the direct connection, once open."""
        return None if self._direct_listener is None else self._direct_listener.address

    async def open(self) -> None:
        """Begin to listen; raises NetworkError."""
        assert self._listener is None
        self._listener = self._listen(self._bind, "The control link", Path.NETWORK)

    def open_direct(self, address: Address) -> None:
        """Listen on this node's end of the direct connection as well; raises NetworkError."""
        assert self._direct_listener is None
        what = "The control link on the direct connection"
        self._direct_listener = self._listen(address, what, Path.DIRECT)

    def _listen(self, address: Address, what: str, path: Path) -> Listener:
        sock = open_socket(address[0], socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind(sock, address, what)
        return Listener(
            sock,
            front_context(self._servers),
            make_link=lambda: self._make_link(None, path),
            on_failed=self._count,
        )

    async def close(self) -> None:
        """Close every link (the others see this process end) and stop listening."""
        dialing = [
            task
            for group in self._groups.values()
            for party in group.parties.values()
            for task in (party.task, party.direct_task)
            if task is not None
        ]
        for group in list(self._groups):
            self.remove_group(group)
        for listener in (self._listener, self._direct_listener):
            if listener is not None:
                await listener.close()
        self._listener = self._direct_listener = None
        await asyncio.gather(*dialing, return_exceptions=True)
        ending = [link.gone for link in self._connected]
        for link in list(self._connected):
            link.close()
        if ending:
            await asyncio.wait(ending, timeout=CLOSE_TIMEOUT_S)

    def set_group(self, wanted: MeshGroup) -> None:
        """Know a group, or know it anew: new certificates, parties or addresses.

        Links that still fit stay. Raises StateError, changing nothing, where the files cannot
        be used.
        """
        server = server_context(wanted.files)
        is_dialling = any(address is not None for _, address in wanted.parties.values())
        client = client_context(wanted.files) if is_dialling else None
        group = self._groups.get(wanted.group)
        if group is None:
            group = self._groups[wanted.group] = _Group(wanted, server, client)
        group.wanted, group.server, group.client = wanted, server, client
        self._servers[server_name(wanted.group)] = server
        self._asked[server] = wanted.group
        for party in [p for p in group.parties if p not in wanted.parties]:
            self._drop(wanted.group, party)
        for party, (role, address) in wanted.parties.items():
            self._set_party(group, party, role, address)
        for party, entry in group.parties.items():
            self._set_direct(group, party, entry, wanted.direct.get(party))

    def remove_group(self, group: str) -> None:
        """Forget a group and close its links; harmless when unknown."""
        known = self._groups.get(group)
        if known is not None:
            for party in list(known.parties):
                self._drop(group, party)
            del self._groups[group]
            del self._servers[server_name(group)]

    def reload(self, group: str) -> None:
        """Read the certificate files again; links that are up stay, new ones use the new files."""
        self.set_group(self._groups[group].wanted)

    def send(self, group: str, party: str, data: bytes) -> bool:
        """Whether the message was taken by a link; never blocks, never raises."""
        links = self._links(group, party)
        if links and self._best(links).send(data):
            return True
        self.counters["not_sent"] += 1
        return False

    def poke(self, group: str, party: str) -> None:
        """The party was heard: connect at once if there is no link."""
        known = self._groups.get(group)
        entry = known.parties.get(party) if known is not None else None
        if entry is not None and not entry.links:
            for dialer in (entry.dialer, entry.direct):
                if dialer is not None:
                    dialer.poke()

    def is_up(self, group: str, party: str) -> bool:
        """Whether there is a link to this party."""
        return bool(self._links(group, party))

    def paths(self, group: str, party: str) -> set[Path]:
        """The ways on which there are links to this party."""
        return {link.path for link in self._links(group, party)}

    def version(self, group: str, party: str) -> int | None:
        """The wire version to speak with the party; None without a link."""
        links = self._links(group, party)
        return self._best(links).version if links else None

    def _best(self, links: list[Link]) -> Link:
        """The newest of the preferred way, or else the newest."""
        return next((link for link in reversed(links) if link.path is self.preferred), links[-1])

    def _links(self, group: str, party: str) -> list[Link]:
        known = self._groups.get(group)
        entry = known.parties.get(party) if known is not None else None
        return entry.links if entry is not None else []

    def _set_party(self, group: _Group, party: str, role: Role, address: Address | None) -> None:
        entry = group.parties.get(party)
        if entry is not None and entry.role is not role:
            self._drop(group.wanted.group, party)
            entry = None
        if entry is None:
            entry = group.parties[party] = _Party(role)
        known = entry.dialer.address if entry.dialer is not None else None
        if known == address:
            return
        if entry.task is not None:
            entry.task.cancel()
            entry.task = entry.dialer = None
        if address is not None:
            self._dial(group, party, entry, address)

    def _dial(self, group: _Group, party: str, entry: _Party, address: Address) -> None:
        source = self._bind[0]
        is_same_family = (":" in source) == (":" in address[0])
        source = "" if source in _WILDCARDS or not is_same_family else source
        expected = Identity(group.wanted.group, entry.role, party)
        entry.dialer = self._dialer(group, expected, Path.NETWORK, address, source)
        name = f"dial {group.wanted.group}/{party}"
        entry.task = asyncio.get_running_loop().create_task(entry.dialer.run(), name=name)

    def _set_direct(
        self, group: _Group, party: str, entry: _Party, address: Address | None
    ) -> None:
        known = entry.direct.address if entry.direct is not None else None
        if known == address:
            return
        if entry.direct_task is not None:
            entry.direct_task.cancel()
            entry.direct_task = entry.direct = None
        if address is not None:
            assert self._direct_listener is not None
            source = self._direct_listener.address[0]
            expected = Identity(group.wanted.group, entry.role, party)
            entry.direct = self._dialer(group, expected, Path.DIRECT, address, source)
            name = f"dial {group.wanted.group}/{party} directly"
            entry.direct_task = asyncio.get_running_loop().create_task(
                entry.direct.run(), name=name
            )

    def _dialer(
        self, group: _Group, expected: Identity, path: Path, address: Address, source: str
    ) -> Dialer:
        return Dialer(
            address=address,
            source=source,
            context=lambda: group.client or client_context(group.wanted.files),
            server_name=server_name(group.wanted.group),
            make_link=lambda: self._make_link(expected, path),
            on_failed=self._count_failure,
        )

    def _drop(self, group: str, party: str) -> None:
        entry = self._groups[group].parties.pop(party)
        for task in (entry.task, entry.direct_task):
            if task is not None:
                task.cancel()
        for link in list(entry.links):
            link.close()

    def _make_link(self, expected: Identity | None, path: Path) -> Link:
        def admits(link: Link, identity: Identity) -> None:
            self._admit(link, identity, expected)

        link = Link(
            admits=admits,
            on_ready=self._ready,
            on_frame=self._received,
            on_gone=self._gone,
            on_refused=self._refused,
            greeting=self._greeting,
        )
        link.path = path
        return link

    def _admit(self, link: Link, identity: Identity, expected: Identity | None) -> None:
        self._connected.add(link)
        link.gone.add_done_callback(lambda _: self._forget(link))
        if expected is not None:
            if identity != expected:
                raise PeerError(
                    f"The machine that answers for {expected.id!r} of group {expected.group!r} "
                    f"proved to be {identity.role} {identity.id!r} of group {identity.group!r}."
                )
            return
        group = self._groups.get(identity.group)
        entry = group.parties.get(identity.id) if group is not None else None
        is_asked_group = self._asked.get(link.context) == identity.group
        if entry is None or entry.role is not identity.role or not is_asked_group:
            raise PeerError(
                f"The {identity.role} {identity.id!r} of group {identity.group!r} wanted to "
                "connect, but is not a party of that group here."
            )
        self._incoming.add(link)

    def _forget(self, link: Link) -> None:
        self._connected.discard(link)
        self._incoming.discard(link)

    def _ready(self, link: Link) -> None:
        identity = link.identity
        assert identity is not None
        group = self._groups.get(identity.group)
        entry = group.parties.get(identity.id) if group is not None else None
        if entry is None:
            link.close()
            return
        is_first = not entry.links
        older = [
            one
            for one in entry.links
            if one.path is link.path and (one in self._incoming) == (link in self._incoming)
        ]
        entry.links.append(link)
        for one in older:  # the party came back before its old connection was noticed dead
            one.close()
        if is_first:
            self._on_link(identity.group, identity.id, True, False)

    def _received(self, link: Link, data: bytes) -> None:
        assert link.identity is not None
        self._on_message(link.identity.group, link.identity.id, data)

    def _gone(self, link: Link, was_reset: bool) -> None:
        identity = link.identity
        assert identity is not None
        group = self._groups.get(identity.group)
        entry = group.parties.get(identity.id) if group is not None else None
        if entry is None or link not in entry.links:
            return
        entry.links.remove(link)
        if not entry.links:
            self._on_link(identity.group, identity.id, False, was_reset)
            if was_reset and entry.dialer is not None:
                entry.dialer.poke()

    def _count(self, reason: str) -> None:
        self.counters[reason] += 1

    def _refused(self, link: Link, error: PeerError) -> None:
        self.counters["refused"] += 1
        if self._on_refused is not None:
            self._on_refused(error)

    def _count_failure(self, error: Exception) -> None:
        if isinstance(error, ssl.SSLError):
            self._refused_by_tls(error)
        else:
            self.counters["connect_failed"] += 1

    def _refused_by_tls(self, error: ssl.SSLError) -> None:
        self.counters["refused"] += 1
        if self._on_refused is not None:
            reason = error.reason or "the handshake failed"
            self._on_refused(
                PeerError(
                    f"A party could not prove who it is, or would not take this machine: {reason}.",
                    "Compare the groups' authorities; pair again if one was made anew.",
                )
            )
