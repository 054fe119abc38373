"""group.json: whole or not at all, and never guessed at when damaged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openmse.errors import StateError
from openmse.node import group
from openmse.node.group import GroupInfo, NodeInfo, WitnessInfo

INFO = GroupInfo(
    group="abc",
    primary="mse1",
    nodes=(NodeInfo("mse1", "10.10.10.11"), NodeInfo("mse2", "10.10.10.12")),
    virtual_ips=("10.10.10.10/24",),
    witness=WitnessInfo("witness", "console", "10.10.10.13"),
)


def test_it_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "group.json"
    assert group.load(path) is None
    group.save(path, INFO)
    assert group.load(path) == INFO
    assert path.stat().st_mode & 0o777 == 0o600
    group.remove(path)
    assert group.load(path) is None
    group.remove(path)


def test_parties_are_found_by_name() -> None:
    assert INFO.peer_of("mse1") == INFO.nodes[1]
    assert INFO.node("mse1") == INFO.nodes[0]
    assert INFO.node("mse3") is None


@pytest.mark.parametrize("keep", [0, 1, 40, -3])
def test_a_truncated_file_is_said(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "group.json"
    group.save(path, INFO)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StateError, match="is damaged"):
        group.load(path)


def test_another_format_is_said(tmp_path: Path) -> None:
    path = tmp_path / "group.json"
    group.save(path, GroupInfo("abc", "mse1", INFO.nodes, (), format=9))
    with pytest.raises(StateError, match="format 9"):
        group.load(path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "group.json"
    group.save(path, INFO)
    (tmp_path / ".group.json.new").mkdir()  # what the new content would be written to
    with pytest.raises(StateError, match="could not be written"):
        group.save(path, GroupInfo("other", "x", (), ()))
    assert group.load(path) == INFO


_LOOK = """
import os, sys
from pathlib import Path
from openmse.errors import MseError
from openmse.node import group
os.setgroups([])
os.setgid(65_534)
os.setuid(65_534)
for name in sys.argv[1:]:
    try:
        print(group.load(Path(name)))
    except MseError as error:
        print(error.code, error.exit_code, error.sentence, error.hint)
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_who_may_not_look_is_told_so_and_not_that_there_is_no_group(tmp_path: Path) -> None:
    hidden, closed = tmp_path / "group.json", tmp_path / "state" / "group.json"
    group.save(hidden, INFO)
    closed.parent.mkdir(mode=0o700)  # not even whether it is there can be seen
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, str(hidden), str(closed)],
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.splitlines()
    assert len(said) == 2
    for line in said:
        assert line.startswith("MSE-USE-002 2 The facts of the group, ")
        assert "cannot be read by this user; nothing was changed. Run the command as root" in line
