"""The wanted text of each file: only what was asked changes, and twice is the same as once."""

import shutil
import subprocess
from pathlib import Path

import pytest
from setup_root import CHRONY, HOSTS, INTERFACES

from openmse.node.config_load import parse
from openmse.setup import clocks, hosts, ifupdown, networkd, product, resolver
from openmse.setup.answers import answers_text, flat
from openmse.setup.current import machine_of
from openmse.setup.networkd import Wanted
from openmse.setup.plan import Source, review
from openmse.setup.values import Interface, Machine, View
from openmse.setup.world import CHRONY as CHRONY_PATH
from openmse.setup.world import (
    CHRONYD,
    LOCALTIME,
    RESOLV,
    RESOLVCONF_HEAD,
    RESOLVED,
    TIMESYNCD,
    TIMESYNCD_DIR,
    TIMESYNCD_OWN,
    TIMESYNCD_PROGRAM,
    TIMESYNCD_UNIT,
    Link,
    World,
    read_world,
    rooted,
)

ETH0 = Wanted(name="eth0", address="10.10.10.12", netmask="255.255.255.0", gateway="10.10.10.1")
ETH1 = Wanted(name="eth1", address="1.1.1.1", netmask="255.0.0.0")
OFF = Wanted(name="eth0")
FILE = Path("/etc/openmse/openmse.toml")


# -- /etc/hosts -------------------------------------------------------------------------------


def test_hosts_gets_the_own_line_and_keeps_the_others() -> None:
    text = hosts.hosts_text(HOSTS, "mse", ("mse1.lan", "mse1"), "10.10.10.12")
    assert text == HOSTS.replace("127.0.1.1\tmse\n", "10.10.10.12\tmse1.lan mse1\n")
    assert hosts.hosts_text(text, "mse1", ("mse1.lan", "mse1"), "10.10.10.12") == text
    assert hosts.domain_of(text, "mse1") == "lan"


def test_hosts_without_an_address_uses_debians_own() -> None:
    assert "127.0.1.1\tmse1\n" in hosts.hosts_text(HOSTS, "mse", ("mse1",), "")


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("127.0.0.1 localhost mse", "127.0.0.1\tlocalhost"),
        ("10.1.1.1 mse mail # both", "10.1.1.1\tmail # both"),
        ("10.1.1.1 mse2", "10.1.1.1 mse2"),
        ("# 10.1.1.1 mse", "# 10.1.1.1 mse"),
        ("10.1.1.1", "10.1.1.1"),
        ("fd00::12 mse", "fd00::12\tmse1"),
        ("fd00::12 mse mail # both", "fd00::12\tmse1 mail # both"),
        ("fd00::13 mse2", "fd00::13 mse2"),
    ],
)
def test_hosts_takes_only_its_own_names_out_of_a_line(line: str, left: str) -> None:
    text = hosts.hosts_text(f"{line}\n", "mse", ("mse1",), "10.10.10.12")
    assert left in text.splitlines()
    assert "10.10.10.12\tmse1" in text.splitlines()


def test_hosts_of_an_empty_file_has_localhost() -> None:
    text = hosts.hosts_text("", "localhost", ("mse1",), "10.10.10.12")
    assert text == "127.0.0.1\tlocalhost\n10.10.10.12\tmse1\n"


# -- ifupdown ---------------------------------------------------------------------------------


def test_ifupdown_replaces_the_stanza_where_it_stands() -> None:
    files = {"/etc/network/interfaces": INTERFACES}
    changed = ifupdown.changed(ETH0, files)
    assert changed == {
        "/etc/network/interfaces": INTERFACES.replace(
            "iface eth0 inet dhcp\n",
            "iface eth0 inet static\n    address 10.10.10.12/24\n    gateway 10.10.10.1\n",
        )
    }
    assert ifupdown.changed(ETH0, changed) == changed
    text = changed["/etc/network/interfaces"]
    assert ifupdown.address_in("eth0", text) == ("10.10.10.12", "255.255.255.0", "10.10.10.1")
    assert "    dns-search lan\n" in text, "options of others stay"


def test_ifupdown_finds_the_stanza_in_an_included_file() -> None:
    included = "/etc/network/interfaces.d/setup"
    text = "auto eth0\niface eth0 inet static\n\taddress 10.0.0.5\n\tnetmask 255.0.0.0\n"
    files = {"/etc/network/interfaces": "auto lo\niface lo inet loopback\n", included: text}
    assert ifupdown.address_in("eth0", text) == ("10.0.0.5", "255.0.0.0", "")
    changed = ifupdown.changed(ETH0, files)
    assert list(changed) == [included]
    assert "netmask" not in changed[included]
    assert changed[included].count("auto eth0") == 1


def test_ifupdown_adds_a_new_interface_once() -> None:
    files = {"/etc/network/interfaces": INTERFACES}
    changed = ifupdown.changed(ETH1, files)
    text = changed["/etc/network/interfaces"]
    assert text == INTERFACES + "\nauto eth1\niface eth1 inet static\n    address 1.1.1.1/8\n"
    assert ifupdown.changed(ETH1, {**files, **changed}) == changed


def test_ifupdown_switches_an_interface_off() -> None:
    text = ifupdown.stanza_text(OFF, INTERFACES, is_automatic=True)
    assert "iface eth0 inet manual\n" in text
    assert "iface eth0 inet6 auto\n" in text
    assert ifupdown.stanza_text(Wanted(name="eth9"), INTERFACES, is_automatic=False) == INTERFACES


# -- systemd-networkd -------------------------------------------------------------------------

OWN = "/etc/systemd/network/05-openmse-eth0.network"
NETPLAN = """\
[Match]
Name=eth0

[Link]
MTUBytes=9000

[Network]
DHCP=yes
LinkLocalAddressing=ipv6
Address=fd00::5/64

[Route]
Gateway=10.0.0.1

[Route]
Destination=10.9.0.0/16
Gateway=10.0.0.9

[Address]
Address=10.0.0.5/8
"""


def test_networkd_on_a_bare_machine_gets_a_file_of_its_own() -> None:
    changed = networkd.changed(ETH0, {})
    assert changed == {
        OWN: f"{networkd.HEAD}\n\n[Match]\nName=eth0\n\n[Network]\nDHCP=no\n"
        "Address=10.10.10.12/24\nKeepConfiguration=static\nGateway=10.10.10.1\n"
    }
    assert networkd.changed(ETH0, changed) == changed
    assert networkd.address_in(changed[OWN]) == ("10.10.10.12", "255.255.255.0", "10.10.10.1")


def test_networkd_changes_only_ipv4_in_a_file_of_the_interface() -> None:
    path = "/etc/systemd/network/20-lan.network"
    text = networkd.changed(ETH0, {path: NETPLAN})[path]
    for kept in ("MTUBytes=9000", "Address=fd00::5/64", "Destination=10.9.0.0/16"):
        assert kept in text
    for gone in ("10.0.0.1\n", "10.0.0.5", "DHCP=yes"):
        assert gone not in text
    assert "DHCP=ipv6" in text
    assert networkd.changed(ETH0, {path: text}) == {path: text}


@pytest.mark.parametrize("name", ["eth*", "eth0 eth1"])
def test_networkd_leaves_a_file_of_many_interfaces_alone(name: str) -> None:
    path = "/etc/systemd/network/20-all.network"
    many = NETPLAN.replace("Name=eth0", f"Name={name}")
    changed = networkd.changed(ETH0, {path: many})
    assert list(changed) == [OWN]
    assert "MTUBytes=9000" in changed[OWN]
    assert "Name=eth0\n" in changed[OWN]
    files = {path: many, **changed}
    assert networkd.file_of("eth0", files) == OWN, "it comes first by its name"
    assert networkd.file_of("eth1", files) == path
    assert networkd.changed(ETH0, files) == changed


def test_networkd_does_not_write_what_a_generator_made() -> None:
    changed = networkd.changed(ETH0, {"/run/systemd/network/10-netplan-eth0.network": NETPLAN})
    assert list(changed) == [OWN]


def test_networkd_files_of_other_kinds_are_passed_over() -> None:
    vpn = "[Match]\nName=eth0\nType=wireguard\n"
    assert networkd.file_of("eth0", {"/etc/systemd/network/1.network": vpn}) == ""


def test_networkd_switches_an_interface_off() -> None:
    text = networkd.network_text(OFF, NETPLAN)
    assert networkd.address_in(text) == ("", "", "")
    assert "DHCP=ipv6" in text


def test_networkd_destination_is_of_a_route_only() -> None:
    text = "[Network]\nDestination=10.9.0.0/16\nGateway=10.10.10.1\n"  # systemd ignores the first
    assert networkd.address_in(text) == ("", "", "10.10.10.1")
    assert networkd.address_in(text.replace("Network", "Route")) == ("", "", "")


# -- DNS --------------------------------------------------------------------------------------


def test_a_plain_resolv_conf_keeps_its_options() -> None:
    world = World(files={RESOLV: "# by hand\noptions timeout:1\nnameserver 10.10.10.2\n"})
    path, text = resolver.resolver_file(world, ("1.1.1.1", "2001:db8::1"), "lan")
    assert path == RESOLV
    assert text == (
        "# by hand\noptions timeout:1\nsearch lan\nnameserver 1.1.1.1\nnameserver 2001:db8::1\n"
    )
    again = World(files={RESOLV: text})
    assert resolver.resolver_file(again, ("1.1.1.1", "2001:db8::1"), "lan") == (path, text)
    assert resolver.servers_in(again) == (("1.1.1.1", "2001:db8::1"), "lan")


def test_resolved_and_resolvconf_get_their_own_files() -> None:
    stub = World(files={RESOLV: Link("../run/systemd/resolve/stub-resolv.conf")})
    path, text = resolver.resolver_file(stub, ("1.1.1.1",), "lan")
    assert (path, text) == (
        RESOLVED,
        "# Written by 'mse setup'.\n[Resolve]\nDNS=1.1.1.1\nDomains=lan\n",
    )
    again = World(files={**stub.files, RESOLVED: text})
    assert resolver.servers_in(again) == (("1.1.1.1",), "lan")
    head = World(files={RESOLV: Link("/run/resolvconf/resolv.conf")})
    assert resolver.resolver_file(head, ("1.1.1.1",), "")[0] == RESOLVCONF_HEAD


# -- time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "zone"),
    [
        ({LOCALTIME: Link("/usr/share/zoneinfo/Asia/Tokyo")}, "Asia/Tokyo"),
        ({LOCALTIME: Link("../usr/share/zoneinfo/Etc/UTC")}, "UTC"),
        ({"/etc/timezone": "Europe/Paris\n"}, "Europe/Paris"),
        ({LOCALTIME: "TZif2 a copy", "/etc/timezone": "Asia/Tokyo\n"}, "Asia/Tokyo"),
        ({}, "UTC"),
    ],
)
def test_the_time_zone_that_is_set(files: dict[str, str | Link], zone: str) -> None:
    assert clocks.zone_of(World(files=files)) == zone
    wanted = clocks.zone_files(zone)
    assert clocks.zone_of(World(files=wanted)) == zone


def test_chrony_follows_only_the_given_servers() -> None:
    world = World(files={CHRONY_PATH: CHRONY})
    files = clocks.ntp_files(world, ("ntp.network.local", "2.debian.pool.ntp.org"))
    own = str(files["/etc/chrony/sources.d/openmse.sources"])
    assert "server ntp.network.local iburst\npool 2.debian.pool.ntp.org iburst\n" in own
    main = str(files[CHRONY_PATH])
    assert main == (
        "# Debian's own\n# replaced by mse setup: pool 2.debian.pool.ntp.org iburst\n"
        "makestep 1 3\nsourcedir /etc/chrony/sources.d\n"
    )
    again = World(files={path: text for path, text in files.items() if text is not None})
    assert clocks.ntp_files(again, ("ntp.network.local", "2.debian.pool.ntp.org")) == files
    assert clocks.ntp_in(again) == (True, ("ntp.network.local", "2.debian.pool.ntp.org"))
    assert clocks.ntp_files(again, ()) == {"/etc/chrony/sources.d/openmse.sources": None}


def test_chrony_does_not_follow_what_dhcp_names_either() -> None:
    text = "sourcedir /run/chrony-dhcp\nsourcedir /etc/chrony/sources.d\nrtcsync\n"
    files = clocks.ntp_files(World(files={CHRONY_PATH: text}), ("10.10.10.2",))
    assert files[CHRONY_PATH] == f"# replaced by mse setup: {text}"


DEBIANS = (
    "# Entries in this file show the compile time defaults.\n[Time]\n#NTP=\n"
    "#FallbackNTP=0.debian.pool.ntp.org 1.debian.pool.ntp.org\n"
)
TIMESYNCD_MARKS = frozenset((TIMESYNCD_PROGRAM, clocks.TIMESYNCD_UNIT_LINK))


def test_timesyncd_is_used_where_it_is_what_the_machine_has() -> None:
    world = World(files={TIMESYNCD: DEBIANS}, marks=TIMESYNCD_MARKS)
    debians = ("0.debian.pool.ntp.org", "1.debian.pool.ntp.org")
    assert clocks.ntp_in(world) == (True, debians)
    files = clocks.ntp_files(world, ("10.10.10.2", "ntp.network.local"))
    assert files == {
        TIMESYNCD_OWN: "# Written by 'mse setup'.\n[Time]\nNTP=\n"
        "NTP=10.10.10.2 ntp.network.local\nFallbackNTP=\n"
    }
    others = {f"{TIMESYNCD_DIR}/10-others.conf": "[Time]\nNTP=10.9.9.9\n"}
    again = World(files={TIMESYNCD: DEBIANS, **others, **files}, marks=TIMESYNCD_MARKS)
    assert clocks.ntp_in(again) == (True, ("10.10.10.2", "ntp.network.local"))
    assert clocks.ntp_files(again, ("10.10.10.2", "ntp.network.local")) == files
    assert clocks.ntp_files(again, ()) == {TIMESYNCD_OWN: None}
    off = World(files=again.files, marks=frozenset((TIMESYNCD_PROGRAM,)))
    assert clocks.ntp_in(off) == (False, ())


def test_chrony_is_preferred_where_both_are_there() -> None:
    both = World(files={CHRONY_PATH: CHRONY}, marks=frozenset((*TIMESYNCD_MARKS, CHRONYD)))
    assert clocks.keeper_of(both) is clocks.Keeper.CHRONY
    assert CHRONY_PATH in clocks.ntp_files(both, ("10.10.10.2",))
    neither = World(files={})
    assert clocks.keeper_there(neither) == ""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_a_masked_timesyncd_is_not_what_the_machine_has(tmp_path: Path) -> None:
    program, unit = (rooted(tmp_path, path) for path in (TIMESYNCD_PROGRAM, TIMESYNCD_UNIT))
    for path in (program, unit):
        path.parent.mkdir(parents=True, exist_ok=True)
    program.touch()
    assert TIMESYNCD_PROGRAM in read_world(tmp_path, "/etc/openmse/openmse.toml").marks
    unit.symlink_to("/dev/null")
    assert TIMESYNCD_PROGRAM not in read_world(tmp_path, "/etc/openmse/openmse.toml").marks


def test_systemd_reads_the_drop_in_of_timesyncd_as_meant(tmp_path: Path) -> None:
    world = World(files={}, marks=TIMESYNCD_MARKS)
    own = clocks.ntp_files(world, ("10.10.10.2",))[TIMESYNCD_OWN]
    for path, text in ((TIMESYNCD, "[Time]\nNTP=10.9.9.9\n"), (TIMESYNCD_OWN, str(own))):
        place = tmp_path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    command = ["systemd-analyze", "cat-config", f"--root={tmp_path}", "systemd/timesyncd.conf"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.splitlines() if line.startswith(("NTP=", "Fallback"))]
    assert lines == ["NTP=10.9.9.9", "NTP=", "NTP=10.10.10.2", "FallbackNTP="]


# -- the product's file -----------------------------------------------------------------------

MACHINE = Machine(interfaces=(Interface(name="eth0"), Interface(name="eth1")))
ANSWERS = {
    "hostname.name": "mse1",
    "ha.role": "primary",
    "ha.health_interface": "eth0",
    "ha.direct_interface": "none",
    "ha.virtual_ip": "10.10.10.11",
    "ha.virtual_netmask": "255.255.255.0",
    "eth0": "yes",
    "eth0.address": "10.10.10.12",
    "eth0.netmask": "255.255.255.0",
    "wait.seconds": "7.5",
    "witness.kind": "other primary",
    "witness.address": "10.10.10.9",
}


def test_the_products_file_passes_its_own_check() -> None:
    text = product.product_text(View(MACHINE, ANSWERS), None)
    config = parse(text, FILE)
    assert (config.node.name, config.node.address) == ("mse1", "10.10.10.12/24")
    assert config.group.virtual_ips == ("10.10.10.11/24",)
    assert config.group.failover_wait_s == 7.5
    assert (config.witness.kind, config.witness.address) == ("console", "10.10.10.9")
    assert product.product_text(View(MACHINE, ANSWERS), text) == text


def test_which_machine_the_witness_runs_on_is_remembered() -> None:
    text = product.product_text(View(MACHINE, ANSWERS), None)
    again = machine_of(World(files={str(FILE): text}), str(FILE))
    assert (again.witness_kind, again.witness_address) == ("other primary", "10.10.10.9")
    written = flat(answers_text(again))
    assert (written["witness.kind"], written["witness.address"]) == ("other primary", "10.10.10.9")

    at_console = product.product_text(View(again, ANSWERS | {"witness.kind": "console"}), text)
    assert parse(at_console, FILE).witness.host == "console"
    assert machine_of(World(files={str(FILE): at_console}), str(FILE)).witness_kind == "console"


def test_comments_and_foreign_keys_survive() -> None:
    before = (
        '# ours\n[node] # the node\nname = "old" # its name\nrole = "primary"\n'
        'address = "10.10.10.5/24"\naddress6 = "fd00::5/64"\n\n'
        '[group]\nvirtual_ips = ["10.10.10.4/24", "fd00::4/64"] # both\n\n'
        "[database]\nshared_buffers_mib = 512 # a big machine\n"
    )
    text = product.product_text(View(MACHINE, ANSWERS), before)
    for kept in ("# ours", "# the node", "# its name", "# both", "512 # a big machine"):
        assert kept in text
    assert parse(text, FILE).group.virtual_ips == ("10.10.10.11/24", "fd00::4/64")


def test_a_primary_that_becomes_a_secondary_has_no_virtual_ip() -> None:
    before = product.product_text(View(MACHINE, ANSWERS), None)
    answers = {k: v for k, v in ANSWERS.items() if not k.startswith(("ha.v", "wait", "witness"))}
    text = product.product_text(View(MACHINE, {**answers, "ha.role": "secondary"}), before)
    config = parse(text, FILE)
    assert config.node.role == "secondary"
    assert config.group.virtual_ips == ()


def test_what_cannot_work_is_told_in_sentences() -> None:
    answers = {**ANSWERS, "witness.address": "10.10.10.12"}
    text = product.product_text(View(MACHINE, answers), None)
    assert any("would be this node itself" in fault for fault in product.faults_in(text, FILE))


CABLE = {
    "ha.direct_interface": "eth1",
    "eth1": "yes",
    "eth1.address": "192.168.77.1",
    "eth1.netmask": "255.255.255.252",
}


def test_the_direct_connection_is_both_keys_or_neither() -> None:
    text = product.product_text(View(MACHINE, {**ANSWERS, **CABLE}), None)
    config = parse(text, FILE)
    assert config.node.direct_interface == "eth1"
    assert config.node.direct_address == "192.168.77.1/30"
    again = machine_of(World(files={str(FILE): text}), str(FILE))
    assert again.direct_interface == "eth1"
    kept = {name: text for name, text in ANSWERS.items() if name != "ha.direct_interface"}
    assert product.product_text(View(again, kept), text).count("direct_") == 2
    gone = product.product_text(View(again, ANSWERS), text)
    assert "direct" not in gone
    assert parse(gone, FILE).node.direct_host == ""


def test_a_direct_interface_without_an_address_or_in_the_same_network_is_told() -> None:
    answers = {**ANSWERS, "ha.direct_interface": "eth1"}
    source = Source(view=View(MACHINE, answers), world=World(files={}), config=str(FILE))
    assert "The direct connect interface eth1 has no IP address." in " ".join(review(source))
    same = {**ANSWERS, **CABLE, "eth1.address": "10.10.10.99", "eth1.netmask": "255.255.255.0"}
    source = Source(view=View(MACHINE, same), world=World(files={}), config=str(FILE))
    assert "overlaps the network 10.10.10.0/24" in " ".join(review(source))
