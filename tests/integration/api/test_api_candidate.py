"""Which machines may be paired is asked before anything is changed: over real TLS, both ways."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


GROUP = GroupInfo(
    "floor1",
    "mse2",
    (NodeInfo("mse1", "10.10.10.11"), NodeInfo("mse2", "10.10.10.12")),
    ("10.10.10.10/24",),
)


@contextmanager
def backing(secondary: Served, kind: MachineKind | None) -> Iterator[None]:
    """It is paired with a primary of this kind (None: which has not told yet)."""
    state = secondary.machine.state
    save(state / "group.json", GROUP)
    if kind is not None:
        told = peers.Told("mse2", f"AIR-MSE-{kind}-K9:V01:1", Kind(kind, False), "1")
        peers.write(state, {"mse2": told})
    try:
        yield
    finally:
        (state / "group.json").unlink()
        (state / peers.NAME).unlink(missing_ok=True)


def test_a_primary_tells_nothing(primary: Machine) -> None:
    with primary.serve() as served:
        served.refused("GET", "/v1/candidate", 409, "MSE-CMD-001", auth=None)
        with pytest.raises(CandidateUnknown, match="does not tell what machine it runs on"):
            ask("127.0.0.1", served.port)


@pytest.mark.parametrize(
    ("kind", "own", "is_direct", "why"),
    [
        ("3310", "3310", True, "A direct connection is available for one primary only."),
        ("3310", "3310", False, "A node of this version backs one primary."),
        ("3350", "3365", False, "A 3355 does not back a 3350 and a 3365 at once."),
        (None, "3310", False, "The machine type of one of the primaries is not known yet."),
    ],
)
def test_a_secondary_that_backs_a_primary_gets_no_other_one(
    secondary: Served, kind: str | None, own: str, is_direct: bool, why: str
) -> None:
    """The rules of the guide for two primaries first: no cable, and the matrix."""
    becomes(secondary.machine.root, "3355")
    here = Kind(MachineKind(own), False)
    try:
        with backing(secondary, MachineKind(kind) if kind else None):
            with pytest.raises(PairingMatrixRefused) as refused:
                compare(here, "127.0.0.1", secondary.port, is_direct=is_direct)
            password = Places(secondary.machine.state, Path("/")).pairing_password
            password.write_bytes(b"{}")  # while it stands its own primary may come again
            try:
                assert ask("127.0.0.1", secondary.port).backs == ()
            finally:
                password.unlink()
    finally:
        becomes(secondary.machine.root, "3310")
    taken = "127.0.0.1 backs a primary already and gets no other one"
    assert refused.value.sentence == f"{taken}: {why} Nothing was changed."
    assert "'mse ha unpair' there" in refused.value.hint


def test_the_command_refuses_a_second_primary_over_a_cable(
    secondary: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own end of a cable is in its file, and it is told before any password is asked for."""
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        machine = CliMachine(Path(name), capsys)
        becomes(machine.directory, "3310")
        machine.write(node='direct_interface = "eth1"\ndirect_address = "192.168.77.11/24"')
        pair = ("ha", "pair", "--peer", "127.0.0.1", "--no-witness")
        with (
            daemon(machine.socket, LiveCore(serving())) as pairing,
            backing(secondary, MachineKind.MSE_3310),
        ):
            refused = machine.run(*pair, "--management-port", str(secondary.port))
            assert (refused.code, pairing.asked) == (3, [])
        assert "MSE-PLT-003: 127.0.0.1 backs a primary already" in refused.err
        assert "A direct connection is available for one primary only." in refused.err


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
