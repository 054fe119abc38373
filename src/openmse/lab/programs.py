"""What runs on each kind of machine, and how its processes are recognized.

The one place to change when a daemon's command line changes.
"""

from dataclasses import dataclass
from typing import Final

from openmse import ports
from openmse.lab import procs
from openmse.lab.topology import Kind

PYTHON: Final = "/opt/openmse/venv/bin/python3"
HEARTBEAT_PORTS: Final = (ports.NODE_UDP, ports.WITNESS_UDP)
REPLICATION_PORT: Final = ports.POSTGRESQL
CONFIG_PATH: Final = "/etc/openmse/openmse.toml"
WITNESS_CONFIG_PATH: Final = "/etc/openmse/witness.toml"

CONTROL_SOCKET: Final = "/run/openmse/control.sock"
ENABLED: Final = "/etc/openmse/enabled"
"""Made when a machine has been set up: until then its programs are not started, as services that
have not been enabled yet."""
MANAGEMENT: Final = "/etc/openmse/management.toml"
"""Made where a node is to be managed over the network: its admin process starts then."""

HEALTH_MONITOR: Final = "health-monitor"
GUARD: Final = "guard"
POSTGRES: Final = "postgres"
WITNESS: Final = "witness"
COMPONENTS: Final = (HEALTH_MONITOR, GUARD, POSTGRES, WITNESS)

_MODULES: Final = {
    HEALTH_MONITOR: "openmse.node",
    GUARD: "openmse.guard",
    WITNESS: "openmse.witness",
}


@dataclass(frozen=True, slots=True)
class Program:
    """A program that a machine starts at boot and restarts when it ends, as systemd would."""

    name: str
    argv: tuple[str, ...]
    needed: str = ENABLED
    """It is started once this path exists."""


def programs_of(kind: Kind) -> tuple[Program, ...]:
    """The boot programs of one kind of machine."""
    match kind:
        case Kind.NODE:
            guard = (PYTHON, "-m", "openmse.guard", "--run-dir", "/run/openmse", "--")
            admin = (PYTHON, "-m", "openmse.api", "--config", CONFIG_PATH)
            return (
                Program(GUARD, (*guard, PYTHON, "-m", "openmse.node", "--config", CONFIG_PATH)),
                Program("admin", admin, MANAGEMENT),
            )
        case Kind.WITNESS:
            witness = (PYTHON, "-m", "openmse.witness", "--config", WITNESS_CONFIG_PATH)
            return (Program(WITNESS, witness),)
        case Kind.CLIENT:
            return ()


def find(component: str, pids: list[int]) -> int | None:
    """The pid, among a machine's ``pids``, of one of ``COMPONENTS``; None if it does not run.

    PostgreSQL is its postmaster: the only ``postgres`` whose parent is none.
    """
    if component == POSTGRES:
        servers = {pid for pid in pids if procs.command_of(pid) == "postgres"}
        tops = [pid for pid in sorted(servers) if procs.parent_of(pid) not in servers]
        return tops[0] if tops else None
    module = _MODULES[component]
    for pid in pids:
        argv = procs.arguments_of(pid)
        if "-m" in argv and argv[argv.index("-m") + 1 : argv.index("-m") + 2] == [module]:
            return pid
    return None
