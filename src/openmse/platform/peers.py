"""What the nodes of the group have told each other of themselves: UDI, kind, size, software.

Kept in ``<state>/platform-peers.json``, so that it can be shown while everything else is down.
"""

from pathlib import Path

import msgspec
from msgspec import Struct

from openmse.pki.files import PUBLIC, write_file
from openmse.platform.errors import PlatformStateError
from openmse.platform.machines import Machine

NAME = "platform-peers.json"


class Told(Struct, frozen=True):
    """One node, by its own word."""

    name: str
    udi: str
    machine: Machine
    software: str


def read(state_dir: Path) -> dict[str, Told]:
    """Every node of the group that has told, by name; raises PlatformStateError."""
    path = state_dir / NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Told])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise PlatformStateError(
            f"{path} cannot be read: {error}.",
            "Remove it: the nodes tell each other again ('mse license sync' on both).",
        ) from error


def write(state_dir: Path, known: dict[str, Told]) -> None:
    """Keep what is known; raises StateError."""
    data = msgspec.json.encode(known, order="sorted")
    write_file(state_dir / NAME, msgspec.json.format(data, indent=1) + b"\n", mode=PUBLIC)
