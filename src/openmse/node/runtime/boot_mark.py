"""Whether an owner of this boot of the machine has already been confirmed (protocol §6).

A node that boots as ALONE(self) first asks around: another may have been forced to take over. A
health monitor that dies while it asks, or a life that ends by a reload, is no answer, so the mark
is set when there is one, and not at the start. It lies in the run directory, which a boot empties.
"""

from pathlib import Path

from openmse.errors import StateError
from openmse.ha.draft import is_owner
from openmse.ha.state import Node

NAME = "booted"


class BootMark:
    """The mark in a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / NAME
        self._is_set = False

    @property
    def is_machine_boot(self) -> bool:
        """Whether nobody has been confirmed since the machine booted."""
        self._is_set = self._path.exists()
        return not self._is_set

    def on_step(self, node: Node) -> None:
        """Set the mark once this node is a confirmed owner. Raises: StateError."""
        if self._is_set or not (node.alone_confirmed and is_owner(node)):
            return
        try:
            self._path.touch()
        except OSError as error:
            raise StateError(
                f"The mark {self._path} cannot be written: {error.strerror}.",
                "The run directory must be writable for root.",
            ) from error
        self._is_set = True
