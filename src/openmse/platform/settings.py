"""``/etc/openmse/platform.toml``: what kind of machine this is, and whether licences count.

Optional; without it the machine is generic (measured) and licensing is on. Beside the node's own
file, so that it may be changed while the health monitor runs: commands read it each time.
"""

import tomllib
from pathlib import Path

import msgspec
from msgspec import Struct, field

from openmse.documents import document
from openmse.platform.errors import PlatformConfigError
from openmse.platform.machines import MachineKind

NAME = "platform.toml"
KEYS_NAME = "licence-keys"
MAX_BYTES = 64 * 1024


class PlatformSection(Struct, frozen=True, forbid_unknown_fields=True):
    """What this machine is."""

    machine: MachineKind = MachineKind.GENERIC
    """A machine of the catalogue, or generic: what it measures counts."""


class LicensingSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether licences limit anything."""

    is_enabled: bool = True
    """False: only the platform limit holds. For deployments that need no licences; both nodes."""


class PlatformSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    platform: PlatformSection = field(default_factory=PlatformSection)
    licensing: LicensingSection = field(default_factory=LicensingSection)


def path_beside(config: Path) -> Path:
    """Where the file is, given the node's configuration file."""
    return config.parent / NAME


def keys_beside(config: Path) -> Path:
    """The directory of trusted licence keys, given the node's configuration file."""
    return config.parent / KEYS_NAME


def load(path: Path) -> PlatformSettings:
    """The settings in ``path``, defaults where there is no file; raises PlatformConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return PlatformSettings()
    except OSError as error:
        raise PlatformConfigError(
            f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions."
        ) from error
    try:
        if len(data) > MAX_BYTES:
            raise ValueError("it is larger than it can be")
        return msgspec.convert(tomllib.loads(data.decode()), PlatformSettings)
    except (ValueError, msgspec.ValidationError) as error:
        kinds = ", ".join(kind.value for kind in MachineKind)
        raise PlatformConfigError(
            f"{path} cannot be used: {error}.",
            f"It knows [platform] machine (one of {kinds}) and [licensing] is_enabled "
            f"({document('platform')}).",
        ) from error
