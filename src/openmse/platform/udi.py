"""The unique device identifier of an engine: ``<product id>:<hw version>:<serial>``. Pure."""

import re
import uuid
from collections.abc import Mapping

from msgspec import Struct

from openmse.platform.errors import LicenceFileError
from openmse.platform.machines import VIRTUAL_IDS

_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_NAMESPACE = uuid.UUID("9a1f0f0e-6f7b-5d8c-9a6f-2b0c5a3d7e41")
"""Of the serials that are derived from what names a machine; chosen once, at random."""
NOT_A_SERIAL = frozenset(
    ("", "0", "none", "n/a", "not specified", "default string", "system serial number", "unknown")
) | {"to be filled by o.e.m."}
"""What makers leave in place of a serial number."""


class Udi(Struct, frozen=True):
    """One engine's identifier. Its parts hold letters, digits, '.', '_' and '-'."""

    product_id: str
    hw_version: str
    serial: str

    def __str__(self) -> str:
        return f"{self.product_id}:{self.hw_version}:{self.serial}"

    @property
    def is_virtual(self) -> bool:
        """Whether it names a virtual appliance, which needs an activation licence."""
        return self.product_id in VIRTUAL_IDS


def parse(text: str) -> Udi:
    """The identifier in ``text``; raises LicenceFileError where it is none."""
    parts = text.split(":")
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
        raise LicenceFileError(
            f"'{text[:200]}' is not a UDI.",
            "A UDI is <product id>:<hw version>:<serial>, as 'mse license list' and 'gethainfo' "
            "show it.",
        )
    return Udi(*parts)


def virtual_serial(hostname: str, names: Mapping[str, str], random: uuid.UUID) -> str:
    """``<hostname>_<uuid>``: the serial of a machine that has none printed on it.

    ``names``: what names this machine, by source; never shown, only derived from (machine-id(5)
    asks for that). ``random`` stands in where nothing names it.
    """
    host = re.sub(r"[^A-Za-z0-9-]+", "-", hostname.partition(".")[0]).strip("-") or "mse"
    if not names:
        return f"{host}_{random}"
    told = "\n".join(f"{source}={names[source]}" for source in sorted(names))
    return f"{host}_{uuid.uuid5(_NAMESPACE, told)}"


def printed_serial(text: str) -> str:
    """A maker's serial number where ``text`` is one; '' where it only fills the field."""
    serial = text.strip()
    is_filler = serial.casefold() in NOT_A_SERIAL or len(set(serial.casefold())) < 2
    return serial if not is_filler and _PART.fullmatch(serial) else ""
