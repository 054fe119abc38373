"""Links over mutual TLS: who gets in, what is noticed, and how quickly."""

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from openmse.errors import NetworkError, PeerError, StateError
from openmse.node.drivers.peer.link import UNSENT_LIMIT_BYTES, Greeting
from openmse.node.drivers.peer.mesh import MeshGroup, TlsMesh
from openmse.node.drivers.peer.paths import Path as Way
from openmse.node.drivers.peer.tls import TlsFiles, client_context, server_name
from openmse.pki.names import Role
from openmse.sockets import Address
from openmse.wire.frames import frame

NOWHERE = ("127.0.0.1", 0)


@dataclass
class Party:
    """A mesh, and everything it told its owner."""

    greeting: Greeting | None = None
    bind: Address = NOWHERE
    messages: list[tuple[str, str, bytes]] = field(default_factory=list)
    links: list[tuple[str, str, bool, bool]] = field(default_factory=list)
    refusals: list[PeerError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mesh = TlsMesh(
            self.bind,
            on_message=lambda *message: self.messages.append(message),
            on_link=lambda *link: self.links.append(link),
            on_refused=self.refusals.append,
            greeting=self.greeting,
        )


Open = Callable[..., Any]


@pytest.fixture
async def open_party() -> AsyncIterator[Open]:
    parties: list[Party] = []

    async def make(greeting: Greeting | None = None, bind: Address = NOWHERE) -> Party:
        party = Party(greeting, bind)
        parties.append(party)
        await party.mesh.open()
        return party

    yield make
    for party in parties:
        await party.mesh.close()


def group_of(site: Any, files: TlsFiles, **parties: tuple[Role, Address | None]) -> MeshGroup:
    return MeshGroup(group=site.group, files=files, parties=parties)


async def pair(site: Any, open_party: Open, until: Any) -> tuple[Party, Party]:
    one, two = await open_party(), await open_party()
    one.mesh.set_group(group_of(site, site.files("mse1"), mse2=(Role.NODE, two.mesh.address)))
    two.mesh.set_group(group_of(site, site.files("mse2"), mse1=(Role.NODE, one.mesh.address)))
    await until(lambda: one.mesh.is_up("floor1", "mse2") and two.mesh.is_up("floor1", "mse1"))
    return one, two


async def test_messages_pass_both_ways(site: Any, open_party: Open, until: Any) -> None:
    one, two = await pair(site, open_party, until)
    assert one.mesh.send("floor1", "mse2", b"to two")
    assert two.mesh.send("floor1", "mse1", b"to one")
    await until(lambda: one.messages and two.messages)
    assert two.messages == [("floor1", "mse1", b"to two")]
    assert one.messages == [("floor1", "mse2", b"to one")]
    assert one.links == [("floor1", "mse2", True, False)]


async def test_a_witness_only_listens_and_holds_many_groups(
    site: Any, other_site: Any, open_party: Open, until: Any
) -> None:
    witness = await open_party()
    nodes = []
    for one_site in (site, other_site):
        files = one_site.files("w", Role.WITNESS)
        witness.mesh.set_group(group_of(one_site, files, mse1=(Role.NODE, None)))
        node = await open_party()
        node.mesh.set_group(
            group_of(one_site, one_site.files("mse1"), w=(Role.WITNESS, witness.mesh.address))
        )
        nodes.append(node)
    await until(
        lambda: witness.mesh.is_up("floor1", "mse1") and witness.mesh.is_up("floor2", "mse1")
    )
    assert witness.mesh.send("floor2", "mse1", b"for floor2")
    await until(lambda: nodes[1].messages)
    assert nodes[1].messages == [("floor2", "w", b"for floor2")]
    assert not nodes[0].messages


async def test_another_authority_is_refused(
    site: Any, other_site: Any, open_party: Open, until: Any
) -> None:
    one, two = await open_party(), await open_party()
    one.mesh.set_group(group_of(site, site.files("mse1"), mse2=(Role.NODE, two.mesh.address)))
    forged = other_site.files("mse2", group="floor1")  # the right name, the wrong authority
    two.mesh.set_group(MeshGroup(group="floor1", files=forged, parties={"mse1": (Role.NODE, None)}))
    await until(lambda: one.mesh.counters["refused"] > 0)
    assert "could not prove who it is" in one.refusals[0].sentence
    assert not one.links
    assert not two.links


async def test_a_client_of_another_authority_never_sees_a_link(
    site: Any, other_site: Any, open_party: Open, until: Any
) -> None:
    one, two = await open_party(), await open_party()
    one.mesh.set_group(group_of(site, site.files("mse1"), mse2=(Role.NODE, None)))
    forged = other_site.files("mse2", group="floor1")
    trusting = TlsFiles(forged.certificate, forged.key, site.files("mse1").authority)
    two.mesh.set_group(
        MeshGroup(group="floor1", files=trusting, parties={"mse1": (Role.NODE, one.mesh.address)})
    )
    dialer = two.mesh._groups["floor1"].parties["mse1"].dialer
    await until(lambda: dialer is not None and dialer.link is not None and dialer.link.gone.done())
    assert not two.links  # in TLS 1.3 its handshake succeeded; no greeting came
    assert not one.links


async def test_a_certificate_of_another_group_of_the_same_witness_is_refused(
    site: Any, other_site: Any, open_party: Open, until: Any
) -> None:
    witness = await open_party()
    for one_site in (site, other_site):
        files = one_site.files("w", Role.WITNESS)
        witness.mesh.set_group(group_of(one_site, files, mse1=(Role.NODE, None)))
    # a genuine node of floor2 asks for floor1, and takes whatever answers
    files = other_site.files("mse1")
    context = client_context(files)
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(
        *witness.mesh.address, ssl=context, server_hostname=server_name("floor1")
    )
    writer.write(frame(b"\x92\x00\x01"))
    with suppress(ssl.SSLError, ConnectionError):
        assert await reader.read() == b""
    writer.close()
    assert not witness.links
    assert not witness.refusals  # the handshake itself failed: floor1's authority was asked


@pytest.mark.parametrize("role", [Role.REPLICATION, Role.WITNESS])
async def test_a_certificate_of_another_role_is_refused(
    site: Any, open_party: Open, until: Any, role: Role
) -> None:
    one, two = await open_party(), await open_party()
    one.mesh.set_group(group_of(site, site.files("mse1"), mse2=(Role.NODE, None)))
    two.mesh.set_group(group_of(site, site.files("mse2", role), mse1=(Role.NODE, one.mesh.address)))
    await until(lambda: one.refusals)
    assert "not a party of that group" in one.refusals[0].sentence
    assert not one.links
    assert not two.links


async def test_the_wrong_machine_at_an_address_is_named(
    site: Any, open_party: Open, until: Any
) -> None:
    one, three = await open_party(), await open_party()
    three.mesh.set_group(group_of(site, site.files("mse3"), mse1=(Role.NODE, None)))
    one.mesh.set_group(group_of(site, site.files("mse1"), mse2=(Role.NODE, three.mesh.address)))
    await until(lambda: one.refusals)
    assert "'mse3'" in one.refusals[0].sentence
    assert not one.links


async def test_versions_without_a_common_one_do_not_link(
    site: Any, open_party: Open, until: Any
) -> None:
    one, two = await open_party(Greeting(7, 9)), await open_party()
    one.mesh.set_group(group_of(site, site.files("mse1"), mse2=(Role.NODE, two.mesh.address)))
    two.mesh.set_group(group_of(site, site.files("mse2"), mse1=(Role.NODE, None)))
    await until(lambda: two.refusals)
    assert "wire versions 7 to 9" in two.refusals[0].sentence
    assert not two.links


async def test_the_previous_version_links_and_is_spoken_to_in_its_own(
    site: Any, open_party: Open, until: Any
) -> None:
    one, two = await open_party(Greeting(0, 0)), await open_party()
    one.mesh.set_group(group_of(site, site.files("mse1"), mse2=(Role.NODE, two.mesh.address)))
    two.mesh.set_group(group_of(site, site.files("mse2"), mse1=(Role.NODE, None)))
    await until(lambda: one.links and two.links)
    assert one.mesh.version("floor1", "mse2") == 0
    assert two.mesh.version("floor1", "mse1") == 0


async def test_a_message_that_would_wait_too_long_is_dropped(
    site: Any, open_party: Open, until: Any
) -> None:
    one, _ = await pair(site, open_party, until)
    big = bytes(1 << 20)
    taken = [one.mesh.send("floor1", "mse2", big) for _ in range(20)]
    assert taken[0]
    assert not taken[-1]
    assert one.mesh.counters["not_sent"] == taken.count(False)
    assert sum(taken) <= UNSENT_LIMIT_BYTES // len(big) + 8  # and the kernel's own buffers


async def test_nothing_is_sent_without_a_link(site: Any, open_party: Open) -> None:
    one = await open_party()
    assert not one.mesh.send("floor1", "mse2", b"x")
    assert one.mesh.version("floor1", "mse2") is None


async def test_certificates_are_reloaded_under_a_running_link(
    site: Any, open_party: Open, until: Any
) -> None:
    one, two = await pair(site, open_party, until)
    site.files("mse1")  # written over in place
    site.files("mse2")
    one.mesh.reload("floor1")
    two.mesh.reload("floor1")
    assert one.mesh.send("floor1", "mse2", b"still the same link")
    await until(lambda: two.messages)
    assert [link[2] for link in one.links] == [True]
    two.mesh.remove_group("floor1")
    await until(lambda: not one.mesh.is_up("floor1", "mse2"))
    two.mesh.set_group(group_of(site, site.files("mse2"), mse1=(Role.NODE, None)))
    await until(lambda: one.mesh.is_up("floor1", "mse2"))


async def test_damaged_files_change_nothing(site: Any, open_party: Open, until: Any) -> None:
    one, two = await pair(site, open_party, until)
    files = site.files("mse1")
    files.certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\nrubbish\n")
    with pytest.raises(StateError, match="cannot be used"):
        one.mesh.reload("floor1")
    assert one.mesh.send("floor1", "mse2", b"goes on")
    await until(lambda: two.messages)


async def test_a_port_in_use_is_said_in_words(open_party: Open) -> None:
    with socket.socket() as taken:
        taken.bind(NOWHERE)
        taken.listen()
        with pytest.raises(NetworkError, match="another program uses that port"):
            await open_party(None, taken.getsockname())


async def test_an_oversized_frame_ends_the_link(site: Any, open_party: Open, until: Any) -> None:
    one = await open_party()
    one.mesh.set_group(group_of(site, site.files("mse1"), mse2=(Role.NODE, None)))
    reader, writer = await asyncio.open_connection(
        *one.mesh.address,
        ssl=client_context(site.files("mse2")),
        server_hostname=server_name("floor1"),
    )
    writer.write(frame(b"\x92\x00\x01"))
    await until(lambda: one.links)
    writer.write(b"\xff\xff\xff\xff")
    await until(lambda: one.refusals)
    assert "was announced" in one.refusals[0].sentence
    assert one.links[-1] == ("floor1", "mse2", False, False)
    writer.close()
    del reader


CHILD = """
import asyncio, sys
from pathlib import Path
from openmse.node.drivers.peer.mesh import MeshGroup, TlsMesh
from openmse.node.drivers.peer.paths import Path as Way
from openmse.node.drivers.peer.tls import TlsFiles
from openmse.pki.names import Role

async def main(port, directory):
    mesh = TlsMesh(("127.0.0.1", 0), on_message=print, on_link=lambda *link: None)
    await mesh.open()
    base = Path(directory)
    files = TlsFiles(base / "node.crt", base / "node.key", base / "ca.crt")
    parties = {"mse1": (Role.NODE, ("127.0.0.1", int(port)))}
    mesh.set_group(MeshGroup(group="floor1", files=files, parties=parties))
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def child(site: Any, open_party: Open, until: Any) -> AsyncIterator[Any]:
    """A party in a process of its own, linked to ``one``."""
    one = await open_party()
    one.mesh.set_group(group_of(site, site.files("mse1"), mse2=(Role.NODE, None)))
    base: Path = site.files("mse2").key.parent
    port = str(one.mesh.address[1])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, port, str(base), env=os.environ
    )
    try:
        await until(lambda: one.mesh.is_up("floor1", "mse2"), 30.0)
        yield one, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.alone
async def test_a_killed_process_is_noticed_at_once(child: Any, until: Any) -> None:
    one, process = child
    started = asyncio.get_running_loop().time()
    process.send_signal(signal.SIGKILL)
    await until(lambda: not one.mesh.is_up("floor1", "mse2"))
    assert asyncio.get_running_loop().time() - started < 0.5
    assert one.links[-1] == ("floor1", "mse2", False, True)


async def test_a_party_that_returns_replaces_its_old_link(
    site: Any, child: Any, until: Any
) -> None:
    """The second connection of the same party comes while the first still looks alive."""
    one, process = child
    process.send_signal(signal.SIGSTOP)
    try:
        reader, writer = await asyncio.open_connection(
            *one.mesh.address,
            ssl=client_context(site.files("mse2")),
            server_hostname=server_name("floor1"),
        )
        writer.write(frame(b"\x92\x00\x01"))
        group = one.mesh._groups["floor1"].parties["mse2"]
        first = group.links[0]
        await until(lambda: len(group.links) == 1 and group.links[0] is not first)
        assert [link[2] for link in one.links] == [True]  # up all the time
        await reader.readexactly(4)
        assert one.mesh.send("floor1", "mse2", b"to the new one")
        writer.close()
    finally:
        process.send_signal(signal.SIGCONT)


async def test_a_server_that_never_answers_is_left_and_tried_again(
    site: Any, open_party: Open, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose kernel accepts but whose process is frozen; a poke begins anew."""
    one = await open_party()
    with socket.socket() as mute:
        mute.bind(NOWHERE)
        mute.listen(16)
        mute.setblocking(False)
        files = site.files("mse1")
        one.mesh.set_group(group_of(site, files, mse2=(Role.NODE, mute.getsockname())))
        dialer = one.mesh._groups["floor1"].parties["mse2"].dialer
        assert dialer is not None
        loop = asyncio.get_running_loop()
        accepted = [(await asyncio.wait_for(loop.sock_accept(mute), 5))[0]]
        attempt = dialer._attempt
        assert attempt is not None
        await until(lambda: attempt.when() > loop.time() + 2)  # in the handshake
        one.mesh.poke("floor1", "mse2")  # the first sign of life: what was sent before is lost
        accepted.append((await asyncio.wait_for(loop.sock_accept(mute), 1))[0])
        again = dialer._attempt
        assert again is not attempt
        assert again is not None
        for _ in range(5):
            one.mesh.poke("floor1", "mse2")  # beats that follow do not disturb it
        assert again.when() > loop.time()
        assert dialer._attempt is again
        await until(lambda: one.mesh.counters["connect_failed"] > 0)
        for sock in accepted:
            sock.close()


@pytest.mark.alone
async def test_it_comes_back_by_itself(site: Any, open_party: Open, until: Any) -> None:
    one, two = await pair(site, open_party, until)
    address = two.mesh.address
    await two.mesh.close()
    await until(lambda: not one.mesh.is_up("floor1", "mse2"))
    assert one.links[-1] == ("floor1", "mse2", False, True)
    again = await open_party(None, address)
    again.mesh.set_group(group_of(site, site.files("mse2"), mse1=(Role.NODE, None)))
    started = asyncio.get_running_loop().time()
    await until(lambda: one.mesh.is_up("floor1", "mse2"))
    assert asyncio.get_running_loop().time() - started < 1.0


async def test_an_expired_certificate_still_links(site: Any, open_party: Open, until: Any) -> None:
    """A wrong clock is a fault to survive; who may link is decided by membership."""
    from datetime import UTC, datetime

    from openmse.pki.authority import Subject, signing_request
    from openmse.pki.names import Identity

    one, two = await open_party(), await open_party()
    files = site.files("mse2")
    request = signing_request(files.key.read_bytes(), "mse2")
    subject = Subject(Identity("floor1", Role.NODE, "mse2"))
    old = site.authority.issue(request, subject, now=datetime(2001, 1, 1, tzinfo=UTC))
    files.certificate.write_bytes(old)
    one.mesh.set_group(group_of(site, site.files("mse1"), mse2=(Role.NODE, two.mesh.address)))
    two.mesh.set_group(group_of(site, files, mse1=(Role.NODE, one.mesh.address)))
    await until(lambda: one.links and two.links)


async def test_closing_ends_handshakes_under_way(site: Any, open_party: Open, until: Any) -> None:
    """Nothing is left behind: an unclosed socket would fail this test."""
    one, two = await open_party(), await open_party()
    with socket.socket() as mute:
        mute.bind(NOWHERE)
        mute.listen()
        one.mesh.set_group(group_of(site, site.files("mse1"), mse2=(Role.NODE, mute.getsockname())))
        reader, writer = await asyncio.open_connection(*two.mesh.address)  # never says hello
        await until(lambda: len(two.mesh._listener._handshakes) == 1)
        dialer = one.mesh._groups["floor1"].parties["mse2"].dialer
        assert dialer is not None
        await until(lambda: dialer._attempt is not None)
        await one.mesh.close()
        await two.mesh.close()
        assert await reader.read() == b""
        writer.close()


async def test_strangers_are_counted(site: Any, open_party: Open, until: Any) -> None:
    one = await open_party()
    reader, writer = await asyncio.open_connection(*one.mesh.address)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await until(lambda: one.mesh.counters["handshake_failed"] == 1)
    assert not one.refusals  # a port scan is no news for people
    writer.close()
    del reader


async def test_a_second_path_is_a_second_link_and_the_last_one_counts(
    site: Any, open_party: Open, until: Any
) -> None:
    one, two = await open_party(), await open_party()
    for party in (one, two):
        party.mesh.open_direct(("127.0.0.1", 0))
    for me, other, name, peer in ((one, two, "mse1", "mse2"), (two, one, "mse2", "mse1")):
        group = group_of(site, site.files(name), **{peer: (Role.NODE, other.mesh.address)})
        direct = {peer: other.mesh.direct_address}
        me.mesh.set_group(replace(group, direct=direct))
    ways = {Way.NETWORK, Way.DIRECT}
    await until(lambda: one.mesh.paths("floor1", "mse2") == ways)
    await until(lambda: two.mesh.paths("floor1", "mse1") == ways)
    for path in (Way.DIRECT, Way.NETWORK):
        one.mesh.preferred = path
        assert one.mesh.send("floor1", "mse2", b"by %d" % path)
    await until(lambda: len(two.messages) == 2)
    assert [up for _, _, up, _ in one.links] == [True]  # four links, told once
    # Without direct addresses the links of that path end, and nothing is told.
    for me, name, peer in ((one, "mse1", "mse2"), (two, "mse2", "mse1")):
        other = two if me is one else one
        group = group_of(site, site.files(name), **{peer: (Role.NODE, other.mesh.address)})
        me.mesh.set_group(group)
    await until(lambda: one.mesh.paths("floor1", "mse2") == {Way.NETWORK})
    assert [up for _, _, up, _ in one.links] == [True]
    await two.mesh.close()
    await until(lambda: not one.mesh.is_up("floor1", "mse2"))
    assert one.links[-1] == ("floor1", "mse2", False, True)
