"""Each rule: what it takes, in which canonical form, and that its message is the rule."""

import pytest

from openmse.setup import rules
from openmse.setup.errors import BadAnswer
from openmse.setup.rules import Rule
from openmse.setup.values import Interface, Machine, View

MACHINE = Machine(
    interfaces=(Interface(name="eth0", address="10.10.10.12", netmask="255.255.255.0"),)
)
EMPTY = View(MACHINE, {})

GOOD: list[tuple[Rule, str, str]] = [
    (rules.host_name, "mse1", "mse1"),
    (rules.host_name, "a", "a"),
    (rules.host_name, "m" + "s" * 61 + "1", "m" + "s" * 61 + "1"),
    (rules.domain_name, "Example.NET.", "example.net"),
    (rules.domain_name, "none", ""),
    (rules.role, "1", "primary"),
    (rules.role, "Secondary", "secondary"),
    (rules.yes_no, "Y", "yes"),
    (rules.gate, "u", "default"),
    (rules.gate, "S", "skip"),
    (rules.yes_or_skip, "yes", "yes"),
    (rules.one_of(("eth0",), "interface"), "eth0", "eth0"),
    (rules.address, "10.10.10.12", "10.10.10.12"),
    (rules.netmask, "255.255.255.0", "255.255.255.0"),
    (rules.netmask, "/24", "255.255.255.0"),
    (rules.netmask, "8", "255.0.0.0"),
    (rules.gateway("eth0"), "10.10.10.1", "10.10.10.1"),
    (rules.gateway("eth0"), "None", "none"),
    (rules.dns_servers, "10.10.10.2, 2001:db8::1", "10.10.10.2 2001:db8::1"),
    (rules.ntp_servers, "ntp.network.local  10.10.10.1", "ntp.network.local 10.10.10.1"),
    (rules.clock, "2026-01-31 17:05:09", "2026-01-31 17:05:09"),
    (rules.clock, "KEEP", "keep"),
    (rules.failover_wait, "5.0", "5"),
    (rules.failover_wait, "2.5", "2.5"),
    (
        rules.endpoints,
        "https://etcd1:2379 https://[::1]:2379",
        "https://etcd1:2379 https://[::1]:2379",
    ),
    (rules.file_path, "/etc/ca.crt", "/etc/ca.crt"),
    (rules.file_path, "none", "none"),
    (rules.password, "eight is", "eight is"),
    (rules.other_address, "10.10.10.13", "10.10.10.13"),
]
BAD: list[tuple[Rule, str, str]] = [
    (rules.host_name, "", "start with a letter"),
    (rules.host_name, "1mse", "start with a letter"),
    (rules.host_name, "mse-", "end with a letter or number"),
    (rules.host_name, "mse_1", "only letters, numbers, and dashes"),
    (rules.host_name, "mse.lan", "only letters, numbers, and dashes"),
    (rules.host_name, "m" * 64, "1 to 63"),
    (rules.host_name, "müse", "only letters"),
    (rules.host_name, "localhost", "unique"),
    (rules.domain_name, "exa mple", "labels"),
    (rules.domain_name, "10.1.1.1", "labels"),
    (rules.domain_name, "-a.net", "labels"),
    (rules.role, "3", "1 for Primary or 2 for Secondary"),
    (rules.yes_no, "perhaps", '"yes" or "no"'),
    (rules.gate, "no", "Y (yes), S (skip) or U"),
    (rules.yes_or_skip, "u", "no default"),
    (rules.one_of(("eth0",), "interface"), "eth1", "one of: eth0"),
    (rules.one_of((), "interface"), "eth1", "nothing that could be"),
    (rules.address, "10.10.10", "four numbers"),
    (rules.address, "10.10.10.256", "four numbers"),
    (rules.address, "010.1.1.1", "four numbers"),
    (rules.address, "127.0.0.1", "loopback"),
    (rules.address, "224.0.0.1", "multicast"),
    (rules.address, "0.0.0.0", "unspecified"),
    (rules.address, "255.255.255.255", "reserved"),
    (rules.netmask, "255.0.255.0", "ones followed by zeros"),
    (rules.netmask, "0.0.0.255", "ones followed by zeros"),
    (rules.netmask, "0.0.0.0", "ones followed by zeros"),
    (rules.netmask, "32", "from 1 to 30"),
    (rules.netmask, "²", "ones followed by zeros"),
    (rules.gateway("eth0"), "10.10.20.1", "reachable from eth0"),
    (rules.gateway("eth0"), "10.10.10.12", "reachable from eth0"),
    (rules.dns_servers, "", "1 to 3"),
    (rules.dns_servers, "1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4", "1 to 3"),
    (rules.dns_servers, "dns.example.net", "by its address"),
    (rules.ntp_servers, "", "1 to 4"),
    (rules.ntp_servers, "ntp_server!", "neither an IP address nor a host name"),
    (rules.ntp_servers, "10.10.10", "neither an IP address nor a host name"),
    (rules.clock, "2026-02-30 00:00:00", "YYYY-MM-DD"),
    (rules.clock, "now", "YYYY-MM-DD"),
    (rules.clock, "1970-01-01 00:00:00", "2020 and 2100"),
    (rules.failover_wait, "1", "from 2 to 120"),
    (rules.failover_wait, "121", "from 2 to 120"),
    (rules.failover_wait, "nan", "from 2 to 120"),
    (rules.failover_wait, "inf", "from 2 to 120"),
    (rules.failover_wait, "soon", "from 2 to 120"),
    (rules.endpoints, "", "at least one"),
    (rules.endpoints, "10.10.10.21:2379", "endpoint such as"),
    (rules.endpoints, "https://host:99999", "endpoint such as"),
    (rules.endpoints, "https://[::1", "endpoint such as"),
    (rules.endpoints, "https://host/path", "endpoint such as"),
    (rules.file_path, "ca.crt", "full path"),
    (rules.password, "seven 7", "8 to 256"),
    (rules.password, "x" * 257, "8 to 256"),
    (rules.password, "tab\tinside it", "printable"),
    (rules.other_address, "10.10.10.12", "this machine's own"),
    (rules.other_address, "10.10.10.11", "virtual IP"),
]


@pytest.mark.parametrize(("rule", "text", "canonical"), GOOD)
def test_a_good_answer_in_its_canonical_form(rule: Rule, text: str, canonical: str) -> None:
    assert rule(text, EMPTY) == canonical
    if canonical:
        assert rule(canonical, EMPTY) == canonical, "what is canonical stays as it is"


@pytest.mark.parametrize(("rule", "text", "words"), BAD)
def test_a_bad_answer_is_told_the_rule(rule: Rule, text: str, words: str) -> None:
    view = View(MACHINE, {"ha.virtual_ip": "10.10.10.11", "ha.role": "primary"})
    with pytest.raises(BadAnswer) as caught:
        rule(text, view)
    assert words in caught.value.sentence
    assert caught.value.sentence.endswith((".", "back.", "none'."))


def test_a_mask_that_makes_the_address_the_networks_own() -> None:
    view = View(MACHINE, {"eth0.address": "10.10.10.0"})
    with pytest.raises(BadAnswer, match="first or the last address"):
        rules.netmask_for("eth0.address")("255.255.255.0", view)
    assert rules.netmask_for("eth0.address")("255.255.0.0", view) == "255.255.0.0"


def test_the_direct_interface_is_not_the_health_monitors() -> None:
    rule = rules.direct_interface(("eth0", "eth1"))
    view = View(MACHINE, {"ha.health_interface": "eth0"})
    assert rule("eth1", view) == "eth1"
    assert rule("NONE", view) == "none"
    with pytest.raises(BadAnswer, match="second path"):
        rule("eth0", view)


def test_no_password_stands_in_the_message_about_it() -> None:
    with pytest.raises(BadAnswer) as caught:
        rules.password("hunter2", EMPTY)
    assert "hunter2" not in str(caught.value)
