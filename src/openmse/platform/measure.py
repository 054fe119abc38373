"""What this machine is and measures: thin reads of /proc, /sys and the state directory's disk."""

import os
from contextlib import suppress
from pathlib import Path

from openmse.platform.machines import CATALOGUE, Machine, MachineKind, Size
from openmse.platform.udi import printed_serial

_DMI = Path("/sys/class/dmi/id")
_CONTAINER_MARKS = (Path("/run/systemd/container"), Path("/.dockerenv"), Path("/run/.containerenv"))
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


def machine(kind: MachineKind, state_dir: Path) -> Machine:
    """This machine as pairing and limits need it; sizes are measured only for generic ones."""
    if kind is not MachineKind.GENERIC:
        return Machine(kind, CATALOGUE[kind].is_virtual)
    return Machine(kind, is_virtual(), size(state_dir))


def size(state_dir: Path) -> Size:
    """Processors this process may use, memory, and the disk that holds the data; in bytes."""
    return Size(len(os.sched_getaffinity(0)), memory_bytes(), _disk_bytes(state_dir))


def memory_bytes() -> int:
    """Memory of the machine, or less where a control group allows less. Source: proc(5)."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):
        return min(pages, int(_CGROUP_MEMORY.read_text()))
    return pages


def is_virtual() -> bool:
    """Whether this machine runs on a hypervisor or in a container."""
    if any(mark.exists() for mark in _CONTAINER_MARKS):
        return True
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
        return any(line.startswith("flags") and " hypervisor" in line for line in file)
    return False


def serial_number() -> str:
    """The maker's serial number of a physical machine; '' where there is none to be read."""
    with suppress(OSError):
        return printed_serial((_DMI / "product_serial").read_text(errors="replace"))
    return ""


def _disk_bytes(state_dir: Path) -> int:
    path = state_dir
    while not path.exists() and path != path.parent:
        path = path.parent
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize
