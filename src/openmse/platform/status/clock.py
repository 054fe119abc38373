"""This machine's time zone, and instants in it."""

import os
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from openmse.platform.status.server_info import Moment

_LOCALTIME = Path("/etc/localtime")
_TIMEZONE = Path("/etc/timezone")
_MARK = "zoneinfo/"


def zone_name() -> str:
    """The IANA name of this machine's time zone: TZ, /etc/localtime, /etc/timezone; else UTC."""
    for text in (os.environ.get("TZ", ""), _link(_LOCALTIME), _first_line(_TIMEZONE)):
        name = text.lstrip(":").rpartition(_MARK)[2]
        if name and _zone(name) is not None:
            return name
    return "UTC"


def zone(name: str) -> tzinfo:
    """The rules of a time zone; UTC where this machine does not know it."""
    return _zone(name) or UTC


def moment(at: datetime, name: str) -> Moment:
    """An instant (aware) in a time zone."""
    local = at.astimezone(zone(name))
    return Moment(local, local.tzname() or "")


def offset_min(at: Moment) -> int:
    """Minutes before UTC, as the offset of that instant."""
    offset = at.at.utcoffset()
    return 0 if offset is None else round(offset.total_seconds() / 60)


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _link(path: Path) -> str:
    try:
        return str(path.resolve()) if path.is_symlink() else ""
    except OSError:
        return ""


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""
