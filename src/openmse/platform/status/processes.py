"""The product's processes as /proc shows them: which they are, since when, and their memory.

Source: proc(5). Parsing is pure and beside the reads. Units: bytes; clock ticks since boot.
"""

import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from openmse.guard.processes import start_time

PROC = Path("/proc")
_KIB = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)


class Memory(Struct, frozen=True):
    """Memory of the product on this machine, in bytes.

    ``used``: in main memory, shared pages counted once: the proportional set size, or, where the
    caller may not see that, what is each process's own and the largest part of what they share
    (a little more: what a child has of its parent counts in both).
    ``allocated``: what its processes have reserved for themselves and share, used or not.
    """

    used: int
    allocated: int


def family(roots: Iterable[int], parents: Mapping[int, int]) -> set[int]:
    """``roots`` and everything that descends from them."""
    found = set(roots)
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    waiting = list(found)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def parents() -> dict[int, int]:
    """pid -> parent's pid, of everything that runs in this pid namespace."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                found[int(entry.name)] = int(fields[1])
    return found


def kib_fields(text: str) -> dict[str, int]:
    """The lines ``Name: 123 kB`` of a file below /proc, in bytes."""
    return {name: int(number) * 1024 for name, number in _KIB.findall(text)}


def memory(pids: Iterable[int]) -> Memory | None:
    """Memory of these processes together; None where the caller may not see it."""
    used: int | None = 0
    private = own = shared = mapped = 0
    for pid in pids:
        try:
            status = kib_fields((PROC / str(pid) / "status").read_text())
            share = _proportional(pid)
        except PermissionError:
            return None
        except OSError:  # it has ended meanwhile
            continue
        used = used + share if used is not None and share is not None else None
        private += status.get("VmData", 0)
        own += status.get("RssAnon", 0)
        shared = max(shared, status.get("RssShmem", 0))
        mapped = max(mapped, status.get("RssFile", 0))
    return Memory(own + shared + mapped if used is None else used, private + shared)


def _proportional(pid: int) -> int | None:
    """The proportional set size; None for a process that this one may not look into."""
    try:
        rollup = (PROC / str(pid) / "smaps_rollup").read_text()
    except PermissionError:
        return None
    return kib_fields(rollup).get("Pss", 0)


def guard_of(health_monitor: int, known: Mapping[int, int]) -> int | None:
    """The guard, where it is the health monitor's parent."""
    parent = known.get(health_monitor, 0)
    with suppress(OSError):
        arguments = (PROC / str(parent) / "cmdline").read_bytes().split(b"\0")
        if b"openmse.guard" in arguments:
            return parent
    return None


def age_s(pid: int) -> float | None:
    """Seconds since a process was started; None where there is none."""
    started = start_time(pid)
    if started is None:
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
