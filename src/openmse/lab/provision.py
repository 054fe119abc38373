"""Sets a new laboratory's machines up with the product's own commands, until the pair is in SYNC.

One function per step; the only module that knows the product's set-up commands.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from openmse.lab.rootfs import InitialFile
from openmse.lab.state import State
from openmse.lab.topology import (
    PREFIX,
    PREFIX6,
    VIRTUAL_IP,
    VIRTUAL_IP6,
    Kind,
    Machine,
    Topology,
)

if TYPE_CHECKING:
    from openmse.lab.laboratory import Laboratory


def files_of(laboratory: "Laboratory", loaded: State, machine: Machine) -> tuple[InitialFile, ...]:
    """The files that a machine finds at its first boot."""
    if machine.kind is Kind.NODE:
        config = node_config(machine, loaded.topology, loaded.failover_wait_s)
        return (InitialFile(path="/etc/openmse/openmse.toml", content=config),)
    return ()


def node_config(machine: Machine, topology: Topology, failover_wait_s: float) -> str:
    """The configuration file of a node."""
    role = "primary" if machine.name == "mse1" else "secondary"
    witness = 'kind = "none"\n'
    if topology is Topology.PAIR:
        witness = 'kind = "console"\nname = "witness"\naddress = "10.10.10.13"\n'
    return (
        "# Written by `mse lab up`.\n"
        "[node]\n"
        f'name = "{machine.name}"\n'
        f'role = "{role}"\n'
        f'address = "{machine.address}/{PREFIX}"\n'
        f'address6 = "{machine.address6}/{PREFIX6}"\n'
        'interface = "eth0"\n'
        "\n[group]\n"
        f'virtual_ips = ["{VIRTUAL_IP}/{PREFIX}", "{VIRTUAL_IP6}/{PREFIX6}"]\n'
        f"failover_wait_s = {failover_wait_s}\n"
        f"\n[witness]\n{witness}"
    )


def client_dsn(laboratory: "Laboratory") -> str | None:
    """How a client reaches the group's database through the virtual IP; None before pairing."""
    path = laboratory.places.share / "client" / "dsn"
    return path.read_text().strip() if path.exists() else None


def pair(laboratory: "Laboratory", progress: Callable[[str], None]) -> None:
    """Pair the nodes, enrol the witness, wait for SYNC."""
    progress("pairing")
