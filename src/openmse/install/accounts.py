"""System users and groups: looked up in the machine's own files, made with shadow's tools."""

import subprocess
from pathlib import Path

from openmse.install.errors import InstallFailed
from openmse.install.layout import Account

NOLOGIN = "/usr/sbin/nologin"


def ids(root: Path, table: str) -> dict[str, int]:
    """name -> number, from ``etc/passwd`` or ``etc/group`` below ``root``."""
    try:
        lines = (root / "etc" / table).read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    rows = (line.split(":") for line in lines)
    return {row[0]: int(row[2]) for row in rows if len(row) > 2 and row[2].isdigit()}


def add_group(root: Path, name: str) -> None:
    """Make a system group; raises InstallFailed."""
    _run(["groupadd", *_place(root), "--system", name], f"The group {name}")


def add_user(root: Path, account: Account) -> None:
    """Make a system user in the group of its name; raises InstallFailed."""
    command = ["useradd", *_place(root), "--system", "--gid", account.name, "--no-create-home"]
    command += ["--home-dir", account.home, "--shell", NOLOGIN, "--comment", account.comment]
    _run([*command, account.name], f"The user {account.name}")


def _place(root: Path) -> list[str]:
    return [] if root == Path("/") else ["--prefix", str(root)]


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        words = done.stderr.strip()
        is_well = done.returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        is_well, words = False, str(error)
    if not is_well:
        raise InstallFailed(
            f"{what} could not be made: {words or 'no reason given'}.",
            f"'{' '.join(command)}' must work; then repeat 'mse install'.",
        )
