"""The product's directories on this machine, with their modes; made by ``mse node init`` too."""

import os
from pathlib import Path

from openmse.errors import StateError
from openmse.node.config import Places


def directories(places: Places) -> tuple[tuple[Path, int], ...]:
    """Every directory with its mode, outer ones first."""
    return (
        (places.state_dir, 0o755),  # the database below it belongs to another user
        (places.run_dir, 0o755),
        (places.pki, 0o711),  # PostgreSQL's own copies of its files lie below it
        (places.journal, 0o750),
        (places.drills, 0o750),
    )


def prepare(places: Places) -> None:
    """Make the directories with their modes; raises StateError."""
    for path, mode in directories(places):
        try:
            path.mkdir(parents=True, exist_ok=True)
            os.chmod(path, mode)
        except OSError as error:
            raise StateError(
                f"The directory {path} cannot be made: {error.strerror}.",
                "Check [paths] in the configuration file, and the disk.",
            ) from error
