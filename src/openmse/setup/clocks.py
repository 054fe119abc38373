"""Time zone and NTP: the files of the tz database's choice, of chrony and of timesyncd. Pure."""

from collections.abc import Iterator
from enum import StrEnum

from openmse.setup.values import Zone
from openmse.setup.world import (
    CHRONY,
    CHRONY_SOURCES,
    CHRONYD,
    COUNTRY_TAB,
    LOCALTIME,
    TIMESYNCD,
    TIMESYNCD_DIR,
    TIMESYNCD_OWN,
    TIMESYNCD_PROGRAM,
    TIMEZONE,
    ZONE_TAB,
    ZONEINFO,
    Entry,
    Link,
    World,
)

UTC = "UTC"
_UTC_FILE = "Etc/UTC"
SOURCE_DIR = "sourcedir /etc/chrony/sources.d"
REPLACED = "# replaced by mse setup: "
CHRONY_UNIT_LINK = "/etc/systemd/system/multi-user.target.wants/chrony.service"
TIMESYNCD_UNIT_LINK = "/etc/systemd/system/sysinit.target.wants/systemd-timesyncd.service"
_SOURCES = ("pool", "server", "peer")


class Keeper(StrEnum):
    """The program that keeps the clock, by the unit that runs it."""

    CHRONY = "chrony.service"
    TIMESYNCD = "systemd-timesyncd.service"


READ_BY = {
    Keeper.CHRONY: (CHRONY, CHRONY_SOURCES),
    Keeper.TIMESYNCD: (TIMESYNCD_OWN,),
}
"""The files that each has to read anew."""


def keeper_of(world: World) -> Keeper:
    """Chrony, which the product prefers; timesyncd where that is there and chrony is not."""
    has_timesyncd_only = TIMESYNCD_PROGRAM in world.marks and CHRONYD not in world.marks
    return Keeper.TIMESYNCD if has_timesyncd_only else Keeper.CHRONY


def keeper_there(world: World) -> str:
    """Which of them is installed; '' if neither."""
    found = keeper_of(world)
    return found if found is Keeper.TIMESYNCD or CHRONYD in world.marks else ""


def zone_of(world: World) -> str:
    """The time zone that is set now."""
    found = world.files.get(LOCALTIME)
    if isinstance(found, Link) and "zoneinfo/" in found.target:
        name = found.target.partition("zoneinfo/")[2]
    else:
        name = (world.text(TIMEZONE) or UTC).strip()
    return UTC if name in (_UTC_FILE, "UTC", "Etc/UCT", "Etc/Zulu", "") else name


def zone_files(zone: str) -> dict[str, Entry]:
    """What sets a time zone."""
    name = _UTC_FILE if zone == UTC else zone
    return {LOCALTIME: Link(f"{ZONEINFO}/{name}"), TIMEZONE: f"{name}\n"}


def zones_in(world: World) -> tuple[Zone, ...]:
    """The zones of the machine's tz database, by country; empty where it has none."""
    names = {}
    for line in (world.text(COUNTRY_TAB) or "").splitlines():
        code, tab, name = line.partition("\t")
        if tab and not line.startswith("#"):
            names[code] = name.strip()
    zones = []
    for line in (world.text(ZONE_TAB) or "").splitlines():
        parts = line.split("\t")
        if line.startswith("#") or len(parts) < 3:
            continue
        comment = parts[3].strip() if len(parts) > 3 else ""
        zones.append(Zone(parts[2].strip(), parts[0], names.get(parts[0], parts[0]), comment))
    return tuple(zones)


def ntp_in(world: World) -> tuple[bool, tuple[str, ...]]:
    """Whether the clock is kept by NTP now, and from which servers."""
    if keeper_of(world) is Keeper.TIMESYNCD:
        servers = _timesyncd_servers(world)
        is_kept = bool(servers) and TIMESYNCD_UNIT_LINK in world.marks
        return is_kept, servers if is_kept else ()
    own = _servers(world.text(CHRONY_SOURCES) or "")
    others = _servers(world.text(CHRONY) or "")
    is_enabled = bool(own) or (bool(others) and CHRONY_UNIT_LINK in world.marks)
    return is_enabled, own or (others if is_enabled else ())


def ntp_files(world: World, servers: tuple[str, ...]) -> dict[str, Entry | None]:
    """The keeper's files with these servers only; without any, ours is removed.

    Both nodes must agree on the time, so that the distribution's pool does not stay beside them.
    """
    if keeper_of(world) is Keeper.TIMESYNCD:
        return {TIMESYNCD_OWN: _timesyncd_text(servers) if servers else None}
    if not servers:
        return {CHRONY_SOURCES: None}
    lines = ["# Written by 'mse setup'."]
    lines += [f"{_word(server)} {server} iburst" for server in servers]
    files: dict[str, Entry | None] = {CHRONY_SOURCES: "\n".join(lines) + "\n"}
    text = world.text(CHRONY)
    if text is not None:
        files[CHRONY] = _without_sources(text)
    return files


def _timesyncd_text(servers: tuple[str, ...]) -> str:
    """An empty NTP= first: it takes away what other files have named."""
    return f"# Written by 'mse setup'.\n[Time]\nNTP=\nNTP={' '.join(servers)}\nFallbackNTP=\n"


def _timesyncd_servers(world: World) -> tuple[str, ...]:
    """As timesyncd.conf(5) has it: lists add up, an empty one begins anew, then the fallback.

    What Debian was built with stands in its file as a comment.
    """
    found: dict[str, tuple[str, ...]] = {}
    built_in: tuple[str, ...] = ()
    for line in _timesyncd_lines(world):
        key, _, value = line.partition("=")
        if key == "#FallbackNTP":
            built_in = tuple(value.split())
        elif key in ("NTP", "FallbackNTP"):
            found[key] = (*found.get(key, ()), *value.split()) if value.split() else ()
    return found.get("NTP") or found.get("FallbackNTP", built_in)


def _timesyncd_lines(world: World) -> Iterator[str]:
    drop_ins = sorted(path for path in world.files if path.startswith(f"{TIMESYNCD_DIR}/"))
    for path in (TIMESYNCD, *drop_ins):
        yield from (line.strip() for line in (world.text(path) or "").splitlines())


def _word(server: str) -> str:
    return "pool" if server.endswith(".pool.ntp.org") else "server"


def _servers(text: str) -> tuple[str, ...]:
    lines = [line.split() for line in text.splitlines()]
    return tuple(words[1] for words in lines if len(words) > 1 and words[0] in _SOURCES)


def _without_sources(text: str) -> str:
    lines = text.splitlines()
    kept = [f"{REPLACED}{line}" if _is_source(line.split()) else line for line in lines]
    if not any(line.split() == SOURCE_DIR.split() for line in kept):
        kept.append(SOURCE_DIR)
    return "".join(f"{line}\n" for line in kept)


def _is_source(words: list[str]) -> bool:
    """Whether a line names servers; what a DHCP server names differs between networks."""
    return words[:1] in _WORDS or words[:2] == ["sourcedir", "/run/chrony-dhcp"]


_WORDS = [[word] for word in _SOURCES]
