"""Whether something of the product runs on this machine, which must not lose its files then."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from openmse.errors import ControlError, DaemonDownError, MseError
from openmse.install.engine.launcher import SYSTEMD_MARK
from openmse.install.engine.look import guard_of, monitor_of
from openmse.install.errors import InstallRefused
from openmse.install.layout import UNITS
from openmse.node.config import DEFAULT_PATH, PathsSection
from openmse.node.config_load import load
from openmse.node.control.client import ControlClient
from openmse.witness.config import PathsPart


def refuse_while_running(*, node_only: bool = False) -> None:
    """Raise InstallRefused, naming what runs."""
    found = _node() if node_only else [*_node(), *_witness(), *_units()]
    if found:
        raise InstallRefused(
            f"This machine still runs {', '.join(dict.fromkeys(found))}; nothing was changed.",
            "'msed stop' stops a node ('msed stop --handover' switches over first); 'systemctl "
            "stop' stops the witness and the console.",
        )


def _node() -> list[str]:
    run_dir = PathsSection().run_dir
    with suppress(MseError):  # no node by its configuration: the usual place is looked at
        run_dir = load(DEFAULT_PATH).paths.run_dir
    pids = monitor_of(run_dir) or guard_of(run_dir)
    return [f"a node (pid {pids})"] if pids else []


def _witness() -> list[str]:
    try:
        ControlClient(Path(PathsPart().run_dir) / "control.sock").close()
    except (DaemonDownError, ControlError):
        return []
    return ["a witness"]


def _units() -> list[str]:
    if not SYSTEMD_MARK.is_dir():
        return []
    command = ["systemctl", "is-active", *UNITS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    states = zip(UNITS, done.stdout.split(), strict=False)
    return [unit for unit, state in states if state not in ("inactive", "failed", "unknown")]


def main() -> int:
    """For the package's scripts: exit 3 with the sentence if a node runs here, else 0."""
    try:
        refuse_while_running(node_only=True)
    except InstallRefused as error:
        print(f"{error.code}: {error.sentence}\n  What to do: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
