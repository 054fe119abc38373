"""Removes a laboratory, whole or in any state of ruin, by the names it uses.

Nothing here trusts the state file: namespaces, disks, control groups and directories have fixed
names, and processes are found by the namespaces they are in.
"""

import contextlib
import os
import shutil
import time
from pathlib import Path

from openmse.errors import DriverError
from openmse.lab import linux, procs, state
from openmse.lab.freezer import Freezer
from openmse.lab.switch import run_ip
from openmse.lab.topology import NETNS_ROOT, Places

_DEADLINE_S = 30.0


def remains(places: Places) -> list[str]:
    """What of a laboratory exists, for people; empty when nothing does."""
    found = [f"the network namespace {name}" for name in places.namespaces if _netns(name).exists()]
    found += [f"the directory {path}" for path in (places.run, places.images) if path.exists()]
    for machine in places.machine_names:
        devices = linux.loop_devices_of(str(places.image(machine)))
        found += [f"{device}, attached to the disk of {machine}" for device in devices]
        if Freezer.of(places.control_group(machine)).path is not None:
            found.append(f"the control group {places.control_group(machine)}")
    return found


def remove(places: Places) -> None:
    """End and remove everything of a laboratory; fine if there is nothing.

    Raises: DriverError naming what could not be removed.
    """
    for _ in range(3):  # a command that was just starting a process when we looked
        _end_processes(places)
        if not _processes(places):
            break
    _release_disks(places)
    _unmount_below(places.run)
    for name in places.namespaces:
        if _netns(name).exists():
            _delete_netns(name)
    for machine in places.machine_names:
        Freezer.of(places.control_group(machine)).remove()
    for path in (places.images, places.run):
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # if this was the last laboratory
    left = remains(places)
    if left:
        raise DriverError(
            f"The laboratory '{places.lab}' could not be removed wholly; left: {', '.join(left)}.",
            "Close what still uses it (a shell inside a machine, an open file), then try again.",
        )


def _netns(name: str) -> Path:
    return NETNS_ROOT / name


def _delete_netns(name: str) -> None:
    """Remove a namespace, or the plain file that a crash between its two steps left."""
    try:
        run_ip("netns", "delete", name)
    except DriverError:
        _netns(name).unlink(missing_ok=True)


def _processes(places: Places) -> list[int]:
    """Everything inside the laboratory's machines, and the helpers outside them."""
    networks = []
    for name in places.namespaces:
        with contextlib.suppress(OSError):
            status = os.stat(_netns(name))
            networks.append((status.st_dev, status.st_ino))
    inside = set(procs.pids_in("net", networks))
    inits = {pid for pid in procs.all_pids() if _is_init(places, pid)}
    spaces = [
        space for space in (procs.namespace_of(pid, "pid") for pid in inside | inits) if space
    ]
    own = procs.namespace_of(os.getpid(), "pid")
    inside |= set(procs.pids_in("pid", [space for space in spaces if space != own]))
    helpers = {pid for pid in procs.all_pids() if _is_helper(places, pid)}
    spared = set(procs.ancestors_of(os.getpid()))
    return sorted((inside | inits | helpers) - spared)


def _is_init(places: Places, pid: int) -> bool:
    """Whether this is the PID 1 of one of our machines, whatever became of its namespaces."""
    argv = procs.arguments_of(pid)
    return any(
        argv[index + 1 : index + 2] == [places.lab]
        for index, argument in enumerate(argv)
        if argument.endswith("/openmse/lab/init.py")
    )


def _is_helper(places: Places, pid: int) -> bool:
    """Whether this is one of our flapping processes (wires are in the switch's namespace)."""
    return procs.arguments_of(pid)[1:4] == ["-m", "openmse.lab.flap", places.lab]


def _end_processes(places: Places) -> None:
    for machine in places.machine_names:
        Freezer.of(places.control_group(machine)).thaw()  # or version 1 keeps them from dying
    stuck = procs.kill_all(_processes(places), _DEADLINE_S)
    if stuck:
        raise DriverError(
            f"Processes of the laboratory '{places.lab}' do not end: {stuck}.",
            "They wait for the kernel; look at their stacks below /proc.",
        )


def _release_disks(places: Places) -> None:
    """Wait for the kernel to detach disks whose users are gone (they are set to autoclear)."""
    deadline = time.monotonic() + _DEADLINE_S
    images = [str(places.image(machine)) for machine in places.machine_names]
    while any(linux.loop_devices_of(image) for image in images):
        if time.monotonic() > deadline:
            break  # `remains` will name it
        time.sleep(0.005)


def _unmount_below(folder: Path) -> None:
    """Detach mounts at or below ``folder`` (there are none unless a starter died half-way)."""
    with open("/proc/self/mounts") as file:
        targets = [line.split()[1] for line in file]
    for target in reversed(targets):
        if Path(target).is_relative_to(folder):
            linux.unmount(target, linux.MNT_DETACH)


def down(places: Places) -> None:
    """Remove the laboratory, after a command that is at work on it has ended."""
    if places.run.is_dir():
        with state.locked(places):
            remove(places)
    else:
        remove(places)
