"""'mse install' into the files of another machine: all of it, again, changed, dry, and away."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from openmse.install.layout import UNITS

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: users and owners of files"),
]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine's files: accounts and nothing else."""
    return _new(tmp_path)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine on which all is installed."""
    made = _new(tmp_path_factory.mktemp("template"))
    done = _mse("install", "--root", str(made))
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def installed(template: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    copy = tmp_path / "machine"
    subprocess.run(["cp", "--archive", str(template), str(copy)], check=True, timeout=30)
    return copy


def _new(folder: Path) -> Path:
    etc = folder / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (etc / "group").write_text("root:x:0:\n")
    (etc / "shadow").write_text("root:*:19000:0:99999:7:::\n")
    (etc / "gshadow").write_text("root:*::\n")
    (etc / "login.defs").write_text("SYS_UID_MIN 100\nSYS_UID_MAX 999\n")
    return folder


def _mse(*arguments: str) -> "subprocess.CompletedProcess[str]":
    mse = str(Path(sys.executable).parent / "mse")
    return subprocess.run(
        [mse, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def _all(root: Path) -> dict[str, str]:
    """Every path with its kind, mode, owner and content."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = path.read_bytes().hex() if stat.S_ISREG(status.st_mode) else ""
        if path.is_symlink():
            content = os.readlink(path)
        who = f"{status.st_mode:o} {status.st_uid} {status.st_gid}"
        found[str(path.relative_to(root))] = f"{who} {content}"
    return found


def test_it_is_all_there_and_once_is_enough(machine: Path) -> None:
    before = _all(machine)
    dry = _mse("install", "--root", str(machine), "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "would add the system user openmse\n" in dry.stdout
    assert _all(machine) == before

    done = _mse("install", "--root", str(machine))
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if not line.startswith("Installed.")]
    assert [f"would {line}" for line in told] == dry.stdout.splitlines(), "dry run told the truth"
    for name in UNITS:
        text = (machine / "etc/systemd/system" / name).read_text()
        assert f"ExecStart={Path(sys.executable).parent}/python" in text
    passwd = (machine / "etc/passwd").read_text()
    assert "openmse:" in passwd
    assert "openmse-witness:" in passwd
    uid = int(
        next(r for r in passwd.splitlines() if r.startswith("openmse-witness:")).split(":")[2]
    )
    status = (machine / "var/lib/openmse-witness").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (uid, 0o700)
    wants = machine / "etc/systemd/system/multi-user.target.wants"
    assert sorted(p.name for p in wants.iterdir()) == [
        "openmse-admin.service",
        "openmse-witness.service",
        "openmse.service",
    ]
    assert (machine / "usr/local/bin/msed").readlink() == Path(sys.executable).parent / "msed"
    assert (machine / "usr/local/share/man/man8/msed.8").exists()

    after = _all(machine)
    again = _mse("install", "--root", str(machine))
    assert again.stdout == "Everything is in place; nothing was changed.\n"
    dry = _mse("install", "--root", str(machine), "--dry-run")
    assert dry.stdout == "Everything is in place; nothing would be changed.\n"
    assert _all(machine) == after


def test_where_no_machine_is_nothing_is_done(tmp_path: Path, machine: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    nowhere = _mse("install", "--root", str(tmp_path / "nowhere"))
    assert nowhere.returncode == 2
    assert "nowhere' does not exist" in nowhere.stderr
    refused = _mse("install", "--root", str(empty))
    assert refused.returncode == 3
    assert "etc/passwd is missing. Nothing was changed." in refused.stderr
    assert not (tmp_path / "nowhere").exists()
    assert list(empty.iterdir()) == []
    bare = _mse("uninstall", "--root", str(machine), "--dry-run")
    assert (bare.returncode, bare.stdout) == (
        0,
        "Nothing is installed here; nothing would be changed.\n",
    )


def test_what_somebody_changed_is_kept(installed: Path) -> None:
    machine = installed
    unit = machine / "etc/systemd/system/openmse.service"
    ours = unit.read_text()
    unit.write_text(ours + "# mine\n")
    (machine / "var/lib/openmse").chmod(0o777)
    dry = _mse("install", "--root", str(machine), "--dry-run")
    assert "the changed one is kept as openmse.service.saved" in dry.stdout
    assert "\n-# mine\n" in dry.stdout
    done = _mse("install", "--root", str(machine))
    assert "mend the directory /var/lib/openmse (root:root, 0755)" in done.stdout
    assert unit.read_text() == ours
    assert unit.with_name("openmse.service.saved").read_text().endswith("# mine\n")


def test_a_foreign_command_is_not_replaced(machine: Path) -> None:
    foreign = machine / "usr/local/bin/mse"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("something else")
    before = _all(machine)
    refused = _mse("install", "--root", str(machine))
    assert refused.returncode == 3
    assert "/usr/local/bin/mse is in the way" in refused.stderr
    assert _all(machine) == before

    foreign.unlink()
    pages = machine / "usr/local/share"
    pages.write_text("no directory")
    broken = _mse("install", "--root", str(machine))
    assert (broken.returncode, "What was said before is done" in broken.stderr) == (1, True)
    unit = machine / "etc/systemd/system/openmse.service"
    assert unit.exists()
    assert "remove /etc/systemd/system/openmse.service\n" in (
        _mse("uninstall", "--root", str(machine)).stdout
    )
    assert not unit.exists(), "half an installation can be removed too"


def test_data_elsewhere_may_be_written_to(machine: Path) -> None:
    config = machine / "etc/openmse/openmse.toml"
    config.parent.mkdir()
    config.write_text(
        '[node]\nname = "a"\nrole = "secondary"\naddress = "10.10.10.12/24"\n'
        '[paths]\nstate_dir = "/srv/mse"\n'
    )
    drop_in = machine / "etc/systemd/system/openmse.service.d/paths.conf"
    assert _mse("install", "--root", str(machine)).returncode == 0
    assert "ReadWritePaths=-/srv/mse\n" in drop_in.read_text()
    admin = drop_in.parents[1] / "openmse-admin.service.d/paths.conf"
    assert admin.read_text().endswith("[Service]\nReadWritePaths=-/srv/mse\n")
    config.write_text(config.read_text().replace("/srv/mse", "/var/lib/openmse"))
    assert "remove /etc/systemd/system/openmse.service.d/paths.conf" in (
        _mse("install", "--root", str(machine)).stdout
    )
    assert not drop_in.parent.exists()
    assert not admin.parent.exists()


def test_data_and_accounts_stay(installed: Path) -> None:
    machine = installed
    (machine / "var/lib/openmse/register").write_text("{}")
    changed = machine / "etc/logrotate.d/openmse"
    changed.write_text("mine")
    done = _mse("uninstall", "--root", str(machine))
    assert done.returncode == 0, done.stderr
    assert "These stay, with all their data:\n  /etc/openmse " in done.stdout
    left = {name for name, about in _all(machine).items() if not about.startswith("4")}
    assert left == {
        *("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/login.defs"),
        *(f"etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow")),
        "etc/logrotate.d/openmse.saved",
        "var/lib/openmse/register",
    }
    assert "openmse:" in (machine / "etc/passwd").read_text()
    again = _mse("uninstall", "--root", str(machine))
    assert again.stdout.startswith("Nothing is installed here; nothing was changed.\n")
