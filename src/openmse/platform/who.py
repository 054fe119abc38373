"""Who this engine and its peers are, for screens that must show what can be shown at any time."""

from pathlib import Path

from msgspec import Struct

from openmse.errors import MseError
from openmse.node import group as group_file
from openmse.node.config import Places
from openmse.platform import identity, measure, peers, settings
from openmse.platform.peers import Told
from openmse.platform.udi import Udi


class Who(Struct, frozen=True):
    """``udi``: null where it cannot be told now (not made yet, or its file is damaged)."""

    udi: Udi | None
    peers: tuple[Told, ...]

    def told_by(self, name: str) -> Told | None:
        """What the peer ``name`` has told of itself; None where it has not."""
        return next((told for told in self.peers if told.name == name), None)


def read(config: Path, state_dir: Path, me: str) -> Who:
    """What is known; a fault in one file hides nothing else and is not raised here."""
    return Who(_udi(config, state_dir), _peers(state_dir, me))


def _udi(config: Path, state_dir: Path) -> Udi | None:
    try:
        kind = settings.load(settings.path_beside(config)).platform.machine
        return identity.udi(state_dir, measure.machine(kind, state_dir))
    except MseError:
        return None


def _peers(state_dir: Path, me: str) -> tuple[Told, ...]:
    try:
        return peers_of(state_dir, me)
    except MseError:
        pass  # the group's facts are root's alone, what its members told is not
    try:
        return tuple(told for told in peers.read(state_dir).values() if told.name != me)
    except MseError:
        return ()


def peers_of(state_dir: Path, me: str) -> tuple[Told, ...]:
    """What the other nodes of the present group have told. Raises MseError."""
    group = group_file.load(Places(state_dir, state_dir).group)
    names = {node.name for node in group.nodes} if group is not None else set()
    return tuple(told for told in peers.read(state_dir).values() if told.name in names - {me})
