"""Datagrams over real sockets: many groups, restarts, replays by a third party, lost networks."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from openmse.errors import NetworkError, PeerError
from openmse.node.drivers.peer.paths import Path, PathWatch
from openmse.node.drivers.peer.udp import DatagramTransport
from openmse.sockets import Address
from openmse.wire.datagrams import MAX_DATAGRAM_BYTES, pair_root, witness_root

KEY = bytes(range(32))
ROOT = pair_root(KEY)
ANY = ("127.0.0.1", 0)


class Party:
    """A transport, and what it delivered."""

    def __init__(self, bind: Address = ANY) -> None:
        self.messages: list[tuple[str, str, bytes]] = []
        self.transport = DatagramTransport(bind, lambda *message: self.messages.append(message))
        self.transport.open()

    @property
    def address(self) -> Address:
        return self.transport.address


@pytest.fixture
async def open_party() -> AsyncIterator[Callable[..., Party]]:
    parties: list[Party] = []

    def make(bind: Address = ANY) -> Party:
        parties.append(Party(bind))
        return parties[-1]

    yield make
    for party in parties:
        party.transport.close()


def introduce(one: Party, two: Party, group: str = "floor1", root: bytes = ROOT) -> None:
    one.transport.set_group(group, "mse1", {"mse2": (root, two.address)})
    two.transport.set_group(group, "mse2", {"mse1": (root, one.address)})


async def test_the_first_message_arrives_without_a_second_send(open_party: Any, until: Any) -> None:
    one, two = open_party(), open_party()
    introduce(one, two)
    assert one.transport.send("floor1", "mse2", b"beat")
    await until(lambda: two.messages)
    assert two.messages == [("floor1", "mse1", b"beat")]
    assert two.transport.rejected == {"other_session": 1}
    assert one.transport.rejected == {"hello": 1}


async def test_a_witness_answers_many_groups_where_they_are(open_party: Any, until: Any) -> None:
    witness, nodes = open_party(), [open_party() for _ in range(5)]
    for number, node in enumerate(nodes):
        root = witness_root(bytes([number]) * 32, "w")
        group = f"floor{number}"
        witness.transport.set_group(group, "w", {"mse1": (root, None)})
        node.transport.set_group(group, "mse1", {"w": (root, witness.address)})
        assert not witness.transport.send(group, "mse1", b"too early")
        node.transport.send(group, "w", group.encode())
    await until(lambda: len(witness.messages) == 5)
    assert sorted(witness.messages) == [(f"floor{n}", "mse1", b"floor%d" % n) for n in range(5)]
    for number, node in enumerate(nodes):
        assert witness.transport.send(f"floor{number}", "mse1", b"grant")
        await until(lambda node=node: node.messages)  # type: ignore[misc]
        assert node.messages == [(f"floor{number}", "w", b"grant")]


async def test_a_recorder_on_the_path_can_replay_nothing(open_party: Any, until: Any) -> None:
    """Everything passes through a relay that keeps it all, and sends it again later."""
    loop = asyncio.get_running_loop()
    one, two = open_party(), open_party()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        relay.bind(ANY)
        relay.setblocking(False)
        recorded: list[bytes] = []

        async def forward() -> None:
            while True:
                data, _ = await loop.sock_recvfrom(relay, 65536)
                recorded.append(data)
                relay.sendto(data, two.address)

        task = loop.create_task(forward())
        introduce(one, two)
        one.transport.set_address("floor1", "mse2", relay.getsockname())
        for number in range(3):
            one.transport.send("floor1", "mse2", b"beat %d" % number)
            await until(lambda number=number: len(two.messages) == number + 1)  # type: ignore[misc]
        task.cancel()  # from here on the path is the attacker's alone
        for data in recorded:
            relay.sendto(data, two.address)
        await until(lambda: two.transport.rejected["replayed"] == len(recorded))
        assert len(two.messages) == 3
        # the receiver restarts at the same address
        place = two.address
        two.transport.close()
        again = open_party(place)
        again.transport.set_group("floor1", "mse2", {"mse1": (ROOT, one.address)})
        for data in recorded:
            relay.sendto(data, place)
        await until(lambda: again.transport.rejected.total() == len(recorded))
        assert not again.messages
        one.transport.set_address("floor1", "mse2", place)
        one.transport.send("floor1", "mse2", b"genuine")
        await until(lambda: again.messages)
        assert again.messages == [("floor1", "mse1", b"genuine")]


async def test_strangers_are_counted_by_reason(open_party: Any, until: Any) -> None:
    one, two, stranger = open_party(), open_party(), open_party()
    introduce(one, two)
    stranger.transport.set_group("floor1", "mse1", {"mse2": (bytes(32), two.address)})
    stranger.transport.set_group("floor9", "mse1", {"mse2": (ROOT, two.address)})
    stranger.transport.send("floor1", "mse2", b"forged")
    stranger.transport.send("floor9", "mse2", b"who?")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        noise.sendto(b"", two.address)
        noise.sendto(b"x" * 60000, two.address)
    await until(lambda: two.transport.rejected.total() == 4)
    assert two.transport.rejected == {"forged": 1, "unknown_party": 1, "malformed": 2}
    assert not two.messages
    assert not stranger.transport.rejected  # nobody was answered


async def test_a_known_party_keeps_its_session_when_addresses_change(
    open_party: Any, until: Any
) -> None:
    one, two = open_party(), open_party()
    introduce(one, two)
    one.transport.send("floor1", "mse2", b"1")
    await until(lambda: two.messages)
    introduce(one, two)
    one.transport.send("floor1", "mse2", b"2")
    await until(lambda: len(two.messages) == 2)
    assert two.transport.rejected == {"other_session": 1}
    two.transport.remove_group("floor1")
    one.transport.send("floor1", "mse2", b"3")
    await until(lambda: two.transport.rejected["unknown_party"] == 1)


async def test_where_a_party_was_heard_outlasts_a_change_of_the_group(
    open_party: Any, until: Any
) -> None:
    witness, node = open_party(), open_party()
    witness.transport.set_group("floor1", "w", {"mse1": (ROOT, None)})
    node.transport.set_group("floor1", "mse1", {"w": (ROOT, witness.address)})
    node.transport.send("floor1", "w", b"beat")
    await until(lambda: witness.messages)
    witness.transport.set_group("floor1", "w", {"mse1": (ROOT, None), "mse2": (ROOT, None)})
    assert witness.transport.send("floor1", "mse1", b"grant")
    await until(lambda: node.messages)


async def test_networks_that_are_gone_are_counted_not_raised(open_party: Any) -> None:
    one = open_party()
    one.transport.set_group("floor1", "mse1", {"mse2": (ROOT, ("255.255.255.255", 9))})
    assert not one.transport.send("floor1", "mse2", b"beat")
    assert one.transport.send_failures == {"EACCES": 1}
    assert not one.transport.send("floor1", "nobody", b"beat")
    one.transport.close()
    assert not one.transport.send("floor1", "mse2", b"beat")
    assert one.transport.send_failures == {"EACCES": 1, "no_address": 1, "closed": 1}
    with pytest.raises(PeerError, match="does not fit"):
        one.transport.send("floor1", "mse2", bytes(MAX_DATAGRAM_BYTES))


async def test_a_port_in_use_is_said_in_words(open_party: Any) -> None:
    one = open_party()
    with pytest.raises(NetworkError, match="another program uses that port"):
        open_party(one.address)


async def test_it_binds_before_its_address_is_there(open_party: Any) -> None:
    assert open_party(("192.0.2.77", 0)).address[0] == "192.0.2.77"


async def test_version_six(open_party: Any, until: Any) -> None:
    one, two = open_party(("::1", 0)), open_party(("::1", 0))
    introduce(one, two)
    one.transport.send("floor1", "mse2", b"six")
    await until(lambda: two.messages)


@pytest.mark.alone
async def test_cost_of_a_datagram(open_party: Any, until: Any) -> None:
    """The witness's budget: 1,000 groups at default timing in less than one core."""
    import time

    one, two = open_party(), open_party()
    introduce(one, two)
    one.transport.send("floor1", "mse2", b"first")
    await until(lambda: two.messages)
    count, payload = 2000, bytes(250)
    started = time.process_time()
    for number in range(count):
        one.transport.send("floor1", "mse2", payload)
        if number % 100 == 99:
            await until(lambda number=number: len(two.messages) >= number + 2)  # type: ignore[misc]
    cost_us = (time.process_time() - started) / count * 1e6
    print(f"one datagram out and in: {cost_us:.1f} us of processor time")
    assert cost_us < 100


async def test_two_paths_deliver_once_and_survive_the_loss_of_one(
    open_party: Any, until: Any
) -> None:
    """Real sockets: the second copy is neither delivered nor counted as a replay."""
    one, two = open_party(), open_party()
    introduce(one, two)
    watches = []
    for party in (one, two):
        party.transport.open_direct(("127.0.0.1", 0))
    for party, other, name in ((one, two, "mse2"), (two, one, "mse1")):
        watch = PathWatch(lambda: None)
        address = other.transport.direct_address
        party.transport.set_direct("floor1", name, address, watch)
        watches.append(watch)
    one.transport.send("floor1", "mse2", b"0")
    await until(lambda: two.messages)
    for number in range(1, 5):
        one.transport.send("floor1", "mse2", b"%d" % number)
    await until(lambda: len(two.messages) == 5 and two.transport.copies >= 4)
    assert [message[2] for message in two.messages] == [b"0", b"1", b"2", b"3", b"4"]
    assert two.transport.rejected["forged"] == 0
    replayed = two.transport.rejected["replayed"]
    assert replayed <= 1  # the copy of the very first, which met no session
    assert watches[1].preferred() is Path.DIRECT
    two.transport.close_direct()
    for number in range(4):
        one.transport.send("floor1", "mse2", b"again %d" % number)
        await asyncio.sleep(0.1)
    await until(lambda: len(two.messages) == 9)
    assert watches[1].preferred() is Path.NETWORK
    assert two.transport.rejected["replayed"] == replayed
