"""Machines as directories: what setup reads of a Debian machine, and nothing that runs."""

import shutil
from pathlib import Path

HOSTS = "127.0.0.1\tlocalhost\n127.0.1.1\tmse\n\n# the others\n10.10.10.50\tprinter printer.lan\n"
INTERFACES = """\
# This file describes the network interfaces available on your system
source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback

# The primary network interface
allow-hotplug eth0
iface eth0 inet dhcp
    dns-search lan

iface eth0 inet6 auto
"""
CHRONY = "# Debian's own\npool 2.debian.pool.ntp.org iburst\nmakestep 1 3\n"
ZONEINFO = Path("/usr/share/zoneinfo")


def bare(root: Path, *interfaces: str) -> Path:
    """A machine with these interfaces, and nothing set but its name."""
    for name in interfaces or ("eth0", "eth1"):
        write(root, f"sys/class/net/{name}/type", "1\n")
    write(root, "sys/class/net/lo/type", "772\n")
    for name in ("run", "var/lib"):
        (root / name).mkdir(parents=True, exist_ok=True)
    write(root, "etc/hostname", "mse\n")
    write(root, "etc/hosts", HOSTS)
    if (ZONEINFO / "zone.tab").exists():
        (root / "usr/share/zoneinfo").mkdir(parents=True, exist_ok=True)
        for name in ("zone.tab", "iso3166.tab"):
            shutil.copy(ZONEINFO / name, root / "usr/share/zoneinfo" / name)
    return root


def debian(root: Path, *interfaces: str) -> Path:
    """The same with ifupdown and chrony, as Debian's installer leaves it."""
    bare(root, *interfaces)
    write(root, "etc/network/interfaces", INTERFACES)
    write(root, "etc/chrony/chrony.conf", CHRONY)
    write(root, "etc/resolv.conf", "# by hand\noptions timeout:1\nnameserver 10.10.10.2\n")
    write(root, "usr/sbin/ifup", "")
    return root


def write(root: Path, path: str, text: str) -> None:
    """A file below the root."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def picture(root: Path) -> dict[str, str]:
    """Every file and link below the root, but for the copies that setup keeps."""
    found = {}
    for place in sorted(root.rglob("*")):
        name = str(place.relative_to(root))
        if name.startswith("var/backups"):
            continue
        if place.is_symlink():
            found[name] = f"-> {place.readlink()}"
        elif place.is_file():
            found[name] = f"{place.stat().st_mode & 0o777:o} {place.read_text()}"
    return found
