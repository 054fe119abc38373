"""A voter's record on disk: JSON with a checksum, replaced at once and fsynced.

A file that is damaged is never guessed at, nor replaced by the copy kept aside: that copy is
older, and a voter that goes back in time may promise the same ballot twice.
"""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from openmse.errors import StateError
from openmse.ha.values import Record
from openmse.node.drivers.store.machine import Machine

FORMAT = 1
MAX_BYTES = 1 << 20
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk is full (quota)",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an error",
    errno.EACCES: "this process may not",
    errno.ENOENT: "its directory does not exist",
}


class _Wrapped(Struct, frozen=True, forbid_unknown_fields=True):
    """The file; ``sha256`` is of the bytes of ``machine``, a newline and those of ``record``."""

    format: int
    sha256: str
    machine: msgspec.Raw
    record: msgspec.Raw


class Stored(Struct, frozen=True):
    """What a file holds."""

    record: Record
    machine: Machine


class RecordStore:
    """Loads and saves one record.

    ``machine``: written beside the record by each save. ``previous`` is the copy kept aside: the
    last content but one, for people who investigate, never read by the product.
    """

    def __init__(self, path: Path, machine: Machine) -> None:
        self.path = path
        self.previous = path.with_name(path.name + ".previous")
        self.machine = machine

    def load(self) -> Stored | None:
        """What was saved last; None where nothing ever was.

        Raises StateError where the file is damaged, unreadable, from newer software, or has
        vanished (the copy aside is there, it is not).
        """
        try:
            with open(self.path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            self._refuse_if_vanished()
            return None
        except OSError as error:
            raise StateError(
                f"The durable state {self.path} cannot be read: {_reason(error)}.",
                "Nothing was changed, and this voter stays silent. Mend the disk or its rights.",
                code="MSE-STA-002",
            ) from error
        return self._parse(data)

    def save(self, record: Record) -> None:
        """Make ``record`` durable: on disk when this returns. Blocks for about 1 ms.

        Raises StateError where it could not; the last record then still stands.
        """
        temporary = self.path.with_name(self.path.name + ".new")
        try:
            _write_synced(temporary, self._wrap(record))
            self._keep_aside()
            os.rename(temporary, self.path)
            _sync_directory(self.path.parent)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise StateError(
                f"The durable state {self.path} cannot be written: {_reason(error)}.",
                "What was stored before still stands; nothing rests on what could not be "
                "written. Make room on the disk or mend it.",
                code="MSE-STA-003",
            ) from error

    def _wrap(self, record: Record) -> bytes:
        body, machine = msgspec.json.encode(record), msgspec.json.encode(self.machine)
        wrapped = _Wrapped(FORMAT, _digest(machine, body), msgspec.Raw(machine), msgspec.Raw(body))
        return msgspec.json.encode(wrapped) + b"\n"

    def _parse(self, data: bytes) -> Stored:
        try:
            newer = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            number = msgspec.json.decode(newer.get("format", msgspec.Raw(b"0")), type=int)
            if number > FORMAT:
                raise StateError(
                    f"The durable state {self.path} was written by newer software "
                    f"(format {number}; this software reads {FORMAT}).",
                    "Install the newer version again; nothing was changed.",
                    code="MSE-STA-004",
                )
            wrapped = msgspec.json.decode(data, type=_Wrapped)
            machine, body = bytes(wrapped.machine), bytes(wrapped.record)
            if _digest(machine, body) != wrapped.sha256:
                raise self._damaged("its checksum does not match")
            return Stored(
                msgspec.json.decode(body, type=Record), msgspec.json.decode(machine, type=Machine)
            )
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._damaged("it is incomplete or not of this product") from error

    def _damaged(self, how: str) -> StateError:
        return StateError(
            f"The durable state {self.path} is damaged: {how}. This voter has lost its memory, so "
            "it neither votes nor serves; nothing was changed.",
            f"Keep a copy for investigation ({self.previous} holds the state before the last), "
            "then move both files away and let the other node re-admit this one "
            "(mse ha doctor says how). Never put an older copy in its place.",
            code="MSE-STA-001",
        )

    def _refuse_if_vanished(self) -> None:
        if self.previous.exists():
            raise StateError(
                f"The durable state {self.path} is gone, but {self.previous} is there: something "
                "removed it. This voter has lost its memory, so it neither votes nor serves.",
                "Move the remaining file away and let the other node re-admit this one "
                "(mse ha doctor says how). Never put the older copy in its place.",
                code="MSE-STA-005",
            )

    def _keep_aside(self) -> None:
        """Give the present file a second name before its own goes to the new one."""
        spare = self.path.with_name(self.path.name + ".spare")
        with suppress(FileNotFoundError):
            spare.unlink()
        with suppress(FileNotFoundError):  # the first save
            os.link(self.path, spare)
            os.rename(spare, self.previous)


def _digest(machine: bytes, body: bytes) -> str:
    return hashlib.sha256(machine + b"\n" + body).hexdigest()


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def _write_synced(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
