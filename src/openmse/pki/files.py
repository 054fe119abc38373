"""Files that hold keys and certificates: whole or not at all, with the right owner and mode."""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from openmse.errors import StateError

PRIVATE = 0o600
PUBLIC = 0o644


class Owner(NamedTuple):
    """Numeric user and group that a file shall belong to."""

    uid: int
    gid: int


def write_file(path: Path, data: bytes, *, mode: int = PRIVATE, owner: Owner | None = None) -> None:
    """Replace ``path`` at once and durably; raises StateError, and then nothing has changed.

    The new file has its owner and mode before it has its name: nobody ever sees it otherwise.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with suppress(FileNotFoundError):
            temporary.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            if owner is not None:
                os.fchown(file.fileno(), owner.uid, owner.gid)
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StateError(
            f"The file {path} could not be written: {error.strerror}.",
            "Nothing was changed. Make room on the disk or mend its rights, then try again.",
            code="MSE-STA-010",
        ) from error


def read_file(path: Path, limit_bytes: int = 1 << 20) -> bytes:
    """The contents; raises StateError where it is missing, too large or cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise StateError(
            f"The file {path} could not be read: {error.strerror}.", code="MSE-STA-011"
        ) from error
    if len(data) > limit_bytes:
        raise StateError(f"The file {path} is larger than it can be.", code="MSE-STA-011")
    return data


def sync_directory(path: Path) -> None:
    """Make renames and new names in a directory durable; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
