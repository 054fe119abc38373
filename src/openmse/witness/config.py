"""The configuration of the witness process: one small TOML file, frozen values.

Every fault names the file, the key, what is wrong and what to do.
"""

import ipaddress
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct, field

from openmse import ports
from openmse.errors import ConfigError
from openmse.wire.ids import is_id

DEFAULT_PATH = Path("/etc/openmse/witness.toml")
MAX_FILE_BYTES = 1 << 20
_AT = re.compile(r" - at `\$\.?(?P<key>[^`]*)`$")


class WitnessPart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who this witness is, and where it listens."""

    name: str = "witness"
    """Its name as a voter, in certificates and in logs."""
    address: str = "0.0.0.0"
    """The literal IPv4 or IPv6 address to listen on; 0.0.0.0 and :: are all of a kind."""


class PortsPart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where it listens; nodes must be told where these are changed. 0 takes any free port."""

    witness_tls: int = ports.WITNESS_TLS
    witness_udp: int = ports.WITNESS_UDP
    pairing: int = ports.PAIRING


class PathsPart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Directories of this process."""

    state_dir: str = "/var/lib/openmse-witness"
    run_dir: str = "/run/openmse-witness"


class WitnessConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file; every value has a default."""

    witness: WitnessPart = field(default_factory=WitnessPart)
    ports: PortsPart = field(default_factory=PortsPart)
    paths: PathsPart = field(default_factory=PathsPart)

    @property
    def groups_dir(self) -> Path:
        """One directory for each group."""
        return Path(self.paths.state_dir) / "groups"

    @property
    def password_file(self) -> Path:
        """The password that enrols a group; mode 0600."""
        return Path(self.paths.state_dir) / "enrolment-password"

    @property
    def control_socket(self) -> Path:
        """Where the process answers ``mse witness``."""
        return Path(self.paths.run_dir) / "control.sock"


def load(path: Path) -> WitnessConfig:
    """The checked configuration; raises ConfigError, and nothing has been changed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no configuration file {path}.",
            f"'mse witness init --config {path}' writes one.",
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than a configuration can be.", "Check the path.")
    return parse(data, path)


def parse(data: bytes, path: Path) -> WitnessConfig:
    """The checked configuration in ``data``; ``path`` is only for the messages."""
    try:
        tables = tomllib.loads(data.decode("utf-8"))
        config = msgspec.convert(tables, WitnessConfig)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file in UTF-8.", "Check the path.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is not a valid TOML file: {error}.",
            "Mend that line; text values need double quotes.",
        ) from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}, {_sentence(str(error))}", _hint()) from error
    faults = [f"{path}, {key}: {sentence}" for key, sentence in _faults(config)]
    if faults:
        raise ConfigError("\n".join(faults))
    return config


def as_toml(config: WitnessConfig) -> str:
    """The file that ``parse`` reads back as ``config``."""
    lines = ["# The witness of OpenMSE; written by 'mse witness init'."]
    for name, part in msgspec.to_builtins(config).items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in part.items()]
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    match = _AT.search(text)
    key = match["key"] if match else ""
    what = text[: match.start()] if match else text
    return f"{key or 'file'}: {what}."


def _hint() -> str:
    parts = []
    for part in msgspec.structs.fields(WitnessConfig):
        keys = ", ".join(entry.name for entry in msgspec.structs.fields(part.type))
        parts.append(f"[{part.name}] {keys}")
    return f"The settings are: {'; '.join(parts)}."


def _faults(config: WitnessConfig) -> Iterator[tuple[str, str]]:
    if not is_id(config.witness.name):
        yield (
            "witness.name",
            f"'{config.witness.name}' cannot be a name: 1 to 63 letters, digits, '_', '.' or "
            "'-', beginning and ending with a letter or a digit.",
        )
    try:
        ipaddress.ip_address(config.witness.address)
    except ValueError:
        yield (
            "witness.address",
            f"'{config.witness.address}' is not a literal address such as 10.10.10.13.",
        )
    numbers = msgspec.to_builtins(config.ports)
    for key, number in numbers.items():
        if not 0 <= number <= 65535:
            yield f"ports.{key}", f"{number} is not a port; ports are 0 to 65535."
    if numbers["witness_tls"] == numbers["pairing"] != 0:
        yield "ports.pairing", f"{numbers['pairing']} is the port of [ports] witness_tls too."
    for key, text in msgspec.to_builtins(config.paths).items():
        if not text.startswith("/"):
            yield f"paths.{key}", f"'{text}' is not an absolute path."
