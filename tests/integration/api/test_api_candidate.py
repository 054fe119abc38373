"""Which machines may be paired is asked before anything is changed: over real TLS, both ways."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "cli"))

from api_machine import Machine, Served
from cli_machine import CliMachine
from live_core import LiveCore, NoPairing, daemon, serving

from openmse.cli.doctor import findings
from openmse.cli.doctor_facts import gather
from openmse.node.config import Places
from openmse.node.group import GroupInfo, NodeInfo, save
from openmse.platform import peers
from openmse.platform.candidate import ask, compare, this_machine
from openmse.platform.errors import CandidateUnknown, PairingMatrixRefused
from openmse.platform.machines import Machine as Kind
from openmse.platform.machines import MachineKind

PASSWORD = "pairing secret 1"


def becomes(root: Path, kind: str) -> None:
    """Say in platform.toml what machine it is."""
    (root / "platform.toml").write_text(f'[platform]\nmachine = "{kind}"\n')


@pytest.fixture(scope="module")
def secondary() -> Iterator[Served]:
    """A 3310 that waits to be paired; no health monitor needs to run for that."""
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        machine = Machine(Path(name), role="secondary")
        becomes(machine.root, "3310")
        with machine.serve() as found:
            yield found


@pytest.fixture
def primary() -> Iterator[Machine]:
    """A 3355."""
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        machine = Machine(Path(name))
        becomes(machine.root, "3355")
        yield machine


def test_a_waiting_secondary_tells_anybody_what_it_is(secondary: Served) -> None:
    told = secondary.ok("GET", "/v1/candidate", auth=None)
    assert told["machine"] == {"kind": "3310", "is_virtual": False, "size": None}
    assert ask("127.0.0.1", secondary.port).machine == Kind(MachineKind.MSE_3310, False)
    assert compare(Kind(MachineKind.MSE_3310, False), "127.0.0.1", secondary.port) == ""
    with pytest.raises(PairingMatrixRefused, match="A 3310 does not back a 3355"):
        compare(Kind(MachineKind.MSE_3355, False), "127.0.0.1", secondary.port)


def test_a_generic_machine_tells_its_size(secondary: Served) -> None:
    becomes(secondary.machine.root, "generic")
    try:
        here = this_machine(secondary.machine.config, secondary.machine.state)
        assert ask("127.0.0.1", secondary.port).machine == here
        assert here.size is not None
        assert compare(here, "127.0.0.1", secondary.port) == "", "as large as itself"
    finally:
        becomes(secondary.machine.root, "3310")


def test_who_is_paired_or_a_primary_tells_nothing(secondary: Served, primary: Machine) -> None:
    nodes = (NodeInfo("mse1", "10.10.10.11"), NodeInfo("mse2", "10.10.10.12"))
    path = secondary.machine.state / "group.json"
    save(path, GroupInfo("floor1", "mse2", nodes, ("10.10.10.10/24",)))
    try:
        secondary.refused("GET", "/v1/candidate", 409, "MSE-CMD-001", auth=None)
        with pytest.raises(CandidateUnknown, match="does not tell what machine it runs on"):
            ask("127.0.0.1", secondary.port)
    finally:
        path.unlink()
    with primary.serve() as served:
        served.refused("GET", "/v1/candidate", 409, "MSE-CMD-001", auth=None)


def test_the_doctor_warns_of_a_pair_that_was_made_unseen(primary: Machine) -> None:
    nodes = (NodeInfo("mse1", "10.10.10.11"), NodeInfo("mse2", "10.10.10.12"))
    save(primary.state / "group.json", GroupInfo("floor1", "mse1", nodes, ("10.10.10.10/24",)))
    there = Kind(MachineKind.MSE_3310, False)
    peers.write(primary.state, {"mse2": peers.Told("mse2", "AIR-MSE-3310-K9:V01:1", there, "1")})

    def found() -> list[str]:
        facts = gather(primary.config, Places(primary.state, primary.root / "run"), None)
        return [one.sentence for one in findings(None, facts) if one.code == "machines_unequal"]

    why = "mse1 and mse2 are no pair by their machine types: A 3310 does not back a 3355: "
    assert found() == [f"{why}what backs it is 3350, 3355."]
    becomes(primary.root, "3310")
    assert found() == []


def test_the_api_refuses_a_secondary_that_is_too_small(secondary: Served, primary: Machine) -> None:
    pairing = NoPairing()
    where = {"peer": "127.0.0.1", "management_port": secondary.port, "password": PASSWORD}
    with primary.monitor(pairing=pairing), primary.serve() as served:
        error = served.refused("POST", "/v1/ha/pair?wait_s=10", 409, "MSE-PLT-003", json=where)
        assert error["sentence"].endswith("Nothing was changed.")
        assert pairing.asked == []
        becomes(primary.root, "3310")
        done = served.ok("POST", "/v1/ha/pair?wait_s=10", json=where)
    assert (done["state"], done["sentence"]) == ("done", "paired")
    assert len(pairing.asked) == 1


def test_the_command_refuses_it_before_it_asks_for_a_password(
    secondary: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        machine = CliMachine(Path(name), capsys)
        becomes(machine.directory, "3355")
        password = tmp_path / "password"
        password.write_text(PASSWORD)
        port = ("--management-port", str(secondary.port))
        pair = ("ha", "pair", "--peer", "127.0.0.1", "--no-witness", *port)
        with daemon(machine.socket, LiveCore(serving())) as pairing:
            refused = machine.run(*pair)
            assert (refused.code, pairing.asked) == (3, [])
            assert "MSE-PLT-003: A 3310 does not back a 3355" in refused.err
            becomes(machine.directory, "3310")
            done = machine.run(*pair, "--password-file", str(password))
            assert (done.code, done.err, len(pairing.asked)) == (0, "", 1)


def test_where_nobody_can_tell_pairing_goes_on_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        machine = CliMachine(Path(name), capsys)
        password = tmp_path / "password"
        password.write_text(PASSWORD)
        # Port 1 of an address of the loopback that nobody uses.
        pair = ("ha", "pair", "--peer", "127.9.9.9", "--management-port", "1", "--no-witness")
        with daemon(machine.socket, LiveCore(serving())) as pairing:
            done = machine.run(*pair, "--password-file", str(password))
        assert (done.code, len(pairing.asked)) == (0, 1)
        assert "The machine types were not compared: the management API of 127.9.9.9" in done.err
