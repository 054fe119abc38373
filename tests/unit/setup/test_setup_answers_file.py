"""The answers file: the same rules as the wizard's, all faults at once, and it writes itself."""

import tomllib
from typing import Any

import pytest
from msgspec.structs import replace

from openmse.setup.answers import answers_text, flat, keys_of, password_files, state_of
from openmse.setup.errors import BadAnswers
from openmse.setup.screens import GUIDE_MACHINE, PRIMARY, SECONDARY, played
from openmse.setup.values import Interface, Machine, Zone
from openmse.setup.wizard import Phase, Script, script_for

MACHINE = replace(GUIDE_MACHINE, zones=(Zone("Asia/Tokyo", "JP", "Japan"),))
SCRIPT = script_for(MACHINE, lambda view: [])
SECRETS = {"/root/p": "correct horse battery", "/root/q": "staple of the pair"}

PRIMARY_FILE = """\
format = 1
hostname = "mse1"
[ha]
role = "primary"
virtual_ip = "10.10.10.11"
virtual_netmask = "255.255.255.0"
failover_wait_s = 5
[interface.eth0]
address = "10.10.10.12"
gateway = "10.10.10.1"
[time]
zone = "UTC"
ntp = true
ntp_servers = ["ntp.network.local"]
[witness]
kind = "console"
address = "10.10.10.9"
[management]
password_file = "/root/p"
[pairing]
secondary = "10.10.10.13"
"""
SECONDARY_FILE = """\
hostname = "mse2"
[ha]
role = "secondary"
[interface.eth0]
address = "10.10.10.13"
gateway = "10.10.10.1"
[time]
zone = "UTC"
ntp = true
ntp_servers = ["ntp.network.local"]
[pairing]
password_file = "/root/q"
"""


def answers(text: str, script: Script = SCRIPT) -> dict[str, str]:
    state = state_of(script, flat(text), SECRETS)
    assert state.phase is Phase.CONFIRM
    return dict(state.answers)


def refused(text: str, script: Script = SCRIPT) -> str:
    with pytest.raises(BadAnswers) as caught:
        state_of(script, flat(text), SECRETS)
    assert caught.value.exit_code == 2
    return caught.value.sentence


@pytest.mark.parametrize(("text", "typed"), [(PRIMARY_FILE, PRIMARY), (SECONDARY_FILE, SECONDARY)])
def test_a_file_gives_the_answers_that_a_person_gives(text: str, typed: tuple[str, ...]) -> None:
    assert answers(text) == dict(played(typed[:-1], MACHINE).state.answers)


def test_what_is_left_out_is_skipped() -> None:
    found = answers('[time]\nzone = "Asia/Tokyo"\n')
    assert found.pop("time.zone") == "Asia/Tokyo"
    assert found.pop("time") == "yes"
    assert found.pop("wizard") == "yes"
    assert set(found.values()) == {"skip"}


def test_every_question_has_a_key_or_belongs_to_one_that_has() -> None:
    questions = [q for item in SCRIPT.items for q in item.questions if not q.key]
    assert {q.id for q in questions} == {
        "time.country",
        "time.region",
        "management.confirm",
        "pairing.confirm",
    }
    assert len(keys_of(SCRIPT)) > 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('hostnam = "x"', "Did you mean 'hostname'?"),
        ("[ha]\nvirtualip = 1", "Did you mean 'ha.virtual_ip'?"),
        ('hostname = "1x"', "hostname: The host name must start with a letter"),
        ("hostname = 1", "hostname: It must be a text in quotes."),
        ('[time]\nntp = "yes"', "time.ntp: It must be true or false."),
        ('[time]\nntp = true\nntp_servers = "a"', "It must be a list of texts"),
        ('[ha]\nrole = "primary"\nfailover_wait_s = "5"', "It must be a number."),
        ('[ha]\nrole = " "', "ha.role: It must not be empty"),
        ("ha = 3", "ha: it must be a table"),
        ("[ha]\nfailover_wait_s = 1", "from 2 to 120"),
        ("[ha]\nfailover_wait_s = nan", "from 2 to 120"),
        ('[ha]\nrole = "secondary"\nvirtual_ip = "10.10.10.11"', "not asked with these answers"),
        ('[interface.eth7]\naddress = "10.1.1.1"', "interface.eth7.address: there is no such"),
        ('[interface.eth0]\naddress = "disabled"', "interface.eth0.address: The address must"),
        ('[time]\nzone = "12"', "time.zone: it is no answer."),
        ('[time]\nzone = "Mars/Olympus"', "or the name of a time zone"),
        ("format = 2", "reads format 1, not 2"),
        ('[management]\npassword_file = "/root/none"', "8 to 256 printable"),
        ("hostname = 2026-01-31", "text in quotes"),
    ],
)
def test_a_fault_is_told_with_its_key_and_rule(text: str, words: str) -> None:
    assert words in refused(text)


def test_all_faults_of_all_keys_are_told_at_once() -> None:
    sentence = refused('hostnam = "x"\n[time]\nntp = 1\n[dns]\nservers = "1.1.1.1"\n')
    assert len(sentence.splitlines()) == 4


def test_a_key_that_is_none_hides_no_other_fault() -> None:
    sentence = refused(
        'hostnam = "x"\n[witness]\nkind = "raft"\n[time]\nzone = "Mars/Olympus"\n'
        '[dns]\nenabled = false\nservers = ["1.1.1.1"]\n[interface.eth1]\naddress = 3\n'
    )
    assert [fault.split(":")[0].strip() for fault in sentence.splitlines()[1:]] == [
        *("hostnam", "interface.eth1.address", "time.zone", "witness.kind", "dns.servers"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[ha]\nrole = "primary"\nvirtualip = "10.10.10.11"\n',
        '[ha]\nrole = 1\nvirtual_ip = "10.10.10.11"\nvirtual_netmask = "255.255.255.0"\n',
        '[time]\nntp = "yes"\nntp_servers = ["a.example"]\n',
    ],
)
def test_what_follows_from_a_fault_is_not_told_beside_it(text: str) -> None:
    bare = script_for(Machine(interfaces=(Interface(name="eth0"),)), lambda view: [])
    assert len(refused(text, bare).splitlines()) == 2


def test_the_rules_of_different_items_are_told_at_once() -> None:
    text = 'hostname = "1x"\n[dns]\nenabled = true\nservers = ["x"]\n[time]\nzone = "Mars"\n'
    sentence = refused(text)
    for key in ("hostname: ", "dns.servers: ", "time.zone: "):
        assert key in sentence


@pytest.mark.parametrize("text", ["hostname = ", "a = [" * 5000, "\0"])
def test_what_is_no_toml_is_refused(text: str) -> None:
    with pytest.raises(BadAnswers, match="not a valid TOML file"):
        flat(text)


def test_what_is_wrong_with_all_answers_together_is_told() -> None:
    script = script_for(MACHINE, lambda view: ["The two differ."])
    assert "The two differ." in refused('hostname = "mse1"', script)


def test_a_missing_answer_without_a_current_value_is_named() -> None:
    bare = script_for(Machine(interfaces=(Interface(name="eth0"),)), lambda view: [])
    sentence = refused('[ha]\nrole = "primary"\n', bare)
    assert "ha.virtual_ip: it is missing." in sentence


def test_an_interface_can_be_disabled() -> None:
    found = answers('[interface.eth1]\naddress = "disabled"\n')
    assert found["eth1"] == "default"
    assert "eth1.address" not in found


def test_a_witness_of_each_kind() -> None:
    assert answers('[witness]\nkind = "none"\n')["witness.kind"] == "none"
    text = '[witness]\nkind = "etcd"\nendpoints = ["https://a:2379", "https://b:2379"]\n'
    found = answers(text)
    assert found["witness.endpoints"] == "https://a:2379 https://b:2379"
    assert found["witness.ca_file"] == "none"


def test_passwords_are_named_by_their_files_and_never_written() -> None:
    assert password_files(SCRIPT, flat(PRIMARY_FILE)) == ["/root/p"]
    text = answers_text(MACHINE)
    assert "correct horse" not in text


MACHINES: list[dict[str, Any]] = [
    {"is_configured": True, "health_interface": "eth0", "virtual_netmask": "255.255.255.0"},
    {"is_configured": True, "role": "secondary", "health_interface": "eth0"},
    {"zone": "Asia/Tokyo", "is_ntp_enabled": True, "ntp_servers": ("a.example", "b.example")},
    {
        "is_configured": True,
        "health_interface": "eth0",
        "virtual_ip": "1.1.1.9",
        "virtual_netmask": "255.255.255.0",
        "witness_kind": "etcd",
        "witness_endpoints": ("https://a:2379",),
        "witness_files": ("/a", "", ""),
        "failover_wait_s": "2.5",
        "domain": "lan",
        "dns_servers": ("1.1.1.1",),
    },
]


@pytest.mark.parametrize("changes", MACHINES)
def test_what_is_printed_can_be_read_again(changes: dict[str, Any]) -> None:
    machine = replace(MACHINE, virtual_ip="1.1.1.9", is_dns_enabled="dns_servers" in changes)
    machine = replace(machine, **changes)
    text = answers_text(machine)
    assert tomllib.loads(text)["format"] == 1
    found = answers(text, script_for(machine, lambda view: []))
    assert found["hostname.name"] == machine.hostname
    assert found["eth0.address"] == "1.1.1.10"
    if machine.is_configured:
        assert found["ha.role"] == machine.role
