"""Two machines set up by ``mse setup`` from answers files: paired, failed over, recovered."""

import secrets
import time
from collections.abc import Iterator

import pytest
from operating import Site

from openmse.errors import MseError
from openmse.lab import cleanup, client, requirements
from openmse.lab.laboratory import Laboratory, Wanted
from openmse.lab.programs import CONFIG_PATH, ENABLED, WITNESS_CONFIG_PATH
from openmse.lab.topology import IMAGE_ROOT, Places

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]

SECRET = "/etc/openmse/password"
ANSWERS = "/etc/openmse/answers.toml"
STATE, LOST = "/var/lib/openmse", "/var/lib/lost"
NETWORK = """\
[interface.eth0]
address = "{address}"
netmask = "255.255.255.0"
gateway = "none"
"""
PRIMARY = """\
hostname = "mse1"
[ha]
role = "primary"
virtual_ip = "10.10.10.10"
virtual_netmask = "255.255.255.0"
direct_connect_interface = "eth1"
failover_wait_s = 2
[witness]
kind = "console"
address = "10.10.10.13"
[pairing]
secondary = "10.10.10.12"
"""
SECONDARY = f"""\
hostname = "mse2"
[ha]
role = "secondary"
direct_connect_interface = "eth1"
[pairing]
password_file = "{SECRET}"
"""
RECOVERY = """\
[ha]
role = "primary"
recovery = true
"""
CABLE = """\
[interface.eth1]
address = "192.168.77.11"
netmask = "255.255.255.0"
"""
DIRECT = 'direct_interface = "eth1"\ndirect_address = "192.168.77.11/24"'


def write(site: Site, machine: str, path: str, text: str) -> None:
    done = site.run(machine, "sh", "-c", f"umask 077; cat > {path}; sync {path}", typed=text)
    assert done.returncode == 0, done.stderr


def set_up(site: Site, machine: str, answers: str, *options: str) -> str:
    """Run the wizard unattended; what it said."""
    address = site.lab.machines[machine].address
    write(site, machine, ANSWERS, answers + NETWORK.format(address=address))
    return site.ok(machine, "setup", "--answers", ANSWERS, *options)


def pair(site: Site, primary: str, peer: str) -> None:
    site.until_answers(primary)
    site.until(lambda: site.told(peer).get("is_pairing_open"), f"{peer} waits for a pairing")
    witness = ("--witness", "10.10.10.13", "--witness-password-file", SECRET)
    address = site.lab.machines[peer].address
    site.ok(primary, "ha", "pair", "--peer", address, "--password-file", SECRET, *witness)
    site.until_sync(60)


def until_direct(site: Site) -> None:
    """Until both nodes use the cable between them."""

    def used() -> list[list[str]]:
        told = (site.told(name).get("paths", ()) for name in ("mse1", "mse2"))
        return [[path["name"] for path in paths if path["is_used"]] for paths in told]

    site.until(lambda: used() == [["direct"], ["direct"]], "the direct connection is used", 30)


@pytest.fixture
def site() -> Iterator[Site]:
    """Machines with the product's programs and no configuration; mse1 and mse2 are set up."""
    try:
        requirements.check(str(IMAGE_ROOT))
    except MseError as error:
        pytest.skip(str(error))
    places = Places.of(f"ts{secrets.token_hex(4)}")
    try:
        laboratory = Laboratory._build(
            places, Wanted(failover_wait_s=2.0, is_direct=True), lambda text: None
        )
        site = Site(laboratory)
        for machine in laboratory.machines:
            site.run(machine, "rm", "-f", CONFIG_PATH)
            write(site, machine, SECRET, "correct horse battery\n")
        init = ("witness", "init", "--config", WITNESS_CONFIG_PATH)
        site.ok("witness", *init, "--password-file", SECRET)
        yield site
        laboratory.close()
    finally:
        cleanup.down(places)


def test_set_up_paired_failed_over_recovered_and_replaced(site: Site) -> None:
    """One story, since each part begins with the pair that the one before left."""
    set_up_and_pair(site)
    fail_over(site)
    recover(site)
    replace_the_lost_primary(site)
    the_lost_one_never_votes_again(site)


def set_up_and_pair(site: Site) -> None:
    said = set_up(site, "mse1", PRIMARY, "--accept-red")
    assert "[    red    ] Witness: 10.10.10.13 port 8463: connection refused." in said
    assert "[   green   ] Address: 10.10.10.10 is free." in said
    assert "[   green   ] nftables" in said
    assert "Success" in said
    set_up(site, "mse2", SECONDARY)
    for machine in site.lab.machines:
        site.run(machine, "touch", ENABLED)
    pair(site, "mse1", "mse2")
    until_direct(site)
    password = site.run("mse1", "cat", "/var/lib/openmse/postgres/client_password").stdout
    authority = site.run("mse1", "cat", "/var/lib/openmse/pki/ca.crt").stdout
    client.write_files(site.lab.places, password.strip(), authority)
    site.sql("create table kept (value int); insert into kept values (1)")
    refused = site.mse("mse1", "setup", "--answers", ANSWERS)
    assert refused.returncode == 3
    assert "paired with mse2" in refused.stderr


def fail_over(site: Site) -> None:
    site.lab.power_off("mse1")
    site.until_owner("mse2")
    site.sql("insert into kept values (2)")
    site.lab.power_on("mse1")
    site.until_sync(60)
    assert site.owner() == "mse2"


def recover(site: Site) -> None:
    """A primary that lost its configuration file, and nothing else."""
    site.stop("mse1")
    site.run("mse1", "rm", "-f", CONFIG_PATH)
    said = set_up(site, "mse1", RECOVERY)
    assert "[   green   ] Witness: 10.10.10.13 port 8463 answers." in said
    config = site.run("mse1", "cat", CONFIG_PATH).stdout
    assert 'virtual_ips = ["10.10.10.10/24"]' in config
    assert 'address = "10.10.10.13"' in config, "the witness too is known from the facts"
    assert DIRECT in config, "and the end of the cable, whose interface has the address"
    site.start("mse1")
    site.until_sync(60)
    until_direct(site)
    assert site.owner() == "mse2", "it came back as the old owner that rejoins"
    site.ok("mse2", "ha", "failback")
    site.until_owner("mse1")
    site.until_sync(60)
    assert site.value("select count(*) from kept") == "2"


def replace_the_lost_primary(site: Site) -> None:
    """One that lost its disk: another machine takes its place, and no row is lost."""
    refused = site.mse("mse2", "ha", "readmit", "--yes", "--password-file", SECRET)
    assert (refused.returncode, "mse1 owns, and only the owner" in refused.stderr) == (3, True)
    refused = site.mse("mse1", "ha", "readmit", "--yes", "--password-file", SECRET)
    assert (refused.returncode, "mse2 is heard, so it is not lost" in refused.stderr) == (3, True)
    # It has power again below, and runs nothing: a power cut takes back what is not synced.
    site.run("mse1", "sh", "-c", f"rm -f {ENABLED}; sync $(dirname {ENABLED})")
    site.lab.power_off("mse1")
    site.until_owner("mse2")
    site.sql("insert into kept values (3)")
    site.ok("mse2", "ha", "readmit", "--yes", "--password-file", SECRET)
    assert listens_for_pairing(site, "mse2")
    ended = site.ok("mse2", "ha", "readmit", "--cancel")
    assert "mse2 waits no longer for a machine in place of mse1." in ended
    assert not listens_for_pairing(site, "mse2")
    assert "root ended the wait for a machine in place of mse1." in site.events("mse2")
    refused = site.mse("mse2", "ha", "readmit", "--cancel")
    assert (refused.returncode, "No new machine is waited for" in refused.stderr) == (3, True)
    site.ok("mse2", "ha", "readmit", "--yes", "--password-file", SECRET)
    site.lab.power_on("mse1")
    site.run("mse1", "mv", STATE, LOST)
    site.run("mse1", "sh", "-c", f"rm -f {CONFIG_PATH} /etc/openmse/setup-answers.toml")

    recover_from = ("setup", "--recover-from", "10.10.10.12", "--answers", ANSWERS)
    write(site, "mse1", ANSWERS, RECOVERY + NETWORK.format(address="10.10.10.11"))
    write(site, "mse1", f"{SECRET}.wrong", "another password\n")
    wrong = site.mse("mse1", *recover_from, "--pairing-password-file", f"{SECRET}.wrong")
    assert (wrong.returncode, "MSE-PAIR-004" in wrong.stderr) == (1, True), wrong
    assert site.run("mse1", "ls", STATE).returncode != 0, "nothing is made for a wrong password"
    site.run("mse1", "ip", "address", "del", "192.168.77.11/24", "dev", "eth1")
    asked = site.mse("mse1", *recover_from, "--pairing-password-file", SECRET)
    assert "This machine is mse1-2 from now on, in the group of mse2." in asked.stdout
    assert (asked.returncode, "192.168.77.11" in asked.stderr) == (2, True), asked
    named = RECOVERY + 'direct_connect_interface = "eth1"\n'
    write(site, "mse1", ANSWERS, named + NETWORK.format(address="10.10.10.11") + CABLE)
    assert "'mse setup' is enough, without --recover-from" in " ".join(asked.stdout.split())
    assert "Success" in site.ok("mse1", "setup", "--answers", ANSWERS)
    assert DIRECT in site.run("mse1", "cat", CONFIG_PATH).stdout
    site.run("mse1", "ip", "address", "add", "192.168.77.11/24", "dev", "eth1")  # its next boot
    again = site.mse("mse1", *recover_from, "--pairing-password-file", SECRET)
    assert (again.returncode, CONFIG_PATH in again.stderr) == (3, True)
    site.run("mse1", "touch", ENABLED)
    site.start("mse1")
    site.until_sync(60)
    until_direct(site)
    register = site.register()
    assert (register["owner"], register["primary"]) == ("mse2", "mse1-2")
    assert set(register["voters"]) == {"mse1-2", "mse2", "witness"}


def listens_for_pairing(site: Site, machine: str) -> bool:
    return ":8465 " in site.run(machine, "ss", "-Hltn").stdout


def the_lost_one_never_votes_again(site: Site) -> None:
    """Its disk is found after all, and is started where it was."""
    site.stop("mse1")
    swap = f"mv {STATE} {LOST}.new && mv {LOST} {STATE} && sed -i 's/mse1-2/mse1/' {CONFIG_PATH}"
    assert site.run("mse1", "sh", "-c", swap).returncode == 0
    site.start("mse1")
    site.until_answers("mse1")
    site.until(lambda: "party_refused" in site.events("mse2"), "mse2 refuses its certificate")
    site.sql("insert into kept values (4)")
    old = site.told("mse1")
    assert (old["role"], old["admits_clients"]) != ("primary", True), old
    assert site.owner() == "mse2"
    assert "mse1" not in site.told("mse2")["register"]["voters"]
    site.lab.power_off("mse2")  # now only the old one and the witness are there
    ends_at = time.monotonic() + 4 * 2.0  # failover waits: who may take over has done so in one
    while time.monotonic() < ends_at:
        assert not site.told("mse1").get("admits_clients"), site.told("mse1")
        time.sleep(0.2)
    site.lab.power_on("mse2")
    site.until_owner("mse2")
    assert site.value("select count(*) from kept") == "4"
    site.stop("mse1")
    back = f'rm -rf {STATE} && mv {LOST}.new {STATE} && sed -i \'s/"mse1"/"mse1-2"/\' {CONFIG_PATH}'
    assert site.run("mse1", "sh", "-c", back).returncode == 0
    site.start("mse1")
    site.until_sync(60)
    site.ok("mse2", "ha", "failback")
    site.until_owner("mse1")
    assert site.value("select count(*) from kept") == "4"
