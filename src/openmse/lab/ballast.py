"""Fills the disk of the machine it runs in, or frees it again: ``ballast.py fill|free``.

Executed by path inside the machine, as the user whose limit counts; standard library only.
"""

import errno
import os
import sys

PATH = "/var/tmp/openmse-ballast"


def fill() -> None:
    """Allocate blocks until not one more is given."""
    descriptor = os.open(f"{PATH}-{os.getuid()}", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    end = os.fstat(descriptor).st_size
    chunk = 1 << 30
    while chunk >= 4096:
        try:
            os.posix_fallocate(descriptor, end, chunk)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            chunk //= 2
            end = max(end, os.fstat(descriptor).st_size)
        else:
            end += chunk
    os.close(descriptor)


def free() -> None:
    """Remove what ``fill`` made, whoever it ran as."""
    folder, prefix = os.path.split(PATH)
    for name in os.listdir(folder):
        if name.startswith(prefix):
            os.unlink(os.path.join(folder, name))


if __name__ == "__main__":
    {"fill": fill, "free": free}[sys.argv[1]]()
