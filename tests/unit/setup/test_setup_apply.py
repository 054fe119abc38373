"""Applying: whole or not at all, copies of what was there, everything taken back on a failure."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from setup_root import debian, picture, write

from openmse.node.config import Places
from openmse.setup.apply import apply
from openmse.setup.current import machine_of
from openmse.setup.errors import ApplyFailed, StepError
from openmse.setup.files import Files, Undo
from openmse.setup.plan import Act, Change, Enable, Plan, Source, Step, plan_of
from openmse.setup.screens import PRIMARY, Player
from openmse.setup.session import _interruptible
from openmse.setup.system import ImageSystem
from openmse.setup.values import View
from openmse.setup.wizard import script_for
from openmse.setup.world import Link, read_world

CONFIG = "/etc/openmse/openmse.toml"


def planned(root: Path) -> Plan:
    """The guide's primary, on that machine."""
    world = read_world(root, CONFIG)
    machine = machine_of(world, CONFIG)
    player = Player(script_for(machine, lambda view: []))
    typed = list(PRIMARY)
    if not machine.interface("eth0").address:  # type: ignore[union-attr]
        typed[13] = "255.255.255.0"  # nothing is suggested for the mask on a bare machine
    player.type(typed)
    answers = {k: v for k, v in player.state.answers.items() if not k.startswith("management")}
    return plan_of(Source(view=View(machine, answers), world=world, config=CONFIG))


def run(root: Path, plan: Plan, system: ImageSystem | None = None, stamp: str = "1") -> list[str]:
    said: list[str] = []
    places = Places(root / "var/lib/openmse", root / "run/openmse")
    apply(plan, Files(root, stamp), system or ImageSystem(root, places), said.append)
    return said


def test_applied_twice_is_applied_once(tmp_path: Path) -> None:
    root = debian(tmp_path)
    first = planned(root)
    run(root, first)
    after = picture(root)
    assert after["etc/hostname"] == "644 mse1\n"
    assert after["etc/localtime"] == "-> /usr/share/zoneinfo/Etc/UTC"
    assert "address 10.10.10.12/24" in after["etc/network/interfaces"]
    assert planned(root).changes == []
    run(root, planned(root))
    assert picture(root) == after


def test_copies_of_what_was_there_are_kept(tmp_path: Path) -> None:
    root = debian(tmp_path)
    before = picture(root)
    plan = planned(root)
    run(root, plan)
    backup = root / "var/backups/openmse/setup-1"
    assert backup.stat().st_mode & 0o777 == 0o700
    for change in plan.changes:
        copy = backup / change.path.lstrip("/")
        name = change.path.lstrip("/")
        assert copy.exists() == (name in before)
        if copy.exists():
            assert f"{copy.stat().st_mode & 0o777:o} {copy.read_text()}" == before[name]


class Breaking(ImageSystem):
    """Fails at the n-th act."""

    def __init__(self, root: Path, left: int) -> None:
        super().__init__(root, Places(root / "var/lib/openmse", root / "run/openmse"))
        self.left = left

    def perform(self, act: Act, say: object) -> Undo:
        self.left -= 1
        if self.left < 0:
            raise StepError("The unit is broken.", "Mend it.")
        return super().perform(act, lambda text: None)


def acts_of(plan: Plan) -> int:
    return sum(len(step.acts) for step in plan.steps)


def test_everything_is_taken_back_when_any_act_fails(tmp_path: Path) -> None:
    root = debian(tmp_path)
    before = picture(root)
    directories = {p for p in root.rglob("*") if p.is_dir() and "backups" not in str(p)}
    plan = planned(root)
    assert acts_of(plan) >= 3
    for number in range(acts_of(plan)):
        with pytest.raises(ApplyFailed, match="nothing is changed") as caught:
            run(root, plan, Breaking(root, number), stamp=f"n{number}")
        assert "The unit is broken." in caught.value.sentence
        assert caught.value.hint == "Mend it."
        assert picture(root) == before
        made = {p for p in root.rglob("*") if p.is_dir() and "backups" not in str(p)}
        assert made - directories <= {root / "var"}, "the copies stay, their parent with them"


def test_everything_is_taken_back_when_any_file_fails(tmp_path: Path) -> None:
    root = debian(tmp_path)
    before = picture(root)
    plan = planned(root)
    for broken in plan.changes:
        steps = tuple(
            Step(s.name, tuple(_broken(c) if c is broken else c for c in s.changes), s.acts)
            for s in plan.steps
        )
        with pytest.raises(ApplyFailed, match="changed by somebody else"):
            run(root, replace(plan, steps=steps), stamp=broken.path.replace("/", "-"))
        assert picture(root) == before


def _broken(change: Change) -> Change:
    """One whose file is not as it was read: as if somebody had edited it in between."""
    return replace(change, before="something else\n")


def test_ctrl_c_takes_everything_back(tmp_path: Path) -> None:
    root = debian(tmp_path)
    before = picture(root)

    class Interrupted(Breaking):
        def perform(self, act: Act, say: object) -> Undo:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(root, planned(root), Interrupted(root, 0))
    assert picture(root) == before


def test_ctrl_c_again_and_again_takes_everything_back(tmp_path: Path) -> None:
    """Each comes in the middle of a change, and of its taking back: neither is broken off."""
    root = debian(tmp_path)
    before = picture(root)
    said: list[str] = []

    class Impatient(Breaking):
        def perform(self, act: Act, say: object) -> Undo:
            os.kill(os.getpid(), signal.SIGINT)
            undo = super().perform(act, say)

            def back() -> None:
                os.kill(os.getpid(), signal.SIGINT)
                undo()

            return back

    with _interruptible() as check, pytest.raises(KeyboardInterrupt):
        apply(planned(root), Files(root, "1"), Impatient(root, 99), said.append, check)
    assert "nothing is changed" in said[-1]
    assert picture(root) == before


def test_what_cannot_be_taken_back_is_said(tmp_path: Path) -> None:
    root = debian(tmp_path)

    class Stuck(Breaking):
        def perform(self, act: Act, say: object) -> Undo:
            if isinstance(act, Enable):
                raise StepError("The unit is broken.")
            super().perform(act, say)

            def undo() -> None:
                raise OSError("no way back")

            return undo

    with pytest.raises(ApplyFailed) as caught:
        run(root, planned(root), Stuck(root, 99))
    assert caught.value.code == "MSE-SET-007"
    assert "no way back" in caught.value.sentence
    assert "/var/backups/openmse" in caught.value.hint
    assert (root / "etc/hostname").read_text() == "mse\n", "the others are taken back all the same"


def test_modes_are_kept_and_links_are_replaced_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "etc/secret", "old\n")
    os.chmod(tmp_path / "etc/secret", 0o640)
    write(tmp_path, "run/real", "never touched\n")
    (tmp_path / "etc/link").symlink_to("../run/real")
    files = Files(tmp_path, "1")
    undo = files.put(Change(path="/etc/secret", before="old\n", after="new\n"))
    assert picture(tmp_path)["etc/secret"] == "640 new\n"
    undo()
    assert picture(tmp_path)["etc/secret"] == "640 old\n"
    undo = files.put(Change(path="/etc/link", before=Link("../run/real"), after="mine\n"))
    assert (tmp_path / "run/real").read_text() == "never touched\n"
    assert not (tmp_path / "etc/link").is_symlink()
    undo()
    assert os.readlink(tmp_path / "etc/link") == "../run/real"


def test_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    root = debian(tmp_path)
    raw = b"127.0.0.1\tlocalhost\n10.1.1.1\tm\xfcse2 # \xff\n"
    (root / "etc/hosts").write_bytes(raw)
    run(root, planned(root))
    assert raw.splitlines()[1] in (root / "etc/hosts").read_bytes()


@contextmanager
def nobody(root: Path) -> Iterator[None]:
    """Without the right to write below the root: as another user, or with modes that forbid it."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
        return
    (root / "etc").chmod(0o555)
    try:
        yield
    finally:
        (root / "etc").chmod(0o755)


def test_without_rights_nothing_is_changed() -> None:
    with tempfile.TemporaryDirectory(prefix="omse-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        root = debian(Path(name))
        before = picture(root)
        with nobody(root), pytest.raises(ApplyFailed, match="this process may not"):
            run(root, planned(root))
        assert picture(root) == before


def test_without_root_this_machine_is_refused_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from openmse.cli.main import main

    root = debian(tmp_path)
    with nobody(root), pytest.raises(SystemExit) as leaving:
        main(["setup"])
    out, err = capsys.readouterr()
    assert leaving.value.code == 2
    assert "sudo mse setup" in err
    assert out == ""
