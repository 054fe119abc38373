"""The facts of the group after pairing: who the others are and where they answer.

Not the register: nothing here decides who may serve. Written atomically when the pair, the witness
or an address changes; a damaged file is said, never guessed at.
"""

from pathlib import Path

import msgspec
from msgspec import UNSET, Struct, UnsetType

from openmse import ports
from openmse.errors import PrivilegeError, StateError
from openmse.pki.files import sync_directory, write_file

FORMAT = 1


class NodeInfo(Struct, frozen=True, forbid_unknown_fields=True):
    """One of the two nodes: where it answers. Addresses without prefixes."""

    name: str
    address: str
    address6: str = ""
    tls_port: int = ports.NODE_TLS
    udp_port: int = ports.NODE_UDP
    database_port: int = ports.POSTGRESQL
    incarnation: str = ""
    """Of its memory when it was paired: makes it a voter the first time."""
    direct_address: str | UnsetType = UNSET
    """Its end of the cable between the nodes; left out of the file where there is none, so that
    such a file is the same as before there were direct connections."""

    @property
    def direct(self) -> str:
        """Its address on the direct connection, or ''."""
        return "" if self.direct_address is UNSET else self.direct_address


class WitnessInfo(Struct, frozen=True, forbid_unknown_fields=True):
    """The third vote: ``kind`` as in the configuration file."""

    name: str
    kind: str
    address: str = ""
    tls_port: int = ports.WITNESS_TLS
    udp_port: int = ports.WITNESS_UDP
    incarnation: str = ""
    """Of its memory when it was enrolled; '' for etcd, which tells it when asked."""
    endpoints: tuple[str, ...] = ()
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class GroupInfo(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a node must know of its group to speak with it."""

    group: str
    """The group's id: random, made at pairing, part of every message and certificate."""
    primary: str
    """The configured primary's name."""
    nodes: tuple[NodeInfo, ...]
    virtual_ips: tuple[str, ...]
    witness: WitnessInfo | None = None
    revision: int = 1
    """Raised by the owner with each change; the other node takes over a higher one."""
    format: int = FORMAT

    @property
    def parties(self) -> set[str]:
        """The names of the nodes, and of the witness where there is one."""
        witness = () if self.witness is None else (self.witness.name,)
        return {node.name for node in self.nodes} | set(witness)

    def node(self, name: str) -> NodeInfo | None:
        """The node called ``name``."""
        return next((node for node in self.nodes if node.name == name), None)

    def peer_of(self, name: str) -> NodeInfo | None:
        """The node that is not called ``name``."""
        return next((node for node in self.nodes if node.name != name), None)


def load(path: Path) -> GroupInfo | None:
    """The group's facts, or None on an unpaired node.

    Raises PrivilegeError where this user may not look (never taken for "unpaired"), StateError on
    a damaged file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise PrivilegeError(
            f"The facts of the group, {path}, cannot be read by this user; nothing was changed.",
            "Run the command as root; if it is root's already, mend the file's owner and rights.",
        ) from error
    except OSError as error:
        raise StateError(
            f"{path} cannot be read: {error.strerror}.", "Check the disk and the permissions."
        ) from error
    try:
        info = msgspec.json.decode(data, type=GroupInfo)
    except msgspec.MsgspecError as error:
        raise StateError(
            f"{path} is damaged ({len(data)} bytes): {error}. This node does not know its group.",
            "Restore the file from the other node's facts by pairing again: 'mse ha unpair', then "
            "'mse ha pair' on the primary. The database is not touched by that.",
        ) from error
    if info.format != FORMAT:
        raise StateError(
            f"{path} has format {info.format}; this software reads format {FORMAT}.",
            "Upgrade this machine to the version that wrote the file.",
        )
    return info


def save(path: Path, info: GroupInfo) -> None:
    """Write the facts atomically and durably; raises StateError and leaves the old file."""
    write_file(path, msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n")


def remove(path: Path) -> None:
    """Forget the group (unpaired); durable when this returns. Raises StateError."""
    try:
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise StateError(
            f"{path} could not be removed: {error.strerror}.", "Mend its permissions, try again."
        ) from error
