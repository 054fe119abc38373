"""The console's settings: one small TOML file, frozen values; every fault names the key.

Where the file at its usual place is absent the defaults hold: a newcomer needs none. One that was
named, and is not there, is a mistake: the defaults would be another console's.
"""

import ipaddress
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct, field

from openmse import ports
from openmse.console.errors import ConsoleConfigError

DEFAULT_PATH = Path("/etc/openmse/console.toml")
MAX_FILE_BYTES = 1 << 20
SQLITE = "sqlite:///"
_AT = re.compile(r" - at `\$\.?(?P<key>[^`]*)`$")


class ConsolePart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where it listens, and what it is called."""

    name: str = "console"
    """Shown in the title and told to each engine that this console manages."""
    address: str = "0.0.0.0"
    port: int = ports.CONSOLE
    url: str = ""
    """How people reach it, such as https://mse-console.example:8443; '' makes one of the above."""


class StorePart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the console keeps what it knows."""

    url: str = ""
    """'' is SQLite in the state directory; sqlite:////path/of/a/file is SQLite elsewhere; or
    postgresql+psycopg://user@host/database."""
    password_file: str = ""
    """For PostgreSQL: a file whose first line is the password."""


class TlsPart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The certificate of the pages; '' makes one at the first start."""

    cert_file: str = ""
    key_file: str = ""


class PeoplePart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sessions and wrong guesses."""

    idle_minutes: int = 30
    """The session timeout of the engines' own status output."""
    session_hours_max: int = 12
    wrong_guesses_max: int = 5
    lockout_minutes: int = 15


class WitnessPart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The witness that the pairing form proposes; by default it runs beside the console."""

    address: str = ""
    pairing_port: int = ports.PAIRING
    password_file: str = ""


class PathsPart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Directories of this machine."""

    state_dir: str = "/var/lib/openmse-console"


class ConsoleSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    console: ConsolePart = field(default_factory=ConsolePart)
    store: StorePart = field(default_factory=StorePart)
    tls: TlsPart = field(default_factory=TlsPart)
    people: PeoplePart = field(default_factory=PeoplePart)
    witness: WitnessPart = field(default_factory=WitnessPart)
    paths: PathsPart = field(default_factory=PathsPart)

    @property
    def state_dir(self) -> Path:
        """Where everything of the console lives."""
        return Path(self.paths.state_dir)

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is a file."""
        return not self.store.url or self.store.url.startswith(SQLITE)

    @property
    def sqlite_file(self) -> Path:
        """The store, unless it is in PostgreSQL."""
        named = self.store.url.removeprefix(SQLITE) if self.is_sqlite else ""
        return Path(named) if named else self.state_dir / "console.db"

    @property
    def shown_url(self) -> str:
        """How people reach the console, as far as the file tells."""
        if self.console.url:
            return self.console.url.rstrip("/")
        host = self.console.address
        if host in ("0.0.0.0", "::"):
            host = "localhost"
        return f"https://{f'[{host}]' if ':' in host else host}:{self.console.port}"


def load(path: Path, *, usual: Path = DEFAULT_PATH) -> ConsoleSettings:
    """The settings in ``path``; ``usual`` alone may be absent, and means the defaults then.

    Raises: ConsoleConfigError.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        if path == usual:
            return ConsoleSettings()
        raise ConsoleConfigError(
            f"There is no file {path}; nothing was changed.",
            f"Check the path (--config, or the environment). Without a name {usual} is read, and "
            "without that file the defaults hold.",
        ) from error
    except OSError as error:
        raise ConsoleConfigError(f"{path} cannot be read: {error.strerror}.") from error
    return parse(data, path)


def parse(data: bytes, path: Path) -> ConsoleSettings:
    """The settings in a file's text; raises ConfigError with every fault that can be told."""
    if len(data) > MAX_FILE_BYTES:
        raise ConsoleConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes.")
    try:
        settings = msgspec.convert(tomllib.loads(data.decode("utf-8")), ConsoleSettings)
    except (ValueError, msgspec.ValidationError) as error:
        raise ConsoleConfigError(f"{path}: {_sentence(str(error))}", _hint()) from error
    faults = [f"{key}: {sentence}" for key, sentence in _faults(settings)]
    if faults:
        raise ConsoleConfigError(f"{path}: {' '.join(faults)}", _hint())
    return settings


def _sentence(text: str) -> str:
    match = _AT.search(text)
    key = match["key"] if match else ""
    what = text[: match.start()] if match else text
    return f"{key or 'file'}: {what}."


def _hint() -> str:
    parts = []
    for part in msgspec.structs.fields(ConsoleSettings):
        keys = ", ".join(entry.name for entry in msgspec.structs.fields(part.type))
        parts.append(f"[{part.name}] {keys}")
    return f"The settings are: {'; '.join(parts)}."


def _faults(s: ConsoleSettings) -> Iterator[tuple[str, str]]:
    try:
        ipaddress.ip_address(s.console.address)
    except ValueError:
        yield "console.address", f"'{s.console.address}' is not an address such as 10.10.10.13."
    for key, number in (
        ("console.port", s.console.port),
        ("witness.pairing_port", s.witness.pairing_port),
    ):
        if not 0 <= number <= 65535:
            yield key, f"{number} is not a port; ports are 0 to 65535."
    if s.console.url and not s.console.url.startswith("https://"):
        yield "console.url", "it must begin with https://, since there is nothing else."
    if bool(s.tls.cert_file) != bool(s.tls.key_file):
        yield "tls", "cert_file and key_file go together; give both or neither."
    for key, value, lowest, highest in (
        ("people.idle_minutes", s.people.idle_minutes, 1, 1440),
        ("people.session_hours_max", s.people.session_hours_max, 1, 168),
        ("people.wrong_guesses_max", s.people.wrong_guesses_max, 1, 100),
        ("people.lockout_minutes", s.people.lockout_minutes, 1, 1440),
    ):
        if not lowest <= value <= highest:
            yield key, f"{value} must lie between {lowest} and {highest}."
    if s.store.url and not s.store.url.startswith(("postgresql+psycopg://", f"{SQLITE}/")):
        yield (
            "store.url",
            "it must begin with postgresql+psycopg://, or be sqlite:////path/of/a/file.",
        )
    if not s.paths.state_dir.startswith("/"):
        yield "paths.state_dir", f"'{s.paths.state_dir}' is not an absolute path."
