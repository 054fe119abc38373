"""What this node knows of its data directory, kept beside it and never inside.

PGDATA is copied whole by base backups and pg_rewind; a lineage kept inside it would travel to the
wrong node. Every change is fsynced before the caller goes on.
"""

import contextlib
import errno
import os
import secrets
from pathlib import Path

import msgspec

from openmse.errors import StateError
from openmse.ha.values import Lineage

VERSION = 1


class DirectoryRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The identity and the history of one data directory. LSNs are byte positions."""

    directory_id: str
    """Random; a new one for each directory made by initdb or a base backup."""
    system_identifier: str
    """PostgreSQL's own; the same on both nodes of a group."""
    lineage: Lineage
    parent_lineage: Lineage | None = None
    fork_lsn: int = 0
    promoting_to: Lineage | None = None
    """A promotion that may have happened; settled by what the server says it is."""
    promoting_fork_lsn: int = 0
    version: int = VERSION


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was proven of a running server, so that a restarted health monitor need not again.

    Valid for one process only: ``server`` names its pid and start time. It is removed before the
    names change, so one that is there is about the names in force.
    """

    server: str
    names: bool
    barrier_id: int
    barrier_lsn: int


def new_directory_id() -> str:
    """Eight hexadecimal digits."""
    return secrets.token_hex(4)


def fsync_directory(path: Path) -> None:
    """Make renames and unlinks in ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(
    path: Path,
    data: bytes,
    *,
    mode: int = 0o644,
    durable: bool = True,
    owner: tuple[int, int] | None = None,
) -> None:
    """Replace a file atomically; with ``durable``, on the disk when this returns.

    ``owner``: (uid, gid) of the new file, for what goes into PGDATA.
    Raises: StateError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            os.fchmod(descriptor, mode)
            if owner is not None:
                os.fchown(descriptor, *owner)
            with open(descriptor, "wb", closefd=False) as stream:
                stream.write(data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        if durable:
            fsync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StateError(
            f"{path} cannot be written. {explain_disk_error(error, path.parent)}"
        ) from error


def explain_disk_error(error: OSError, directory: Path) -> str:
    """The operator's sentence for what the disk under ``directory`` answered."""
    if error.errno == errno.EROFS:
        return (
            f"The file system of {directory} is read-only: the kernel does that after a disk "
            "error. See the kernel's log, then repair or replace the disk."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk of {directory} is full. Free some space."
    where = f" ({error.filename})" if error.filename else ""
    return f"The disk of {directory} refuses: {error.strerror or error}{where}."


class Sidecar:
    """The state directory of one instance. All methods block on the disk."""

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir
        self._record_path = state_dir / "directory.json"
        self._marker_path = state_dir / "incomplete"
        self._proof_path = state_dir / "proof.json"

    def read_record(self) -> DirectoryRecord | None:
        """The record, or None where there never was one.

        Raises: StateError if it is damaged or of a newer version.
        """
        try:
            data = self._record_path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self._record_path} cannot be read ({error.strerror}).") from error
        try:
            record = msgspec.json.decode(data, type=DirectoryRecord)
        except msgspec.DecodeError as error:
            raise StateError(
                f"{self._record_path} is damaged ({error}); the history of the data directory "
                "is unknown, so it is not used.",
                "Rebuild this node from its peer.",
            ) from error
        if record.version != VERSION:
            raise StateError(
                f"{self._record_path} has version {record.version}; this program knows {VERSION}.",
                "Install the version of OpenMSE that wrote it.",
            )
        return record

    def write_record(self, record: DirectoryRecord) -> None:
        """Raises: StateError."""
        write_file(self._record_path, msgspec.json.encode(record))

    def read_marker(self) -> str | None:
        """Why the data directory is incomplete, or None if it is not."""
        try:
            return self._marker_path.read_text()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self._marker_path} cannot be read ({error.strerror}).") from error

    def set_marker(self, reason: str) -> None:
        """Before the first byte of PGDATA changes. Raises: StateError."""
        write_file(self._marker_path, reason.encode())

    def clear_marker(self) -> None:
        """After the last byte changed and the server is consistent. Raises: StateError."""
        try:
            self._marker_path.unlink(missing_ok=True)
            fsync_directory(self.directory)
        except OSError as error:
            raise StateError(
                f"{self._marker_path} cannot be removed ({error.strerror})."
            ) from error

    def read_proof(self) -> Proof | None:
        """The last proof; None where there is none or it is unreadable (it is proven anew)."""
        try:
            return msgspec.json.decode(self._proof_path.read_bytes(), type=Proof)
        except (OSError, msgspec.DecodeError):
            return None

    def write_proof(self, proof: Proof | None) -> None:
        """Replace or remove it. Not durable: the process does not outlive the machine."""
        if proof is None:
            self._proof_path.unlink(missing_ok=True)
        else:
            write_file(self._proof_path, msgspec.json.encode(proof), durable=False)
