"""What happens to a node: everything the core is told. Every event carries ``at``."""

from msgspec import Struct

from openmse.ha.local import DbView, NetView
from openmse.ha.messages import Message
from openmse.ha.values import Instant, Settings, Voter


class Ticked(Struct, frozen=True):
    """Time went on; sent at ``node.wake_at`` at the latest."""

    at: Instant


class Received(Struct, frozen=True):
    """An authenticated message of another voter of the group arrived."""

    at: Instant
    message: Message


class DbObserved(Struct, frozen=True):
    """The database lane saw something new."""

    at: Instant
    view: DbView


class NetObserved(Struct, frozen=True):
    """The address lane saw something new."""

    at: Instant
    view: NetView


class LinkChanged(Struct, frozen=True):
    """The TLS connection to another voter came up or went; ``was_reset``: its process closed it."""

    at: Instant
    party: str
    is_up: bool
    was_reset: bool = False


class LeaseLapsed(Struct, frozen=True):
    """The kernel lease could not be armed in time: nothing passes any more."""

    at: Instant


class CheckpointDone(Struct, frozen=True):
    """The checkpoint that an operation waited for has been written."""

    at: Instant
    operation: str


class FencingAnswered(Struct, frozen=True):
    """The fencing agent confirmed that the peer is off, or could not."""

    at: Instant
    is_confirmed: bool
    sentence: str = ""
    asked_at: Instant = Instant(0)
    """The ``Fence`` that is answered."""


class Commanded(Struct, frozen=True):
    """An operator (or the machine's own stop) asks for something; answered by ``Answer``."""

    at: Instant
    id: str
    command: "Command"


class Switchover(Struct, frozen=True, tag="switchover", tag_field="c"):
    """Hand over to the other node (also the guide's failback, by direction)."""

    to: str = ""
    """The node that shall own; '' for "the other one"."""


class ForceTakeover(Struct, frozen=True, tag="force", tag_field="c"):
    """Own from now on, whatever the others know (protocol §2.5). The loss was shown and typed."""

    operator: str = ""


class ConfirmAlone(Struct, frozen=True, tag="confirm_alone", tag_field="c"):
    """Serve although nobody else answers at boot (``boot_alone = ask``)."""


class ReleaseProtect(Struct, frozen=True, tag="release_protect", tag_field="c"):
    """In protect mode: go on without the peer."""


class Maintenance(Struct, frozen=True, tag="maintenance", tag_field="c"):
    """Maintenance on or off: while on, the owner serves ALONE and nobody promotes."""

    is_on: bool


class ChangeSettings(Struct, frozen=True, tag="settings", tag_field="c"):
    """Replace the group's settings by a config change."""

    settings: Settings


class ChangeVoters(Struct, frozen=True, tag="voters", tag_field="c"):
    """Pair, unpair, or replace a witness: a config change like any other."""

    voters: tuple[Voter, ...]


class StopNode(Struct, frozen=True, tag="stop", tag_field="c"):
    """This machine is being stopped on purpose (GRACEFUL_SHUTDOWN)."""

    handover: bool = False


class LeaveQuarantine(Struct, frozen=True, tag="unquarantine", tag_field="c"):
    """Try the rejoin again after repeated failures."""


Command = (
    Switchover
    | ForceTakeover
    | ConfirmAlone
    | ReleaseProtect
    | Maintenance
    | ChangeSettings
    | ChangeVoters
    | StopNode
    | LeaveQuarantine
)

Event = (
    Ticked
    | Received
    | DbObserved
    | NetObserved
    | LinkChanged
    | LeaseLapsed
    | CheckpointDone
    | FencingAnswered
    | Commanded
)
