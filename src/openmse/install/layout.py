"""What an installation consists of, as data: accounts, directories, files, links. Pure.

Made for ``mse install`` (into a running machine) and for the Debian package (into a folder) alike.
"""

import importlib.resources
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from openmse.documents import FOLDER
from openmse.install import completion, manual

USER = "openmse"
WITNESS_USER = "openmse-witness"
CONSOLE_USER = "openmse-console"
MANIFEST = PurePosixPath("/var/lib/openmse/installed.json")
ENABLED_UNITS = ("openmse.service", "openmse-admin.service", "openmse-witness.service")
"""Started at boot where their configuration file is; the console only where a person says so."""
UNITS = (*ENABLED_UNITS, "openmse-console.service")
SETUP_SCRIPT = PurePosixPath("/opt/mse/setup/setup.sh")
"""Where the guide has the wizard."""
INIT_SCRIPTS = ("msed", "openmse-witness", "openmse-console")
"""In /etc/init.d, for machines without systemd."""
CONSOLE_SCRIPT = "openmse-console"
"""Run at boot only where a person says so."""
DOCUMENT_FOLDERS = ("adr", "generated", "runbooks")
"""Of the documents' folders, those that are installed."""
EXAMPLE = PurePosixPath("/etc/openmse/openmse.toml.example")


@dataclass(frozen=True, slots=True)
class Account:
    """A system user with a group of the same name, and no password or shell."""

    name: str
    home: str
    comment: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory with its mode; ``owner`` and ``group`` are names."""

    path: PurePosixPath
    mode: int
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True, slots=True)
class File:
    """A file of root's."""

    path: PurePosixPath
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    path: PurePosixPath
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where things go on the machine, and what runs them.

    ``python``: the interpreter whose packages the product is among; ``bin_dir``: where its commands
    are; ``prefix``: below it ``bin``, manual pages and completions; ``unit_dir``: systemd's.
    """

    python: str
    bin_dir: str
    commands: tuple[str, ...]
    prefix: str = "/usr/local"
    unit_dir: str = "/etc/systemd/system"


@dataclass(frozen=True, slots=True)
class Layout:
    """All of an installation."""

    accounts: tuple[Account, ...]
    directories: tuple[Directory, ...]
    files: tuple[File, ...]
    links: tuple[Link, ...]


def layout(to: Destination) -> Layout:
    """What shall be there."""
    files = (*_units(to), *_pages(to), *_completions(to), *_documents(), *_others(to))
    links = (*_commands(to), *_enabled(to))
    return Layout(ACCOUNTS, DIRECTORIES, files, links)


ACCOUNTS = (
    Account(USER, "/var/lib/openmse", "OpenMSE database"),
    Account(WITNESS_USER, "/var/lib/openmse-witness", "OpenMSE witness"),
    Account(CONSOLE_USER, "/var/lib/openmse-console", "OpenMSE console"),
)

DIRECTORIES = (
    Directory(PurePosixPath("/etc/openmse"), 0o755),
    Directory(PurePosixPath("/var/lib/openmse"), 0o755),
    Directory(PurePosixPath("/var/log/openmse"), 0o750, "root", USER),
    Directory(PurePosixPath("/var/lib/openmse-witness"), 0o700, WITNESS_USER, WITNESS_USER),
    Directory(PurePosixPath("/var/lib/openmse-console"), 0o700, CONSOLE_USER, CONSOLE_USER),
)

DATA = (
    "/etc/openmse",
    "/var/lib/openmse",
    "/var/lib/openmse-witness",
    "/var/lib/openmse-console",
    "/var/log/openmse",
)
"""What no removal touches."""


def packaged(name: str) -> str:
    """The text of a file that comes with the product."""
    return (importlib.resources.files("openmse.install") / "files" / name).read_text("utf-8")


def documents() -> Iterator[tuple[str, bytes]]:
    """The documents that come with the product, pictures left out: path below FOLDER, content.

    ``install/documents`` is a link to the repository's ``docs``; in a wheel it is a copy.
    """
    folder = importlib.resources.files("openmse.install") / "documents"
    for each in _sorted(folder):
        if each.is_file():
            yield each.name, each.read_bytes()
        elif each.name in DOCUMENT_FOLDERS:
            yield from ((f"{each.name}/{one.name}", one.read_bytes()) for one in _sorted(each))


def _sorted(folder: Traversable) -> list[Traversable]:
    return sorted(folder.iterdir(), key=lambda each: each.name)


def filled(text: str, to: Destination) -> bytes:
    """A template with its two places filled in."""
    return text.replace("@PYTHON@", to.python).replace("@BIN@", to.bin_dir).encode()


def init_script(name: str, to: Destination) -> bytes:
    """One of INIT_SCRIPTS. The witness is started only where it has been given a memory."""
    if name == "msed":
        return filled(packaged("msed.init"), to)
    part = name.removeprefix("openmse-")
    config = f"/etc/openmse/{part}.toml"
    places = {
        "@NAME@": name,
        "@TITLE@": {"witness": "the third vote of OpenMSE", "console": "the console of OpenMSE"}[
            part
        ],
        "@CONFIG@": config,
        "@NEEDED@": config if part == "witness" else "",
        "@LOG@": f"{part}.log",
        "@MODULE@": f"openmse.{part}",
    }
    text = packaged("third-machine.init")
    for place, value in places.items():
        text = text.replace(place, value)
    return filled(text, to)


def paths_drop_in(writable: Iterable[str]) -> bytes:
    """What lets a unit write to directories that the configuration puts elsewhere."""
    lines = "".join(f"ReadWritePaths=-{path}\n" for path in writable)
    return f"# Written by 'mse install', from [paths] and [database].\n[Service]\n{lines}".encode()


def _units(to: Destination) -> Iterable[File]:
    for name in UNITS:
        yield File(PurePosixPath(to.unit_dir, name), filled(packaged(name), to))


def _pages(to: Destination) -> Iterable[File]:
    for name, text in manual.pages().items():
        section = name.rpartition(".")[2]
        yield File(PurePosixPath(to.prefix, "share/man", f"man{section}", name), text.encode())


def _completions(to: Destination) -> Iterable[File]:
    for path, text in completion.files().items():
        yield File(PurePosixPath(to.prefix, "share", path), text.encode())


def _documents() -> Iterable[File]:
    for name, content in documents():
        yield File(PurePosixPath(FOLDER, name), content)


def _others(to: Destination) -> Iterable[File]:
    yield File(EXAMPLE, packaged("openmse.toml.example").encode())
    yield File(PurePosixPath("/etc/logrotate.d/openmse"), filled(packaged("openmse.logrotate"), to))
    for name in INIT_SCRIPTS:
        yield File(PurePosixPath("/etc/init.d", name), init_script(name, to), 0o755)
    yield File(SETUP_SCRIPT, filled(packaged("setup.sh"), to), 0o755)


def _commands(to: Destination) -> Iterable[Link]:
    """The commands on everybody's path, unless they are there by themselves."""
    here = PurePosixPath(to.prefix, "bin")
    if PurePosixPath(to.bin_dir) == here:
        return
    for name in to.commands:
        yield Link(here / name, str(PurePosixPath(to.bin_dir, name)))


def _enabled(to: Destination) -> Iterable[Link]:
    """What 'systemctl enable' would make; conditions in the units decide what starts."""
    enabled = PurePosixPath("/etc/systemd/system")
    for name in ENABLED_UNITS:
        target = str(PurePosixPath(to.unit_dir, name))
        yield Link(enabled / "multi-user.target.wants" / name, target)
    yield Link(enabled / "msed.service", str(PurePosixPath(to.unit_dir, "openmse.service")))
