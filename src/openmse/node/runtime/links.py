"""The ways to the other voters: datagrams, mutual TLS, or a site's etcd as the witness.

Chooses the way by the kind of message; checks that a message speaks for the party that the
transport proved; tells the core about links.
"""

from collections.abc import Callable

from openmse.errors import PeerError
from openmse.ha.events import Event, LinkChanged, Received
from openmse.ha.messages import DATAGRAMS, Message
from openmse.ha.state import Node
from openmse.node.config import NodeConfig
from openmse.node.direct import direct_path
from openmse.node.drivers.peer.mesh import MeshGroup, TlsMesh
from openmse.node.drivers.peer.paths import Path, PathWatch
from openmse.node.drivers.peer.tls import TlsFiles
from openmse.node.drivers.peer.udp import DatagramTransport
from openmse.node.group import GroupInfo
from openmse.node.runtime.clock import now
from openmse.node.runtime.detached import is_detached
from openmse.node.runtime.notices import NOTICES, Notice
from openmse.pki.names import Role
from openmse.wire.codec import VOTERS, Codec, Spoken


class Links:
    """Sends the core's messages and posts what arrives."""

    def __init__(
        self,
        config: NodeConfig,
        post: Callable[[Event], None],
        on_refused: Callable[[PeerError], None],
        on_notice: Callable[[Notice], None],
    ) -> None:
        self._me = config.node.name
        self._post = post
        self._group = ""
        self._codec = Codec({VOTERS: Message, NOTICES: Notice})
        self._on_notice = on_notice
        self.on_peer_up: Callable[[], None] | None = None
        """Called when a link to the other node came up."""
        self._peer = ""
        self._parties: tuple[str, ...] = ()
        self._spoken = Spoken()
        self._on_refused = on_refused
        host, ports = config.node.host, config.ports
        self.udp = DatagramTransport((host, ports.node_udp), self._on_data)
        self.mesh = TlsMesh(
            (host, ports.node_tls),
            on_message=self._on_data,
            on_link=self._on_link,
            on_refused=on_refused,
        )
        self._config = config
        self.paths: PathWatch | None = None
        """Judges both paths to the other node, where there is a direct connection."""
        self.on_path: Callable[[Path], None] | None = None
        """Called with the path to use, when that may have changed."""
        self.node_now: Callable[[], Node] | None = None
        self._is_peer_detached = False
        self.etcd_send: Callable[[Message], None] | None = None
        self._etcd_party = ""

    async def open(self, group: GroupInfo, *, roots: dict[str, bytes], files: TlsFiles) -> None:
        """Listen, and know the group. Raises NetworkError, StateError."""
        self._group = group.group
        peer, witness = group.peer_of(self._me), group.witness
        datagrams: dict[str, tuple[bytes, tuple[str, int] | None]] = {}
        parties: dict[str, tuple[Role, tuple[str, int] | None]] = {}
        self._peer = peer.name if peer is not None else ""
        if peer is not None:
            datagrams[peer.name] = (roots[peer.name], (peer.address, peer.udp_port))
            parties[peer.name] = (Role.NODE, (peer.address, peer.tls_port))
        if witness is not None and witness.kind == "console":
            datagrams[witness.name] = (roots[witness.name], (witness.address, witness.udp_port))
            parties[witness.name] = (Role.WITNESS, (witness.address, witness.tls_port))
        self._parties = tuple(parties)
        self.udp.set_group(group.group, self._me, datagrams)
        self.udp.open()
        await self.mesh.open()
        direct = self._open_direct(group)
        self.mesh.set_group(
            MeshGroup(group=group.group, files=files, parties=parties, direct=direct)
        )

    def _open_direct(self, group: GroupInfo) -> dict[str, tuple[str, int]]:
        """Listen and send on the direct connection too, where both nodes have one."""
        path, peer = direct_path(self._config, group), group.peer_of(self._me)
        if path is None or peer is None:
            return {}
        self.paths = PathWatch(self._on_paths)
        self.udp.open_direct((path.own, self._config.ports.node_udp))
        self.mesh.open_direct((path.own, self._config.ports.node_tls))
        self.udp.set_direct(group.group, peer.name, (path.peer, peer.udp_port), self.paths)
        return {peer.name: (path.peer, peer.tls_port)}

    def _on_paths(self) -> None:
        preferred = self.paths.preferred() if self.paths is not None else None
        if preferred is not None:
            self.mesh.preferred = preferred
            if self.on_path is not None:
                self.on_path(preferred)

    def tell_up(self) -> None:
        """Tell the core of links that came up before it ran: nobody else would, ever."""
        for party in self._parties:
            if self.mesh.is_up(self._group, party):
                self._post(LinkChanged(now(), party, True, False))

    async def close(self) -> None:
        """Hang up: the others see at once that this process is gone."""
        self.udp.close()
        await self.mesh.close()

    def use_etcd(self, party: str, send: Callable[[Message], None]) -> None:
        """Reach the witness ``party`` through etcd."""
        self._etcd_party = party
        self.etcd_send = send

    def from_etcd(self, message: Message) -> None:
        """An answer of the witness kept in etcd."""
        self._post(Received(now(), message))

    def send(self, to: str, message: Message) -> None:
        """Send, or drop; never blocks."""
        if self.etcd_send is not None and to == self._etcd_party:
            self.etcd_send(message)
            return
        version = self._spoken.version_for(self._group, to)
        try:
            data = self._codec.encode(message, group=self._group, sender=self._me, version=version)
            if isinstance(message, DATAGRAMS):
                self.udp.send(self._group, to, data)
            else:
                self.mesh.send(self._group, to, data)
        except PeerError as error:  # too long: as good as lost, and no reason to end
            self._on_refused(error)

    def send_notice(self, notice: Notice) -> bool:
        """Tell the other node; False where there is no link to it."""
        if not self._peer or not self.mesh.is_up(self._group, self._peer):
            return False
        version = self._spoken.version_for(self._group, self._peer)
        data = self._codec.encode(
            notice, group=self._group, sender=self._me, kind=NOTICES, version=version
        )
        return self.mesh.send(self._group, self._peer, data)

    def _on_data(self, group: str, party: str, data: bytes) -> None:
        try:
            envelope = self._codec.decode(data)
            is_vote = envelope.kind == VOTERS
            speaker = envelope.message.stamp.id if is_vote else party
            if (envelope.group, envelope.sender, speaker) != (group, party, party):
                raise PeerError(f"{party} sent a message in another party's name.")
            if not is_vote and party != self._peer:
                raise PeerError(f"{party} is no node, but sent a notice as one.")
        except PeerError as error:
            self._on_refused(error)
            return
        self._spoken.heard(envelope)
        if not is_vote:
            self._on_notice(envelope.message)
            return
        if self.paths is not None and party == self._peer and self._withholds(envelope.message):
            return
        if isinstance(envelope.message, DATAGRAMS) and not self.mesh.is_up(group, party):
            self.mesh.poke(group, party)
        self._post(Received(now(), envelope.message))

    def _withholds(self, message: Message) -> bool:
        """Whether this comes from an owner that only the cable still reaches."""
        assert self.paths is not None
        is_alone = self.node_now is not None and self.paths.is_silent(Path.NETWORK, now())
        was_detached = self._is_peer_detached
        self._is_peer_detached = (
            is_alone
            and self.node_now is not None
            and is_detached(self.node_now(), message, was_detached=was_detached)
        )
        return self._is_peer_detached

    def _on_link(self, group: str, party: str, is_up: bool, was_reset: bool) -> None:
        self._post(LinkChanged(now(), party, is_up, was_reset))
        if is_up and party == self._peer and self.on_peer_up is not None:
            self.on_peer_up()
