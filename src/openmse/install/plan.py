"""The difference between an installation and a machine, as changes that can be told and made.

``changes`` only reads; ``openmse.install.apply`` makes them. Files that somebody changed are kept
beside the new ones, as NAME.saved.
"""

import difflib
import hashlib
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec
from msgspec import Struct

from openmse.install.accounts import ids
from openmse.install.errors import InstallRefused
from openmse.install.layout import MANIFEST, Account, Directory, File, Layout, Link

SAVED = ".saved"


class Manifest(Struct, frozen=True):
    """What an earlier installation put here: path -> SHA-256 of the content, or link target."""

    version: str = ""
    files: dict[str, str] = {}
    links: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class AddGroup:
    """Make a group."""

    name: str


@dataclass(frozen=True, slots=True)
class AddUser:
    """Make a user."""

    account: Account


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Make a directory, or mend its owner and mode."""

    directory: Directory
    exists: bool


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Write a file. ``before``: its text now, None if there is none; ``is_kept``: as NAME.saved."""

    file: File
    before: bytes | None
    is_kept: bool


@dataclass(frozen=True, slots=True)
class MakeLink:
    """Make or replace a link."""

    link: Link
    before: str | None


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file or link that an installation made; ``is_kept``: somebody changed it."""

    path: PurePosixPath
    is_kept: bool = False


Change = AddGroup | AddUser | MakeDirectory | WriteFile | MakeLink | Remove


def read_manifest(root: Path) -> Manifest:
    """What is remembered below ``root``; an empty one where nothing is, or cannot be read."""
    try:
        return msgspec.json.decode(_at(root, MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError):
        return Manifest()


def manifest_of(wanted: Layout, version: str) -> Manifest:
    """What will have been put there."""
    files = {str(f.path): digest(f.content) for f in wanted.files}
    return Manifest(version, files, {str(link.path): link.target for link in wanted.links})


def manifest_so_far(wanted: Layout, version: str, root: Path) -> Manifest:
    """What is there of an installation that came to no end, so that it can be removed."""
    before, whole = read_manifest(root), manifest_of(wanted, version)
    files = {
        name: checksum
        for name, checksum in whole.files.items()
        if _at(root, name).is_file() and digest(_at(root, name).read_bytes()) == checksum
    }
    links = {
        name: target
        for name, target in whole.links.items()
        if _at(root, name).is_symlink() and str(_at(root, name).readlink()) == target
    }
    return Manifest(version, before.files | files, before.links | links)


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def changes(wanted: Layout, root: Path) -> list[Change]:
    """What is missing, other, or there no longer wanted. Raises InstallRefused."""
    before = read_manifest(root)
    found: list[Change] = [*_accounts(wanted, root), *_directories(wanted, root)]
    found += _files(wanted, root, before)
    found += _links(wanted, root)
    found += _leftovers(wanted, root, before)
    return found


def removal(root: Path) -> list[Change]:
    """What takes an installation away again; accounts and data stay."""
    before = read_manifest(root)
    return list(_leftovers(Layout((), (), (), ()), root, before))


def told(change: Change) -> str:
    """A change as a line for people."""
    match change:
        case AddGroup(name):
            return f"add the group {name}"
        case AddUser(account):
            return f"add the system user {account.name}"
        case MakeDirectory(d, exists):
            verb = "mend" if exists else "make"
            return f"{verb} the directory {d.path} ({d.owner}:{d.group}, {d.mode:04o})"
        case WriteFile(file, before, is_kept):
            verb = "write" if before is None else "replace"
            kept = f", the changed one is kept as {file.path.name}{SAVED}" if is_kept else ""
            return f"{verb} {file.path}{kept}"
        case MakeLink(link):
            return f"link {link.path} to {link.target}"
        case Remove(path, is_kept):
            return f"remove {path}" + (
                f", which was changed: kept as {path.name}{SAVED}" if is_kept else ""
            )


def diff(change: Change) -> str:
    """What a replaced file loses and gains; '' for other changes."""
    if not isinstance(change, WriteFile) or change.before is None:
        return ""
    old = change.before.decode(errors="replace").splitlines(keepends=True)
    new = change.file.content.decode(errors="replace").splitlines(keepends=True)
    name = str(change.file.path)
    return "".join(difflib.unified_diff(old, new, name, name, n=1))


def _accounts(wanted: Layout, root: Path) -> Iterator[Change]:
    users, groups = ids(root, "passwd"), ids(root, "group")
    for account in wanted.accounts:
        if account.name not in groups:
            yield AddGroup(account.name)
        if account.name not in users:
            yield AddUser(account)


def _directories(wanted: Layout, root: Path) -> Iterator[Change]:
    users, groups = ids(root, "passwd"), ids(root, "group")
    for directory in wanted.directories:
        try:
            found = _at(root, directory.path).stat()
        except FileNotFoundError:
            yield MakeDirectory(directory, exists=False)
            continue
        uid, gid = users.get(directory.owner, 0), groups.get(directory.group, 0)
        is_right = (found.st_uid, found.st_gid) == (uid, gid)
        if not is_right or stat.S_IMODE(found.st_mode) != directory.mode:
            yield MakeDirectory(directory, exists=True)


def _files(wanted: Layout, root: Path, before: Manifest) -> Iterator[Change]:
    for file in wanted.files:
        path = _at(root, file.path)
        if not path.exists() and not path.is_symlink():
            yield WriteFile(file, None, is_kept=False)
            continue
        if not path.is_file():
            raise InstallRefused(f"{file.path} is in the way; nothing was changed.", "Remove it.")
        content = path.read_bytes()
        if content != file.content:
            is_changed = before.files.get(str(file.path)) != digest(content)
            yield WriteFile(file, content, is_kept=is_changed)
        elif stat.S_IMODE(path.stat().st_mode) != file.mode:
            yield WriteFile(file, content, is_kept=False)


def _links(wanted: Layout, root: Path) -> Iterator[Change]:
    for link in wanted.links:
        path = _at(root, link.path)
        if path.is_symlink():
            target = str(path.readlink())
            if target != link.target:
                yield MakeLink(link, target)
        elif path.exists():
            raise InstallRefused(
                f"{link.path} is in the way: it is no link of an earlier installation. Nothing was "
                "changed.",
                "Remove it, or the installation that it belongs to.",
            )
        else:
            yield MakeLink(link, None)


def _leftovers(wanted: Layout, root: Path, before: Manifest) -> Iterator[Change]:
    """What an earlier version put here and this one does not want."""
    keep = {str(file.path) for file in wanted.files} | {str(link.path) for link in wanted.links}
    for name, checksum in before.files.items():
        path = _at(root, PurePosixPath(name))
        if name not in keep and path.is_file():
            yield Remove(PurePosixPath(name), is_kept=digest(path.read_bytes()) != checksum)
    for name, target in before.links.items():
        path = _at(root, PurePosixPath(name))
        if name not in keep and path.is_symlink() and str(path.readlink()) == target:
            yield Remove(PurePosixPath(name))


def _at(root: Path, path: PurePosixPath | str) -> Path:
    return root / str(path).lstrip("/")


def under(root: Path, path: PurePosixPath | str) -> Path:
    """An absolute path of the machine as a path below ``root``."""
    return _at(root, path)


def data_that_stays(root: Path, candidates: tuple[str, ...]) -> Mapping[str, int]:
    """Directory -> bytes in its files, for those that are there."""
    found = {}
    for name in candidates:
        path = _at(root, name)
        if path.is_dir():
            found[name] = sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())
    return found
