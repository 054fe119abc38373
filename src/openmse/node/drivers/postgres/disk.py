"""The disk of a data directory: full, read-only, and a reserve for leaving it in good order."""

import errno
import os
from pathlib import Path

from openmse.node.drivers.postgres.settings import MIB, InstanceSettings
from openmse.node.drivers.postgres.sidecar import explain_disk_error

RESERVE_NAME = "openmse-reserve"
KEEP_FREE_TIMES = 4
"""The reserve is taken only from a disk that has this many times its size free."""


class DiskWatch:
    """Judges the free space, and holds some back.

    A full disk is a reason to hand over, and a clean handover writes: the shutdown checkpoint, the
    release, the log. So a file of the reserve's size is kept, and given up when the disk is full.
    All methods block on the disk.
    """

    def __init__(self, settings: InstanceSettings) -> None:
        self._settings = settings
        self._reserve = settings.data_dir.parent / RESERVE_NAME

    def check(self) -> str:
        """A sentence if the disk is full or read-only, '' if not."""
        try:
            return self._check()
        except OSError as error:
            return explain_disk_error(error, self._settings.data_dir)

    def _check(self) -> str:
        directory, size = self._settings.data_dir, self._settings.disk_reserve_bytes
        state = os.statvfs(directory.parent)
        if state.f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, "Read-only file system")
        free = state.f_bavail * state.f_frsize
        has_reserve = self._reserve.exists()
        if not has_reserve and free > KEEP_FREE_TIMES * size:
            allocate(self._reserve, size)
            return ""
        # Without the reserve the limit is higher: giving it up must not look like recovery.
        if free >= (size if has_reserve else 2 * size):
            return ""
        if has_reserve:
            self._reserve.unlink()
        return (
            f"The disk of {directory} is full: {free // MIB} MiB are free, "
            f"{size // MIB} MiB are the least to work with. Free some space."
        )


def allocate(path: Path, size_bytes: int) -> None:
    """Make a file whose blocks are really taken. Raises: OSError, with nothing left behind."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)
