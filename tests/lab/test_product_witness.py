"""The third vote of a running pair: removed, replaced, lost, back, and kept in etcd."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from operating import OTHER, OnePair, Site

from openmse.lab.programs import WITNESS_CONFIG_PATH

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]

SECRET = "/etc/openmse/tried-password"
REPLACE = ("ha", "witness", "replace", "--address", "10.10.10.13", "--password-file", SECRET)
INIT = ("witness", "init", "--config", WITNESS_CONFIG_PATH, "--password-file", SECRET)
ETCD_URL = "http://10.10.10.13:2379"


@pytest.fixture
def pair(one_pair: OnePair) -> Site:
    """The shared pair in SYNC; every machine has a file with a password."""
    at = one_pair.mended()
    if one_pair.is_first("with passwords"):
        script = f"umask 077; echo correct-horse > {SECRET}; sync {SECRET}"
        for name in at.lab.machines:
            assert at.run(name, "sh", "-c", script).returncode == 0
        at.ok("witness", *INIT, "--force")
    return at


def test_a_witness_is_removed_and_given_again_under_load(pair: Site) -> None:
    owner = pair.owner()
    with pair.load():
        pair.refused(
            OTHER[owner],
            "ha",
            "witness",
            "remove",
            "--yes",
            code=3,
            match=f"Run the command on {owner}",
        )
        pair.ok(owner, "ha", "witness", "remove", "--yes")
        pair.until_mode("PINNED", 10)
        assert "no_witness" in pair.findings(owner)
        pair.refused(owner, "ha", "witness", "remove", "--yes", code=3, match="has no witness")
        pair.ok(owner, *REPLACE)
        assert pair.until_sync() < 20
    assert pair.register()["voters"] == ["mse1", "mse2", "witness"]


def _stop_writing(at: Site) -> None:
    """Stop the witness, so that it does not write its record again before it is killed."""
    pid = at.lab.pids("witness")["witness"]
    assert pid
    os.kill(pid, signal.SIGSTOP)


def test_a_witness_that_lost_its_disk_is_replaced_by_itself_anew(pair: Site) -> None:
    """Keys and records are gone: nobody can tell it from a stranger, so it is enrolled again."""
    owner = pair.owner()
    _stop_writing(pair)
    pair.run("witness", "sh", "-c", "rm -r /var/lib/openmse-witness")
    pair.lab.kill("witness", "witness")
    with pair.load():
        pair.until(lambda: "witness_lost" in pair.alarms(owner), "the witness is missed")
        pair.until(lambda: pair.lab.pids("witness")["witness"], "it runs again")
        pair.ok("witness", *INIT)
        pair.ok(owner, *REPLACE)
        pair.until(lambda: "witness_lost" not in pair.alarms(owner), "it is heard")
    pair.until_sync()


def test_a_witness_that_lost_a_record_is_readmitted_by_enrolling_it_again(pair: Site) -> None:
    """What it had promised is gone: it says so, and votes only once it is re-admitted."""
    owner = pair.owner()
    find = "find /var/lib/openmse-witness -name 'register*' -type f"
    assert pair.run("witness", "sh", "-c", find).stdout, "the files are where they were"
    _stop_writing(pair)
    pair.run("witness", "sh", "-c", f"{find} -delete")
    pair.lab.kill("witness", "witness")
    with pair.load():
        pair.until(lambda: "witness_lost" in pair.alarms(owner), "the witness is missed")
        groups = pair.ok("witness", "witness", "groups", "--config", WITNESS_CONFIG_PATH)
        assert "NOT SERVED" in groups
        group = str(pair.told(owner)["group"])
        pair.refused(owner, *REPLACE, code=1, match=f"mse witness forget {group}")
        forget = ("witness", "forget", "--config", WITNESS_CONFIG_PATH, "--yes", group)
        pair.ok("witness", *forget)
        pair.ok(owner, *REPLACE)
        pair.until(lambda: "witness_lost" not in pair.alarms(owner), "it is heard")
    pair.until_sync()
    pair.lab.power_off(owner)  # and its vote counts
    pair.until_owner(OTHER[owner], 15)


def test_a_lost_witness_pins_the_owner_and_its_return_frees_it(pair: Site) -> None:
    owner = pair.owner()
    with pair.load():
        pair.lab.power_off("witness")
        took = pair.until(lambda: pair.register()["mode"] == "PINNED", "the owner is pinned", 90)
        assert 50 < took < 75
        assert pair.owner() == owner
        assert pair.told(owner)["state"] == "PINNED"
        other = OTHER[owner]  # it hears of it last
        pair.until(lambda: pair.told(other).get("state") == "PINNED", f"{other} says so, too")
        pair.lab.power_on("witness")
        assert pair.until_sync() < 25


@contextmanager
def _etcd(at: Site) -> "Iterator[None]":
    process = at.lab.popen(
        "witness",
        [
            *("etcd", "--name=w", "--data-dir=/var/lib/etcd-of-the-test", "--unsafe-no-fsync"),
            *(f"--listen-client-urls={ETCD_URL}", f"--advertise-client-urls={ETCD_URL}"),
            *("--listen-peer-urls=http://127.0.0.1:2380", "--log-level=error"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with process:
        try:
            yield
        finally:
            process.kill()


def test_etcd_as_the_witness_of_a_pair(pair: Site) -> None:
    if pair.run("witness", "sh", "-c", "command -v etcd").returncode:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    owner = pair.owner()
    other = OTHER[owner]
    replace = ("ha", "witness", "replace", "--kind", "etcd", "--name", "etcd", "--endpoint")
    pair.refused(owner, *replace[:-1], code=2, match="needs --endpoint")
    pair.refused(owner, *replace, ETCD_URL, code=1, match="etcd")
    with _etcd(pair):
        with pair.load() as load:
            pair.until(lambda: pair.mse(owner, *replace, ETCD_URL).returncode == 0, "etcd votes")
            pair.until_sync()
            assert pair.register()["voters"] == ["mse1", "mse2", "etcd"]
            began = time.monotonic()
            pair.lab.power_off(owner)
            pair.until(lambda: load.last_served_by() == other, f"{other} serves", 15)
            assert time.monotonic() - began < 6
            pair.lab.power_on(owner)
            pair.until_sync()
        pair.ok(other, *REPLACE)
        pair.until_sync()
    assert pair.register()["voters"] == ["mse1", "mse2", "witness"]
