"""The serial of an engine: made once, stays, and is another one on another machine."""

from pathlib import Path

import pytest

from openmse.node.drivers.store.machine import Machine as Names
from openmse.platform import identity, peers
from openmse.platform.errors import PlatformStateError
from openmse.platform.machines import Machine, MachineKind
from openmse.platform.peers import Told

GENERIC = Machine(MachineKind.GENERIC, True)
ONE = Names({"machine_id": "a", "product_uuid": "b"})


def test_it_is_made_once_and_stays(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = identity.udi(state, GENERIC, names=ONE)
    assert first.product_id == "OPENMSE-VA"
    assert identity.udi(state, GENERIC, names=ONE) == first
    renamed = identity.udi(state, Machine(MachineKind.VA_LOW, True), names=ONE)
    assert (renamed.product_id, renamed.serial) == ("AIR-MSE-VA-K9", first.serial)


def test_what_cannot_be_read_now_does_not_change_it(tmp_path: Path) -> None:
    part = Names({"machine_id": "a"})
    first = identity.udi(tmp_path, GENERIC, names=part)
    assert identity.udi(tmp_path, GENERIC, names=ONE) == first  # the UUID is learned
    assert identity.udi(tmp_path, GENERIC, names=Names({"product_uuid": "b"})) == first
    stored = identity.read(tmp_path)
    assert stored is not None
    assert stored.names == ONE.digests


def test_a_copy_of_the_disk_is_another_engine(tmp_path: Path) -> None:
    first = identity.udi(tmp_path, GENERIC, names=ONE)
    moved = Names({**ONE.digests, "product_uuid": "c"})
    second = identity.udi(tmp_path, GENERIC, names=moved)
    assert second.serial != first.serial
    stored = identity.read(tmp_path)
    assert stored is not None
    assert stored.former == (first.serial,)
    assert identity.udi(tmp_path, GENERIC, names=moved) == second


def test_a_machine_that_nothing_names_has_a_random_serial(tmp_path: Path) -> None:
    nameless = Names({})
    one = identity.udi(tmp_path / "one", GENERIC, names=nameless)
    other = identity.udi(tmp_path / "other", GENERIC, names=nameless)
    assert one != other
    assert identity.udi(tmp_path / "one", GENERIC, names=nameless) == one


@pytest.mark.parametrize("text", ["", "{}", '{"serial": "a", "names": {}, "format": 2}'])
def test_a_damaged_file_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / identity.NAME).write_text(text)
    with pytest.raises(PlatformStateError, match=r"platform\.json"):
        identity.udi(tmp_path, GENERIC, names=ONE)


def test_what_peers_told_is_kept(tmp_path: Path) -> None:
    assert peers.read(tmp_path) == {}
    told = {"mse2": Told("mse2", "A:V01:b", GENERIC, "0.1.0")}
    peers.write(tmp_path, told)
    assert peers.read(tmp_path) == told
    (tmp_path / peers.NAME).write_text("{")
    with pytest.raises(PlatformStateError, match="license sync"):
        peers.read(tmp_path)
