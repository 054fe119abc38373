"""The parts of the product that are started on a node, as data. Pure."""

import importlib.util
import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import openmse
from openmse import ports
from openmse.guard.feed import LOCK_NAME, STOPPED_NAME
from openmse.node.config import NodeConfig

LOG_DIRECTORY = Path("/var/log/openmse")
MANAGEMENT_PATH = Path("/etc/openmse/management.toml")
GUARD_LOCK = "guard.lock"
MONITOR_LOCK = LOCK_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A daemon that is started by itself.

    ``title``: as people read it; ``unit``: its systemd unit; ``log``: the name of its log file
    where no systemd keeps one; ``stopped_mark``: a file that it leaves when it ends on purpose.
    """

    name: str
    title: str
    unit: str
    log: str
    command: tuple[str, ...]
    stopped_mark: str = ""


def health_monitor(config: NodeConfig, path: Path) -> Part:
    """The guard with the health monitor below it."""
    run_dir = config.paths.run_dir
    guard = (sys.executable, "-m", "openmse.guard", "--run-dir", run_dir, "--lock-memory", "--")
    return Part(
        name="health-monitor",
        title="Health Monitor",
        unit="openmse.service",
        log="health-monitor.log",
        command=(*guard, sys.executable, "-m", "openmse.node", "--config", str(path)),
        stopped_mark=os.path.join(run_dir, STOPPED_NAME),
    )


def admin(path: Path) -> Part | None:
    """The management API; None where this installation has none."""
    if importlib.util.find_spec("openmse.api") is None:
        return None
    return Part(
        name="admin",
        title="Admin process",
        unit="openmse-admin.service",
        log="admin.log",
        command=(sys.executable, "-m", "openmse.api", "--config", str(path)),
    )


@dataclass(frozen=True, slots=True)
class Listening:
    """A port that a part is going to listen on; ``host`` may be '*'."""

    transport: str
    host: str
    port: int
    setting: str


def ports_of_node(config: NodeConfig) -> tuple[Listening, ...]:
    """What the health monitor and its PostgreSQL listen on at once."""
    host, numbers = config.node.host, config.ports
    return (
        Listening("TCP", host, numbers.node_tls, "ports.node_tls"),
        Listening("UDP", host, numbers.node_udp, "ports.node_udp"),
        Listening("TCP", "*", config.database.port, "database.port"),
    )


def ports_of_admin(config: NodeConfig) -> tuple[Listening, ...]:
    """What the management API listens on."""
    host, port = admin_address(config)
    return (Listening("TCP", host, port, "management.port"),)


def admin_address(config: NodeConfig, path: Path = MANAGEMENT_PATH) -> tuple[str, int]:
    """(address, port) of the management API by its own file, which may be absent.

    What is wrong with the file is for the API itself to say; the defaults hold here then.
    """
    try:
        section = tomllib.loads(path.read_text("utf-8"))["management"]
        host, port = section.get("address", ""), section.get("port", ports.MANAGEMENT)
    except (OSError, ValueError, LookupError, AttributeError):
        host, port = "", ports.MANAGEMENT
    is_usable = type(port) is int and 0 < port < 65536
    return str(host or config.node.host), port if is_usable else ports.MANAGEMENT


def environment(path: Path) -> dict[str, str]:
    """What a daemon is started with: nothing of the shell of whoever types ``msed``."""
    variables = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "OPENMSE_CONFIG": str(path),
    }
    package = Path(openmse.__file__).parent.parent
    if not package.is_relative_to(sys.prefix):  # run from a source tree: the daemons are, too
        variables["PYTHONPATH"] = str(package)
    return variables
