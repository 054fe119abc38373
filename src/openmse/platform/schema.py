"""The published schemas of what ``--json`` prints (``docs/generated/*.schema.json``)."""

import msgspec

from openmse.platform.evaluation import Limits
from openmse.platform.status.ha_info import HaInfo
from openmse.platform.status.server_info import ServerInfo

PUBLISHED: dict[str, type[msgspec.Struct]] = {
    "gethainfo.schema.json": HaInfo,
    "getserverinfo.schema.json": ServerInfo,
    "license-limits.schema.json": Limits,
}
"""File -> what it describes."""


def text(kind: type[msgspec.Struct]) -> str:
    """The schema (JSON Schema 2020-12) of a value."""
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(kind)}
    data = msgspec.json.encode(found, order="sorted")
    return msgspec.json.format(data, indent=2).decode() + "\n"
