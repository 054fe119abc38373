"""The text of the kernel lease's rules, and what is refused."""

import pytest

from openmse.errors import ConfigError
from openmse.node.drivers.kernel_lease import LeaseConfig
from openmse.node.drivers.kernel_lease.ruleset import build

CONFIG = LeaseConfig("site1", ("10.10.10.16", "fd00::16"), (5432,), ("10.10.10.12",))


def test_every_hook_is_a_base_chain_before_connection_tracking() -> None:
    text = build(CONFIG).text
    for hook in ("prerouting", "input", "output"):
        assert f"type filter hook {hook} priority -300; policy accept;" in text
    assert "table inet openmse_site1 {" in text
    assert "table arp openmse_site1 {" in text


def test_neighbour_messages_are_matched_by_their_target() -> None:
    text = build(CONFIG).text
    target = "@th,64,128 0xfd000000000000000000000000000016 jump gate"
    assert f"icmpv6 type nd-neighbor-solicit {target}" in text
    assert f"icmpv6 type nd-neighbor-advert {target}" in text


def test_a_short_ipv6_address_keeps_its_zeros() -> None:
    text = build(LeaseConfig("g", ("::16",), (5432,))).text
    assert "@th,64,128 0x00000000000000000000000000000016 " in text


def test_the_fingerprint_knows_the_rules_apart() -> None:
    variants = [
        CONFIG,
        LeaseConfig("site1", ("10.10.10.17", "fd00::16"), (5432,), ("10.10.10.12",)),
        LeaseConfig("site1", ("10.10.10.16", "fd00::16"), (5433,), ("10.10.10.12",)),
        LeaseConfig("site1", ("10.10.10.16", "fd00::16"), (5432,), ("10.10.10.13",)),
        LeaseConfig("site1", ("10.10.10.16",), (5432,), ("10.10.10.12",)),
    ]
    assert len({build(config).fingerprint for config in variants}) == len(variants)
    reordered = LeaseConfig("site1", ("fd00::16", "10.10.10.16"), (5432,), ("10.10.10.12",))
    assert build(reordered).fingerprint == build(CONFIG).fingerprint


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LeaseConfig("a b", ("10.0.0.1",), (1,)), "group name"),
        (LeaseConfig("", ("10.0.0.1",), (1,)), "group name"),
        (LeaseConfig("g; flush ruleset", ("10.0.0.1",), (1,)), "group name"),
        (LeaseConfig("g", ("10.0.0.1/24",), (1,)), "not an IPv4 or IPv6 address"),
        (LeaseConfig("g", ("10.0.0.1",), (1,), ("nobody",)), "not an IPv4 or IPv6 address"),
        (LeaseConfig("g", ("10.0.0.1",), (0,)), "not a TCP port"),
        (LeaseConfig("g", ("10.0.0.1",), (65536,)), "not a TCP port"),
        (LeaseConfig("g", ("10.0.0.1",), (1,), ("10.0.0.1",)), "peer's own address"),
    ],
)
def test_what_cannot_be_guarded_is_refused(config: LeaseConfig, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(config)
