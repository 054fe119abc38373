"""What the checks make of what was seen: each can be red, and then says what to do."""

import socket
from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from openmse.setup.checks import (
    Check,
    Claim,
    Colour,
    Found,
    Reached,
    addresses_to_probe,
    as_lines,
    judge,
    witness_places,
)
from openmse.setup.probes import reach
from openmse.setup.screens import PRIMARY, played
from openmse.setup.timestamps import MS_PER_DAY, Reply, reply_in, request, skew_ms
from openmse.setup.values import View

FOUND = Found(
    interfaces=("eth0", "eth1"),
    gateway=Claim("52:54:00:00:00:01"),
    claims={"10.10.10.12": Claim(), "10.10.10.11": Claim()},
    peer="10.10.10.13",
    skew_ms=40.0,
    witness=(Reached("10.10.10.9", 8463),),
    memory_bytes=2_000_000_000,
    free_bytes=9_000_000_000,
)


REFUSED = Reached("10.10.10.9", 8463, "connection refused")


def view(**changes: str) -> View:
    player = played(PRIMARY[:-1])
    return View(player.script.machine, {**player.state.answers, **changes})


def by_name(checks: tuple[Check, ...]) -> Mapping[str, Check]:
    return {check.name: check for check in checks}


def test_a_good_machine_is_green() -> None:
    checks = judge(view(), FOUND)
    assert {check.colour for check in checks} == {Colour.GREEN}
    assert len(checks) == 13


RED = [
    ("Interface", {"interfaces": ("ens18",)}, "ens18"),
    ("Gateway", {"gateway": Claim()}, "10.10.10.1"),
    ("Address", {"claims": {"10.10.10.11": Claim("52:54:00:00:00:02")}}, "52:54:00:00:00:02"),
    ("NTP", {"clock_keeper": ""}, "Neither chrony"),
    ("Time", {"skew_ms": 2_500.0}, "2.500 s ahead"),
    ("Time", {"skew_ms": -2_500.0}, "2.500 s behind"),
    ("Memory", {"memory_bytes": 500_000_000}, "0.5 GB"),
    ("Disk", {"free_bytes": 100_000_000}, "0.1 GB"),
    ("Ports", {"taken_ports": ("TCP 5432 (database.port)",)}, "5432"),
    ("Witness", {"missing_files": ("/etc/etcd/ca.crt",)}, "/etc/etcd/ca.crt"),
    ("Witness", {"witness": (REFUSED,)}, "10.10.10.9 port 8463: connection refused."),
    ("nftables", {"nftables_fault": "the command nft is missing"}, "nft is missing"),
    ("Watchdog", {"watchdog": "required"}, "no such device"),
]


@pytest.mark.parametrize(("name", "changes", "words"), RED)
def test_each_check_can_be_red(name: str, changes: dict[str, object], words: str) -> None:
    checks = judge(view(), replace(FOUND, **changes))
    red = [check for check in checks if check.colour is Colour.RED]
    assert [check.name for check in red] == [name]
    assert words in red[0].sentence
    assert red[0].action
    shown = " ".join(" ".join(as_lines(checks)).split())
    assert f"What to do: {red[0].action}" in shown


def test_a_virtual_ip_outside_the_subnet_is_red() -> None:
    checks = by_name(judge(view(**{"ha.virtual_ip": "10.10.20.11"}), FOUND))
    assert checks["Virtual IP"].colour is Colour.RED


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Gateway", {"gateway": Claim(fault="eth0 is down")}),
        ("Address", {"claims": {"10.10.10.11": Claim(fault="eth0 is down")}}),
        ("Time", {"skew_ms": None}),
        ("Witness", {"witness": (replace(REFUSED, has_way=False),)}),
        ("Ports", {"is_running": True, "taken_ports": ("TCP 5432",)}),
    ],
)
def test_what_could_not_be_asked_is_neither(name: str, changes: dict[str, object]) -> None:
    checks = by_name(judge(view(), replace(FOUND, **changes)))
    assert checks[name].colour is Colour.UNKNOWN
    assert not any(check.colour is Colour.RED for check in checks.values())


def test_without_a_gateway_none_is_asked_for() -> None:
    checks = by_name(judge(view(**{"eth0.gateway": "none"}), FOUND))
    assert "Gateway" not in checks


def test_where_the_witness_is_looked_for() -> None:
    """At its own port, or at each endpoint of etcd; a secondary takes its primary's."""
    assert witness_places(view(), 8463) == (("10.10.10.9", 8463),)
    etcd = {"witness.kind": "etcd", "witness.endpoints": "https://10.0.0.1:2379 http://etcd-2"}
    assert witness_places(view(**etcd), 8463) == (("10.0.0.1", 2379), ("etcd-2", 80))
    assert witness_places(view(**{"witness.kind": "none"}), 8463) == ()
    assert witness_places(view(**{"ha.role": "secondary"}), 8463) == ()


def test_one_endpoint_of_etcd_is_enough_and_the_silent_one_is_named() -> None:
    found = replace(FOUND, witness=(Reached("10.0.0.1", 2379), REFUSED))
    check = by_name(judge(view(**{"witness.kind": "etcd"}), found))["Witness"]
    assert check.colour is Colour.GREEN
    assert check.sentence == (
        "10.0.0.1 port 2379 answers. 10.10.10.9 port 8463: connection refused."
    )


def test_a_port_answers_or_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert reach("127.0.0.1", server.getsockname()[1]) == ("", True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        assert reach("127.0.0.1", taken.getsockname()[1]) == ("connection refused", True)


def test_only_addresses_that_are_new_here_are_asked_for() -> None:
    both = {"10.10.10.12": "eth0", "10.10.10.11": "eth0"}
    assert addresses_to_probe(view(), frozenset()) == both
    assert addresses_to_probe(view(), frozenset({"10.10.10.12"})) == {"10.10.10.11": "eth0"}
    assert addresses_to_probe(View(view().machine, {}), frozenset()) == {}
    of_a_pair = View(replace(view().machine, peers=("mse2",)), view().answers)
    assert addresses_to_probe(of_a_pair, frozenset()) == {"10.10.10.12": "eth0"}
    cable = view(**{"ha.direct_interface": "eth1", "eth1.address": "192.168.77.1"})
    assert addresses_to_probe(cable, frozenset()) == both | {"192.168.77.1": "eth1"}


def packet(message: bytes, kind: int = 14) -> bytes:
    return b"\x45" + bytes(19) + bytes([kind]) + message[1:]


def test_a_timestamp_request_is_answered_with_the_skew() -> None:
    message = request(7, 1, 1000)
    assert len(message) == 20
    assert sum(int.from_bytes(message[n : n + 2], "big") for n in range(0, 20, 2)) % 0xFFFF == 0
    reply = reply_in(packet(message), 7, 1)
    assert reply == Reply(1000, 0, 0)
    assert reply_in(packet(message, kind=13), 7, 1) is None
    assert reply_in(packet(message), 8, 1) is None
    assert reply_in(packet(message)[:30], 7, 1) is None
    assert reply_in(b"", 7, 1) is None


@pytest.mark.parametrize(
    ("reply", "now", "skew"),
    [
        (Reply(1000, 3010, 3010), 1020, 2000),
        (Reply(1000, 1010, 1010), 1020, 0),
        (Reply(MS_PER_DAY - 10, 500, 500), 10, 500),
        (Reply(500, MS_PER_DAY - 500, MS_PER_DAY - 500), 500, -1000),
    ],
)
def test_the_skew_also_over_midnight(reply: Reply, now: int, skew: float) -> None:
    assert skew_ms(reply, now) == skew
