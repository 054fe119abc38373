"""The system calls the laboratory needs and Python 3.11 lacks. Standard library only.

Runs as PID 1's starter and inside half-built machines, so it must import nothing of the product.
Units: instants are integer nanoseconds of CLOCK_BOOTTIME.
"""

import ctypes
import errno
import fcntl
import os
import struct
import time

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_LOOP_MAJOR = 7
_LOOP_INFO = struct.Struct("=QQQQQIIII64s64s32sQQ")
_EXT4_IOC_SHUTDOWN = 0x8004587D
_EXT4_SHUTDOWN_NO_LOG_FLUSH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def now_ns() -> int:
    """This machine's CLOCK_BOOTTIME in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags`` (CLONE_NEW*) for new ones."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that ``fd`` refers to; ``kind`` is its CLONE_NEW* or 0 for any."""
    _check(_libc.setns(fd, kind), "setns")


def enter_network(netns: str) -> None:
    """Move the calling thread into the network namespace kept at the path ``netns``."""
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(descriptor, CLONE_NEWNET)
    finally:
        os.close(descriptor)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2); an empty ``kind`` or ``options`` is passed as NULL."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _check(result, f"mount {source} on {target}")


def bind(source: str, target: str, *, is_read_only: bool = False) -> None:
    """Show ``source`` (with the mounts below it) at ``target`` too."""
    mount(source, target, flags=MS_BIND | MS_REC)
    if is_read_only:
        mount(source, target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID)


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def pivot_root(new_root: str) -> None:
    """Make the mount at ``new_root`` the root of this mount namespace and drop the old one.

    Stacks the old root over the new one and detaches it, as pivot_root(2) documents for ".", ".".
    """
    os.chdir(new_root)
    number = {"x86_64": 155, "aarch64": 41, "riscv64": 41}.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"pivot_root: unknown machine type {os.uname().machine}")
    _check(_libc.syscall(ctypes.c_long(number), b".", b"."), f"pivot_root {new_root}")
    unmount(".", MNT_DETACH)
    os.chdir("/")


def set_hostname(name: str) -> None:
    """sethostname(2), of this UTS namespace."""
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)), "sethostname")


def sync_file_system(directory: str) -> None:
    """syncfs(2): everything written to the file system of ``directory`` is on its disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.syncfs(descriptor), f"syncfs {directory}")
    finally:
        os.close(descriptor)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send us ``signal_number`` when the thread that forked us ends."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")


def attach_loop(image: str) -> tuple[str, int]:
    """Attach ``image`` to a free loop device; return the device's path and an open descriptor.

    The kernel detaches it by itself when the last user is gone (autoclear): the caller mounts it
    and closes the descriptor, and nothing is left behind even if it dies in between.
    """
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    info = _LOOP_INFO.pack(
        0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR, image.encode()[:63], b"", b"", 0, 0
    )
    request = struct.pack("=II", backing, 0) + info + bytes(64)
    try:
        for _ in range(64):  # another process may take the free device first: ask again
            path, device = _open_free_loop()
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, request)
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return path, device
        raise OSError(errno.EBUSY, "no free loop device after 64 attempts")
    finally:
        os.close(backing)


def _open_free_loop() -> tuple[str, int]:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        index = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
    finally:
        os.close(control)
    path = f"/dev/loop{index}"
    if not os.path.exists(path):  # a container's /dev does not follow the kernel's
        os.mknod(path, 0o60600, os.makedev(_LOOP_MAJOR, index))
    return path, os.open(path, os.O_RDWR | os.O_CLOEXEC)


def loop_devices_of(image: str) -> list[str]:
    """The loop devices whose backing file is ``image``, also where it was deleted meanwhile."""
    found = []
    for entry in os.listdir("/sys/block"):
        if not entry.startswith("loop"):
            continue
        try:
            with open(f"/sys/block/{entry}/loop/backing_file") as file:
                backing = file.read().rstrip("\n")
        except OSError:
            continue  # not attached
        if backing in (image, f"{image} (deleted)"):
            found.append(f"/dev/{entry}")
    return found


def lose_page_cache(directory_fd: int) -> None:
    """Stop the ext4 file system of ``directory_fd`` as a power cut does.

    Nothing that was not yet written to its disk will be: dirty pages and the unwritten part of
    the journal are dropped. Source: EXT4_IOC_SHUTDOWN with NOLOGFLUSH, as xfstests' "godown".
    """
    fcntl.ioctl(directory_fd, _EXT4_IOC_SHUTDOWN, struct.pack("=I", _EXT4_SHUTDOWN_NO_LOG_FLUSH))
