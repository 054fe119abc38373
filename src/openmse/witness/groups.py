"""A group as the witness keeps it: a directory with who the nodes are, keys, and the record."""

import os
import shutil
from pathlib import Path

import msgspec
from msgspec import Struct

from openmse.errors import StateError
from openmse.ha.values import Record
from openmse.node.drivers.peer.tls import TlsFiles
from openmse.node.drivers.store import Machine, Opened, RecordStore, open_voter
from openmse.pki.files import PUBLIC, sync_directory, write_file
from openmse.wire.datagrams import KEY_BYTES
from openmse.wire.ids import is_id

FORMAT = 1
_FACTS = "group.json"
_RECORD = "register"
_LEAVING = ".forgotten"


class GroupFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """What enrolment told of a group. ``root``: the key of its datagrams, for this witness."""

    group: str
    me: str
    nodes: tuple[str, ...]
    root: bytes
    format: int = FORMAT


class Credentials(Struct, frozen=True):
    """What the witness proves itself with in one group; PEM."""

    certificate: bytes
    key: bytes
    authority: bytes


class LoadedGroup(Struct):
    """A group ready to be served."""

    facts: GroupFacts
    files: TlsFiles
    opened: Opened


def names(groups_dir: Path) -> list[str]:
    """The groups that have a directory; raises StateError where they cannot be listed."""
    try:
        found = [entry.name for entry in os.scandir(groups_dir) if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StateError(f"{groups_dir} cannot be read: {error.strerror}.") from error
    return sorted(name for name in found if is_id(name))


def load(groups_dir: Path, group: str) -> LoadedGroup:
    """Read a group and open its record, whose boot number is raised; raises StateError."""
    directory = groups_dir / group
    facts = _facts(directory)
    if facts.group != group:
        raise StateError(
            f"The directory {directory} holds the facts of group {facts.group!r}.",
            "Give the directory its name back.",
        )
    if not (directory / _RECORD).exists():
        raise StateError(
            f"The record of group {group!r} is missing in {directory}; the witness has lost its "
            "memory of this group and does not vote in it.",
            f"'mse witness forget {group}', then enrol the group again from one of its nodes.",
            code="MSE-STA-005",
        )
    return LoadedGroup(facts, files_of(directory), open_voter(directory / _RECORD, facts.me))


def create(groups_dir: Path, facts: GroupFacts, credentials: Credentials, incarnation: str) -> None:
    """Begin to keep a group, durably: a new memory that no config has admitted yet.

    Raises StateError; then the group is absent as before.
    """
    directory = groups_dir / facts.group
    new = groups_dir / f".{facts.group}.new"
    try:
        groups_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        write(new, facts, credentials)
        RecordStore(new / _RECORD, Machine.read()).save(Record(facts.me, incarnation))
        os.rename(new, directory)
        sync_directory(groups_dir)
    except OSError as error:
        raise StateError(
            f"Group {facts.group!r} cannot be kept in {groups_dir}: {error.strerror}.",
            "Nothing was changed. Make room on the disk or mend its rights, then enrol again.",
        ) from error


def remove(groups_dir: Path, group: str) -> None:
    """Forget a group, durably and at once: it is there whole, or not at all. StateError."""
    leaving = groups_dir / f"{_LEAVING}.{group}"
    try:
        shutil.rmtree(leaving, ignore_errors=True)
        os.rename(groups_dir / group, leaving)
        sync_directory(groups_dir)
    except OSError as error:
        raise StateError(
            f"Group {group!r} could not be forgotten: {error.strerror}.", "Nothing was changed."
        ) from error
    shutil.rmtree(leaving, ignore_errors=True)


def files_of(directory: Path) -> TlsFiles:
    """Where a group's certificate, key and authority lie."""
    return TlsFiles(directory / "witness.crt", directory / "witness.key", directory / "ca.crt")


def write(directory: Path, facts: GroupFacts, credentials: Credentials) -> None:
    """Write who the nodes are, and keys; the record is left alone. Raises StateError.

    So a group that is enrolled again keeps its memory: nobody can make this voter forget.
    """
    files = files_of(directory)
    write_file(files.key, credentials.key)
    write_file(files.certificate, credentials.certificate, mode=PUBLIC)
    write_file(files.authority, credentials.authority, mode=PUBLIC)
    write_file(directory / _FACTS, msgspec.json.encode(facts) + b"\n")


def _facts(directory: Path) -> GroupFacts:
    path = directory / _FACTS
    try:
        facts = msgspec.json.decode(path.read_bytes(), type=GroupFacts)
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}.") from error
    except msgspec.MsgspecError as error:
        raise _damaged(path, str(error)) from error
    is_sound = facts.format == FORMAT and len(facts.root) == KEY_BYTES and len(facts.nodes) <= 8
    if not is_sound or not all(is_id(name) for name in (facts.me, *facts.nodes)):
        raise _damaged(path, "its values make no sense")
    return facts


def _damaged(path: Path, how: str) -> StateError:
    return StateError(
        f"{path} is damaged ({how}); the witness does not vote in this group.",
        "Enrol the group again from one of its nodes; its record is kept.",
    )
