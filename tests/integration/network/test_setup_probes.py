"""The probes of setup on a real network: who answers for an address, and what the kernel says."""

import socket
from pathlib import Path

import pytest
from lan import NODE4, VIP4, Lan

from openmse import ports
from openmse.node.config_load import parse
from openmse.setup import probes
from openmse.setup.checks import Claim
from openmse.setup.values import Interface, Machine, View

pytestmark = [pytest.mark.root, pytest.mark.alone]


def test_an_address_in_use_is_found_and_a_free_one_is_free(lan: Lan) -> None:
    assert probes.holder_or_fault("eth0", NODE4["b"]) == (lan.mac("b"), "")
    assert probes.holder_or_fault("eth0", VIP4) == ("", "")
    lan.add_vip("c")
    assert probes.holder_or_fault("eth0", VIP4) == (lan.mac("c"), "")


def test_addresses_are_asked_for_before_the_machine_has_one(lan: Lan) -> None:
    lan.ip("a", "addr", "flush", "dev", "eth0")
    assert probes.live_addresses().get("eth0", ()) == ()
    assert probes.holder_or_fault("eth0", NODE4["b"]) == (lan.mac("b"), "")


def test_an_interface_that_is_down_or_absent_is_no_answer(lan: Lan) -> None:
    lan.ip("a", "link", "set", "eth0", "down")
    assert probes.holder_or_fault("eth0", NODE4["b"]) == ("", "eth0 is down")
    assert probes.holder_or_fault("eth7", NODE4["b"]) == ("", "eth7 is down")


def test_the_kernels_addresses_and_gateway(lan: Lan) -> None:
    lan.ip("a", "route", "add", "default", "via", NODE4["c"])
    lan.add_vip("a")
    found = probes.live_addresses()
    assert set(found["eth0"]) == {f"{NODE4['a']}/24", f"{VIP4}/32"}
    assert found["lo"] == ("127.0.0.1/8",)


def test_the_clocks_of_two_machines_are_compared(lan: Lan) -> None:
    skew = probes.clock_skew_ms(NODE4["b"])
    assert skew is not None
    assert abs(skew) < 100, "both have the same kernel's clock"
    assert probes.clock_skew_ms(VIP4) is None, "nobody is there"


def test_ports_in_use_are_found(lan: Lan) -> None:
    with socket.socket() as listener, socket.socket(type=socket.SOCK_DGRAM) as heard:
        listener.bind((NODE4["a"], 0))
        listener.listen()
        heard.bind((NODE4["a"], 0))
        tcp, udp = listener.getsockname()[1], heard.getsockname()[1]
        ports = {"first": ("TCP", tcp), "second": ("UDP", udp)}
        assert probes.taken_ports(ports) == (f"TCP {tcp} (first)", f"UDP {udp} (second)")
    assert probes.taken_ports(ports) == ()


def test_the_kernel_takes_nftables_here_and_keeps_nothing(lan: Lan) -> None:
    before = lan.execute("a", "nft", "list", "ruleset")
    assert probes.nftables_fault() == ""
    assert lan.execute("a", "nft", "list", "ruleset") == before


def test_everything_is_inspected_at_once(lan: Lan, tmp_path: Path) -> None:
    from openmse.setup.checks import judge
    from openmse.setup.inspect import inspect
    from openmse.setup.world import World

    machine = Machine(
        interfaces=(Interface(name="eth0"), Interface(name="eth7")),
        founded={"peer_address": NODE4["b"]},
    )
    answers = {
        "ha.role": "primary",
        "ha.health_interface": "eth0",
        "ha.virtual_ip": VIP4,
        "ha.virtual_netmask": "255.255.255.0",
        "eth0.address": NODE4["a"],
        "eth0.netmask": "255.255.255.0",
        "eth0.gateway": NODE4["c"],
        "eth7.address": "192.168.77.1",
    }
    view = View(machine, answers)
    config = parse(
        f'[node]\nname = "a"\nrole = "secondary"\naddress = "{NODE4["a"]}/24"\n'
        f'[paths]\nrun_dir = "{tmp_path}"\n',
        tmp_path,
    )
    with socket.create_server((NODE4["a"], ports.MANAGEMENT)):
        found = inspect(view, World(files={}, interfaces=("eth0",)), config, is_running=False)
    assert found.taken_ports == (f"TCP {ports.MANAGEMENT} (management.port)",)
    assert found.gateway == Claim(lan.mac("c"))
    assert found.claims == {
        VIP4: Claim(),
        "192.168.77.1": Claim(fault="eth7 is down"),
    }, "the own address is here already; the other is asked for on its own interface"
    assert NODE4["a"] in found.own
    names = {check.name: check.colour.value for check in judge(view, found)}
    assert (names["Gateway"], names["Time"], names["Ports"]) == ("green", "green", "red")
