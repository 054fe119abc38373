"""The direct connection in the configuration file and in the facts of the group."""

from pathlib import Path

import msgspec
import pytest

from openmse.node import direct, group
from openmse.node.config import NodeConfig
from openmse.node.config_load import ConfigFaults, parse
from openmse.node.drivers.kernel_lease.ruleset import LeaseConfig, build
from openmse.node.group import GroupInfo, NodeInfo
from openmse.node.identity import node_info, own_addresses
from openmse.node.runtime.database_settings import instance_settings
from openmse.node.runtime.facts import path_alarms

FILE = Path("/etc/openmse/openmse.toml")
HEAD = '[node]\nname = "mse1"\nrole = "primary"\naddress = "10.10.10.11/24"\n'
TAIL = '[group]\nvirtual_ips = ["10.10.10.10/24"]\n'
KEYS = 'direct_interface = "eth1"\ndirect_address = "192.168.77.1/30"\n'
OTHER = NodeInfo("mse2", "10.10.10.12", direct_address="192.168.77.2")


def config_of(keys: str = KEYS) -> NodeConfig:
    return parse(HEAD + keys + TAIL, FILE)


def group_of(config: NodeConfig, other: NodeInfo = OTHER) -> GroupInfo:
    return GroupInfo("abc", "mse1", (node_info(config), other), config.group.virtual_ips)


MISTAKES = [
    ('direct_interface = "eth1"\n', "direct_interface is set but direct_address is not"),
    ('direct_address = "192.168.77.1/30"\n', "direct_address is set but direct_interface is not"),
    (KEYS.replace("eth1", "eth0"), "is the health monitor interface"),
    (KEYS.replace("eth1", "eth 1"), "cannot be the name of a network interface"),
    (KEYS.replace("/30", ""), "not an IPv4 address with its prefix"),
    (KEYS.replace("192.168.77.1/30", "fd00::1/64"), "not an IPv4 address with its prefix"),
    (KEYS.replace("192.168.77.1/30", "192.168.77.0/30"), "first or last address"),
    (KEYS.replace("/30", "/32"), "leaves no address for the other end"),
    (KEYS.replace("192.168.77.1/30", "10.10.10.99/28"), "overlaps the network 10.10.10.0/24"),
    (KEYS.replace("192.168.77.1/30", "10.99.0.1/8"), "of the health monitor address 10.10.10.11"),
]


@pytest.mark.parametrize(("keys", "words"), MISTAKES)
def test_a_mistake_is_told(keys: str, words: str) -> None:
    with pytest.raises(ConfigFaults) as told:
        config_of(keys)
    assert words in told.value.sentence
    assert told.value.hint


def test_a_file_without_it_leaves_everything_as_it_was() -> None:
    config = config_of("")
    info = node_info(config)
    assert b"direct" not in msgspec.json.encode(info)
    assert own_addresses(config, ()) == ("10.10.10.11",)
    facts = group_of(config, NodeInfo("mse2", "10.10.10.12"))
    assert direct.direct_path(config, facts) is None
    assert direct.with_own_direct(facts, config) is facts
    assert direct.without_direct(facts) is facts
    assert instance_settings(config, facts).peer_direct_address == ""
    assert list(path_alarms(config, facts, ())) == []


def test_both_ends_make_a_path(tmp_path: Path) -> None:
    config = config_of()
    facts = group_of(config)
    assert direct.direct_path(config, facts) == direct.DirectPath(
        "eth1", "192.168.77.1", "192.168.77.2"
    )
    assert "192.168.77.1" in own_addresses(config, ())
    group.save(tmp_path / "group.json", facts)
    assert group.load(tmp_path / "group.json") == facts


@pytest.mark.parametrize(
    ("keys", "address", "words"),
    [
        (KEYS, "", "mse1 has a direct connection, but mse2 has none"),
        ("", "192.168.77.2", "mse2 has a direct connection, but mse1 has none"),
        (KEYS, "192.168.77.1", "Both nodes have the direct address 192.168.77.1"),
        (KEYS, "192.168.77.9", "outside this node's direct network 192.168.77.0/30"),
    ],
)
def test_ends_that_do_not_fit_are_not_used_and_said(keys: str, address: str, words: str) -> None:
    config = config_of(keys)
    facts = group_of(config, NodeInfo("mse2", "10.10.10.12", direct_address=address))
    assert direct.direct_path(config, facts) is None
    (alarm,) = path_alarms(config, facts, ())
    assert alarm.kind == "direct_unusable"
    assert words in alarm.sentence


def test_facts_that_the_other_node_told_keep_both_ends() -> None:
    mine = group_of(config_of())
    told = msgspec.structs.replace(direct.without_direct(mine), revision=7)
    kept = direct.keeping_direct(told, mine)
    assert (kept.nodes, kept.revision) == (mine.nodes, 7)


def test_the_cable_is_the_peers_alone() -> None:
    plain = LeaseConfig("g1", ("10.10.10.10",), (5432,), ("10.10.10.12",))
    cable = msgspec.structs.replace(plain, direct_interface="eth1")
    assert 'iifname "eth1" ip saddr != @peers4 drop' in build(cable).text
    assert 'iifname "eth1" arp daddr ip @vips4 drop' in build(cable).text
    assert "iifname" not in build(plain).text
