"""What the doctor sees of this machine without the daemon: the disk, devices, the register."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from openmse.cli.doctor import LocalFacts
from openmse.errors import ConfigError, MseError, StateError
from openmse.node.config import NodeConfig, Places, Role
from openmse.node.config_load import load


def gather(path: Path, places: Places, down: MseError | None) -> LocalFacts:
    """What can be seen without the daemon; ``path``: the configuration file.

    ``down``: why the daemon does not answer, None where it does.
    """
    config, fault = None, ""
    try:
        config = load(path)
    except ConfigError as error:
        fault = error.sentence
    state_dir = places.state_dir
    free_bytes, total_bytes = _disk(state_dir)
    register_fault, register_action = _register(places.register) if down else ("", "")
    return LocalFacts(
        config_fault=fault,
        config=config,
        daemon_fault=down.sentence if down is not None else "",
        daemon_hint=down.hint if down is not None else "",
        has_state_dir=state_dir.is_dir(),
        register_fault=register_fault,
        register_action=register_action,
        free_bytes=free_bytes,
        total_bytes=total_bytes,
        has_watchdog=config is not None and Path(config.watchdog.device).exists(),
        is_agent_executable=config is not None and os.access(config.fencing.agent, os.X_OK),
        tails=_tails(state_dir / "postgres" / "divergent"),
        pair_fault=_pair_fault(path, config) if config is not None else "",
        interfaces=tuple(sorted(path.name for path in Path("/sys/class/net").glob("*"))),
    )


def _pair_fault(path: Path, config: NodeConfig) -> str:
    """Why the two should be no pair; '' also where a file of the platform cannot be read."""
    from openmse.platform.candidate import doubt

    is_primary = config.node.role is Role.PRIMARY
    with suppress(MseError):
        return doubt(path, config.places.state_dir, config.node.name, is_primary=is_primary)
    return ""


def _register(path: Path) -> tuple[str, str]:
    """What keeps the daemon from starting on its register, and the way back; '' for nothing."""
    from openmse.node.drivers.store.machine import Machine
    from openmse.node.drivers.store.record import RecordStore

    try:
        RecordStore(path, Machine({})).load()
    except StateError as error:
        if error.code == "MSE-STA-002":  # the caller may not look: no finding
            return "", ""
        if error.code not in ("MSE-STA-001", "MSE-STA-005"):
            return error.sentence, error.hint
        return error.sentence, (
            f"Move {path} and {path}.previous to another directory, then start the daemon: it "
            "begins with a new memory, and the other node re-admits it. Never put an older copy "
            "back. On the only node of a group: restore both files from the same backup as the "
            "data, or set it up anew."
        )
    return "", ""


def _tails(path: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(str(entry) for entry in path.iterdir()))
    except OSError:  # nothing was ever kept, or the caller may not look
        return ()


def _disk(path: Path) -> tuple[int, int]:
    """Free and total bytes of the disk that ``path`` is (or will be) on."""
    while not path.exists() and path != path.parent:
        path = path.parent
    usage = shutil.disk_usage(path)
    return usage.free, usage.total
