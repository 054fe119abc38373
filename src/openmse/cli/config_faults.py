"""What is wrong with a configuration file, for programs: ``mse config check`` and the API."""

from pathlib import Path

from msgspec import Struct

from openmse.errors import ConfigError


class ConfigFault(Struct, frozen=True, kw_only=True):
    """One fault."""

    key: str
    """Such as ``node.address``; '' where the file as a whole is wrong."""
    line: int | None
    """From 1; null where none can be named."""
    sentence: str
    hint: str


def faults_of(path: Path, error: ConfigError) -> list[ConfigFault]:
    """Each fault that ``error`` tells of the file ``path``."""
    from openmse.node.config_load import ConfigFaults, line_of

    if not isinstance(error, ConfigFaults):
        return [ConfigFault(key="", line=None, sentence=error.sentence, hint=error.hint)]
    text = path.read_text(encoding="utf-8")
    return [
        ConfigFault(
            key=fault.key,
            line=line_of(text, fault.key) or None,
            sentence=fault.sentence,
            hint=fault.hint,
        )
        for fault in error.faults
    ]
