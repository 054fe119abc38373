"""Editing other people's files: whatever they hold, twice is the same as once, and others stay."""

from hypothesis import given, settings
from hypothesis import strategies as st

from openmse.setup import clocks, hosts, ifupdown, networkd, resolver
from openmse.setup.networkd import Wanted
from openmse.setup.world import CHRONY, RESOLV, World

WANTED = st.sampled_from(
    [
        Wanted(name="eth0", address="10.10.10.12", netmask="255.255.255.0", gateway="10.10.10.1"),
        Wanted(name="eth0", address="10.10.10.12", netmask="255.255.255.0"),
        Wanted(name="eth1", address="1.1.1.1", netmask="255.0.0.0"),
        Wanted(name="eth0"),
    ]
)


def texts(*lines: str) -> st.SearchStrategy[str]:
    """Files of these lines in any order and number, and of anything else."""
    line = st.one_of(st.sampled_from(lines), st.sampled_from(lines), st.text(max_size=20))
    return st.lists(line, max_size=14).map("\n".join)


HOSTS = texts(
    "127.0.0.1 localhost", "127.0.1.1 mse", "10.1.1.1 mail mse # c", "# x", "::1 mse1", ""
)
INTERFACES = texts(
    *("auto eth0", "iface eth0 inet dhcp", "iface eth0 inet6 auto", "iface eth1 inet static"),
    *("    address 10.0.0.5/8", "\tnetmask 255.0.0.0", "  gateway 10.0.0.1", "# note", ""),
    *("source /etc/network/interfaces.d/*", "allow-hotplug eth1", "    dns-search lan"),
)
NETWORKS = texts(
    *("[Match]", "Name=eth0", "Name=eth*", "[Network]", "DHCP=yes", "Address=10.0.0.5/8", "# x"),
    *("Address=fd00::5/64", "[Address]", "[Route]", "Gateway=10.0.0.1", "Destination=10.9.0.0/16"),
    *("MTUBytes=9000", "KeepConfiguration=yes", ""),
)
PLAIN = texts("nameserver 1.1.1.1", "search lan", "options timeout:1", "pool a.example", "# x", "")


@given(HOSTS, st.sampled_from(["mse", "mse1", "localhost", ""]))
@settings(deadline=None)
def test_hosts(text: str, old: str) -> None:
    once = hosts.hosts_text(text, old, ("mse1.lan", "mse1"), "10.10.10.12")
    assert hosts.hosts_text(once, "mse1", ("mse1.lan", "mse1"), "10.10.10.12") == once
    own = [line for line in once.splitlines() if line.split()[:1] == ["10.10.10.12"]]
    assert "10.10.10.12\tmse1.lan mse1" in own
    for line in text.splitlines():
        if "localhost" in line or "# x" in line:
            assert line in once.splitlines()


@given(INTERFACES, WANTED)
@settings(deadline=None)
def test_ifupdown(text: str, wanted: Wanted) -> None:
    path = "/etc/network/interfaces"
    once = ifupdown.changed(wanted, {path: text})
    assert ifupdown.changed(wanted, once) == once
    if wanted.address:
        found = ifupdown.address_in(wanted.name, once[path])
        assert found == (wanted.address, wanted.netmask, wanted.gateway)


@given(NETWORKS, WANTED)
@settings(deadline=None)
def test_networkd(text: str, wanted: Wanted) -> None:
    path = "/etc/systemd/network/20-some.network"
    once = networkd.changed(wanted, {path: text})
    files = {path: text, **once}
    assert networkd.changed(wanted, files) == once
    (written,) = once
    assert networkd.file_of(wanted.name, files) == written, "it is the one that counts"
    found = networkd.address_in(once[written])
    assert found == (wanted.address, wanted.netmask if wanted.address else "", wanted.gateway)


@given(PLAIN, st.sampled_from([(), ("1.1.1.2",), ("1.1.1.2", "2001:db8::1")]))
@settings(deadline=None)
def test_resolver_and_chrony(text: str, servers: tuple[str, ...]) -> None:
    path, once = resolver.resolver_file(World(files={RESOLV: text}), servers, "lan")
    again = World(files={path: once})
    assert resolver.resolver_file(again, servers, "lan") == (path, once)
    assert resolver.servers_in(again)[0] == servers
    files = clocks.ntp_files(World(files={CHRONY: text}), servers)
    kept = {name: entry for name, entry in files.items() if entry is not None}
    assert clocks.ntp_in(World(files=kept))[1] == servers
    assert clocks.ntp_files(World(files={CHRONY: text, **kept}), servers) == files
