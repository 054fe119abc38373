"""Writing files below a root directory: whole or not at all, with a copy of what was there.

The thin driver of ``plan.Change``. Every act returns what takes it back.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from openmse.setup.errors import StepError
from openmse.setup.plan import Change
from openmse.setup.world import Entry, Link, read_entry, rooted

Undo = Callable[[], None]
BACKUPS = "/var/backups/openmse"
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk is full (quota)",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this process may not",
    errno.EPERM: "this process may not",
    errno.EIO: "the disk reports an error",
}


class Like(NamedTuple):
    """Mode and owner that a written file shall have."""

    mode: int
    uid: int = -1
    gid: int = -1


class Files:
    """The files of one machine; ``stamp`` names the directory of this run's copies."""

    def __init__(self, root: Path, stamp: str) -> None:
        self.root = root
        self.backup = rooted(root, f"{BACKUPS}/setup-{stamp}")
        self._aside: list[Path] = []

    def put(self, change: Change) -> Undo:
        """Make one file what it shall be. Raises StepError, and then it is as it was."""
        found = read_entry(self.root, change.path)
        if found != change.before:
            raise StepError(
                f"{change.path} was changed by somebody else in the meantime.",
                "Run setup again: it begins with what is there now.",
            )
        place = rooted(self.root, change.path)
        like = _like(place, change.mode)
        made = self._directories(place.parent, change.after)
        aside = None
        try:
            self._keep(place, change)
            aside = self._set_aside(place, change)
            _write(place, change.after, like)
        except BaseException:
            if read_entry(self.root, change.path) != change.before:  # replaced, then not synced
                _write(place, change.before, like)
            if aside is not None:
                aside.unlink(missing_ok=True)
            made()
            raise

        def undo() -> None:
            if aside is not None and os.path.lexists(aside):
                os.rename(aside, place)
            else:
                _write(place, change.before, like)
            made()

        return undo

    def settle(self) -> None:
        """Everything is done: what was kept for taking it back is no longer needed."""
        for path in self._aside:
            with suppress(OSError):
                path.unlink()

    def _set_aside(self, place: Path, change: Change) -> Path | None:
        """A second name for what is replaced: taking it back then needs no room on the disk."""
        if change.before is None:
            return None
        aside = place.with_name(f".{place.name}.openmse-old")
        with suppress(OSError):
            aside.unlink(missing_ok=True)
            os.link(place, aside, follow_symlinks=False)
            self._aside.append(aside)
            return aside
        return None  # a file system without second names: it is written anew instead

    def _keep(self, place: Path, change: Change) -> None:
        """A copy of what is replaced, in a place where nothing reads it by its name."""
        if change.before is None:
            return
        copy = self.backup / change.path.lstrip("/")
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.chmod(self.backup, 0o700)
        except OSError as error:
            raise _failed(f"The copy {copy} cannot be made", error) from error
        _write(copy, change.before, _like(place, 0o600))

    def _directories(self, directory: Path, after: Entry | None) -> Undo:
        """Make missing directories; what was made is removed again, if empty."""
        missing = []
        while after is not None and not directory.exists():
            missing.append(directory)
            directory = directory.parent
        try:
            for path in reversed(missing):
                path.mkdir(mode=0o755)
        except OSError as error:
            raise _failed(f"The directory {missing[0]} cannot be made", error) from error

        def undo() -> None:
            for path in missing:
                with suppress(OSError):
                    path.rmdir()

        return undo


def _like(place: Path, mode: int) -> Like:
    try:
        found = place.stat()
    except OSError:
        return Like(mode)
    return Like(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def _write(place: Path, entry: Entry | None, like: Like) -> None:
    temporary = place.with_name(f".{place.name}.openmse-new")
    try:
        with suppress(FileNotFoundError):
            temporary.unlink()
        if entry is None:
            with suppress(FileNotFoundError):
                place.unlink()
            _sync(place.parent)
            return
        if isinstance(entry, Link):
            temporary.symlink_to(entry.target)
        else:
            _write_new(temporary, entry, like)
        _replace(temporary, place, entry)
        _sync(place.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise _failed(f"{place} cannot be written", error) from error


def _write_new(path: Path, text: str, like: Like) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        if os.geteuid() == 0:
            os.fchown(file.fileno(), like.uid, like.gid)
        os.fchmod(file.fileno(), like.mode)
        file.write(text.encode(errors="surrogateescape"))
        file.flush()
        os.fsync(file.fileno())


def _replace(temporary: Path, place: Path, entry: Entry) -> None:
    try:
        os.rename(temporary, place)
    except OSError as error:
        if error.errno != errno.EBUSY or not isinstance(entry, str):
            raise
        # A container mounts /etc/hosts and the like one by one: such a file cannot be replaced.
        with open(place, "wb") as file:
            file.write(entry.encode(errors="surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        temporary.unlink()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(what: str, error: OSError) -> StepError:
    reason = _REASONS.get(error.errno or 0, error.strerror or "unknown")
    return StepError(f"{what}: {reason}.", "Mend that, then run setup again.")
