"""Applying on a disk that is full at any moment, and on one that is read-only: all or nothing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "setup"))

from setup_root import debian, picture

from openmse.node.config import Places
from openmse.setup.apply import apply
from openmse.setup.current import machine_of
from openmse.setup.errors import ApplyFailed
from openmse.setup.files import Files
from openmse.setup.plan import Plan, Source, plan_of
from openmse.setup.screens import PRIMARY, Player
from openmse.setup.system import ImageSystem
from openmse.setup.values import View
from openmse.setup.wizard import script_for
from openmse.setup.world import read_world

CONFIG = "/etc/openmse/openmse.toml"
PAGE_BYTES = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own with a machine on it."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place))
    try:
        yield debian(place / "machine")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


def planned(root: Path) -> Plan:
    world = read_world(root, CONFIG)
    machine = machine_of(world, CONFIG)
    player = Player(script_for(machine, lambda view: []))
    typed = list(PRIMARY)
    typed[13] = "255.255.255.0"
    player.type(typed)
    answers = {k: v for k, v in player.state.answers.items() if not k.startswith("management")}
    return plan_of(Source(view=View(machine, answers), world=world, config=CONFIG))


def run(root: Path, plan: Plan, stamp: str) -> None:
    places = Places(root / "var/lib/openmse", root / "run/openmse")
    apply(plan, Files(root, stamp), ImageSystem(root, places), lambda text: None)


def outcome(root: Path, plan: Plan, stamp: str) -> str:
    """What came of it: done, or the sentence of the refusal."""
    try:
        run(root, plan, stamp)
    except ApplyFailed as error:
        return error.sentence
    return "done"


def fill(root: Path, pages_left: int) -> Path:
    """Leave room for so many pages only."""
    ballast = root.parent / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(PAGE_BYTES)):
                pass
        file.truncate(max(0, os.path.getsize(ballast) - pages_left * PAGE_BYTES))
    return ballast


@pytest.mark.root
def test_a_disk_that_fills_up_at_any_step_leaves_nothing_behind(disk: Path) -> None:
    before = picture(disk)
    plan = planned(disk)
    outcomes = []
    for pages in range(0, 60, 2):
        ballast = fill(disk, pages)
        try:
            outcomes.append(outcome(disk, plan, f"p{pages}"))
        finally:
            ballast.unlink()
            shutil.rmtree(disk / "var/backups", ignore_errors=True)
        if outcomes[-1] == "done":
            break
        assert "the disk is full" in outcomes[-1]
        assert "nothing is changed" in outcomes[-1]
        assert picture(disk) == before
    assert outcomes[-1] == "done"
    assert len(set(outcomes)) > 4, "it was full at several different steps"
    assert not list(disk.rglob("*.openmse-*")), "nothing that was kept aside stays"


@pytest.mark.root
def test_a_read_only_disk_is_told_in_words(disk: Path) -> None:
    before = picture(disk)
    plan = planned(disk)
    mount("-o", "remount,ro", str(disk.parent))
    try:
        with pytest.raises(ApplyFailed, match="the file system is read-only"):
            run(disk, plan, "ro")
    finally:
        mount("-o", "remount,rw", str(disk.parent))
    assert picture(disk) == before
