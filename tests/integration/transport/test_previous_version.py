"""A machine of the previous wire version and one of today's, over real links and datagrams."""

from typing import Any

from openmse.ha.messages import DATAGRAMS, Accepted, Beat, Message, Prepare, Stamp, Standing
from openmse.ha.values import Ballot, Instant
from openmse.node.drivers.peer.link import Greeting
from openmse.node.drivers.peer.mesh import MeshGroup, TlsMesh
from openmse.node.drivers.peer.udp import DatagramTransport
from openmse.pki.names import Role
from openmse.wire.codec import VOTERS, Codec, Envelope, Spoken
from openmse.wire.datagrams import pair_root

HOST = ("127.0.0.1", 0)


class Party:
    """Codec and both transports of one node, as its software of that time would use them."""

    def __init__(self, name: str, highest: int) -> None:
        self.name = name
        self.codec = Codec({VOTERS: Message}, highest=highest)
        self.spoken = Spoken()
        self.got: list[Envelope] = []
        self.udp = DatagramTransport(HOST, self.take)
        self.mesh = TlsMesh(
            HOST,
            on_message=self.take,
            on_link=lambda *_: None,
            greeting=Greeting(max(highest - 1, 0), highest),
        )

    async def open(self) -> None:
        self.udp.open()
        await self.mesh.open()

    def know(self, site: Any, other: "Party") -> None:
        root = pair_root(site.key)
        self.udp.set_group(site.group, self.name, {other.name: (root, other.udp.address)})
        parties = {other.name: (Role.NODE, other.mesh.address)}
        files = site.files(self.name)
        self.mesh.set_group(MeshGroup(group=site.group, files=files, parties=parties))

    def take(self, group: str, sender: str, data: bytes) -> None:
        envelope = self.codec.decode(data)
        self.spoken.heard(envelope)
        self.got.append(envelope)

    def say(self, group: str, to: str, message: Message) -> None:
        version = self.spoken.version_for(group, to)
        data = self.codec.encode(message, group=group, sender=self.name, version=version)
        carrier = self.udp if isinstance(message, DATAGRAMS) else self.mesh
        assert carrier.send(group, to, data)

    async def close(self) -> None:
        self.udp.close()
        await self.mesh.close()


async def test_they_understand_each_other_in_both_directions(site: Any, until: Any) -> None:
    old, new = Party("mse1", 0), Party("mse2", 1)
    await old.open()
    await new.open()
    try:
        old.know(site, new)
        new.know(site, old)
        await until(lambda: old.mesh.is_up(site.group, "mse2"))
        await until(lambda: new.mesh.is_up(site.group, "mse1"))
        stamps = {"mse1": Stamp("mse1", "a1", 1), "mse2": Stamp("mse2", "b2", 1)}
        ballot = Ballot(1, 2, "mse1")
        for one, other in ((old, new), (new, old), (old, new)):
            stamp = stamps[one.name]
            beat = Beat(stamp, Instant(1), 1, 7, ballot, "mse1", False, 5, Standing())
            for message in (beat, Prepare(stamp, ballot), Accepted(stamp, ballot)):
                before = len(other.got)
                one.say(site.group, other.name, message)
                await until(lambda other=other, before=before: len(other.got) > before)
                assert other.got[-1].message == message
                assert other.got[-1].version == 0
    finally:
        await old.close()
        await new.close()


async def test_two_of_today_move_to_todays_layout(site: Any, until: Any) -> None:
    one, two = Party("mse1", 1), Party("mse2", 1)
    await one.open()
    await two.open()
    try:
        one.know(site, two)
        two.know(site, one)
        stamps = (Stamp("mse1", "a1", 1), Stamp("mse2", "b2", 1))
        for party, other, stamp in ((one, two, stamps[0]), (two, one, stamps[1])):
            beat = Beat(stamp, Instant(1), 1, 7, Ballot(), "mse1", False, 5, Standing())
            party.say(site.group, other.name, beat)
            await until(lambda other=other: other.got)
        assert (two.got[0].version, one.got[0].version) == (0, 1)
    finally:
        await one.close()
        await two.close()
