"""Machine types, the pairing matrix and its rule for measured machines, the UDI."""

import uuid
from itertools import product
from pathlib import Path

import pytest

from openmse.errors import MseError
from openmse.platform import measure, pairing, settings, udi
from openmse.platform.errors import (
    LicenceFileError,
    PairingMatrixRefused,
    PlatformConfigError,
)
from openmse.platform.machines import (
    CATALOGUE,
    GB,
    Machine,
    MachineKind,
    Size,
    device_type,
    element_limit,
    product_id,
)
from openmse.platform.pairing import ONE_TO_ONE, check_pair, why_no_pair

K = MachineKind
PAGE = Path(__file__).resolve().parents[3] / "docs" / "platform.md"
TABLE = """
3310        Y Y Y N N N N
3350        N Y Y N N N N
3355        N Y Y N N N N
3365        N N N Y N N N
VA-Low      N N N N Y Y Y
VA-Standard N N N N N Y Y
VA-High     N N N N N N Y
"""
"""The guide's table of 1:1 pairs, with the row and column of the 3365 from its text."""


def machine(kind: MachineKind) -> Machine:
    return Machine(kind, CATALOGUE[kind].is_virtual)


def measured(cores: int, memory: float, disk: float, *, is_virtual: bool = True) -> Machine:
    return Machine(K.GENERIC, is_virtual, Size(cores, round(memory * GB), round(disk * GB)))


def test_the_matrix_is_the_guides() -> None:
    rows = [line.split() for line in TABLE.split("\n") if line]
    kinds = [K(row[0]) for row in rows]
    assert kinds == list(ONE_TO_ONE)
    for primary, row in zip(kinds, rows, strict=True):
        for secondary, mark in zip(kinds, row[1:], strict=True):
            why = why_no_pair([machine(primary)], machine(secondary))
            assert (why == "") == (mark == "Y"), (primary, secondary, why)


def test_two_primaries_are_the_guides() -> None:
    backed = {
        K.MSE_3350: [(K.MSE_3310, K.MSE_3310)],
        K.MSE_3355: [
            (K.MSE_3310, K.MSE_3310),
            (K.MSE_3350, K.MSE_3350),
            (K.MSE_3310, K.MSE_3350),
        ],
    }
    for one, other, secondary in product(CATALOGUE, CATALOGUE, CATALOGUE):
        pairs = [*backed.get(secondary, []), *((b, a) for a, b in backed.get(secondary, []))]
        why = why_no_pair([machine(one), machine(other)], machine(secondary))
        assert (why == "") == ((one, other) in pairs), (one, other, secondary, why)


def test_a_cable_is_for_one_primary() -> None:
    big, small = machine(K.MSE_3355), machine(K.MSE_3310)
    assert why_no_pair([small], big, is_direct=True) == ""
    assert "direct connection" in why_no_pair([small, small], big, is_direct=True)


@pytest.mark.parametrize(
    ("primary", "secondary", "match"),
    [
        (measured(4, 8, 100), measured(4, 8, 100), ""),
        (measured(4, 8, 100), measured(8, 16, 200), ""),
        (measured(4, 8, 100), measured(4, 7.9, 98.5), ""),  # the same make, measured apart
        (measured(4, 8, 100), measured(3, 64, 900), "3 processors"),
        (measured(4, 8, 100), measured(4, 7, 100), "7.0 GB of memory"),
        (measured(4, 8, 100), measured(4, 8, 50), "50.0 GB of disk"),
        (measured(4, 8, 100), measured(4, 8, 100, is_virtual=False), "virtual machine and a phys"),
        (measured(4, 8, 100), Machine(K.GENERIC, True), "not known yet"),
        (measured(4, 8, 100), machine(K.VA_HIGH), "generic machines only"),
        (machine(K.VA_LOW), measured(64, 256, 9000), "generic machines only"),
    ],
)
def test_generic_machines_pair_by_size(primary: Machine, secondary: Machine, match: str) -> None:
    why = why_no_pair([primary], secondary)
    assert (why == "") == (match == "")
    assert match in why


def test_a_generic_secondary_of_two_has_room_for_both_databases() -> None:
    two = [measured(4, 8, 100, is_virtual=False)] * 2
    assert why_no_pair(two, measured(4, 8, 200, is_virtual=False)) == ""
    assert "disk" in why_no_pair(two, measured(4, 8, 150, is_virtual=False))
    virtual = [measured(4, 8, 100)] * 2
    assert "1:1 only" in why_no_pair(virtual, measured(4, 8, 300))


def test_what_does_not_pair_is_refused_with_its_sentence() -> None:
    with pytest.raises(PairingMatrixRefused, match="A 3310 does not back a 3355") as refused:
        check_pair([machine(K.MSE_3355)], machine(K.MSE_3310))
    assert refused.value.exit_code == 3
    check_pair([machine(K.MSE_3310)], machine(K.MSE_3355))
    three = [machine(K.MSE_3310)] * 3
    unknown = why_no_pair([None, machine(K.MSE_3310)], machine(K.MSE_3355))
    assert unknown == "The machine type of one of the primaries is not known yet."
    assert "2 primaries at most" in why_no_pair(three, machine(K.MSE_3355))
    assert why_no_pair([], machine(K.MSE_3355))


@pytest.mark.parametrize(
    ("cores", "memory", "limit"),
    [(2, 6, 2_000), (8, 10, 2_000), (7, 64, 2_000), (8, 11, 18_000), (16, 20, 50_000)],
)
def test_the_limit_of_a_generic_machine(cores: int, memory: float, limit: int) -> None:
    assert element_limit(measured(cores, memory, 100)) == limit


def test_names_of_machines() -> None:
    assert element_limit(machine(K.MSE_3365)) == 50_000
    assert product_id(machine(K.VA_LOW)) == "AIR-MSE-VA-K9"
    assert product_id(Machine(K.GENERIC, False)) == "OPENMSE-HW"
    assert element_limit(Machine(K.GENERIC, False)) == 2_000
    assert device_type(machine(K.MSE_3355)) == "Cisco 3355 Mobility Services Engine"
    assert device_type(Machine(K.GENERIC, True)).endswith("Virtual Appliance")


def test_this_machine_can_be_measured(tmp_path: Path) -> None:
    found = measure.machine(K.GENERIC, tmp_path / "not" / "there" / "yet")
    assert found.size is not None
    assert found.size.cores >= 1
    assert found.size.memory_bytes > 1 << 28
    assert found.size.disk_bytes > 1 << 20
    assert why_no_pair([found], found) == ""
    assert measure.machine(K.VA_LOW, tmp_path) == Machine(K.VA_LOW, True)


def test_the_page_shows_the_matrix() -> None:
    assert pairing.as_markdown() in PAGE.read_text()


# ------------------------------------------------------------------------------ UDI


def test_a_udi_is_read_and_written() -> None:
    text = "AIR-MSE-VA-K9:V01:NicoMSE_00000000-0000-0000-0000-000000000000"
    found = udi.parse(text)
    assert (found.product_id, found.hw_version) == ("AIR-MSE-VA-K9", "V01")
    assert str(found) == text
    assert found.is_virtual
    assert not udi.parse("OPENMSE-HW:V01:A1").is_virtual


@pytest.mark.parametrize("text", ["", "a:b", "a:b:c:d", "a:b:", "a::c", "a:b:c d", "a:b:c\n"])
def test_what_is_no_udi(text: str) -> None:
    with pytest.raises(LicenceFileError):
        udi.parse(text)


def test_the_serial_of_a_virtual_appliance() -> None:
    random = uuid.UUID(int=7)
    names = {"machine_id": "a", "product_uuid": "b"}
    serial = udi.virtual_serial("mse1.example.org", names, random)
    assert serial.startswith("mse1_")
    assert uuid.UUID(serial.partition("_")[2]).version == 5
    assert serial == udi.virtual_serial("mse1", dict(reversed(names.items())), random)
    assert serial != udi.virtual_serial("mse1", {**names, "machine_id": "c"}, random)
    assert udi.virtual_serial("", {}, random) == f"mse_{random}"
    udi.parse(f"P:V01:{udi.virtual_serial('--a b--', names, random)}")


@pytest.mark.parametrize(
    ("text", "serial"),
    [
        ("KQ37XYZ\n", "KQ37XYZ"),
        ("To be filled by O.E.M.", ""),
        ("0000000", ""),
        ("", ""),
        ("a b", ""),
        ("None", ""),
    ],
)
def test_a_makers_serial_number(text: str, serial: str) -> None:
    assert udi.printed_serial(text) == serial


# ------------------------------------------------------------------------------ platform.toml


def test_platform_settings(tmp_path: Path) -> None:
    path = settings.path_beside(tmp_path / "openmse.toml")
    assert settings.load(path).platform.machine is K.GENERIC
    assert settings.load(path).licensing.is_enabled
    path.write_text('[platform]\nmachine = "VA-Low"\n[licensing]\nis_enabled = false\n')
    assert settings.load(path).platform.machine is K.VA_LOW
    assert not settings.load(path).licensing.is_enabled


@pytest.mark.parametrize(
    "text",
    [
        '[platform]\nmachine = "9999"\n',
        "[licensing]\nis_enabled = 3\n",
        "[other]\n",
        "[platform\n",
        "x" * 70_000,
    ],
)
def test_a_faulty_file_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "platform.toml"
    path.write_text(text)
    with pytest.raises(PlatformConfigError, match=r"platform\.toml") as error:
        settings.load(path)
    assert "3310" in error.value.hint
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(MseError):
        settings.load(path)
