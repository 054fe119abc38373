"""The acts on a running machine, as far as they can run in a test; what cannot is said."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openmse.node.config import Places
from openmse.pki.password import PairingStore
from openmse.setup.errors import StepError
from openmse.setup.plan import Disable, Enable, Prepare, Rename, SetClock, SetPassword
from openmse.setup.system import ImageSystem, MachineSystem, has_systemd

SECRET = SetPassword("pairing", "staple of the pair")
RENAME = """
import socket, sys
from pathlib import Path
from openmse.node.config import Places
from openmse.setup.plan import Rename
from openmse.setup.system import MachineSystem
system = MachineSystem(Places(Path("/s"), Path("/r")), "/c")
assert not system.is_done(Rename("mse-test-1"))
undo = system.perform(Rename("mse-test-1"), print)
assert socket.gethostname() == "mse-test-1"
assert system.is_done(Rename("mse-test-1"))
undo()
print(socket.gethostname())
"""


def places(root: Path) -> Places:
    (root / "var").mkdir()
    return Places(root / "var" / "openmse", root / "run")


def test_directories_are_made_once_and_taken_back(tmp_path: Path) -> None:
    system = MachineSystem(places(tmp_path), "/c")
    assert not system.is_done(Prepare())
    undo = system.perform(Prepare(), print)
    assert system.is_done(Prepare())
    assert (tmp_path / "var/openmse/pki").stat().st_mode & 0o777 == 0o711
    undo()
    assert list((tmp_path / "var").iterdir()) == []


def test_a_pairing_password_is_set_and_the_old_one_comes_back(tmp_path: Path) -> None:
    kept = places(tmp_path)
    system = MachineSystem(kept, "/c")
    system.perform(Prepare(), print)
    first = system.perform(SECRET, print)
    before = kept.pairing_password.read_bytes()
    assert SECRET.secret.encode() not in before
    assert PairingStore(kept.pairing_password).armed(0.0) is not None
    second = system.perform(SetPassword("pairing", "another password"), print)
    assert kept.pairing_password.read_bytes() != before
    second()
    assert kept.pairing_password.read_bytes() == before
    first()
    assert not kept.pairing_password.exists()


def test_a_management_password_that_is_refused_is_told_without_it(tmp_path: Path) -> None:
    system = MachineSystem(places(tmp_path), str(tmp_path / "no-such-file.toml"))
    with pytest.raises(StepError) as caught:
        system.perform(SetPassword("management", "correct horse battery"), print)
    assert "did not take the management password" in caught.value.sentence
    assert "correct horse" not in str(caught.value)


def test_no_password_is_in_the_text_of_an_act() -> None:
    assert "staple" not in repr(SECRET)


@pytest.mark.skipif(has_systemd(), reason="systemd runs here, and its units are not for tests")
def test_without_systemd_it_is_said(tmp_path: Path) -> None:
    system = MachineSystem(places(tmp_path), "/c")
    said: list[str] = []
    system.perform(Enable("openmse.service"), said.append)()
    system.perform(Disable("chrony.service"), said.append)()
    assert said == [
        "  systemd does not run here, so openmse.service was not enabled.",
        "  systemd does not run here, so chrony.service was not disabled.",
    ]
    assert not system.is_done(Enable("openmse.service"))


def test_an_image_says_what_is_left_to_the_machine(tmp_path: Path) -> None:
    system = ImageSystem(tmp_path, places(tmp_path))
    said: list[str] = []
    for act in (Enable("a.service"), Rename("mse1"), SetClock("2026-01-31 17:05:00", "UTC")):
        assert not system.is_done(act)
        system.perform(act, said.append)()
    assert len(said) == 3
    assert all(f"Not done below {tmp_path}" in line for line in said)


@pytest.mark.root
def test_the_kernels_name_is_set_and_taken_back() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: a name space for the host name")
    unshare = shutil.which("unshare", path="/usr/bin:/bin")
    if unshare is None:
        pytest.skip("needs the command unshare")
    command = [unshare, "--uts", sys.executable, "-c", RENAME]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == os.uname().nodename


def test_bytes_that_are_no_text_are_a_wrong_answer(tmp_path: Path) -> None:
    mse = Path(sys.executable).with_name("mse")
    done = subprocess.run(
        [str(mse), "setup", "--root", str(tmp_path)],
        input=b"\xff\xfe\n\nyes\n",
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 1, done.stderr
    assert b'The answer must be "yes" or "no".' in done.stdout
    assert b"nothing was changed" in done.stderr
