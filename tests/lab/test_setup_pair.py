"""Two machines set up by ``mse setup`` from answers files: paired, failed over, recovered."""

import secrets
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
[pairing]
password_file = "{SECRET}"
"""
RECOVERY = """\
[ha]
role = "primary"
recovery = true
"""


def write(site: Site, machine: str, path: str, text: str) -> None:
    done = site.run(machine, "sh", "-c", f"umask 077; cat > {path}; sync {path}", typed=text)
    assert done.returncode == 0, done.stderr


def set_up(site: Site, machine: str, answers: str) -> str:
    """Run the wizard unattended; what it said."""
    address = site.lab.machines[machine].address
    write(site, machine, ANSWERS, answers + NETWORK.format(address=address))
    return site.ok(machine, "setup", "--answers", ANSWERS)


def pair(site: Site, primary: str, peer: str) -> None:
    site.until_answers(primary)
    site.until(lambda: site.told(peer).get("is_pairing_open"), f"{peer} waits for a pairing")
    witness = ("--witness", "10.10.10.13", "--witness-password-file", SECRET)
    address = site.lab.machines[peer].address
    site.ok(primary, "ha", "pair", "--peer", address, "--password-file", SECRET, *witness)
    site.until_sync(60)


@pytest.fixture
def site() -> Iterator[Site]:
    """Machines with the product's programs and no configuration; mse1 and mse2 are set up."""
    try:
        requirements.check(str(IMAGE_ROOT))
    except MseError as error:
        pytest.skip(str(error))
    places = Places.of(f"ts{secrets.token_hex(4)}")
    try:
        laboratory = Laboratory._build(places, Wanted(failover_wait_s=2.0), lambda text: None)
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
    change_roles_with_the_survivor(site)


def set_up_and_pair(site: Site) -> None:
    said = set_up(site, "mse1", PRIMARY)
    assert "[   green   ] Address: 10.10.10.10 is free." in said
    assert "[   green   ] nftables" in said
    assert "Success" in said
    set_up(site, "mse2", SECONDARY)
    for machine in site.lab.machines:
        site.run(machine, "touch", ENABLED)
    pair(site, "mse1", "mse2")
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
    site.ok("mse1", "node", "stop")
    site.run("mse1", "rm", "-f", CONFIG_PATH)
    set_up(site, "mse1", RECOVERY)
    config = site.run("mse1", "cat", CONFIG_PATH).stdout
    assert 'virtual_ips = ["10.10.10.10/24"]' in config
    assert 'address = "10.10.10.13"' in config, "the witness too is known from the facts"
    site.start("mse1")
    site.until_sync(60)
    assert site.owner() == "mse2", "it came back as the old owner that rejoins"
    site.ok("mse2", "ha", "failback")
    site.until_owner("mse1")
    site.until_sync(60)
    assert site.value("select count(*) from kept") == "2"


def change_roles_with_the_survivor(site: Site) -> None:
    """A primary that lost everything, as docs/setup.md tells; no row of the survivor is lost."""
    site.lab.power_off("mse1")
    site.until_owner("mse2")
    site.sql("insert into kept values (3)")
    site.ok("mse2", "ha", "unpair", "--yes", "--without-peer")
    site.ok("mse2", "node", "stop")
    role = PRIMARY.replace('"mse1"', '"mse2"').replace("10.10.10.12", "10.10.10.11")
    set_up(site, "mse2", role)
    site.start("mse2")
    site.until_owner("mse2")
    assert site.value("select count(*) from kept") == "3"

    site.lab.power_on("mse1")
    site.until_answers("mse1")
    site.ok("mse1", "node", "stop")
    site.run("mse1", "sh", "-c", f"rm -rf /var/lib/openmse/* {CONFIG_PATH}")
    set_up(site, "mse1", SECONDARY.replace('"mse2"', '"mse1"'))
    site.start("mse1")
    pair(site, "mse2", "mse1")
    assert site.owner() == "mse2"
    site.ok("mse2", "ha", "switchover")
    site.until_owner("mse1")
    assert site.value("select count(*) from kept") == "3"
