"""The settings of the admin process: one small TOML file, which may be absent at its usual place.

The node's own file says who this machine is; here stands only what belongs to this process. Every
fault names the file, the key, what is wrong and what to do.
"""

import ipaddress
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct, field

from openmse import ports
from openmse.documents import document
from openmse.errors import ConfigError

DEFAULT_PATH = Path("/etc/openmse/management.toml")
MAX_FILE_BYTES = 1 << 20


class ManagementSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the API listens, and with which certificate."""

    address: str = ""
    """A literal address to listen on; '' means the health monitor addresses of [node]."""
    port: int = ports.MANAGEMENT
    """0 takes any free port."""
    certificate_file: str = ""
    """PEM, the chain; '' means the one that is made at the first start."""
    key_file: str = ""
    """PEM, without a password; goes with certificate_file."""


class LimitsSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much is served at once."""

    connections: int = 256
    streams: int = 32


class ManagementConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file; every value has a default."""

    management: ManagementSection = field(default_factory=ManagementSection)
    limits: LimitsSection = field(default_factory=LimitsSection)


def load(path: Path, *, usual: Path = DEFAULT_PATH) -> ManagementConfig:
    """The checked settings in ``path``; ``usual`` alone may be absent, and means the defaults then.

    Raises: ConfigError.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        if path == usual:
            return ManagementConfig()
        raise ConfigError(
            f"There is no file {path}; nothing was changed.",
            f"Check the path (--management, or the environment). Without a name {usual} is read, "
            "and without that file the defaults hold.",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions."
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than a configuration can be.", "Check the path.")
    return parse(data, path)


def parse(data: bytes, path: Path) -> ManagementConfig:
    """The checked settings in ``data``; ``path`` is only for the messages. Raises ConfigError."""
    try:
        config = msgspec.convert(tomllib.loads(data.decode("utf-8")), ManagementConfig)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file in UTF-8.", "Check the path.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is not a valid TOML file: {error}.",
            "Mend that line; text values need double quotes.",
        ) from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}.", _hint()) from error
    faults = [f"{path}, {key}: {sentence}" for key, sentence in _faults(config)]
    if faults:
        raise ConfigError("\n".join(faults), f"{document('management-api')} describes the file.")
    return config


def _hint() -> str:
    parts = []
    for part in msgspec.structs.fields(ManagementConfig):
        keys = ", ".join(entry.name for entry in msgspec.structs.fields(part.type))
        parts.append(f"[{part.name}] {keys}")
    return f"The settings are: {'; '.join(parts)}."


def _faults(config: ManagementConfig) -> Iterator[tuple[str, str]]:
    section, limits = config.management, config.limits
    if section.address:
        try:
            ipaddress.ip_address(section.address)
        except ValueError:
            yield (
                "management.address",
                f"'{section.address}' is not a literal address such as 10.10.10.11.",
            )
    if not 0 <= section.port <= 65535:
        yield "management.port", f"{section.port} is not a port; ports are 0 to 65535."
    if bool(section.certificate_file) != bool(section.key_file):
        yield "management.key_file", "certificate_file and key_file go together: set both or none."
    for key in ("certificate_file", "key_file"):
        text = getattr(section, key)
        if text and not text.startswith("/"):
            yield f"management.{key}", f"'{text}' is not an absolute path."
    if not 8 <= limits.connections <= 4096:
        yield "limits.connections", f"{limits.connections} must lie between 8 and 4096."
    if not 1 <= limits.streams <= min(1024, limits.connections - 4):
        yield "limits.streams", f"{limits.streams} must lie between 1 and connections - 4."
