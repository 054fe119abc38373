"""Setup beside an engine that runs (the real core behind a control socket): what it refuses."""

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from setup_command import CONFIG, Setup
from setup_root import debian, picture, write

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from live_core import LiveCore, NoPairing, daemon, serving

from openmse.node.group import GroupInfo, NodeInfo
from openmse.setup import texts

NETWORK = '[interface.eth0]\naddress = "{}"\nnetmask = "255.255.255.0"\ngateway = "none"\n'


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, capsys: object) -> Setup:
    """A configured primary, with a short path for its socket."""
    root = debian(tmp_path_factory.mktemp("m"))
    write(root, "etc/openmse/openmse.toml", CONFIG)
    (root / "run/openmse").mkdir()
    return Setup(root, capsys)  # type: ignore[arg-type]


@pytest.fixture
def engine(machine: Setup) -> Iterator[NoPairing]:
    """Its daemon, which remembers what it was asked."""
    with daemon(machine.root / "run/openmse/control.sock", LiveCore(serving())) as pairing:
        yield pairing


def files(machine: Setup) -> dict[str, str]:
    return {name: text for name, text in picture(machine.root).items() if "sock" not in name}


def test_a_role_change_is_refused_with_the_guides_three_lines(
    machine: Setup, engine: NoPairing
) -> None:
    before = files(machine)
    ran = machine.answers('[ha]\nrole = "secondary"\n' + NETWORK.format("10.10.10.12"))
    assert ran.code == 3
    assert ran.out.endswith(f"Applying High Availability configuration\n{texts.SWITCHED_ROLES}\n")
    assert "nothing was changed" in ran.err
    assert files(machine) == before


@pytest.mark.parametrize(
    "text",
    [
        NETWORK.format("10.10.10.22"),
        '[ha]\nrole = "primary"\nvirtual_ip = "10.10.10.99"\n',
        'hostname = "other"\n',
    ],
    ids=["address", "virtual IP", "name"],
)
def test_what_the_running_engine_rests_on_is_not_changed(
    machine: Setup, engine: NoPairing, text: str
) -> None:
    before = files(machine)
    ran = machine.answers(text)
    assert ran.code == 3
    assert "The health monitor runs" in ran.err
    assert files(machine) == before


def test_other_things_are_changed_while_it_runs(machine: Setup, engine: NoPairing) -> None:
    ran = machine.answers('[time]\nzone = "Asia/Tokyo"\n')
    assert ran.code == 0, ran.err
    assert files(machine)["etc/timezone"].endswith("Asia/Tokyo\n")


def test_a_role_change_of_a_stopped_engine_is_applied(machine: Setup) -> None:
    ran = machine.answers('[ha]\nrole = "secondary"\n' + NETWORK.format("10.10.10.12"))
    assert ran.code == 0, ran.err
    assert 'role = "secondary"' in files(machine)["etc/openmse/openmse.toml"]


def paired(machine: Setup) -> None:
    nodes = (NodeInfo("mse1", "10.10.10.12"), NodeInfo("mse2", "10.10.10.13"))
    info = GroupInfo("0123456789ab", "mse1", nodes, ("10.10.10.11/24",))
    write(machine.root, "var/lib/openmse/group.json", msgspec.json.encode(info).decode())


def test_unpair_dissolves_the_pair_before_anything_is_applied(
    machine: Setup, engine: NoPairing
) -> None:
    paired(machine)
    ran = machine.answers('[time]\nzone = "Asia/Tokyo"\n')
    assert (ran.code, engine.asked) == (3, [])
    ran = machine.answers('[time]\nzone = "Asia/Tokyo"\n', "--unpair")
    assert ran.code == 0, ran.err
    assert engine.asked == [("unpair", False)]
    assert ran.out.index("dissolved") < ran.out.index("Applying timezone")


def test_unpair_needs_the_engine_and_changes_nothing_without_it(machine: Setup) -> None:
    paired(machine)
    before = files(machine)
    ran = machine.answers('[time]\nzone = "Asia/Tokyo"\n', "--unpair")
    assert ran.code == 4
    assert files(machine) == before


def test_bad_answers_do_not_dissolve_a_pair(machine: Setup, engine: NoPairing) -> None:
    paired(machine)
    assert machine.answers('[time]\nzone = "Mars"\n', "--unpair").code == 2
    assert engine.asked == []


def test_a_dry_run_beside_a_running_engine_shows_and_asks_nobody(
    machine: Setup, engine: NoPairing
) -> None:
    paired(machine)
    before = files(machine)
    text = '[ha]\nrole = "secondary"\n' + NETWORK.format("10.10.10.12")
    ran = machine.answers(text, "--dry-run", "--unpair")
    assert ran.code == 0, ran.err
    assert '+role = "secondary"' in ran.out
    assert (files(machine), engine.asked) == (before, [])
