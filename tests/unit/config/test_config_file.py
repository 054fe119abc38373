"""The configuration file: each mistake gets its line, a sentence and what to do."""

import re
from pathlib import Path

import msgspec
import pytest

from openmse import ports
from openmse.errors import ConfigError
from openmse.ha.values import SECOND, FailoverType
from openmse.node.config import NodeConfig, Role, WitnessKind
from openmse.node.config_load import ConfigFaults, load, parse

ROOT = Path(__file__).resolve().parents[3]
FILE = Path("/etc/openmse/openmse.toml")
GOOD = """\
[node]
name = "mse1"
role = "primary"
address = "10.10.10.11/24"
address6 = "fd00::11/64"
interface = "eth0"

[group]
virtual_ips = ["10.10.10.10/24", "fd00::10/64"]
failover_wait_s = 10

[witness]
kind = "console"
address = "10.10.10.13"
"""


def test_a_good_file_is_read_with_defaults() -> None:
    config = parse(GOOD, FILE)
    assert (config.node.name, config.node.role) == ("mse1", Role.PRIMARY)
    assert (config.node.host, config.node.host6) == ("10.10.10.11", "fd00::11")
    assert config.group.settings.failover_wait_ns == 10 * SECOND
    assert config.group.settings.failback_type is FailoverType.MANUAL
    assert config.witness.kind is WitnessKind.CONSOLE
    assert config.ports.node_tls == ports.NODE_TLS
    assert config.places.control_socket == Path("/run/openmse/control.sock")
    assert config.places.data_dir == Path("/var/lib/openmse/postgres/data")


def test_a_secondary_needs_no_group() -> None:
    text = '[node]\nname = "mse2"\nrole = "secondary"\naddress = "10.10.10.12/24"\n'
    assert parse(text, FILE).group.virtual_ips == ()


MISTAKES = [
    # (what is replaced, by what, line of the fault, words of its sentence)
    ("interface", "interfce", 6, "'interfce' is not a setting. Did you mean 'interface'?"),
    ("[witness]", "[witnes]", 12, "[witnes] is not a setting. Did you mean 'witness'?"),
    ('"primary"', '"master"', 3, "master"),
    ('name = "mse1"', "", 1, "'node.name' is missing"),
    ('name = "mse1"', "name = 7", 2, "expected text in quotes, got a whole number"),
    ('name = "mse1"', 'name = "mse 1"', 2, "cannot be a name"),
    ('name = "mse1"', 'name = "witness"', 12, "has the name of this node"),
    ("10.10.10.11/24", "10.10.10.11", 4, "not an IPv4 address with its prefix"),
    ("10.10.10.11/24", "10.10.10.300/24", 4, "not an IPv4 address with its prefix"),
    ("10.10.10.11/24", "fd00::1/64", 4, "not an IPv4 address with its prefix"),
    ("10.10.10.11/24", "127.0.0.1/8", 4, "cannot be the address of a machine"),
    ("10.10.10.11/24", "10.10.10.255/24", 4, "first or last address of 10.10.10.0/24"),
    ('"eth0"', '"an interface/name"', 6, "cannot be the name of a network interface"),
    ('"10.10.10.10/24"', '"10.10.10.11/24"', 9, "10.10.10.11 is this node's own address"),
    ('"10.10.10.10/24"', '"10.10.20.10/24"', 9, "lies outside this node's network 10.10.10.0/24"),
    ('"10.10.10.10/24"', '"10.10.10.10/25"', 9, "another prefix than this node's"),
    ('"10.10.10.10/24"', '"10.10.10.10"', 9, "not an address with its prefix"),
    ('"fd00::10/64"', '"10.10.10.9/24"', 9, "more than one IPv4 virtual IP"),
    ('address6 = "fd00::11/64"', "", 9, "this node has no IPv6 address"),
    ('virtual_ips = ["10.10.10.10/24", "fd00::10/64"]', "", 8, "The primary has no virtual IP"),
    ("failover_wait_s = 10", "failover_wait_s = 1", 10, "is 1 s; it must lie between 2 s and 120"),
    ("failover_wait_s = 10", "failover_wait_s = 121", 10, "is 121 s; it must lie between 2 s"),
    ("failover_wait_s = 10", 'failover_wait_s = "10"', 10, "expected a number, got text"),
    ("failover_wait_s = 10", "boot_patience_s = 3", 10, "longer than the failover wait of 5 s"),
    ("failover_wait_s = 10", "failback_stable_s = -1", 10, "between 0 s and 86400 s"),
    (
        "failover_wait_s = 10",
        'failback_type = "automatic"\nfailback_stable_s = 0',
        11,
        "to and fro",
    ),
    ("failover_wait_s = 10", "failover_wait_s = nan", 10, "is nan, which is no duration"),
    ('"10.10.10.13"', '"10.10.10.11"', 14, "would be this node itself"),
    ('"10.10.10.13"', '"10.10.10.10"', 14, "is the virtual IP"),
    ('"10.10.10.13"', '"somewhere"', 14, "is not the address of the witness's machine"),
    ('kind = "console"', 'kind = "etcd"', 12, "none of its endpoints is named"),
    ('kind = "console"', 'kind = "oracle"', 13, "oracle"),
]


@pytest.mark.parametrize(("old", "new", "line", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_line(old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigFaults) as told:
        parse(GOOD.replace(old, new, 1), FILE)
    assert f"{FILE}, line {line}, " in told.value.sentence
    assert words in told.value.sentence
    assert told.value.hint
    assert told.value.exit_code == 2


APPENDED = [
    ("[ports]\nnode_tls = 8465\n", "TCP port 8465 is used twice: by ports.node_tls"),
    ("[database]\nport = 8461\n", "TCP port 8461 is used twice"),
    ("[ports]\nnode_udp = 0\n", "0 is not a port number"),
    ("[ports]\nnode_udp = 70000\n", "70000 is not a port number"),
    ('[database]\nuser = "root"\n', "PostgreSQL refuses to run as root"),
    ("[database]\nport = 1023\n", "between 1024 and 65535"),
    ("[database]\nshared_buffers_mib = 1\n", "between 16 and 1048576"),
    ("[database]\nmax_connections = 5\n", "between 20 and 10000"),
    ("[database]\nkeep_divergent_days = -1\n", "between 0 and 3650"),
    ('[database]\nclient_auth = "trust"\n', "trust"),
    (f'[paths]\nrun_dir = "/{"long/" * 20}"\n', "more than 107 bytes"),
    ('[paths]\nstate_dir = "var/lib"\n', "'var/lib' is not an absolute path"),
    ('[paths]\nrun_dir = "/var/lib/openmse"\n', "The state and run directories are the same"),
    ('[fencing]\nagent = "fence"\n', "'fence' is not an absolute path"),
    ("[fencing]\ntimeout_s = 0\n", "0 s; it must be more than 0 s"),
    ('[watchdog]\nmode = "maybe"\n', "maybe"),
    ("[ports]\nnode_tls = 'x'\n", "expected a whole number, got text"),
]


@pytest.mark.parametrize(("appended", "words"), APPENDED)
def test_values_that_do_not_fit_together(appended: str, words: str) -> None:
    with pytest.raises(ConfigFaults) as told:
        parse(GOOD + appended, FILE)
    assert words in told.value.sentence
    assert re.search(r"line \d+", told.value.sentence)


def test_automatic_takeover_without_witness_and_agent_is_refused() -> None:
    text = GOOD.replace('kind = "console"', 'kind = "none"')
    text = text.replace("failover_wait_s = 10", 'no_witness_mode = "fencing"')
    with pytest.raises(ConfigFaults, match="two owners") as told:
        parse(text, FILE)
    assert "etcd" in told.value.hint
    assert parse(text + '[fencing]\nagent = "/usr/sbin/fence"\n', FILE).fencing.agent


def test_all_faults_are_told_at_once() -> None:
    text = GOOD.replace("interface", "interfce").replace("= 10\n", "= 1\n")
    with pytest.raises(ConfigFaults) as told:
        parse(text + "[ports]\npairing = 8461\n", FILE)
    assert [fault.key for fault in told.value.faults] == [
        "node.interfce",
        "group.failover_wait_s",
        "ports.pairing",
    ]


def test_an_experimental_wait_has_to_be_called_so() -> None:
    text = GOOD.replace("failover_wait_s = 10", "failover_wait_s = 1\nis_experimental = true")
    assert parse(text, FILE).group.settings.failover_wait_ns == SECOND


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no configuration file"):
        load(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[node\n")
    with pytest.raises(ConfigError, match=r"not a valid TOML file.*line 1"):
        load(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(broken)
    broken.write_bytes(b"#" * (1 << 21))
    with pytest.raises(ConfigError, match="larger than"):
        load(broken)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_the_documented_example_is_complete_and_in_order() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    example = page.split("```toml\n", 1)[1].split("```", 1)[0]
    config = parse(example, FILE)
    written = msgspec.to_builtins(config)
    documented = {name: set(table) for name, table in _tables(example).items()}
    assert documented == {name: set(table) for name, table in written.items()}
    for section in ("database", "watchdog", "fencing", "ports", "paths"):
        default = next(f for f in msgspec.structs.fields(NodeConfig) if f.name == section)
        assert written[section] == msgspec.to_builtins(default.default_factory())


def _tables(text: str) -> dict[str, dict[str, object]]:
    import tomllib

    return tomllib.loads(text)


def test_the_page_of_ports_is_written_from_the_table() -> None:
    page = ROOT / "docs" / "ports.md"
    assert page.read_text() == ports.as_markdown()


def test_every_default_port_is_the_configurations() -> None:
    config = parse(GOOD, FILE)
    for port in (port for port in ports.TABLE if port.file == "openmse.toml"):
        section, _, key = port.setting.partition(".")
        assert getattr(getattr(config, section), key) == port.number
