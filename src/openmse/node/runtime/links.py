"""The ways to the other voters: datagrams, mutual TLS, or a site's etcd as the witness.

Chooses the way by the kind of message; checks that a message speaks for the party that the
transport proved; tells the core about links.
"""

from collections.abc import Callable

from openmse.errors import PeerError
from openmse.ha.events import Event, LinkChanged, Received
from openmse.ha.messages import DATAGRAMS, Message
from openmse.node.config import NodeConfig
from openmse.node.drivers.peer.mesh import MeshGroup, TlsMesh
from openmse.node.drivers.peer.tls import TlsFiles
from openmse.node.drivers.peer.udp import DatagramTransport
from openmse.node.group import GroupInfo
from openmse.node.runtime.clock import now
from openmse.pki.names import Role
from openmse.wire.codec import VOTERS, Codec, Spoken


class Links:
    """Sends the core's messages and posts what arrives."""

    def __init__(
        self,
        config: NodeConfig,
        post: Callable[[Event], None],
        on_refused: Callable[[PeerError], None],
    ) -> None:
        self._me = config.node.name
        self._post = post
        self._group = ""
        self._codec = Codec({VOTERS: Message})
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
        self.etcd_send: Callable[[Message], None] | None = None
        self._etcd_party = ""

    async def open(self, group: GroupInfo, *, roots: dict[str, bytes], files: TlsFiles) -> None:
        """Listen, and know the group. Raises NetworkError, StateError."""
        self._group = group.group
        peer, witness = group.peer_of(self._me), group.witness
        datagrams: dict[str, tuple[bytes, tuple[str, int] | None]] = {}
        parties: dict[str, tuple[Role, tuple[str, int] | None]] = {}
        if peer is not None:
            datagrams[peer.name] = (roots[peer.name], (peer.address, peer.udp_port))
            parties[peer.name] = (Role.NODE, (peer.address, peer.tls_port))
        if witness is not None and witness.kind == "console":
            datagrams[witness.name] = (roots[witness.name], (witness.address, witness.udp_port))
            parties[witness.name] = (Role.WITNESS, (witness.address, witness.tls_port))
        self.udp.set_group(group.group, self._me, datagrams)
        self.udp.open()
        await self.mesh.open()
        self.mesh.set_group(MeshGroup(group=group.group, files=files, parties=parties))

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
        data = self._codec.encode(message, group=self._group, sender=self._me, version=version)
        if isinstance(message, DATAGRAMS):
            self.udp.send(self._group, to, data)
        else:
            self.mesh.send(self._group, to, data)

    def _on_data(self, group: str, party: str, data: bytes) -> None:
        try:
            envelope = self._codec.decode(data)
            stamp = envelope.message.stamp
            if (envelope.group, envelope.sender) != (group, party) or stamp.id != party:
                raise PeerError(f"{party} sent a message in another party's name.")
        except PeerError as error:
            self._on_refused(error)
            return
        self._spoken.heard(envelope)
        if isinstance(envelope.message, DATAGRAMS) and not self.mesh.is_up(group, party):
            self.mesh.poke(group, party)
        self._post(Received(now(), envelope.message))

    def _on_link(self, group: str, party: str, is_up: bool, was_reset: bool) -> None:
        self._post(LinkChanged(now(), party, is_up, was_reset))
