"""The systemd units: systemd itself accepts them, and their sandbox is as tight as recorded."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openmse.install.layout import (
    INIT_SCRIPTS,
    UNITS,
    Destination,
    filled,
    init_script,
    packaged,
)

DOCS = Path(__file__).resolve().parents[3] / "docs" / "install.md"
ANALYZE = shutil.which("systemd-analyze")
analyzed = pytest.mark.skipif(
    ANALYZE is None, reason="needs systemd-analyze (Debian package systemd)"
)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as 'mse install' of this environment would write them."""
    here = str(Path(sys.executable).parent)
    to = Destination(python=sys.executable, bin_dir=here, commands=())
    for name in UNITS:
        (tmp_path / name).write_bytes(filled(packaged(name), to))
    return tmp_path


@analyzed
def test_systemd_finds_nothing_wrong(units: Path) -> None:
    paths = [str(units / name) for name in UNITS]
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", *paths],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    own = [line for line in done.stderr.splitlines() if "openmse" in line]
    assert own == []
    assert done.returncode == 0, done.stderr


@analyzed
@pytest.mark.parametrize("name", UNITS)
def test_the_sandbox_is_as_tight_as_the_page_says(units: Path, name: str) -> None:
    recorded = re.search(rf"\| `{re.escape(name)}` \|.*\| (\d\.\d) \|", DOCS.read_text())
    assert recorded is not None
    done = subprocess.run(
        [str(ANALYZE), "security", "--offline=yes", "--no-pager", str(units / name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= float(recorded[1])


def _service(name: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for line in packaged(name).splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            values.setdefault(key, []).append(value)
    return values


def test_who_has_capabilities() -> None:
    """The third machine's daemons have none; the management API may use what is openmse's."""
    for name in UNITS:
        if name != "openmse.service":
            wanted = "CAP_DAC_OVERRIDE" if name == "openmse-admin.service" else ""
            assert _service(name)["CapabilityBoundingSet"] == [wanted], name


def test_what_serves_outlives_a_guard_that_died() -> None:
    """Each of these, left at systemd's default, would end PostgreSQL together with its guard."""
    node = _service("openmse.service")
    assert node["KillMode"] == ["process"]
    assert node["OOMPolicy"] == ["continue"]
    assert node["RuntimeDirectoryPreserve"] == ["yes"]
    assert node["Restart"] == ["on-failure"]
    assert "PrivateIPC" not in node
    assert "RestrictRealtime" not in node


def test_every_place_in_a_template_is_filled() -> None:
    to = Destination(python="/opt/x/bin/python3", bin_dir="/opt/x/bin", commands=())
    texts = {name: filled(packaged(name), to) for name in (*UNITS, "setup.sh")}
    texts |= {name: init_script(name, to) for name in INIT_SCRIPTS}
    assert [name for name, text in texts.items() if re.search(rb"@[A-Z]+@", text)] == []


@pytest.mark.parametrize("name", INIT_SCRIPTS)
def test_the_shell_takes_the_init_scripts(tmp_path: Path, name: str) -> None:
    script = tmp_path / name
    script.write_bytes(
        init_script(
            name, Destination(python="/opt/x/bin/python3", bin_dir="/opt/x/bin", commands=())
        )
    )
    done = subprocess.run(["/bin/sh", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
