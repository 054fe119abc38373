"""Making and dissolving pairs with the product's own commands, and what they refuse."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from operating import Site, site

from openmse.cli.doctor import SLOW_LOOP_MS
from openmse.lab import client
from openmse.lab.programs import CONFIG_PATH, PYTHON, WITNESS_CONFIG_PATH

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]

SECRET = "/etc/openmse/tried-password"
PEER = ("ha", "pair", "--peer", "10.10.10.12", "--password-file", SECRET)
WITNESS = ("--witness", "10.10.10.13", "--witness-password-file", SECRET)


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    """A pair with a witness, failover wait 2 s; every machine has a file with a password."""
    with site() as built:
        for name in built.lab.machines:
            _write(built, name, SECRET, "correct horse")
        init = ("witness", "init", "--config", WITNESS_CONFIG_PATH, "--password-file", SECRET)
        built.ok("witness", *init, "--force")
        yield built


@pytest.fixture
def pair(shared: Site) -> Site:
    """The pair in SYNC, owned by mse1; paired anew where a test before left it apart."""
    for name in shared.lab.machines:
        if not shared.lab.has_power(name):
            shared.lab.power_on(name)
    shared.lab.heal()
    shared.until(lambda: all(shared.told(name) for name in ("mse1", "mse2")), "both answer")
    if shared.told("mse1")["peer"] is None:
        if shared.told("mse2")["peer"] is not None:
            shared.ok("mse2", "ha", "unpair", "--yes", "--without-peer")
        _pair(shared)
    shared.until_sync()
    if shared.owner() != "mse1":
        shared.ok("mse2", "ha", "switchover")
        shared.until_sync()
    return shared


@pytest.fixture
def apart(pair: Site) -> Site:
    """Two nodes without a pair; the secondary waits for a pairing."""
    pair.ok("mse1", "ha", "unpair", "--yes")
    pair.until(lambda: pair.has_left("mse2"), "mse2 has left")
    pair.ok("mse2", "node", "init", "--pairing-password-file", SECRET)
    pair.until(lambda: pair.told("mse2").get("is_pairing_open"), "mse2 waits for a pairing")
    return pair


def _write(at: Site, machine: str, path: str, text: str) -> None:
    done = at.run(machine, "sh", "-c", f"umask 077; cat > {path}; sync {path}", typed=f"{text}\n")
    assert done.returncode == 0, done.stderr


def _pair(at: Site, primary: str = "mse1", peer: str = "mse2") -> None:
    at.ok(peer, "node", "init", "--pairing-password-file", SECRET)
    at.until(lambda: at.told(peer).get("is_pairing_open"), f"{peer} waits for a pairing")
    address = at.lab.machines[peer].address
    at.ok(primary, "ha", "pair", "--peer", address, "--password-file", SECRET, *WITNESS)


# ---------------------------------------------------------------------- unpairing


def _is_single(at: Site, node: str) -> bool:
    """Whether a node knows of itself alone."""
    register = at.told(node).get("register") or {}
    return (register.get("voters"), register.get("mode")) == ([node], "ALONE")


def _due(at: Site, node: str) -> set[str]:
    """What an unpaired node has to find: also that its machine is slow, if it has been."""
    is_slow = at.told(node).get("loop_lag_ms", 0.0) > SLOW_LOOP_MS
    return {"unpaired"} | ({"slow_machine"} if is_slow else set())


@pytest.mark.parametrize("node", ["mse1", "mse2"])
def test_unpair_from_either_node_and_pair_again(pair: Site, node: str) -> None:
    with pair.load():
        assert "dissolved" in pair.ok(node, "ha", "unpair", "--yes")
        if node == "mse2":  # it has left as soon as it has stopped its copy
            pair.until(lambda: _is_single(pair, "mse1"), "mse1 has dissolved the pair")
        assert _is_single(pair, "mse1"), pair.story()
        pair.until(lambda: pair.has_left("mse2"), "mse2 has left")
        assert pair.lab.pids("mse2")["postgres"] is None
        pair.until(lambda: set(pair.findings("mse2")) == _due(pair, "mse2"), "it finds just that")
        pair.refused(node, "ha", "unpair", "--yes", code=3, match="nothing was changed")
        _pair(pair)  # the old copy on the secondary is not in the way
        pair.until_sync()


def test_unpair_when_the_other_node_is_off(pair: Site) -> None:
    pair.lab.power_off("mse2")
    before = pair.register()
    refused = ("ha", "unpair", "--yes")
    pair.refused("mse1", *refused, code=3, match="--without-peer")
    assert pair.register()["voters"] == before["voters"]
    pair.until(lambda: "maintenance" not in pair.alarms("mse1"), "nothing of it is left")
    with pair.load():
        assert "does not know it" in pair.ok("mse1", *refused, "--without-peer")
        assert pair.register()["voters"] == ["mse1"]
        pair.lab.power_on("mse2")
        pair.until(lambda: pair.told("mse2").get("state") == "WAITING", "mse2 waits", 20)
        pair.refused("mse2", *refused, code=3, match="--without-peer")
        pair.ok("mse2", *refused, "--without-peer")
        assert pair.lab.pids("mse2")["postgres"] is None
        _pair(pair)
        pair.until_sync()


def test_a_primary_that_does_not_own_is_not_unpaired(pair: Site) -> None:
    pair.ok("mse1", "ha", "switchover")
    pair.until_sync()
    words = ("ha", "unpair", "--yes")
    pair.refused("mse2", *words, code=3, match="failback")
    pair.refused("mse1", *words, "--without-peer", code=3, match="its older copy")
    assert pair.register()["mode"] == "SYNC"


def test_the_primary_is_lost_and_the_secondary_becomes_the_primary(pair: Site) -> None:
    """The whole way: unpaired by the survivor, roles exchanged in the files, paired again."""
    pair.lab.power_off("mse1")
    pair.until_owner("mse2")
    pair.value("create table if not exists survived (n int)")
    pair.ok("mse2", "ha", "unpair", "--yes", "--without-peer")
    assert pair.register()["primary"] == "mse2"
    pair.lab.power_on("mse1")
    _exchange_roles(pair, mse1="secondary", mse2="primary")
    with pair.load():
        pair.ok("mse1", "ha", "unpair", "--yes", "--without-peer")
        _pair(pair, "mse2", "mse1")
        pair.until_sync()
    assert (pair.owner(), pair.register()["primary"]) == ("mse2", "mse2")
    # and home again
    pair.ok("mse2", "ha", "switchover")
    pair.until_sync()
    pair.lab.power_off("mse2")
    pair.until(lambda: "peer_lost" in pair.alarms("mse1"), "mse2 is missed")
    pair.ok("mse1", "ha", "unpair", "--yes", "--without-peer")
    pair.lab.power_on("mse2")
    _exchange_roles(pair, mse1="primary", mse2="secondary")
    pair.ok("mse2", "ha", "unpair", "--yes", "--without-peer")
    _pair(pair)
    pair.until_sync()


def _exchange_roles(at: Site, **roles: str) -> None:
    for name, role in roles.items():
        at.until_answers(name)
        edit = f's/^role = .*/role = "{role}"/'
        script = f"sed -i '{edit}' {CONFIG_PATH}; sync {CONFIG_PATH}"
        assert at.run(name, "sh", "-c", script).returncode == 0
        at.restart(name)
        at.until_answers(name)


@contextmanager
def _copy_watched(at: Site, machine: str) -> Iterator[list[int]]:
    """A copy's progress in percent, each time ``mse ha status --watch --json`` shows one."""
    percents: list[int] = []
    is_over = threading.Event()
    command = ["mse", "ha", "status", "--watch", "--json"]

    def watch() -> None:
        while not is_over.is_set():  # begun again when the daemon begins a new life
            output, nothing = subprocess.PIPE, subprocess.DEVNULL
            with at.lab.popen(machine, command, stdout=output, stderr=nothing, text=True) as told:
                assert told.stdout is not None
                for line in told.stdout:
                    shown = json.loads(line)["progress_percent"]
                    percents.extend([shown] if shown >= 0 else [])
                    if is_over.is_set():
                        told.kill()
                        break  # what it was just writing may be half a line

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield percents
    finally:
        is_over.set()
        watching.join()


def test_a_new_primary_and_an_old_copy_of_another_group(apart: Site) -> None:
    """The primary was set up anew; what the secondary holds belongs to another history."""
    apart.value("create table if not exists old_group (n int)")
    apart.stop("mse1")
    apart.run("mse1", "sh", "-c", "rm -r /var/lib/openmse")
    apart.ok("mse1", "node", "init")
    apart.start("mse1")
    apart.until(lambda: apart.told("mse1").get("admits_clients"), "the new group serves", 30)
    secret = apart.run("mse1", "cat", "/var/lib/openmse/postgres/client_password").stdout
    authority = apart.run("mse1", "cat", "/var/lib/openmse/pki/ca.crt").stdout
    client.write_files(apart.lab.places, secret.strip(), authority)
    apart.lab.slow("mse2", delay_ms=60)  # so that the copy takes longer than a look at it
    with _copy_watched(apart, "mse2") as percents:
        apart.ok("mse1", *PEER, *WITNESS)
        apart.until_mode("SYNC", 60)
    apart.lab.heal()
    print(f"progress of the copy, percent: {percents}")
    assert len(set(percents)) > 1, percents
    assert percents == sorted(percents), "the progress of the copy never goes down"
    kept = apart.run("mse2", "ls", "/var/lib/openmse/postgres").stdout.split()
    assert [name for name in kept if name.startswith("data.left-")], kept
    assert "data_kept" in apart.events("mse2")
    with apart.load():
        assert apart.value("select count(*) from pg_class where relname = 'old_group'") == "0"
        apart.ok("mse1", "ha", "switchover")
        apart.until_sync()


# ---------------------------------------------------------------------- refusals


def test_what_pairing_refuses_changes_nothing(apart: Site) -> None:
    before = (apart.register(), apart.run("mse1", "cat", "/var/lib/openmse/group.json").stdout)

    def pair(peer: str, *more: str) -> tuple[str, ...]:
        return ("ha", "pair", "--peer", peer, "--password-file", SECRET, *more)

    alone = "--no-witness"
    for words, code, match in (
        (pair("10.10.10.11", alone), 2, "this node's own"),
        (pair("10.10.10.10", alone), 2, "is an address of this node"),
        (pair("10.10.10.20", alone), 1, "Nobody answers at 10.10.10.20"),
        (pair("10.10.10.300", alone), 2, "is not an IP address"),
        (pair("10.10.10.12", alone, "--port", "1"), 1, "Nobody answers"),
        (pair("10.10.10.12", *WITNESS, "--witness-port", "1"), 1, "Nobody answers"),
        (pair("10.10.10.12", "--witness", "10.10.10.11", *WITNESS[2:]), 2, "lost together"),
        (pair("10.10.10.12", "--witness", "10.10.10.12", *WITNESS[2:]), 1, "another role"),
    ):
        apart.refused("mse1", *words, code=code, match=match)
    apart.refused("mse2", *PEER, alone, code=2, match="configured as the secondary")
    after = (apart.register(), apart.run("mse1", "cat", "/var/lib/openmse/group.json").stdout)
    assert after == before
    assert apart.told("mse2")["state"] == "WAITING"
    assert apart.told("mse2")["is_pairing_open"]


def test_wrong_passwords_are_limited(apart: Site) -> None:
    _write(apart, "mse1", f"{SECRET}.wrong", "incorrect horse")
    wrong = ("ha", "pair", "--peer", "10.10.10.12", "--no-witness", "--password-file")
    for _ in range(5):
        apart.refused("mse1", *wrong, f"{SECRET}.wrong", code=1, match="MSE-PAIR-004")
    apart.refused("mse1", *wrong, SECRET, code=1, match="Too many wrong passwords")
    assert "pairing_refused" in apart.events("mse2")
    assert apart.register()["voters"] == ["mse1"]
    apart.ok("mse2", "node", "init", "--pairing-password-file", SECRET)  # ends the wait
    apart.ok("mse1", *PEER, *WITNESS)
    apart.until_sync()


def test_a_paired_node_is_not_paired_again(pair: Site) -> None:
    before = pair.register()
    pair.refused("mse1", *PEER, *WITNESS, code=3, match="paired already")
    pair.refused(
        "mse2", "node", "init", "--pairing-password-file", SECRET, code=3, match="paired already"
    )
    assert pair.register() == before


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        ("s/10.10.10.10.24/10.10.10.11\\/24/", "10.10.10.11"),
        ("s/10.10.10.10.24/10.10.99.10\\/24/", "10.10.99.10"),
        ("s/^failover_wait_s.*/failover_wait_s = 0.5/", "0.5 s; it must lie between 2 s"),
        ("s/^failover_wait_s/failover_weight_s/", "failover_weight_s"),
        ("s/^name = .mse1./name = 'mse 1'/", "name"),
    ],
)
def test_a_configuration_that_cannot_be(pair: Site, edit: str, match: str) -> None:
    tried = "/etc/openmse/tried.toml"
    assert pair.run("mse1", "sh", "-c", f'sed "{edit}" {CONFIG_PATH} > {tried}').returncode == 0
    pair.refused("mse1", "--config", tried, "config", "check", code=2, match=match)
    daemon = pair.run("mse1", PYTHON, "-m", "openmse.node", "--config", tried)
    assert daemon.returncode == 2, daemon.stderr
    assert match in daemon.stderr
    assert "Traceback" not in daemon.stderr


def test_without_root(pair: Site) -> None:
    for words in (("node", "init"), ("ha", "switchover"), ("ha", "drill", "--yes")):
        done = pair.lab.exec("mse1", ["mse", *words], user="nobody")
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert "MSE-USE-002" in done.stderr, done.stderr
    daemon = pair.lab.exec("mse1", [PYTHON, "-m", "openmse.node"], user="nobody")
    assert "root" in daemon.stderr
    assert daemon.returncode == 1


def test_a_port_in_use_is_told(pair: Site) -> None:
    pair.stop("mse2")
    program = (
        "import socket, signal; s = socket.create_server(('10.10.10.12', 8461)); "
        "print(flush=True); signal.pause()"
    )
    squatter = pair.lab.popen(
        "mse2", [PYTHON, "-c", program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    with squatter:
        assert squatter.stdout is not None
        squatter.stdout.readline()
        pair.start("mse2")
        log = pair.lab.places.logs("mse2") / "guard.log"
        pair.until(lambda: "port 8461" in log.read_text(), "it is told", 20)
        squatter.kill()
    pair.until_sync()
