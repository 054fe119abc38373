"""A whole run by the command: asked and unattended, on machines that are directories."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from setup_command import CONFIG, Setup
from setup_root import bare, debian, picture, write

from openmse.node.group import GroupInfo, NodeInfo, WitnessInfo
from openmse.setup.screens import PRIMARY, SECONDARY

ANSWERS = """\
hostname = "mse1"
[ha]
role = "primary"
virtual_ip = "10.10.10.11"
virtual_netmask = "255.255.255.0"
[interface.eth0]
address = "10.10.10.12"
netmask = "255.255.255.0"
gateway = "10.10.10.1"
"""


@pytest.fixture
def machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Setup:
    return Setup(debian(tmp_path / "machine"), capsys)


def lines(*typed: str) -> str:
    return "\n".join(typed) + "\n"


def test_the_guides_primary_in_a_pipe(machine: Setup) -> None:
    typed = list(PRIMARY)
    typed[13] = "255.255.255.0"
    ran = machine.run(typed=lines(*typed))
    assert ran.code == 0, ran.err
    assert "Enter a host name [mse]: mse1\n" in ran.out
    assert "correct horse" not in ran.out
    assert ran.out.rstrip().endswith("The service is started then.")
    assert "Success" in ran.out
    toml = (machine.root / "etc/openmse/openmse.toml").read_text()
    assert 'virtual_ips = ["10.10.10.11/24"]' in toml
    assert "correct horse" not in json.dumps(picture(machine.root))


def test_the_guides_secondary_in_a_pipe(machine: Setup) -> None:
    typed = list(SECONDARY)
    typed[10] = "255.255.255.0"
    ran = machine.run(typed=lines(*typed))
    assert ran.code == 0, ran.err
    assert (machine.root / "var/lib/openmse/pairing-password").stat().st_mode & 0o777 == 0o600
    assert "staple" not in json.dumps(picture(machine.root))


def test_the_end_of_a_pipe_changes_nothing(machine: Setup) -> None:
    before = picture(machine.root)
    for count in (0, 1, 5, len(PRIMARY) - 1):
        ran = machine.run(typed="".join(f"{line}\n" for line in PRIMARY[:count]))
        assert ran.code == 1
        assert "nothing was changed" in ran.err
        assert picture(machine.root) == before


def test_a_signal_says_that_nothing_was_changed(machine: Setup) -> None:
    """As Ctrl-C does; a process of its own, which without a handler would end without a word."""
    before = picture(machine.root)
    command = [Path(sys.executable).with_name("mse"), "setup", "--root", str(machine.root)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, bufsize=0) as child:
        assert child.stdout is not None
        shown = b""
        while not shown.rstrip().endswith(b"(yes/no) [yes]:"):
            more = child.stdout.read(4096)
            assert more, shown
            shown += more
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=20)
    assert (child.returncode, b"Stopped; nothing was changed." in said) == (143, True)
    assert picture(machine.root) == before


def test_manually_is_no_fault_and_changes_nothing(machine: Setup) -> None:
    before = picture(machine.root)
    ran = machine.run(typed="no\n")
    assert ran.code == 0
    assert "mse config check" in ran.out
    assert picture(machine.root) == before


def test_a_dry_run_shows_a_diff_and_changes_nothing(machine: Setup) -> None:
    before = picture(machine.root)
    ran = machine.answers(ANSWERS, "--dry-run")
    assert ran.code == 0, ran.err
    assert "--- /etc/hostname\n+++ /etc/hostname\n@@ -1 +1 @@\n-mse\n+mse1\n" in ran.out
    assert "--- /dev/null\n+++ /etc/openmse/openmse.toml\n" in ran.out
    assert "# would have openmse.service started at boot" in ran.out
    assert picture(machine.root) == before


def test_unattended_then_again_changes_nothing_more(machine: Setup) -> None:
    assert machine.answers(ANSWERS).code == 0
    after = picture(machine.root)
    printed = machine.run("--print-answers").out
    assert 'virtual_ip = "10.10.10.11"' in printed
    assert after["etc/openmse/setup-answers.toml"] == f"600 {printed}"
    assert machine.answers(printed).code == 0  # now the defaults are answers too
    after = picture(machine.root)
    assert machine.run("--print-answers").out == printed
    assert machine.answers(printed).code == 0
    assert picture(machine.root) == after


def test_only_what_is_answered_changes(machine: Setup) -> None:
    machine.answers(ANSWERS)
    before = picture(machine.root)
    ran = machine.answers('[time]\nzone = "Asia/Tokyo"\n')
    assert ran.code == 0, ran.err
    after = picture(machine.root)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"etc/localtime", "etc/timezone", "etc/openmse/setup-answers.toml"}


def test_bad_answers_are_refused_with_exit_code_2(machine: Setup) -> None:
    before = picture(machine.root)
    ran = machine.answers(ANSWERS.replace("10.10.10.11", "10.10.20.11"))
    assert ran.code == 2
    assert "MSE-SET-002" in ran.err
    assert "same subnet" in " ".join(ran.err.split())
    assert picture(machine.root) == before


def test_answers_that_do_not_work_together_are_refused(machine: Setup) -> None:
    ran = machine.answers('[ha]\nrole = "secondary"\n')
    assert ran.code == 2
    assert "eth0 has no IP address" in ran.err
    ran = machine.answers(
        ANSWERS + '[interface.eth1]\naddress = "10.10.10.12"\nnetmask = "255.255.255.0"\n'
    )
    assert "have the same IP address" in ran.err


def test_a_machine_of_network_manager_is_told_so(machine: Setup) -> None:
    (machine.root / "etc/network/interfaces").unlink()
    (machine.root / "usr/sbin/ifup").unlink()
    link = "etc/systemd/system/multi-user.target.wants/NetworkManager.service"
    write(machine.root, link, "")
    ran = machine.answers(ANSWERS)
    assert ran.code == 2
    assert "nmcli" in ran.err


def test_a_bare_machine_gets_networkd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Setup(bare(tmp_path / "bare", "ens18"), capsys)
    ran = machine.answers(ANSWERS.replace("eth0", "ens18"))
    assert ran.code == 0, ran.err
    path = machine.root / "etc/systemd/network/05-openmse-ens18.network"
    assert "Address=10.10.10.12/24" in path.read_text()
    assert "have systemd-networkd.service started at boot" in ran.out


def test_a_broken_configuration_is_told_and_left(machine: Setup) -> None:
    write(machine.root, "etc/openmse/openmse.toml", "[node\n")
    ran = machine.answers(ANSWERS)
    assert ran.code == 2
    assert (machine.root / "etc/openmse/openmse.toml").read_text() == "[node\n"


# -- groups -----------------------------------------------------------------------------------

OWN = NodeInfo(name="mse1", address="10.10.10.12", address6="fd00::12", tls_port=9461)
PEER = NodeInfo(name="mse2", address="10.10.10.13")


def founded(machine: Setup, *nodes: NodeInfo, primary: str = "mse1") -> None:
    info = GroupInfo(
        group="0123456789ab",
        primary=primary,
        nodes=nodes,
        virtual_ips=("10.10.10.11/24", "fd00::11/64"),
        witness=WitnessInfo(name="witness", kind="console", address="10.10.10.9"),
    )
    write(machine.root, "var/lib/openmse/group.json", msgspec.json.encode(info).decode())
    register = '{"format":1,"sha256":"","machine":{},"record":{"me":"mse1"}}'
    write(machine.root, "var/lib/openmse/register", register)


def test_a_paired_node_is_refused_but_can_be_looked_at(machine: Setup) -> None:
    write(machine.root, "etc/openmse/openmse.toml", CONFIG)
    founded(machine, OWN, PEER)
    before = picture(machine.root)
    ran = machine.run(typed=lines(*PRIMARY))
    assert ran.code == 3
    assert "paired with mse2" in ran.err
    assert "--unpair" in ran.err
    assert machine.run("--print-answers").code == 0
    assert machine.answers('hostname = "other"\n', "--dry-run").code == 0
    assert picture(machine.root) == before


def test_a_primary_that_becomes_a_secondary_leaves_its_group_of_one(machine: Setup) -> None:
    write(machine.root, "etc/openmse/openmse.toml", CONFIG)
    founded(machine, OWN)
    ran = machine.answers(
        '[ha]\nrole = "secondary"\n[interface.eth0]\naddress = "10.10.10.12"\n'
        'netmask = "255.255.255.0"\ngateway = "none"\n'
    )
    assert ran.code == 0, ran.err
    names = set(picture(machine.root))
    assert not {"var/lib/openmse/group.json", "var/lib/openmse/register"} & names
    kept = list((machine.root / "var/backups/openmse").glob("*/var/lib/openmse/register"))
    assert len(kept) == 1
    assert "needs a pairing password" in ran.out


def test_a_founded_primary_keeps_its_name_and_follows_its_address(machine: Setup) -> None:
    config = CONFIG.replace("[group]", 'address6 = "fd00::12/64"\n[group]')
    write(machine.root, "etc/openmse/openmse.toml", config)
    founded(machine, OWN)
    ran = machine.answers(
        'hostname = "other"\n[interface.eth0]\naddress = "10.10.10.22"\n'
        'netmask = "255.255.255.0"\ngateway = "none"\n'
    )
    assert ran.code == 0, ran.err
    assert "keeps the name mse1" in ran.out
    toml = (machine.root / "etc/openmse/openmse.toml").read_text()
    assert 'name = "mse1"' in toml
    assert 'address = "10.10.10.22/24"' in toml
    data = (machine.root / "var/lib/openmse/group.json").read_bytes()
    info = msgspec.json.decode(data, type=GroupInfo)
    assert (info.nodes[0].address, info.revision) == ("10.10.10.22", 2)
    assert info.nodes[0].tls_port == 9461


RECOVERED = """\
[ha]
role = "primary"
recovery = true
[interface.eth0]
address = "10.10.10.12"
netmask = "255.255.255.0"
gateway = "10.10.10.1"
"""


def test_a_primary_that_lost_its_configuration_gets_it_back(machine: Setup) -> None:
    founded(machine, OWN, PEER)
    before = picture(machine.root)
    ran = machine.answers(RECOVERED)
    assert ran.code == 0, ran.err
    toml = (machine.root / "etc/openmse/openmse.toml").read_text()
    for line in (
        'name = "mse1"',
        'virtual_ips = ["10.10.10.11/24", "fd00::11/64"]',
        'address6 = "fd00::12/64"',
        'address = "10.10.10.9"',
        "node_tls = 9461",
    ):
        assert line in toml
    after = picture(machine.root)
    for name in ("group.json", "register"):
        path = f"var/lib/openmse/{name}"
        assert after[path] == before[path]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("recovery = true", "recovery = false"), "Answer yes to recovery mode"),
        (('"10.10.10.12"', '"10.10.10.22"'), "knows this machine as 10.10.10.12"),
        (("recovery = true", 'recovery = true\nvirtual_ip = "10.10.10.99"'), "is 10.10.10.11"),
        (('"primary"\nrecovery = true', '"secondary"'), "is the primary of a pair with mse2"),
    ],
)
def test_recovery_contradicting_the_facts_is_refused(
    machine: Setup, change: tuple[str, str], words: str
) -> None:
    founded(machine, OWN, PEER)
    text = RECOVERED.replace(*change)
    ran = machine.answers(text)
    assert ran.code == 2
    assert words in ran.err


CABLE = """\
[interface.eth1]
address = "192.168.77.11"
netmask = "255.255.255.0"
"""
DIRECT_OWN = replace(OWN, direct_address="192.168.77.11")
DIRECT_PEER = replace(PEER, direct_address="192.168.77.12")


def test_a_recovered_primary_has_its_direct_connection_again(machine: Setup) -> None:
    founded(machine, DIRECT_OWN, DIRECT_PEER)
    before = picture(machine.root)
    ran = machine.answers(RECOVERED)
    assert ran.code == 2, "nobody guesses which interface holds the cable"
    assert "this server's end was 192.168.77.11" in ran.err.replace("\n", " ")
    assert picture(machine.root) == before
    ends = 'direct_interface = "eth1"\ndirect_address = "192.168.77.11/24"'
    stanza = "auto eth1\niface eth1 inet static\n    address 192.168.77.11/24\n"
    write(machine.root, "etc/network/interfaces.d/eth1", stanza)
    ran = machine.answers(RECOVERED)
    assert ran.code == 0, "an interface that has the address is the one"
    assert ends in (machine.root / "etc/openmse/openmse.toml").read_text()


@pytest.mark.parametrize(
    ("chosen", "address", "words"),
    [
        ("eth1", "192.168.77.11", ""),
        ("eth1", "192.168.77.21", ""),
        ("none", "192.168.77.11", ""),
        ("eth1", "192.168.77.12", "must be another address of the same network"),
        ("eth1", "192.168.78.11", "must be another address of the same network"),
    ],
)
def test_the_end_of_the_cable_may_be_told_but_must_fit(
    machine: Setup, chosen: str, address: str, words: str
) -> None:
    founded(machine, DIRECT_OWN, DIRECT_PEER)
    recovery = f'recovery = true\ndirect_connect_interface = "{chosen}"'
    text = RECOVERED.replace("recovery = true", recovery)
    ran = machine.answers(text + CABLE.replace("192.168.77.11", address))
    assert words in ran.err.replace("\n", " ")
    assert ran.code == (2 if words else 0), ran.err
    toml = machine.root / "etc/openmse/openmse.toml"
    assert toml.exists() is not bool(words)
    if not words:
        assert (f'direct_address = "{address}/24"' in toml.read_text()) is (chosen == "eth1")
        assert ("is not used until" in ran.out.replace("\n", " ")) is (chosen == "none")


def test_the_wizard_asks_for_the_cable_with_what_the_facts_know(machine: Setup) -> None:
    founded(machine, DIRECT_OWN, DIRECT_PEER)
    typed = ["", "s", "s", "", "1", "", "", "", "", "yes"]
    typed += ["", "10.10.10.12", "24", "none", "", "", "", *["s"] * 7, "yes"]
    ran = machine.run(typed=lines(*typed))
    assert "this server's end was 192.168.77.11, the other server's is 192.168.77.12" in ran.out
    assert "Select direct connect interface [eth0/eth1/none] [eth1]:" in ran.out
    assert "Enter eth1 IP address [192.168.77.11]:" in ran.out
    assert ran.code == 0, (ran.out, ran.err)
    toml = (machine.root / "etc/openmse/openmse.toml").read_text()
    assert 'direct_interface = "eth1"\ndirect_address = "192.168.77.11/24"' in toml


def test_recovery_with_nothing_left_says_what_to_do(machine: Setup) -> None:
    ran = machine.answers(ANSWERS.replace("[interface", "recovery = true\n[interface"))
    assert ran.code == 2
    assert "mse setup --recover-from" in ran.err.replace("\n", " ")
    page = Path(__file__).resolve().parents[3] / "docs" / "setup.md"
    assert "### A primary that lost everything" in page.read_text()
