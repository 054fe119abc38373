"""Read the configuration file, and say in full sentences what is wrong with it.

Every fault names the file, the line, the key, what is wrong, and what to do. All faults are
collected before any is told: nobody likes to mend a file one error at a time.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from openmse.documents import document
from openmse.errors import ConfigError
from openmse.node.config import NodeConfig
from openmse.node.config_check import Fault, faults_of

MAX_FILE_BYTES = 1 << 20
_MSGSPEC_PATH = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]+)`")


class ConfigFaults(ConfigError):
    """The configuration file cannot be used; ``faults`` are all that is wrong with it."""

    def __init__(self, path: Path, text: str, faults: list[Fault]) -> None:
        self.path = path
        self.faults = faults
        sentences = [f"{_where(path, text, fault.key)}: {fault.sentence}" for fault in faults]
        hints = list(dict.fromkeys(fault.hint for fault in faults if fault.hint))
        super().__init__("\n".join(sentences), " ".join(hints))


def load(path: Path) -> NodeConfig:
    """The checked configuration in ``path``; raises ConfigFaults, or ConfigError if unreadable."""
    return parse(_read(path), path)


def parse(text: str, path: Path) -> NodeConfig:
    """The checked configuration in ``text``; ``path`` is only for the messages."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is not a valid TOML file: {error}.",
            "Mend that line; text values need double quotes.",
        ) from error
    faults = list(_unknown_keys(data))
    config = None
    try:
        config = msgspec.convert(_known_only(data), NodeConfig)
    except msgspec.ValidationError as error:
        faults.append(_conversion_fault(error))
    if config is not None:
        faults.extend(faults_of(config))
    if faults or config is None:
        raise ConfigFaults(path, text, faults)
    return config


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(
                f"{path} is larger than a configuration can be.", "Check that the path is right."
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no configuration file {path}.",
            f"Write it ({document('configuration')} has an example), or name another with "
            "--config.",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not a text file in UTF-8.", "Check that the path is right."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions."
        ) from error


def _sections() -> Mapping[str, tuple[str, ...]]:
    """The keys of each table of the file."""
    sections = {}
    for entry in msgspec.structs.fields(NodeConfig):
        keys = msgspec.structs.fields(cast("type[msgspec.Struct]", entry.type))
        sections[entry.name] = tuple(key.name for key in keys)
    return sections


def _unknown_keys(data: Mapping[str, Any]) -> Iterator[Fault]:
    sections = _sections()
    for name, table in data.items():
        if name not in sections:
            yield Fault(name, _unknown(f"[{name}]", name, sections), _MEND)
        elif isinstance(table, dict):
            for key in table:
                if key not in sections[name]:
                    yield Fault(f"{name}.{key}", _unknown(f"'{key}'", key, sections[name]), _MEND)


_MEND = f"Correct or remove unknown keys; {document('configuration')} lists all of them."


def _unknown(shown: str, name: str, known: Any) -> str:
    import difflib  # only needed for this message: the daemon's start-up is a budget

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    question = f" Did you mean '{near[0]}'?" if near else ""
    return f"{shown} is not a setting.{question}"


def _known_only(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data without its unknown keys, so that other faults are found in the same pass."""
    sections = _sections()
    return {
        name: {k: v for k, v in table.items() if k in sections[name]}
        if isinstance(table, dict)
        else table
        for name, table in data.items()
        if name in sections
    }


def _conversion_fault(error: msgspec.ValidationError) -> Fault:
    match = _MSGSPEC_PATH.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    missing = _MISSING.match(what)
    if missing:
        key = f"{path}.{missing['field']}" if path else missing["field"]
        return Fault(key, f"'{key}' is missing.", "Add it; it has no sensible default.")
    return Fault(path, f"The value of '{path}' is wrong: {_plain(what)}.", "Correct the value.")


def _plain(what: str) -> str:
    """msgspec's words for types, in words for people."""
    names = {"`int`": "a whole number", "`str`": "text in quotes", "`float`": "a number"}
    names |= {"`bool`": "true or false", "`array`": "a list", "`object`": "a table"}
    for word, plain in names.items():
        what = what.replace(word, plain)
    return what[:1].lower() + what[1:]


def _where(path: Path, text: str, key: str) -> str:
    line = line_of(text, key)
    return f"{path}, line {line}, {key}" if line else f"{path}, {key or 'file'}"


def line_of(text: str, key: str) -> int:
    """The line (from 1) where ``section.key`` stands, or its section; 0 where neither does."""
    section, _, name = key.partition(".")
    name = re.split(r"[.\[]", name)[0]
    current, found = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line)
        if header:
            current = header[1]
            if current == section:
                found = number
        elif current == section and re.match(rf"\s*\"?{re.escape(name)}\"?\s*=", line) and name:
            return number
        elif not current and re.match(rf"\s*{re.escape(section)}\s*[.=]", line):
            found = number
    return found
