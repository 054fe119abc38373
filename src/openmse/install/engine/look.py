"""What runs of the product on this machine, whoever started it."""

import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from openmse.errors import ControlError, DaemonDownError
from openmse.install.engine import keeper, parts
from openmse.install.engine.launcher import Launcher
from openmse.install.engine.parts import GUARD_LOCK, MONITOR_LOCK, Part
from openmse.node.config import NodeConfig
from openmse.node.control.client import ControlClient
from openmse.node.control.snapshot import Snapshot

_STATUS_WITHIN_S = 5.0
_CONNECT_WITHIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A node's software as ``msed`` handles it. ``say``: a line for people; ``note``: beside it."""

    config: NodeConfig
    launcher: Launcher
    monitor: Part
    admin: Part | None
    say: Callable[[str], None]
    note: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What runs at one moment. Numbers are pids, 0 where nothing runs."""

    monitor: int
    guard: int
    admin: int
    snapshot: Snapshot | None
    """None while the health monitor does not answer."""


def make_engine(
    config: NodeConfig,
    path: Path,
    launcher: Launcher,
    *,
    say: Callable[[str], None],
    note: Callable[[str], None],
) -> Engine:
    """The engine of this machine; ``path`` is the configuration file."""
    return Engine(
        config=config,
        launcher=launcher,
        monitor=parts.health_monitor(config, path),
        admin=parts.admin(path),
        say=say,
        note=note,
    )


def look(engine: Engine) -> View:
    """What runs now."""
    run_dir = engine.config.paths.run_dir
    return View(
        monitor=monitor_of(run_dir),
        guard=guard_of(run_dir),
        admin=engine.launcher.pid(engine.admin) if engine.admin is not None else 0,
        snapshot=ask(engine.config),
    )


def ask(config: NodeConfig) -> Snapshot | None:
    """The node's own picture; None while its health monitor does not answer."""
    try:
        with ControlClient(config.places.control_socket) as client:
            found: Snapshot = client.call("status", type=Snapshot, within_s=_STATUS_WITHIN_S)
    except (DaemonDownError, ControlError):
        return None
    return found


def admin_answers(config: NodeConfig) -> bool:
    """Whether the management API completes a TLS handshake; who it is does not matter here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        address = parts.admin_address(config)
        with socket.create_connection(address, timeout=_CONNECT_WITHIN_S) as plain:
            context.wrap_socket(plain, server_hostname=address[0]).close()
    except OSError:
        return False
    return True


def guard_of(run_dir: str) -> int:
    """The guard of a run directory, by the lock that it holds; 0 if there is none.

    Only looked at: whoever tried to take the lock could keep a guard from starting.
    """
    try:
        found = os.stat(os.path.join(run_dir, GUARD_LOCK))
        table = Path("/proc/locks").read_text()
    except OSError:
        return 0
    return holder(table, found.st_dev, found.st_ino)


def holder(table: str, device: int, inode: int) -> int:
    """The process that holds a file's lock, from the text of /proc/locks; 0 if none does.

    Source: proc(5): "1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF", the device in hex.
    """
    wanted = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    for line in table.splitlines():
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK" and words[5] == wanted:
            with suppress(ValueError):
                return max(int(words[4]), 0)
    return 0


def monitor_of(run_dir: str) -> int:
    """The health monitor of a run directory, by the lock that it holds; 0 if there is none."""
    process = keeper.find(os.path.join(run_dir, MONITOR_LOCK))
    if process is None:
        return 0
    process.close()
    return process.pid
