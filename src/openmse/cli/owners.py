"""Whose the files are that root's commands make in the directory of a service."""

import os
from pathlib import Path


def give_to_owner(directory: Path) -> None:
    """Give everything in a service's directory to the user whose the directory is.

    For root, who would leave files there that the service could not open; without an effect for
    anybody else, and where the directory is root's own or is not there.
    """
    if os.geteuid() != 0 or not directory.is_dir():
        return
    owner = directory.stat()
    if owner.st_uid == 0:
        return
    for path in directory.rglob("*"):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
