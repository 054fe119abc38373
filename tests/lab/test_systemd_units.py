"""The units under a real systemd, with their sandbox: what dies, what is adopted, what is told."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import walk_through
from systemd_machine import SYSTEMD, SystemdMachine

from openmse import ports
from openmse.lab import provision
from openmse.lab.core import ENVIRONMENT
from openmse.lab.laboratory import Laboratory
from openmse.lab.topology import Topology
from openmse.lab.workload import wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not SYSTEMD.exists(), reason="needs systemd (Debian package systemd)"),
]

NETWORKD = SYSTEMD.parent / "systemd-networkd"
CHRONYD = shutil.which("chronyd", path="/usr/sbin:/sbin")
CAPABILITIES = 0x8870EB
"""CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID NET_ADMIN NET_RAW IPC_LOCK SYS_PTRACE SYS_NICE."""


@pytest.fixture(scope="module")
def booted() -> Iterator[list[SystemdMachine]]:
    """The machine that runs, if any."""
    found: list[SystemdMachine] = []
    yield found
    for machine in found:
        machine.off()


@pytest.fixture
def machine(lab: Laboratory, booted: list[SystemdMachine]) -> Iterator[SystemdMachine]:
    """mse1 as an unpaired primary, under systemd, with nothing of the product running.

    Booted once for all tests that leave it so, and anew after one that does not.
    """
    if not booted:
        config = provision.node_config(lab.machines["mse1"], Topology.PAIR_NO_WITNESS, 2.0)
        script = "mkdir -p /etc/openmse; cat > /etc/openmse/openmse.toml"
        assert not lab.exec("mse1", ["sh", "-c", script], input_text=config).returncode
        booted.append(SystemdMachine(lab, "mse1"))
    yield booted[0]
    if not booted[0].is_idle():
        booted.pop().off()
        leave = "rm -rf /var/lib/openmse /run/openmse /etc/openmse /etc/systemd /run/systemd"
        lab.exec("mse1", ["sh", "-c", leave])


def _facts(pid: int | None) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_the_node_under_systemd(machine: SystemdMachine) -> None:
    limit = "[Service]\nWatchdogSec=3\n"
    machine.write("/run/systemd/system/openmse.service.d/quick.conf", limit)
    assert machine.run("systemctl", "daemon-reload").returncode == 0
    started = machine.msed("start")
    assert started.returncode == 0, started
    assert started.stdout.endswith("Framework and services successfully started\n")
    before = machine.pids()
    for name in ("guard", "health-monitor"):
        facts = _facts(before[name])
        assert int(facts["CapEff"], 16) == CAPABILITIES, name
        assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2"), name
    assert int(_facts(before["postgres"])["CapEff"], 16) == 0

    for how in (signal.SIGSTOP, signal.SIGKILL):
        guard = machine.pids()["guard"]
        assert guard is not None
        os.kill(guard, how)
        assert wait_for(lambda old=guard: machine.pids()["guard"] not in (None, old), 15), how
    assert wait_for(lambda: machine.msed("status").returncode == 0, 20)
    now = machine.pids()
    assert now["health-monitor"] == before["health-monitor"], "KillMode=process"
    assert now["postgres"] == before["postgres"]

    reloaded = machine.run("systemctl", "reload", "openmse")
    assert reloaded.returncode == 0, reloaded
    after = machine.pids()
    assert after["health-monitor"] not in (None, now["health-monitor"])
    assert after["postgres"] == before["postgres"], "adopted, not started anew"
    assert wait_for(lambda: machine.msed("status").returncode == 0, 20)

    stopped = machine.run("systemctl", "stop", "openmse")
    assert stopped.returncode == 0, stopped
    assert set(machine.pids().values()) == {None}
    assert machine.show("openmse.service", "Result") == "success"
    events = machine.run("mse", "ha", "events").stdout
    assert "root asked: StopNode" in events, "the unit told the node first"
    assert machine.msed("status").returncode == 4

    assert machine.msed("start").returncode == 0
    ended = machine.msed("stop")
    assert "Database successfully stopped\n" in ended.stdout, ended
    assert ended.stdout.endswith("Health Monitor successfully stopped\n")
    assert machine.show("openmse.service", "ActiveState") == "inactive"


NAMES = ("mse1", "mse2", "witness")
EXCHANGED_WITHIN_S = 60.0
"""Of licences and UDIs between two nodes: every 20 s."""
REPLIES = {
    "Enrolment password: ": "a word for the witness",
    "Password of the witness: ": "a word for the witness",
    "Pairing password: ": "a word for two machines",
    "Pairing password of the secondary: ": "a word for two machines",
    "Password of admin: ": "a word for the console",
    "[y/N]: ": "y",
}


@pytest.fixture
def three(lab: Laboratory, booted: list[SystemdMachine]) -> Iterator[dict[str, SystemdMachine]]:
    """The machines of docs/install.md under systemd, with what an installation makes; bare again
    afterwards, with the network as it was."""
    while booted:
        booted.pop().off()
    found: dict[str, SystemdMachine] = {}

    def boot(name: str) -> None:
        found[name] = SystemdMachine(lab, name)
        told(found[name], "mse", "install", "--accounts-only")

    try:
        for name in NAMES:
            _make_bare(lab, name)
        with ThreadPoolExecutor(len(NAMES)) as pool:
            list(pool.map(boot, NAMES))  # they mostly wait
        yield found
    finally:
        for name, machine in found.items():
            machine.off()
            _make_bare(lab, name)


def _make_bare(lab: Laboratory, name: str) -> None:
    lab.power_off(name)
    lab.power_on(name)
    gone = "/var/lib/openmse* /var/log/openmse /etc/openmse /etc/systemd"
    done = lab.exec(name, ["sh", "-c", f"rm -rf {gone}; echo {name} > /etc/hostname; sync"])
    assert done.returncode == 0, done.stderr


def test_the_walk_through_of_the_document(three: dict[str, SystemdMachine]) -> None:
    """Every file and command of docs/install.md, typed as it stands there, and what it leads to."""
    commands = 0
    for step in walk_through.steps(walk_through.PAGE.read_text()):
        machine = three[step.machine]
        if isinstance(step, walk_through.Written):
            machine.write(step.path, step.text)
            continue
        commands += 1
        begun_s = time.monotonic()
        while True:
            code, shown = _type(machine, step)
            gone = walk_through.missing(shown, step.answer)
            if not gone or not step.is_look or time.monotonic() > begun_s + walk_through.WITHIN_S:
                break
            time.sleep(0.5)  # as the page says: look again
        assert (code, gone) == (0, ""), f"{step.machine}: {step.command}\n{shown}"
    assert commands > 15, "the page is still read rightly"

    _each_knows_the_udi_of_the_other(three["mse1"], three["mse2"])
    _third_machine_has_no_rights(three["witness"])
    _a_reboot_hands_over_first(three["mse1"], three["mse2"])


def _type(machine: SystemdMachine, step: walk_through.Typed) -> tuple[int, str]:
    """A command at a terminal of its own: exit status, and everything that has appeared."""
    argv = machine.entry("sh", "-c", f"cd && {step.command}")
    terminal = walk_through.Terminal(argv, {**ENVIRONMENT, "TERM": "xterm"})
    return terminal.run(step, REPLIES), terminal.shown


def _each_knows_the_udi_of_the_other(first: SystemdMachine, second: SystemdMachine) -> None:
    """What the management APIs exchange through PostgreSQL, as far as their sandbox lets them."""
    until_s = time.monotonic() + EXCHANGED_WITHIN_S
    for machine, other in ((first, second), (second, first)):
        while True:
            found = json.loads(told(machine, "gethainfo", "--json"))
            wanted = json.loads(told(other, "gethainfo", "--json"))["udi"]
            if [peer["udi"] for peer in found["peers"]] == [wanted]:
                break
            assert time.monotonic() < until_s, (found["peers"], wanted)
            time.sleep(0.5)


def _third_machine_has_no_rights(machine: SystemdMachine) -> None:
    """Witness and console run as users of their own; the console's page answers."""
    facts = _facts(machine.pids()["witness"])
    assert facts["Uid"].split()[0] not in ("0", "990")
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    forgot = machine.run("mse", "witness", "forget", "--yes", "no-such-group")
    assert "no-such-group" in forgot.stderr, "root may change it, across its user namespace"
    assert "may not" not in forgot.stderr
    hello = "import ssl, urllib.request as u; c = ssl._create_unverified_context(); "
    hello += f"print(u.urlopen('https://10.10.10.13:{ports.CONSOLE}/', context=c).status)"
    assert told(machine, "python3", "-c", hello) == "200\n"
    main = machine.show("openmse-console.service", "MainPID")
    assert "CapBnd:\t0000000000000000\n" in told(machine, "cat", f"/proc/{main}/status")


def _a_reboot_hands_over_first(machine: SystemdMachine, peer: SystemdMachine) -> None:
    assert machine.run("systemctl", "--no-block", "reboot").returncode == 0
    machine.wait_off(120)

    def serves() -> bool:  # it is chosen before the other one ends, and promotes after that
        after = json.loads(told(peer, "mse", "ha", "status", "--json"))
        return (after["role"], after["admits_clients"]) == ("primary", True)

    assert wait_for(serves, 20), told(peer, "mse", "ha", "status", "--json")
    assert "StopNode" in machine.lab.exec("mse1", ["mse", "ha", "events"]).stdout


ANSWERS = """\
hostname = "mse7"
domain = "example.net"
[ha]
role = "primary"
virtual_ip = "10.10.10.70"
virtual_netmask = "255.255.255.0"
[interface.eth0]
address = "10.10.10.71"
netmask = "255.255.255.0"
gateway = "10.10.10.11"
[dns]
enabled = true
servers = ["10.10.10.53"]
[time]
zone = "Asia/Tokyo"
ntp = true
ntp_servers = ["10.10.10.13", "2.debian.pool.ntp.org"]
"""
CHRONY_CONF = """\
confdir /etc/chrony/conf.d
pool 2.debian.pool.ntp.org iburst
sourcedir /etc/chrony/sources.d
driftfile /var/lib/chrony/chrony.drift
makestep 1 3
"""
CLOCK_UNIT = """\
[Service]
ExecStart=/bin/sh -c 'grep -c ^server /etc/chrony/sources.d/openmse.sources; exec sleep 1000'
[Install]
WantedBy=multi-user.target
"""
"""In chrony's place: the real one would set the clock of whoever runs this test."""
STANDS = """\
hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf /etc/timezone /etc/chrony/chrony.conf
readlink /etc/localtime; ls -R /etc/openmse /etc/systemd/network /etc/chrony /var/lib/openmse
systemctl is-enabled openmse openmse-admin systemd-networkd chrony
"""
SETUP = ("mse", "setup", "--accept-red", "--answers", "/etc/openmse/answers.toml")


@pytest.fixture
def blank(lab: Laboratory) -> Iterator[SystemdMachine]:
    """A machine that is no node yet, under systemd, with networkd and something like chrony."""
    found = SystemdMachine(lab, "witness")
    try:
        assert found.run("systemd-sysusers").returncode == 0
        found.write("/etc/systemd/system/chrony.service", CLOCK_UNIT)
        found.write("/etc/chrony/chrony.conf", CHRONY_CONF)
        found.write("/etc/chrony/sources.d/README", "")
        found.write("/etc/openmse/answers.toml", ANSWERS)
        found.unmask("systemd-networkd.service")
        assert found.run("systemctl", "start", "chrony").returncode == 0
        yield found
    finally:
        found.off()


def told(machine: SystemdMachine, *argv: str) -> str:
    done = machine.run(*argv)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.skipif(not NETWORKD.exists(), reason="needs systemd-networkd")
def test_setup_makes_the_answers_true_or_takes_everything_back(blank: SystemdMachine) -> None:
    before = blank.run("sh", "-c", STANDS).stdout
    sources = "/etc/chrony/sources.d"
    told(blank, "mount", "--bind", "-o", "ro", sources, sources)
    failed = blank.run(*SETUP)
    assert failed.returncode == 1, failed
    assert "Applying timezone configuration\nApplying NTP configuration\n" in failed.stdout
    assert "Everything before it was taken back; nothing is changed." in failed.stderr
    assert blank.run("sh", "-c", STANDS).stdout == before
    told(blank, "umount", sources)

    assert told(blank, *SETUP).splitlines()[-2:-1] == ["Success"]
    assert told(blank, "hostname") == "mse7\n"
    assert told(blank, "hostnamectl", "--static") == "mse7\n"
    assert "Timezone=Asia/Tokyo\n" in told(blank, "timedatectl", "show")
    assert told(blank, "cat", "/etc/resolv.conf") == "search example.net\nnameserver 10.10.10.53\n"
    assert told(blank, "getent", "ahostsv4", "mse7.example.net").split()[0] == "10.10.10.71"
    units = ("openmse", "openmse-admin", "systemd-networkd", "chrony")
    assert told(blank, "systemctl", "is-enabled", *units) == "enabled\n" * 4

    def has_restarted() -> bool:  # what the unit writes is in the journal a moment later
        return "\n1\n" in told(blank, "journalctl", "-o", "cat", "-u", "chrony")

    assert wait_for(has_restarted, 20), "it runs, so it was restarted to read its new servers"
    if CHRONYD is not None:
        both = ["/etc/chrony/chrony.conf", f"{sources}/openmse.sources"]
        blank.write("/etc/chrony/both", told(blank, "cat", *both))
        told(blank, CHRONYD, "-p", "-f", "/etc/chrony/both")

    told(blank, "ip", "-4", "address", "flush", "dev", "eth0")  # as after a boot
    told(blank, "systemctl", "start", "systemd-networkd")
    _networkd_gives_the_address(blank)


def _networkd_gives_the_address(blank: SystemdMachine) -> None:
    wanted = (
        "Gateway: 10.10.10.11\n",
        "State: routable",
        "Network File: /etc/systemd/network/05-openmse-eth0.network\n",
    )

    def missing() -> list[str]:  # each is true at a moment of its own
        shown = blank.run("networkctl", "status", "eth0").stdout
        return [line for line in wanted if line not in shown]

    assert wait_for(lambda: not missing(), 20), missing()
    addresses = json.loads(told(blank, "ip", "-json", "-4", "address", "show", "dev", "eth0"))
    found = [(one["local"], one["prefixlen"]) for one in addresses[0]["addr_info"]]
    assert found == [("10.10.10.71", 24)]
