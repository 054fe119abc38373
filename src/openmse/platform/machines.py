"""The machines an engine runs on, as data: names, product ids, element limits. Pure.

Limits are those of ``spec/services.md`` (published tiers). Machines of today are "generic": they
are what their cores, memory and disk measure. Units: bytes, and tracked elements.
"""

from enum import StrEnum

from msgspec import Struct

GB = 10**9
HW_VERSION = "V01"
"""The only hardware version the guide shows; ours has no other."""


class MachineKind(StrEnum):
    """The rows and columns of the pairing matrix."""

    MSE_3310 = "3310"
    MSE_3350 = "3350"
    MSE_3355 = "3355"
    MSE_3365 = "3365"
    VA_LOW = "VA-Low"
    VA_STANDARD = "VA-Standard"
    VA_HIGH = "VA-High"
    GENERIC = "generic"
    """Any machine: its size is measured."""


class Size(Struct, frozen=True):
    """What a machine measures: logical processors, bytes of memory, bytes of the state disk."""

    cores: int
    memory_bytes: int
    disk_bytes: int


class MachineType(Struct, frozen=True):
    """One kind of machine of the catalogue. ``element_limit``: tracked elements at most."""

    kind: MachineKind
    product_id: str
    device_type: str
    """As the console's list of engines shows it."""
    element_limit: int
    is_virtual: bool


class Machine(Struct, frozen=True):
    """One real machine: its kind, whether it is virtual, and its size where that was measured."""

    kind: MachineKind
    is_virtual: bool
    size: Size | None = None


_APPLIANCE = "Cisco {} Mobility Services Engine"
_VIRTUAL = "Cisco Mobility Services Engine - Virtual Appliance"

CATALOGUE: dict[MachineKind, MachineType] = {
    entry.kind: entry
    for entry in (
        MachineType(
            MachineKind.MSE_3310, "AIR-MSE-3310-K9", _APPLIANCE.format("3310"), 2_000, False
        ),
        MachineType(
            MachineKind.MSE_3350, "AIR-MSE-3350-K9", _APPLIANCE.format("3350"), 18_000, False
        ),
        MachineType(
            MachineKind.MSE_3355, "AIR-MSE-3355-K9", _APPLIANCE.format("3355"), 18_000, False
        ),
        MachineType(
            MachineKind.MSE_3365, "AIR-MSE-3365-K9", _APPLIANCE.format("3365"), 50_000, False
        ),
        MachineType(MachineKind.VA_LOW, "AIR-MSE-VA-K9", _VIRTUAL, 2_000, True),
        MachineType(MachineKind.VA_STANDARD, "AIR-MSE-VA-K9", _VIRTUAL, 18_000, True),
        MachineType(MachineKind.VA_HIGH, "AIR-MSE-VA-K9", _VIRTUAL, 50_000, True),
    )
}
"""Every machine of the guide. Generic machines are not in it: see ``product_id``."""

GENERIC_VIRTUAL_ID = "OPENMSE-VA"
GENERIC_PHYSICAL_ID = "OPENMSE-HW"
VIRTUAL_IDS = frozenset(
    [entry.product_id for entry in CATALOGUE.values() if entry.is_virtual] + [GENERIC_VIRTUAL_ID]
)
"""Product ids of virtual appliances: those that need an activation licence."""

GENERIC_TIERS = (
    (16, 20 * GB, 50_000),
    (8, 11 * GB, 18_000),
    (0, 0, 2_000),
)
"""(cores, bytes of memory, element limit), the largest first: a generic machine has the limit of
the first row that it fills in both. Ours: the tiers of virtual appliances, by measured size."""


def product_id(machine: Machine) -> str:
    """The first part of the machine's UDI."""
    if machine.kind is MachineKind.GENERIC:
        return GENERIC_VIRTUAL_ID if machine.is_virtual else GENERIC_PHYSICAL_ID
    return CATALOGUE[machine.kind].product_id


def device_type(machine: Machine) -> str:
    """The machine as the console's list shows it."""
    if machine.kind is MachineKind.GENERIC:
        kind = "Virtual Appliance" if machine.is_virtual else "Appliance"
        return f"OpenMSE Mobility Services Engine - {kind}"
    return CATALOGUE[machine.kind].device_type


def element_limit(machine: Machine) -> int:
    """Tracked elements at most on this machine, whatever its licences say."""
    if machine.kind is not MachineKind.GENERIC:
        return CATALOGUE[machine.kind].element_limit
    if machine.size is None:
        return GENERIC_TIERS[-1][2]
    for cores, memory_bytes, limit in GENERIC_TIERS:
        if machine.size.cores >= cores and machine.size.memory_bytes >= memory_bytes:
            return limit
    raise AssertionError("the last tier asks for nothing")
