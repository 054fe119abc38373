"""What root's commands leave in a service's directory."""

import os
from pathlib import Path

import pytest

from openmse.cli.owners import give_to_owner

NOBODY, NOGROUP = 65534, 65534


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
def test_files_belong_to_whose_the_directory_is(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "console.db").touch()
    give_to_owner(state)  # root's own: nothing to give
    assert (state / "console.db").stat().st_uid == 0
    os.chown(state, NOBODY, NOGROUP)
    (state / "aside").mkdir()
    (state / "aside" / "console.db").symlink_to("/etc/hostname")
    give_to_owner(state)
    found = [path.lstat() for path in state.rglob("*")]
    assert {(one.st_uid, one.st_gid) for one in found} == {(NOBODY, NOGROUP)}
    assert Path("/etc/hostname").stat().st_uid == 0, "a link is given, not what it leads to"
    give_to_owner(tmp_path / "absent")
