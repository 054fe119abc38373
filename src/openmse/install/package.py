"""Lays out the Debian package in a folder: ``python -m openmse.install.package FOLDER``.

``tools/deb`` puts the interpreter with all libraries into FOLDER/usr/lib/openmse first, and has
dpkg-deb make the package afterwards. Nothing here touches the machine it runs on.
"""

import gzip
import hashlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from openmse import __version__
from openmse.cli.install import PACKAGE_HOME, command_names
from openmse.install.layout import Destination, Layout, layout, packaged

NAME = "openmse"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """Debian's name of this machine's kind."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def file_name() -> str:
    """The package's file."""
    return f"{NAME}_{__version__}_{architecture()}.deb"


def package_layout() -> Layout:
    """The files of the package beside its interpreter; units are enabled by its scripts."""
    to = Destination(
        python=f"{PACKAGE_HOME}/bin/python3",
        bin_dir=f"{PACKAGE_HOME}/bin",
        commands=command_names(),
        prefix="/usr",
        unit_dir="/usr/lib/systemd/system",
    )
    found = layout(to)
    links = tuple(link for link in found.links if not str(link.path).startswith("/etc/systemd/"))
    return Layout((), (), found.files, links)


def control(installed_kib: int) -> str:
    """The package's description of itself."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    following = f"{sys.version_info.major}.{sys.version_info.minor + 1}"
    summary = importlib.metadata.metadata("openmse")["Summary"]
    return (
        f"Package: {NAME}\n"
        f"Version: {__version__}\n"
        f"Architecture: {architecture()}\n"
        "Maintainer: The OpenMSE developers <openmse@localhost>\n"
        f"Installed-Size: {installed_kib}\n"
        f"Depends: python3 (>= {python}), python3 (<< {following}), libc6, libnftables1, passwd\n"
        "Recommends: systemd | sysvinit-core, chrony, logrotate\n"
        "Section: net\n"
        "Priority: optional\n"
        f"Description: {summary.rstrip('.')[:70]}\n"
        " Two nodes, a witness, one virtual IP: the health monitor replicates PostgreSQL\n"
        " synchronously and hands the service over when a machine fails. This package\n"
        " brings its own interpreter environment and its own PostgreSQL server; nothing is\n"
        " fetched while it is installed, and nothing is started before 'mse setup'.\n"
    )


def conffiles(wanted: Layout) -> str:
    """What dpkg asks about before it replaces a version that somebody changed."""
    names = sorted(str(f.path) for f in wanted.files if str(f.path).startswith("/etc/"))
    return "".join(f"{name}\n" for name in names)


def write(folder: Path) -> None:
    """Write everything but the interpreter below ``folder``."""
    wanted = package_layout()
    for file in wanted.files:
        path, content = folder / str(file.path).lstrip("/"), file.content
        if "share/man" in str(file.path):
            path, content = path.with_name(path.name + ".gz"), gzip.compress(content, 9, mtime=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(file.mode)
    for link in wanted.links:
        path = folder / str(link.path).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(link.target)
    about = folder / "DEBIAN"
    about.mkdir(exist_ok=True)
    for name in SCRIPTS:
        script = about / name
        script.write_text(packaged(f"deb.{name}"))
        script.chmod(0o755)
    (about / "conffiles").write_text(conffiles(wanted))
    (about / "md5sums").write_text("".join(_checksums(folder)))
    size = sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir())
    (about / "control").write_text(control(size // 1024))


def _checksums(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] != "DEBIAN" and path.is_file() and not path.is_symlink():
            checksum = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            yield f"{checksum}  {name}\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--name"]:
        print(file_name())
    else:
        write(Path(sys.argv[1]))
