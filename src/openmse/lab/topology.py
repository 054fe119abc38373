"""What a laboratory consists of: its machines, their addresses, names and places.

Pure values: nothing here touches the system. Addresses are those of the guide (10.10.10.x); every
laboratory uses the same ones, each on a switch of its own.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from openmse.errors import UsageError

VIRTUAL_IP: Final = "10.10.10.10"
VIRTUAL_IP6: Final = "fd00:10:10:10::10"
PREFIX: Final = 24
PREFIX6: Final = 64
PREFIX_DIRECT: Final = 24
SWITCH: Final = "switch"

RUN_ROOT: Final = Path("/run/openmse-lab")
IMAGE_ROOT: Final = Path("/var/tmp/openmse-lab")
NETNS_ROOT: Final = Path("/run/netns")

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,29}[a-z0-9])?")
_GIB = 1024**3


class Topology(StrEnum):
    """Which machines a laboratory has."""

    PAIR = "pair"
    PAIR_NO_WITNESS = "pair-no-witness"


class Kind(StrEnum):
    """What a machine is for; decides its programs and the size of its disk."""

    NODE = "node"
    WITNESS = "witness"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine's fixed properties."""

    name: str
    kind: Kind
    address: str
    disk_bytes: int

    @property
    def address6(self) -> str:
        """The IPv6 address with the same last part."""
        return f"fd00:10:10:10::{self.address.rsplit('.', 1)[1]}"

    @property
    def mac(self) -> str:
        """A locally administered link-layer address, the same in every boot."""
        return "02:00:" + ":".join(
            f"{byte:02x}" for byte in ipaddress.ip_address(self.address).packed
        )

    @property
    def direct_address(self) -> str:
        """A node's end of the direct connection."""
        return f"192.168.77.{self.address.rsplit('.', 1)[1]}"

    @property
    def cable(self) -> str:
        """The name of its end of the direct connection's cable, outside the machine."""
        return f"d-{self.name}"

    @property
    def wire(self) -> str:
        """The switch port's name while a slow wire lies between the machine and its port."""
        return f"w-{self.name}"


_ALL: Final = (
    Machine(name="mse1", kind=Kind.NODE, address="10.10.10.11", disk_bytes=6 * _GIB),
    Machine(name="mse2", kind=Kind.NODE, address="10.10.10.12", disk_bytes=6 * _GIB),
    Machine(name="witness", kind=Kind.WITNESS, address="10.10.10.13", disk_bytes=_GIB // 2),
    Machine(name="client", kind=Kind.CLIENT, address="10.10.10.20", disk_bytes=_GIB),
)


def machines_of(topology: Topology) -> Mapping[str, Machine]:
    """The machines of ``topology``, by name, in the order they are built."""
    return {
        machine.name: machine
        for machine in _ALL
        if topology is Topology.PAIR or machine.kind is not Kind.WITNESS
    }


@dataclass(frozen=True, slots=True)
class Places:
    """Every name and path a laboratory uses on the host: all leftovers can be found by them."""

    lab: str

    @classmethod
    def of(cls, lab: str) -> "Places":
        """Check the laboratory's name and return its places.

        Raises: UsageError for a name that cannot be part of a path and a namespace's name.
        """
        if not _NAME.fullmatch(lab):
            raise UsageError(
                f"'{lab}' cannot be the name of a laboratory.",
                "Use up to 31 lower-case letters, digits and inner hyphens.",
            )
        return cls(lab)

    @property
    def run(self) -> Path:
        """State, locks and the files shared with machines."""
        return RUN_ROOT / self.lab

    @property
    def share(self) -> Path:
        """Visible in every machine at this same path: what a client's DSN names lives here."""
        return self.run / "share"

    @property
    def images(self) -> Path:
        """The machines' disks, the software they run and their logs."""
        return IMAGE_ROOT / self.lab

    @property
    def software(self) -> Path:
        """This laboratory's copy of the product."""
        return self.images / "software"

    def image(self, machine: str) -> Path:
        """The disk of ``machine``."""
        return self.images / f"{machine}.img"

    def logs(self, machine: str) -> Path:
        """What the machine's boot programs print; survives its power and its full disk."""
        return self.images / "log" / machine

    def namespace(self, machine: str) -> str:
        """The name under which ``ip netns`` knows the machine's network."""
        return f"{self.lab}-{machine}"

    def netns(self, machine: str) -> Path:
        """The file that keeps the machine's network namespace."""
        return NETNS_ROOT / self.namespace(machine)

    def control_group(self, machine: str) -> str:
        """The machine's control group, below a freezer's mount point."""
        return f"openmse-lab-{self.lab}-{machine}"

    @property
    def namespaces(self) -> list[str]:
        """Every namespace a laboratory of any topology may have made."""
        return [self.namespace(name) for name in (*(m.name for m in _ALL), SWITCH)]

    @property
    def machine_names(self) -> list[str]:
        """Every machine a laboratory of any topology may have."""
        return [machine.name for machine in _ALL]
