"""Which machine this is, so that a copy of its disk is not taken for it (protocol §2.6)."""

import hashlib
from pathlib import Path
from typing import Self

from msgspec import Struct

SOURCES = {
    "machine_id": Path("/etc/machine-id"),
    "product_uuid": Path("/sys/class/dmi/id/product_uuid"),
}
"""Where an identity can be read. Clones of a virtual machine get a new product UUID from the
common hypervisors. Linux shows a VM generation id to no process; where a site's tools provide
one as a file, it is one more source."""


class Machine(Struct, frozen=True):
    """Digests of what names this machine, by source; never the names themselves."""

    digests: dict[str, str]

    @classmethod
    def read(cls, sources: dict[str, Path] | None = None) -> Self:
        """What can be read now; a source that cannot is left out."""
        digests = {}
        for name, path in (SOURCES if sources is None else sources).items():
            try:
                text = path.read_bytes().strip()
            except OSError:
                continue
            if text:
                digests[name] = hashlib.sha256(b"openmse " + text).hexdigest()[:32]
        return cls(digests)

    def changed_from(self, before: Self) -> tuple[str, ...]:
        """The sources that both have, and that differ."""
        known = before.digests
        return tuple(
            name for name, digest in self.digests.items() if known.get(name, digest) != digest
        )

    def merged(self, before: Self) -> Self:
        """What is known now, and before of what cannot be read now."""
        return type(self)({**before.digests, **self.digests})
