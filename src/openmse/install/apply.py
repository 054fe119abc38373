"""Makes the changes of a plan, each whole or not at all, in an order that may be repeated."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from openmse.documents import FOLDER
from openmse.errors import MseError
from openmse.install import accounts
from openmse.install.errors import InstallFailed
from openmse.install.layout import MANIFEST, Directory
from openmse.install.plan import (
    SAVED,
    AddGroup,
    AddUser,
    Change,
    MakeDirectory,
    MakeLink,
    Manifest,
    Remove,
    WriteFile,
    told,
    under,
)
from openmse.pki.files import write_file


def apply(changes: Sequence[Change], root: Path, say: Callable[[str], None]) -> None:
    """Make every change, telling each once it is made. Raises InstallFailed at the first failure:

    those before it stay, and the whole may be repeated.
    """
    for change in changes:
        try:
            _make(change, root)
        except MseError:
            raise
        except OSError as error:
            raise InstallFailed(
                f"It was not possible to {told(change)}: {error.strerror}. What was said before "
                "is done.",
                "Mend the cause and repeat the command; it goes on from there.",
            ) from error
        say(told(change))


def remember(manifest: Manifest, root: Path) -> None:
    """Keep what was installed, so that it can be removed. Raises StateError."""
    path = under(root, MANIFEST)
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    write_file(path, data, mode=0o644)


def forget(root: Path) -> None:
    """Nothing is installed any more."""
    under(root, MANIFEST).unlink(missing_ok=True)


def _make(change: Change, root: Path) -> None:
    match change:
        case AddGroup(name):
            accounts.add_group(root, name)
        case AddUser(account):
            accounts.add_user(root, account)
        case MakeDirectory(directory):
            _make_directory(directory, root)
        case WriteFile(file, before, is_kept):
            path = under(root, file.path)
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if is_kept and before is not None:
                write_file(path.with_name(path.name + SAVED), before, mode=file.mode)
            write_file(path, file.content, mode=file.mode)
        case MakeLink(link):
            path = under(root, link.path)
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.new")
            new.unlink(missing_ok=True)
            new.symlink_to(link.target)
            os.replace(new, path)
        case Remove(name, is_kept):
            path = under(root, name)
            if is_kept:
                os.replace(path, path.with_name(path.name + SAVED))
            else:
                path.unlink(missing_ok=True)
            _remove_empty(path.parent, name.parent)


def _make_directory(directory: Directory, root: Path) -> None:
    path = under(root, directory.path)
    path.mkdir(parents=True, exist_ok=True)
    uid = accounts.ids(root, "passwd").get(directory.owner, 0)
    gid = accounts.ids(root, "group").get(directory.group, 0)
    os.chown(path, uid, gid)
    os.chmod(path, directory.mode)


def _remove_empty(path: Path, name: PurePosixPath) -> None:
    """A directory of ours that has nothing left in it: a unit's drop-ins, documents."""
    try:
        if name.name.endswith(".service.d"):
            path.rmdir()
        elif name.is_relative_to(FOLDER):
            path.rmdir()
            _remove_empty(path.parent, name.parent)
    except OSError:
        return
