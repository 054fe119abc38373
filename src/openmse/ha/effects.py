"""What the core asks for. The order inside a batch is law: persist, then tell, then act.

A runtime performs a batch in order. ``Persist`` is complete (fsynced) before what follows it; if it
fails the process dies without performing the rest. Level effects (``WantDb`` …) only set targets.
"""

from msgspec import Struct

from openmse.ha.local import DbWanted, NetWanted
from openmse.ha.messages import Message
from openmse.ha.values import Instant, Record


class Persist(Struct, frozen=True):
    """Write the voter's record to disk, fsynced, before going on."""

    record: Record


class Send(Struct, frozen=True):
    """Send a message to one voter; may be lost."""

    to: str
    message: Message


class SetLease(Struct, frozen=True):
    """Set the kernel lease to end at ``until``; ``FOREVER`` for none needed; 0 to close it now."""

    until: Instant


class WantDb(Struct, frozen=True):
    """The new level for the database lane."""

    wanted: DbWanted


class WantNet(Struct, frozen=True):
    """The new level for the address lane."""

    wanted: NetWanted


class WantWatchdog(Struct, frozen=True):
    """Arm, feed (again True) or disarm the watchdog."""

    is_armed: bool


class Checkpoint(Struct, frozen=True):
    """Write a checkpoint now; ``CheckpointDone`` answers (also when it failed)."""

    operation: str


class Fence(Struct, frozen=True):
    """Run the fencing agent against the peer; ``FencingAnswered`` answers, whatever it said."""

    peer: str
    asked_at: Instant
    """The name of this request."""


class Answer(Struct, frozen=True):
    """What became of an operator's command."""

    id: str
    is_done: bool
    sentence: str


class Note(Struct, frozen=True):
    """Something an operator may want to know: an entry of the event log.

    ``severity``: info, warning or error. ``kind`` is stable snake_case.
    """

    kind: str
    severity: str
    sentence: str


class Exit(Struct, frozen=True):
    """Everything is stopped as asked: the process may end."""


class Reincarnate(Struct, frozen=True):
    """Others remember more of us than we do: begin anew with a new incarnation (§2.6)."""


Effect = (
    Persist
    | Send
    | SetLease
    | WantDb
    | WantNet
    | WantWatchdog
    | Checkpoint
    | Fence
    | Answer
    | Note
    | Exit
    | Reincarnate
)
