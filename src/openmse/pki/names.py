"""Who a certificate speaks for: ``openmse://<group>/<role>/<id>``. Light: no cryptography."""

from enum import StrEnum
from typing import NamedTuple

from openmse.errors import PeerError
from openmse.wire.ids import is_id

SCHEME = "openmse://"


class Role(StrEnum):
    """What the holder of a certificate is to the group."""

    NODE = "node"
    WITNESS = "witness"
    REPLICATION = "replication"
    """A node as client of the other's PostgreSQL."""
    DATABASE = "database"
    """A node's PostgreSQL as a server, with a key of its own: whoever gets hold of the database's
    user must not be able to speak as the node."""


class Identity(NamedTuple):
    """One party of one group."""

    group: str
    role: Role
    id: str

    @property
    def uri(self) -> str:
        """As it stands in the certificate (subject alternative name, URI)."""
        return f"{SCHEME}{self.group}/{self.role}/{self.id}"


def parse_identity(uri: str) -> Identity:
    """The identity in a certificate's URI; raises PeerError where it is none of ours."""
    parts = uri.removeprefix(SCHEME).split("/")
    is_ours = uri.startswith(SCHEME) and len(parts) == 3 and parts[1] in set(Role)
    if not is_ours or not (is_id(parts[0]) and is_id(parts[2])):
        raise PeerError("A certificate names nobody of this product.")
    return Identity(parts[0], Role(parts[1]), parts[2])
