"""The address lane against a real kernel and real neighbours."""

import asyncio
import itertools
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from lan import NODE4, NODE6, VIP4, VIP6, Lan, boottime

from openmse.errors import NetworkError
from openmse.ha.local import Address, NetView, NetWanted
from openmse.ha.values import MILLISECOND, SECOND, Instant
from openmse.node.drivers.kernel_lease import KernelLease, LeaseConfig
from openmse.node.drivers.virtual_ip import frames
from openmse.node.drivers.virtual_ip.addresses import Addresses
from openmse.node.runtime.address_lane import AddressLane, AddressSettings

pytestmark = [pytest.mark.root, pytest.mark.alone]
PORT = 5432
BOTH = (VIP4, VIP6)
each_family = pytest.mark.parametrize("address", [VIP4, VIP6])


def now() -> Instant:
    return Instant(boottime())


class Node:
    """A lane with its lease, and everything it ever reported."""

    def __init__(self, addresses: tuple[str, ...] = BOTH) -> None:
        peers = (NODE4["a"], NODE4["b"], NODE6["a"], NODE6["b"])
        self.lease = KernelLease(LeaseConfig("t1", addresses, (PORT,), peers))
        self.lease.install()
        self.views: list[NetView] = []
        self.lane = AddressLane(
            AddressSettings("eth0", addresses), self.lease, on_view=self._saw, clock=now
        )
        self._changed = asyncio.Event()

    def _saw(self, view: NetView) -> None:
        self.views.append(view)
        self._changed.set()

    def want(self, *, address: bool, admit: bool = False, probe: bool = False) -> None:
        self.lane.set_wanted(NetWanted(address=address, admit=admit, probe=probe))

    async def wait_view(self, is_it: Callable[[NetView], bool], timeout_s: float = 3.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not is_it(self.lane.view):
                self._changed.clear()
                await self._changed.wait()

    async def wait_address(self, address: Address, timeout_s: float = 3.0) -> None:
        await self.wait_view(lambda view: view.address is address, timeout_s)


@asynccontextmanager
async def running(
    lan: Lan, machine: str = "a", addresses: tuple[str, ...] = BOTH
) -> AsyncIterator[Node]:
    """A node at work on ``machine``. Only one at a time may be on another machine than a."""
    with lan.inside(machine):
        node = Node(addresses)
        task = asyncio.create_task(node.lane.run())
        try:
            yield node
            assert not task.done(), "the lane ended by itself"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            node.lane.close()
            node.lease.close()


def has_address(lan: Lan, machine: str, address: str) -> bool:
    return f" {address}/" in lan.ip(machine, "-o", "addr", "show", "dev", "eth0")


async def test_nothing_is_touched_before_a_level_is_wanted(lan: Lan) -> None:
    lan.add_vip("a", VIP4)
    lan.add_vip("a", VIP6)
    async with running(lan) as node:
        await node.wait_address(Address.HELD)
        node.want(address=False)
        await node.wait_address(Address.ABSENT, 0.5)
    assert not has_address(lan, "a", VIP4)
    assert not has_address(lan, "a", VIP6)
    assert has_address(lan, "a", NODE4["a"])


async def test_it_is_probed_for_100_ms_taken_and_given_back(lan: Lan) -> None:
    async with running(lan) as node:
        node.lease.arm_forever()
        began = time.monotonic()
        node.want(address=True)
        await node.wait_address(Address.HELD)
        took = time.monotonic() - began
        assert 0.1 <= took < 0.25
        assert [v.address for v in node.views] == [Address.PROBING, Address.HELD]
        assert node.lane.view == NetView(address=Address.HELD, admits=False)
        node.want(address=True, admit=True)
        await node.wait_view(lambda view: view.admits, 0.2)
        assert not node.lease.read_back().is_held
        node.want(address=True, admit=False)
        await node.wait_view(lambda view: not view.admits, 0.2)
        assert node.lease.read_back().is_held
        node.want(address=False, admit=True)
        await node.wait_address(Address.ABSENT, 0.2)
        assert not has_address(lan, "a", VIP4)
        assert not has_address(lan, "a", VIP6)
        assert node.lease.read_back().is_held, "an address given back lets nobody in"


@each_family
async def test_who_answers_is_a_conflict_until_it_stops(lan: Lan, address: str) -> None:
    lan.add_vip("b", address)
    async with running(lan) as node:
        node.lease.arm_forever()
        node.want(address=True, admit=True)
        await node.wait_address(Address.CONFLICT)
        assert node.lane.view.conflict_with == lan.mac("b")
        assert not has_address(lan, "a", address)
        assert not node.lane.view.admits
        lan.ip("b", "addr", "del", f"{address}/{32 if '.' in address else 128}", "dev", "eth0")
        await node.wait_address(Address.HELD, 1.6)
        assert node.lane.view.conflict_with == ""


async def test_two_that_probe_at_once_do_not_both_take_it(lan: Lan) -> None:
    """As RFC 5227 has it: a rival's probe is a conflict."""
    async with running(lan) as node:
        node.lease.arm_forever()
        ear = Ear(lan)
        node.want(address=True)
        async with asyncio.timeout(1):
            while not ear.heard():
                await asyncio.sleep(0.005)
        ear.close()
        with lan.open_socket("b", socket.AF_PACKET, socket.SOCK_RAW, 0) as rival:
            rival.bind(("eth0", 0))
            mac = rival.getsockname()[4]
            rival.send(frames.probe(frames.ipaddress.ip_address(VIP4), mac))
        await node.wait_address(Address.CONFLICT, 0.3)


@each_family
async def test_a_rival_is_shown_and_the_neighbours_are_set_right(lan: Lan, address: str) -> None:
    """As after the resume of a machine that was paused while it held the address."""
    with lan.listener("a", PORT):
        async with running(lan, addresses=(address,)) as node:
            node.lease.arm_forever()
            node.want(address=True, admit=True)
            await node.wait_address(Address.HELD)
            lan.connect("c", address, PORT, timeout=1).close()
            with lan.open_socket("b", socket.AF_PACKET, socket.SOCK_RAW, 0) as rival:
                rival.bind(("eth0", 0))
                for frame in frames.announcements(
                    frames.ipaddress.ip_address(address), rival.getsockname()[4]
                ):
                    rival.send(frame)
            await node.wait_view(lambda view: view.conflict_with == lan.mac("b"), 1)
            assert node.lane.view.address is Address.HELD
            lan.connect("c", address, PORT, timeout=1).close()
            assert lan.mac("a") in lan.ip("c", "neigh", "show", address)


async def test_without_a_lease_nothing_is_said_against_a_rival(lan: Lan) -> None:
    ear = Ear(lan)
    async with running(lan, addresses=(VIP4,)) as node:
        node.lease.arm_forever()
        node.want(address=True)
        await node.wait_address(Address.HELD)
        node.lease.disarm()
        await asyncio.sleep(0.05)
        ear.heard()
        with lan.open_socket("b", socket.AF_PACKET, socket.SOCK_RAW, 0) as rival:
            rival.bind(("eth0", 0))
            address = frames.ipaddress.ip_address(VIP4)
            (request, _) = frames.announcements(address, rival.getsockname()[4])
            rival.send(request)
        await asyncio.sleep(0.2)
        assert ear.heard() == [f"claim {VIP4}"], "the rival's own, and no answer"
    ear.close()


async def test_it_is_given_up_where_no_thread_can_be_started(
    lan: Lan, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(lan, addresses=(VIP4,)) as node:
        node.lease.arm_forever()
        node.want(address=True)
        await node.wait_address(Address.HELD)

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        node.want(address=False)
        await node.wait_address(Address.ABSENT, 1)
    assert not has_address(lan, "a", VIP4)


async def test_a_probe_made_before_counts(lan: Lan) -> None:
    ear = Ear(lan)
    async with running(lan, addresses=(VIP4,)) as node:
        node.lease.arm_forever()
        node.want(address=False, probe=True)
        await asyncio.sleep(0.15)  # the time that a probe takes, and less than it counts
        assert ear.heard() == [f"probe {VIP4}"] * 3
        assert node.lane.view.address is Address.ABSENT
        assert not has_address(lan, "a", VIP4)
        node.want(address=True, probe=True)
        await node.wait_address(Address.HELD)
        assert "probe" not in " ".join(ear.heard())
    ear.close()


async def test_a_claim_of_the_former_owner_is_asked_about_again(lan: Lan) -> None:
    """It may have given the address up since; until it has, the address is not taken."""
    lan.add_vip("b", VIP4)
    async with running(lan, addresses=(VIP4,)) as node:
        node.lease.arm_forever()
        node.want(address=False, probe=True)
        await asyncio.sleep(0.15)
        assert node.lane.view.address is Address.ABSENT, "nobody wants it yet, so no conflict"
        node.want(address=True)
        await node.wait_address(Address.CONFLICT)
        node.want(address=False, probe=False)
        await node.wait_address(Address.ABSENT)
        node.want(address=False, probe=True)
        await asyncio.sleep(0.15)
        lan.ip("b", "addr", "del", f"{VIP4}/32", "dev", "eth0")
        node.want(address=True)
        await node.wait_address(Address.HELD, 0.5)
        assert Address.CONFLICT not in [v.address for v in node.views[-2:]]


async def test_given_up_in_the_middle_of_the_probe(lan: Lan) -> None:
    async with running(lan) as node:
        node.want(address=True)
        await node.wait_address(Address.PROBING)
        began = time.monotonic()
        node.want(address=False)
        await node.wait_address(Address.ABSENT)
        assert time.monotonic() - began < 0.06
        await asyncio.sleep(0.15)  # longer than the probe: nothing of it is left
        assert not has_address(lan, "a", VIP4)


@each_family
async def test_removed_by_somebody_it_is_back_within_100_ms(lan: Lan, address: str) -> None:
    async with running(lan) as node:
        node.lease.arm_forever()
        node.want(address=True, admit=True)
        await node.wait_address(Address.HELD)
        for _ in range(5):
            length = 32 if "." in address else 128
            lan.ip("a", "addr", "del", f"{address}/{length}", "dev", "eth0")
            began = time.monotonic()
            while not has_address(lan, "a", address):
                assert time.monotonic() - began < 0.1
                await asyncio.sleep(0.001)
        assert node.lane.view.address is Address.HELD


async def test_it_returns_with_the_link(lan: Lan) -> None:
    async with running(lan) as node:
        node.lease.arm_forever()
        node.want(address=True, admit=True)
        await node.wait_address(Address.HELD)
        lan.ip("a", "link", "set", "eth0", "down")  # takes IPv6 addresses away
        await asyncio.sleep(0.05)
        lan.ip("a", "link", "set", "eth0", "up")
        async with asyncio.timeout(1):
            while not (has_address(lan, "a", VIP6) and has_address(lan, "a", VIP4)):
                await asyncio.sleep(0.01)
        await node.wait_address(Address.HELD)


class Ear:
    """Hears the ARP and neighbour frames on machine c that concern the virtual IPs."""

    def __init__(self, lan: Lan) -> None:
        self._socket = lan.open_socket("c", socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind(("eth0", 3))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def heard(self) -> list[str]:
        """'claim <address>' or 'probe <address>' for each frame so far, in order."""
        found = []
        while True:
            try:
                frame, origin = self._socket.recvfrom(2048)
            except BlockingIOError:
                return found
            claim = frames.claim(frame)
            if claim is None or str(claim.address) not in BOTH or origin[2] == 4:
                continue
            is_arp = struct.unpack_from("!H", frame, 12)[0] == frames.ETH_ARP
            sender = frame[28:32] if is_arp else frame[22:38]
            found.append(f"{'claim' if any(sender) else 'probe'} {claim.address}")


async def test_adoption_neither_probes_nor_leaves_a_gap(lan: Lan) -> None:
    lan.add_vip("a", VIP4)
    lan.add_vip("a", VIP6)
    ear = Ear(lan)
    async with running(lan) as node:
        node.lease.arm_forever()
        node.want(address=True, admit=True)
        await node.wait_view(lambda view: view.admits)
        await asyncio.sleep(0.15)  # as long as a probe would have taken
        assert {v.address for v in node.views} == {Address.HELD}
    heard = ear.heard()
    ear.close()
    assert f"claim {VIP4}" in heard
    assert not [entry for entry in heard if entry.startswith("probe")]
    assert has_address(lan, "a", VIP4), "the address stays when the lane ends"


async def test_announcements_come_at_0_1_and_2_seconds(lan: Lan) -> None:
    ear = Ear(lan)
    async with running(lan) as node:
        node.lease.arm_forever()
        node.want(address=True)
        await node.wait_address(Address.HELD)
        await asyncio.sleep(0.05)
        heard = ear.heard()
        # Three probes of each; then the request and the reply form, and one advertisement.
        assert heard.count(f"probe {VIP4}") == 3
        assert heard.count(f"probe {VIP6}") == 3
        assert heard.count(f"claim {VIP4}") == 2
        assert heard.count(f"claim {VIP6}") == 1
        await asyncio.sleep(0.8)
        assert ear.heard() == []
        await asyncio.sleep(0.3)
        assert ear.heard().count(f"claim {VIP4}") == 2
        await asyncio.sleep(1.0)
        assert ear.heard().count(f"claim {VIP4}") == 2
    ear.close()


async def test_without_a_lease_it_announces_nothing(lan: Lan) -> None:
    """A packet socket passes by the kernel lease, so the lane has to look at it."""
    ear = Ear(lan)
    async with running(lan) as node:
        node.want(address=True)
        await node.wait_address(Address.HELD)
        await asyncio.sleep(0.1)
        assert not [entry for entry in ear.heard() if entry.startswith("claim")]
        node.lease.arm_forever()
        await asyncio.sleep(0.1)
        assert f"claim {VIP4}" in ear.heard()
        node.lease.disarm()
        await asyncio.sleep(1.1)
        assert ear.heard() == []
    ear.close()


async def test_a_firewall_reload_is_mended(lan: Lan) -> None:
    async with running(lan) as node:
        node.lease.arm_forever()
        node.want(address=True, admit=True)
        await node.wait_address(Address.HELD)
        lan.execute("a", "nft", "flush", "ruleset")
        await asyncio.sleep(1.2)
        state = node.lease.read_back()
        assert (state.is_installed, state.is_armed, state.is_held) == (True, True, False)


async def test_an_interface_that_is_missing_is_said_and_retried(lan: Lan) -> None:
    lan.ip("a", "link", "set", "eth0", "name", "eth9", "down")
    async with running(lan) as node:
        node.lease.arm_forever()
        node.want(address=True)
        async with asyncio.timeout(1):
            while not node.lane.failure:
                await asyncio.sleep(0.01)
        assert "eth0" in node.lane.failure
        assert node.lane.view.address is Address.ABSENT
        lan.ip("a", "link", "set", "eth9", "name", "eth0")
        lan.ip("a", "link", "set", "eth0", "up")
        await node.wait_address(Address.HELD)
        assert node.lane.failure == ""


@each_family
async def test_a_move_is_seen_by_clients_at_once(lan: Lan, address: str) -> None:
    """The client talks to b, b goes silent (no farewell), a takes over: the gap that is ours."""
    lan.add_vip("b", address)
    with lan.listener("b", PORT), lan.listener("a", PORT):
        lan.connect("c", address, PORT).close()
        length = 32 if "." in address else 128
        lan.ip("b", "addr", "del", f"{address}/{length}", "dev", "eth0")
        # A client that asks in vain meanwhile: its neighbour entry is being resolved anew.
        lan.ip("c", "neigh", "flush", "dev", "eth0")
        with pytest.raises((TimeoutError, OSError)):
            lan.connect("c", address, PORT, timeout=0.05).close()
        async with running(lan, addresses=(address,)) as node:
            node.lease.arm_forever()
            node.want(address=True, admit=True)
            await node.wait_address(Address.HELD)
            began = time.monotonic()
            lan.connect("c", address, PORT, timeout=1).close()
            assert time.monotonic() - began < 0.1


@each_family
async def test_a_stale_neighbour_entry_is_replaced(lan: Lan, address: str) -> None:
    """The client's entry for b was confirmed a moment ago, which Linux else keeps for a second."""
    lan.add_vip("b", address)
    with lan.listener("b", PORT), lan.listener("a", PORT):
        lan.connect("c", address, PORT).close()
        lan.ip("b", "addr", "del", f"{address}/{32 if '.' in address else 128}", "dev", "eth0")
        async with running(lan, addresses=(address,)) as node:
            node.lease.arm_forever()
            node.want(address=True, admit=True)
            await node.wait_address(Address.HELD)
            began = time.monotonic()
            lan.connect("c", address, PORT, timeout=1).close()
            assert time.monotonic() - began < 0.1
        assert lan.mac("a") in lan.ip("c", "neigh", "show", address)


def test_removing_the_virtual_ip_leaves_the_subnet_alone(lan: Lan) -> None:
    """Removing the first address of a subnet takes the others along; a /32 is in none."""
    lan.ip("a", "addr", "flush", "dev", "eth0", "scope", "global")
    table = Addresses()
    try:
        vip4, vip6 = (frames.ipaddress.ip_address(a) for a in BOTH)
        table.add("eth0", vip4)
        table.add("eth0", vip4)
        table.add("eth0", vip6, valid_lft_s=100)
        lan.ip("a", "addr", "add", f"{NODE4['a']}/24", "dev", "eth0")
        assert table.is_held("eth0", vip4)
        assert table.is_held("eth0", vip6)
        shown = lan.ip("a", "addr", "show", "dev", "eth0")
        assert "nodad" in shown
        assert "deprecated" in shown
        assert "valid_lft 100sec" in shown or "valid_lft 99sec" in shown
        assert table.remove(vip4) is True
        assert table.remove(vip4) is False
        assert has_address(lan, "a", NODE4["a"])
        with pytest.raises(NetworkError, match="no network interface"):
            table.add("nosuch0", vip4)
    finally:
        table.close()


def test_a_listing_disturbed_in_the_middle_is_whole(lan: Lan) -> None:
    """Removing an entry shifts those behind it, and a listing in parts then misses one."""
    lan.ip("a", "link", "add", "br9", "type", "bridge")
    table, other = Addresses(), Addresses()
    many = [frames.ipaddress.ip_address(f"10.77.{n // 250}.{n % 250 + 1}") for n in range(1000)]
    for address in many:
        table.add("br9", address)
    stop = threading.Event()

    def disturb() -> None:
        for address in itertools.cycle(many):
            other.remove(address)
            other.add("br9", address)
            if stop.wait(0.0002):
                return

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        for _ in range(150):
            # One at a time is away; more than that missing were skipped by the listing.
            assert len({e.address for e in table.listed()} & set(many)) >= len(many) - 1
    finally:
        stop.set()
        disturber.join()
        table.close()
        other.close()


def test_times_are_those_of_the_protocol() -> None:
    settings = AddressSettings("eth0", (VIP4,))
    assert settings.probe_ns == 100 * MILLISECOND
    assert settings.announce_after_ns == (0, SECOND, 2 * SECOND, 5 * SECOND)
