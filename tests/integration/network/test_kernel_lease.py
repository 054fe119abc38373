"""The kernel lease on a real kernel: what passes, what does not, and exactly until when."""

import asyncio
import itertools
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from lan import NODE4, VIP4, VIP6, Lan, Pinger, boottime, wait_until

from openmse.ha.values import FOREVER, MILLISECOND, SECOND, Instant
from openmse.node.drivers.kernel_lease import KernelLease, LeaseConfig, remove_other_leases
from openmse.node.drivers.virtual_ip import VirtualIp, VirtualIpConfig

pytestmark = [pytest.mark.root, pytest.mark.alone]
PORT = 5432
CONFIG = LeaseConfig(
    group="t1",
    virtual_ips=(VIP4, VIP6),
    service_ports=(PORT,),
    peer_addresses=(NODE4["b"], "fd00:10::12"),
)


@pytest.fixture
def lease(lan: Lan) -> Iterator[KernelLease]:
    """An installed lease on machine a, which has both virtual IPs; clients are let in."""
    lan.add_vip("a", VIP4)
    lan.add_vip("a", VIP6)
    kernel_lease = KernelLease(CONFIG)
    assert kernel_lease.install() is False
    kernel_lease.hold(False)
    yield kernel_lease
    kernel_lease.close()


def until(milliseconds: int) -> Instant:
    return Instant(boottime() + milliseconds * MILLISECOND)


def expect_silence(lan: Lan, machine: str, address: str, port: int = PORT) -> None:
    with pytest.raises((TimeoutError, OSError)) as caught:
        lan.connect(machine, address, port).close()
    assert not isinstance(caught.value, ConnectionRefusedError)


@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_traffic_stops_when_the_lease_ends(lan: Lan, lease: KernelLease, address: str) -> None:
    lease.arm_forever()
    with Pinger(lan, "c", address) as pinger:
        pinger.wait_answer()
        end = until(500)
        assert lease.arm(end)
        wait_until(lambda: boottime() > end + 150 * MILLISECOND, 2, "the end of the lease")
    last = max(pinger.answered.values())
    assert -40 * MILLISECOND < last - end < 25 * MILLISECOND
    assert not lease.read_back().is_armed


def test_nothing_is_lost_while_it_is_renewed(lan: Lan, lease: KernelLease) -> None:
    lease.arm(until(2000))
    with Pinger(lan, "c", VIP4, every_s=0.001) as pinger:
        pinger.wait_answer()
        first = max(pinger.sent)
        for _ in range(200):
            assert lease.arm(until(1000))
            time.sleep(0.002)
    assert max(pinger.sent) - first > 50
    # The last request may have been on its way when the pinger was stopped.
    assert [n for n in pinger.lost if first <= n < max(pinger.sent)] == []


def test_a_renewal_extends_and_shortens(lan: Lan, lease: KernelLease) -> None:
    for milliseconds in (500, 5000, 300, 4000):
        end = until(milliseconds)
        lease.arm(end)
        assert abs(lease.read_back().until - end) < 30 * MILLISECOND
    lease.arm_forever()
    assert lease.read_back().until == FOREVER
    end = until(400)
    lease.arm(end)
    assert abs(lease.read_back().until - end) < 30 * MILLISECOND


def test_less_than_50_ms_is_not_armed(lan: Lan, lease: KernelLease) -> None:
    assert lease.arm(until(49)) is False
    assert lease.arm(until(-500)) is False
    assert lease.read_back().is_armed is False
    assert lease.until == 0


def test_a_lease_without_end_never_outlives_the_wish_for_one_with_an_end(
    lan: Lan, lease: KernelLease
) -> None:
    """The way into SYNC: the register says next that the others may take over after W."""
    lease.arm_forever()
    assert lease.arm(until(49)) is False
    assert lease.read_back().is_armed is False
    assert lease.until == 0


def test_a_renewal_after_expiry_works(lan: Lan, lease: KernelLease) -> None:
    lease.arm(until(60))
    wait_until(lambda: not lease.read_back().is_armed, 1, "the end of the lease")
    assert lease.arm(until(1000))
    assert lease.read_back().is_armed


def test_established_connections_are_cut_despite_other_rules(lan: Lan, lease: KernelLease) -> None:
    lan.execute(
        "a", "nft",
        "table inet other { chain c { type filter hook input priority -10; "
        "ct state established,related accept; }; chain p { type filter hook prerouting "
        "priority -310; ct state established,related accept; }; }",
    )  # fmt: skip
    end = until(400)
    lease.arm(end)
    with lan.listener("a", PORT) as server, lan.connect("c", VIP4, PORT) as client:
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(0.3)
            client.send(b"x")
            assert accepted.recv(1) == b"x"
            wait_until(lambda: boottime() > end + 30 * MILLISECOND, 2, "the end of the lease")
            client.send(b"y")
            with pytest.raises(TimeoutError):
                accepted.recv(1)
            accepted.send(b"z")
            with pytest.raises(TimeoutError):
                client.recv(1)
            lease.arm(until(5000))
            accepted.settimeout(3)
            assert accepted.recv(1) == b"y", "the connection lives on when the lease does"


@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_nobody_answers_for_the_address_after_the_end(
    lan: Lan, lease: KernelLease, address: str
) -> None:
    mac = lan.mac("a")

    def answers() -> str:
        with lan.inside("c"):
            probe = VirtualIp(VirtualIpConfig("eth0", (address,)))
            claimed = asyncio.run(probe.wait_claimed(0.15))
            asyncio.run(_close(probe))
        return claimed

    lease.arm(until(3000))
    assert answers() == mac
    lease.disarm()
    assert answers() == ""
    lease.arm_forever()
    assert answers() == mac


async def _close(driver: VirtualIp) -> None:
    driver.close()


def test_replication_and_loopback_pass_without_a_lease(lan: Lan, lease: KernelLease) -> None:
    with lan.listener("a", PORT):
        lan.connect("b", NODE4["a"], PORT).close()
        lan.connect("b", "fd00:10::11", PORT).close()
        lan.connect("a", "127.0.0.1", PORT).close()
        lan.connect("a", NODE4["a"], PORT).close()
        expect_silence(lan, "c", NODE4["a"])
        expect_silence(lan, "c", "fd00:10::11")
        expect_silence(lan, "c", VIP4)
        expect_silence(lan, "b", VIP4)
        expect_silence(lan, "a", VIP4)
        lease.arm(until(5000))
        for machine in "abc":
            # Its neighbour request of before went unanswered; it asks again each second.
            lan.connect(machine, VIP4, PORT, timeout=3).close()
            lan.connect(machine, VIP6, PORT, timeout=3).close()
            lan.connect(machine, NODE4["a"], PORT).close()


def test_other_ports_of_the_node_are_left_alone(lan: Lan, lease: KernelLease) -> None:
    with lan.listener("a", PORT + 1):
        lan.connect("c", NODE4["a"], PORT + 1).close()
        expect_silence(lan, "c", VIP4, PORT + 1)


def test_a_server_reached_before_the_end_cannot_answer_after_it(
    lan: Lan, lease: KernelLease
) -> None:
    """Both directions: also on the node's own address, also what the server sends by itself."""
    lease.arm(until(5000))
    with lan.listener("a", PORT) as server, lan.connect("c", NODE4["a"], PORT) as client:
        accepted, _ = server.accept()
        with accepted:
            lease.disarm()
            accepted.send(b"z")
            with pytest.raises(TimeoutError):
                client.recv(1)


def test_what_the_address_sends_is_dropped_too(lan: Lan, lease: KernelLease) -> None:
    with lan.open_socket("c", socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.bind(("0.0.0.0", 9999))
        heard.settimeout(0.3)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((VIP4, 0))
            lease.arm(until(5000))
            sender.sendto(b"1", (NODE4["c"], 9999))
            assert heard.recv(10) == b"1"
            lease.disarm()
            with pytest.raises(PermissionError):  # how an output rule's drop shows to the sender
                sender.sendto(b"2", (NODE4["c"], 9999))
            with pytest.raises(TimeoutError):
                heard.recv(10)


def test_clients_held_out_are_reset_at_once(lan: Lan, lease: KernelLease) -> None:
    lease.arm(until(10_000))
    with lan.listener("a", PORT), lan.connect("c", VIP4, PORT) as client:
        lease.hold(True)
        assert lease.read_back().is_held
        client.send(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        for machine, address in (("c", VIP4), ("c", VIP6), ("c", NODE4["a"]), ("b", VIP4)):
            began = time.monotonic()
            with pytest.raises(ConnectionRefusedError):
                lan.connect(machine, address, PORT).close()
            assert time.monotonic() - began < 0.15
        lan.connect("b", NODE4["a"], PORT).close()
        lan.connect("a", "127.0.0.1", PORT).close()
        lease.hold(False)
        lan.connect("c", VIP4, PORT).close()


def test_the_standby_can_be_a_client_of_the_address(lan: Lan) -> None:
    lan.add_vip("b")
    with KernelLeaseOf(CONFIG) as lease:
        lease.install()
        with lan.listener("b", PORT):
            lan.connect("a", VIP4, PORT).close()
            lan.connect("a", NODE4["b"], PORT).close()


class KernelLeaseOf:
    """A lease as a context manager."""

    def __init__(self, config: LeaseConfig) -> None:
        self._lease = KernelLease(config)

    def __enter__(self) -> KernelLease:
        return self._lease

    def __exit__(self, *_: object) -> None:
        self._lease.close()


def test_a_new_health_monitor_adopts_without_a_gap(lan: Lan, lease: KernelLease) -> None:
    end = until(3000)
    lease.arm(end)
    with Pinger(lan, "c", VIP4, every_s=0.001) as pinger:
        pinger.wait_answer()
        first = max(pinger.sent)
        for _ in range(20):
            with KernelLeaseOf(CONFIG) as successor:
                assert successor.install() is True
                assert abs(successor.until - end) < 30 * MILLISECOND
                assert successor.is_held is False
            time.sleep(0.002)
    assert [n for n in pinger.lost if first <= n < max(pinger.sent)] == []


def test_other_rules_are_exchanged_without_losing_the_lease(lan: Lan, lease: KernelLease) -> None:
    end = until(3000)
    lease.arm(end)
    changed = LeaseConfig(group="t1", virtual_ips=(VIP4,), service_ports=(PORT, 6000))
    with KernelLeaseOf(changed) as successor:
        assert successor.install() is False
        state = successor.read_back()
    assert state.is_installed
    assert abs(state.until - end) < 30 * MILLISECOND
    assert not state.is_held


def test_the_lease_ends_although_its_process_was_killed(lan: Lan, lease: KernelLease) -> None:
    program = (
        "import sys, time\n"
        "from openmse.node.drivers.kernel_lease import KernelLease, LeaseConfig\n"
        f"lease = KernelLease(LeaseConfig('t1', {(VIP4, VIP6)!r}, (5432,),"
        f" {CONFIG.peer_addresses!r}))\n"
        "assert lease.install()\n"
        "end = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 600_000_000\n"
        "assert lease.arm(end)\n"
        "print(end, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        end = int(child.stdout.readline())
        with Pinger(lan, "c", VIP4) as pinger:
            pinger.wait_answer()
            os.kill(child.pid, signal.SIGKILL)
            wait_until(lambda: boottime() > end + 100 * MILLISECOND, 2, "the end of the lease")
    assert -40 * MILLISECOND < max(pinger.answered.values()) - end < 25 * MILLISECOND


def test_a_flushed_firewall_is_mended(lan: Lan, lease: KernelLease) -> None:
    end = until(5000)
    lease.arm(end)
    assert lease.ensure() is False
    lan.execute("a", "nft", "flush", "ruleset")
    assert lease.ensure() is True
    state = lease.read_back()
    assert state.is_installed
    assert not state.is_held
    assert abs(state.until - end) < 30 * MILLISECOND
    lan.execute("a", "nft", "flush", "chain", "inet", "openmse_t1", "gate")
    assert lease.read_back().is_installed is False
    assert lease.ensure() is True
    lan.execute("a", "nft", "flush", "ruleset")
    assert lease.arm(until(2000)), "arming puts the tables back by itself"
    assert lease.read_back().is_installed


def test_an_arming_delayed_by_a_freeze_is_taken_back(lan: Lan) -> None:
    """The clock here jumps between the two readings, as it does for a process that was frozen."""
    now = boottime()
    readings = iter([now, now + 2 * SECOND])
    kernel_lease = KernelLease(CONFIG, clock=lambda: Instant(next(readings, now + 2 * SECOND)))
    kernel_lease.install()
    readings = iter([now, now + 2 * SECOND])
    try:
        assert kernel_lease.arm(Instant(now + SECOND)) is False
        assert kernel_lease.read_back().is_armed is False
        readings = iter([now, now + SECOND])
        assert kernel_lease.arm(Instant(now + 5 * SECOND)) is True
        # Armed anew for the 3 s that were left by then, less the 1 s that it took before.
        left = kernel_lease.read_back().until - (now + 2 * SECOND)
        assert abs(left - 2 * SECOND) < 30 * MILLISECOND
    finally:
        kernel_lease.close()


def test_a_machine_that_is_always_slow_keeps_its_lease(lan: Lan) -> None:
    """Each reading of the clock here is 100 ms after the last one."""
    now = boottime()
    readings = itertools.count(now, 100 * MILLISECOND)
    kernel_lease = KernelLease(CONFIG, clock=lambda: Instant(next(readings)))
    try:
        kernel_lease.install()
        assert kernel_lease.arm(Instant(now + 5 * SECOND)) is True
        assert kernel_lease.read_back().is_armed
    finally:
        kernel_lease.close()


def test_arming_is_quick(lan: Lan, lease: KernelLease) -> None:
    took_ms = []
    for _ in range(50):
        began = time.perf_counter()
        lease.arm(until(1000))
        took_ms.append((time.perf_counter() - began) * 1000)
    assert statistics.median(took_ms) < 2


def test_a_group_that_was_left_does_not_close_the_address_to_its_successor(
    lan: Lan, lease: KernelLease
) -> None:
    lan.execute("a", "nft", "add table inet openmse_somebody_elses")
    lan.execute("a", "nft", "add table inet firewall")
    successor = KernelLease(LeaseConfig("t2", (VIP4,), (PORT,)))
    try:
        successor.install()
        successor.hold(False)
        successor.arm_forever()
        with lan.listener("a", PORT):
            expect_silence(lan, "c", VIP4)
            assert remove_other_leases({"t2"}) == ("openmse_t1",)
            assert remove_other_leases({"t2"}) == ()
            lan.connect("c", VIP4, PORT, timeout=3).close()
        assert successor.read_back().is_installed
        names = lan.execute("a", "nft", "list", "tables")
        assert "openmse_somebody_elses" in names
        assert "firewall" in names
    finally:
        successor.close()


def test_removing_leaves_nothing(lan: Lan, lease: KernelLease) -> None:
    lease.arm_forever()
    lease.remove()
    lease.remove()
    assert "openmse" not in lan.execute("a", "nft", "list", "ruleset")
