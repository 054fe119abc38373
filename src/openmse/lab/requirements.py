"""What a laboratory needs of the host, checked before anything is touched."""

import ctypes
import os
import shutil

from openmse.errors import DriverError
from openmse.lab.nft import LIBRARY

_PROGRAMS = {"ip": "iproute2", "mkfs.ext4": "e2fsprogs"}
_FREE_BYTES = 3 * 1024**3


def check_root() -> None:
    """Raise a DriverError for anybody but root, saying why."""
    if os.geteuid() != 0:
        raise DriverError(
            "A laboratory needs root: its machines are network, mount and process namespaces, and "
            "their disks are loop devices, which only root may make.",
            "Run the same command with sudo; nothing on this machine's own network changes.",
            is_retryable=False,
        )


def extend_path() -> None:
    """Let the tools of administration be found, also where they are not on the caller's PATH."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    if "/usr/sbin" not in path.split(":"):
        os.environ["PATH"] = f"{path}:/usr/sbin:/sbin"


def check(images: str) -> None:
    """Raise a DriverError that says what is missing and why it is needed."""
    check_root()
    extend_path()
    missing = {package for program, package in _PROGRAMS.items() if not shutil.which(program)}
    if not _has_library():
        missing.add("nftables")
    if missing:
        names = " ".join(sorted(missing))
        raise DriverError(
            f"Debian packages that a laboratory needs are not installed: {names}.",
            f"Install them: apt install {names}",
            is_retryable=False,
        )
    for device in ("/dev/loop-control", "/dev/net/tun"):
        if not os.path.exists(device):
            raise DriverError(
                f"The kernel's {device} is missing, which a laboratory needs for disks and cables.",
                "In a container, pass it through; on a machine, load the modules loop and tun.",
                is_retryable=False,
            )
    _check_space(images)


def _has_library() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def _check_space(images: str) -> None:
    folder = images
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    if free < _FREE_BYTES:
        raise DriverError(
            f"Only {free // 1024**2} MiB are free below {folder}; the machines' disks need up to "
            f"{_FREE_BYTES // 1024**2} MiB.",
            "Free some space, then try again.",
        )
