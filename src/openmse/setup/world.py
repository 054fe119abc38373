"""The files of a machine that setup reads and writes, as values; reading them is all the I/O here.

Paths are those of the machine ('/etc/hosts'); a root directory may stand before all of them, for
tests and for images. Text is read with surrogates, so that foreign bytes survive an edit.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from openmse.setup.errors import StepError

FILE_BYTES_MAX = 1 << 20

HOSTNAME, HOSTS = "/etc/hostname", "/etc/hosts"
LOCALTIME, TIMEZONE = "/etc/localtime", "/etc/timezone"
RESOLV = "/etc/resolv.conf"
RESOLVED = "/etc/systemd/resolved.conf.d/50-openmse.conf"
RESOLVCONF_HEAD = "/etc/resolvconf/resolv.conf.d/head"
INTERFACES = "/etc/network/interfaces"
CHRONY, CHRONY_SOURCES = "/etc/chrony/chrony.conf", "/etc/chrony/sources.d/openmse.sources"
TIMESYNCD = "/etc/systemd/timesyncd.conf"
TIMESYNCD_DIR = "/etc/systemd/timesyncd.conf.d"
TIMESYNCD_OWN = f"{TIMESYNCD_DIR}/50-openmse.conf"
CHRONYD = "/usr/sbin/chronyd"
TIMESYNCD_UNIT = "/etc/systemd/system/systemd-timesyncd.service"
TIMESYNCD_PROGRAM = "/usr/lib/systemd/systemd-timesyncd"
ZONEINFO = "/usr/share/zoneinfo"
ZONE_TAB, COUNTRY_TAB = f"{ZONEINFO}/zone.tab", f"{ZONEINFO}/iso3166.tab"
NETWORK_DIRS = ("/etc/systemd/network", "/run/systemd/network", "/usr/lib/systemd/network")
FIXED = (
    HOSTNAME,
    HOSTS,
    LOCALTIME,
    TIMEZONE,
    RESOLV,
    RESOLVED,
    RESOLVCONF_HEAD,
    INTERFACES,
    CHRONY,
    CHRONY_SOURCES,
    TIMESYNCD,
    ZONE_TAB,
    COUNTRY_TAB,
)
MARKS = (
    "/usr/sbin/ifup",
    "/sbin/ifup",
    CHRONYD,
    TIMESYNCD_PROGRAM,
    "/usr/sbin/NetworkManager",
)
"""Programs whose presence says which kind of machine this is; never read."""
ENABLED = (
    "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
    "/etc/systemd/system/multi-user.target.wants/NetworkManager.service",
    "/etc/systemd/system/multi-user.target.wants/networking.service",
    "/etc/systemd/system/network-online.target.wants/networking.service",
    "/etc/systemd/system/multi-user.target.wants/chrony.service",
    "/etc/systemd/system/sysinit.target.wants/systemd-timesyncd.service",
)


class Link(Struct, frozen=True):
    """A symbolic link, by what it holds."""

    target: str


Entry = str | Link


class World(Struct, frozen=True, kw_only=True):
    """Everything that was read: files by path, and the network interfaces in their order."""

    files: Mapping[str, Entry]
    marks: frozenset[str] = frozenset()
    """Of MARKS and ENABLED, those that are there."""
    interfaces: tuple[str, ...] = ()
    """Those with hardware behind them; where there is none (a container), all but virtual ones."""
    other_interfaces: tuple[str, ...] = ()
    """The rest: bridges, VLANs and the like, which the configuration file may name."""
    live: Mapping[str, tuple[str, ...]] = {}
    """IPv4 addresses in use with their prefixes, by interface; what DHCP gave is seen only here."""
    live_gateway: str = ""

    def text(self, path: str) -> str | None:
        """The text of a file; None where there is none, or it is a link."""
        found = self.files.get(path)
        return found if isinstance(found, str) else None


def rooted(root: Path, path: str) -> Path:
    """Where a path of the machine lies below ``root``."""
    return root / path.lstrip("/")


def read_entry(root: Path, path: str) -> Entry | None:
    """One file or link; None where there is none. Raises StepError where it cannot be read."""
    place = rooted(root, path)
    try:
        if place.is_symlink():
            return Link(os.readlink(place))
        if not place.is_file():
            return None
        with open(place, encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise StepError(
            f"{place} cannot be read: {error.strerror}.", "Mend its rights or the disk."
        ) from error
    if len(text) > FILE_BYTES_MAX:
        raise StepError(f"{place} is larger than it can be.", "Look at what it holds.")
    return text


def _is_masked(root: Path, unit: str) -> bool:
    """Whether a unit's file is a link to nowhere, as ``systemctl mask`` makes it."""
    entry = read_entry(root, unit)
    return isinstance(entry, Link) and entry.target == "/dev/null"


def read_world(root: Path, config: str) -> World:
    """Everything that setup may look at; ``config`` is the product's own file."""
    files: dict[str, Entry] = {}
    for path in (*FIXED, config, *_listed(root)):
        entry = read_entry(root, path)
        if entry is not None:
            files[path] = entry
    marks = {path for path in (*MARKS, *ENABLED) if os.path.lexists(rooted(root, path))}
    if _is_masked(root, TIMESYNCD_UNIT):
        marks.discard(TIMESYNCD_PROGRAM)  # there, and forbidden: systemctl would refuse it
    ethernet = _ethernet(root)
    interfaces = _real(root, ethernet)
    is_live = root == Path("/")
    return World(
        files=files,
        marks=frozenset(marks),
        interfaces=interfaces,
        other_interfaces=tuple(name for name in ethernet if name not in interfaces),
        live=_live_addresses() if is_live else {},
        live_gateway=_live_gateway() if is_live else "",
    )


def _listed(root: Path) -> Iterator[str]:
    for directory in NETWORK_DIRS:
        for place in sorted(rooted(root, directory).glob("*.network")):
            yield f"{directory}/{place.name}"
    for place in sorted(rooted(root, TIMESYNCD_DIR).glob("*.conf")):
        yield f"{TIMESYNCD_DIR}/{place.name}"
    for place in sorted(rooted(root, f"{INTERFACES}.d").glob("*")):
        if place.is_file():
            yield f"{INTERFACES}.d/{place.name}"


def _ethernet(root: Path) -> list[str]:
    """Every network interface that speaks Ethernet."""
    base = rooted(root, _NETWORK)
    try:
        names = sorted(entry.name for entry in base.iterdir())
    except OSError:
        return []
    return [name for name in names if _is_ethernet(base / name)]


def _real(root: Path, names: list[str]) -> tuple[str, ...]:
    base = rooted(root, _NETWORK)
    signs = ("device", "bonding")
    real = [name for name in names if any((base / name / sign).exists() for sign in signs)]
    return tuple(real or [name for name in names if not name.startswith(_VIRTUAL)])


_NETWORK = "/sys/class/net"
_VIRTUAL = ("ifb", "dummy", "docker", "br-", "virbr", "veth", "tun", "tap")


def _is_ethernet(place: Path) -> bool:
    try:
        return (place / "type").read_text().strip() == "1"
    except OSError:
        return False


def _live_addresses() -> dict[str, tuple[str, ...]]:
    from openmse.setup.probes import live_addresses

    return live_addresses()


def _live_gateway() -> str:
    from openmse.setup.probes import live_gateway

    return live_gateway()
