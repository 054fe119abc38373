"""The serial of this engine: made once from what names the machine, kept in the state directory.

It stays the same through renames, upgrades and new configurations. A copy of the disk on another
machine is another engine, and gets a serial of its own (as its vote does: protocol §2.6).
"""

import os
import platform
import uuid
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from openmse.errors import PrivilegeError
from openmse.node.drivers.store.machine import SOURCES
from openmse.node.drivers.store.machine import Machine as Names
from openmse.pki.files import PUBLIC, write_file
from openmse.platform import measure
from openmse.platform.errors import PlatformStateError
from openmse.platform.machines import HW_VERSION, Machine, product_id
from openmse.platform.udi import Udi, virtual_serial

NAME = "platform.json"
FORMAT = 1


class Stored(Struct, frozen=True, forbid_unknown_fields=True):
    """The file: the serial, and digests of what named the machine when it was made."""

    serial: str
    names: dict[str, str]
    former: tuple[str, ...] = ()
    """Serials of machines whose disk this was."""
    format: int = FORMAT


def read(state_dir: Path) -> Stored | None:
    """What is stored; None where nothing is yet.

    Raises PlatformStateError, and PrivilegeError where this user may not look.
    """
    path = state_dir / NAME
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=Stored)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise PrivilegeError(
            f"This engine's serial number, {path}, cannot be read by this user.",
            "Run the command as root; if it is root's already, mend the file's owner and rights.",
        ) from error
    except (OSError, msgspec.MsgspecError) as error:
        raise PlatformStateError(
            f"{path}, which holds this engine's serial number, cannot be read: {error}.",
            "Restore it from a backup: licences are bound to that serial number. Without a "
            "backup remove the file; the engine then derives its serial number again.",
        ) from error
    if stored.format != FORMAT:
        raise PlatformStateError(
            f"{path} has format {stored.format}; this software reads format {FORMAT}.",
            "Upgrade this machine to the version that wrote the file.",
        )
    return stored


def udi(state_dir: Path, machine: Machine, *, names: Names | None = None) -> Udi:
    """This engine's identifier; made and stored when it is first asked for (by root).

    ``names``: digests of what names this machine; read from it by default. Raises
    PlatformStateError, and PrivilegeError where it is not made yet and the caller is not root.
    """
    now = Names.read(SOURCES) if names is None else names
    stored = read(state_dir)
    if stored is None:
        stored = _make(state_dir, machine, now, ())
    else:
        before = Names(stored.names)
        if now.changed_from(before):
            stored = _make(state_dir, machine, now, (*stored.former, stored.serial))
        elif now.merged(before) != before and os.access(state_dir, os.W_OK):
            stored = replace(stored, names=now.merged(before).digests)
            _write(state_dir, stored)
    return Udi(product_id(machine), HW_VERSION, stored.serial)


def _make(state_dir: Path, machine: Machine, names: Names, former: tuple[str, ...]) -> Stored:
    if not os.access(state_dir if state_dir.exists() else state_dir.parent, os.W_OK):
        raise PrivilegeError(
            "This engine has no serial number yet, and only root can give it one; nothing was "
            "changed.",
            "Run the command once as root.",
        )
    printed = "" if machine.is_virtual else measure.serial_number()
    serial = printed or virtual_serial(platform.node(), names.digests, uuid.uuid4())
    stored = Stored(serial, names.digests, former)
    _write(state_dir, stored)
    return stored


def _write(state_dir: Path, stored: Stored) -> None:
    state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n"
    write_file(state_dir / NAME, data, mode=PUBLIC)
