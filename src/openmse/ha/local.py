"""What the core wants of its own machine, and what it is told of it.

The core states *levels* ("be the primary on this lineage"); lanes of the runtime compare them with
what they observe and act until both agree. So a lost notice, a crash of the health monitor or an
address that somebody removed all heal the same way. Nothing is true until observed.
"""

from enum import StrEnum

from msgspec import Struct

from openmse.ha.values import Instant, Lineage


class DbRole(StrEnum):
    """What a PostgreSQL instance is, or is wanted to be."""

    DOWN = "down"
    STANDBY = "standby"
    PRIMARY = "primary"


class DbProcess(StrEnum):
    """The server process as seen from outside."""

    DOWN = "down"
    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"


class Receiver(StrEnum):
    """The WAL receiver of a standby."""

    NONE = "none"
    """Not a running standby."""
    CUT = "cut"
    """Told not to receive, verified gone, and everything received has been replayed."""
    WAITING = "waiting"
    STREAMING = "streaming"


class Rung(StrEnum):
    """How far a rejoin may go (protocol §5.6); each includes those before it."""

    STREAM = "stream"
    REWIND = "rewind"
    REBUILD = "rebuild"


class Stop(StrEnum):
    """How PostgreSQL is stopped, and how urgently."""

    FAST = "fast"
    """Backends ended, shutdown checkpoint written and sent to the standby."""
    IMMEDIATE = "immediate"


class DbWanted(Struct, frozen=True):
    """The level the database lane works towards.

    ``lineage``: for PRIMARY the history to serve. If the data directory is a standby (running or
    stopped) it is promoted into it; if it already is a primary of that lineage it is started.
    For STANDBY the history of the upstream (the owner's).
    ``names``: PRIMARY: commits wait for the peer. A standby keeps the peer's name set and proven
    at all times unless ``names`` is False, which it wants just before a promotion into ALONE.
    ``barrier_id``: PRIMARY with ``names``: raise it to have the sync gate proven anew (§5.3).
    ``receiver``: STANDBY: whether to receive WAL at all.
    """

    role: DbRole = DbRole.DOWN
    lineage: Lineage | None = None
    names: bool = False
    barrier_id: int = 0
    receiver: bool = True
    rung: Rung = Rung.STREAM
    stop: Stop = Stop.FAST
    fork_lsn: int = 0
    """STANDBY: where the wanted lineage left its parent; what decides stream against rewind."""
    parent_lineage: Lineage | None = None
    is_urgent: bool = False
    """Somebody waits for the next observation: poll every few milliseconds."""


class DbView(Struct, frozen=True):
    """What the database lane last observed.

    ``role`` is that of the running server, or of the data directory while it is down.
    ``end_lsn``: PRIMARY: flushed; STANDBY: received, flushed and replayed (the smaller); DOWN: the
    end according to the control file and the last observation, never more than is on disk.
    """

    process: DbProcess = DbProcess.DOWN
    role: DbRole = DbRole.DOWN
    """DOWN here means: there is no data directory yet."""
    lineage: Lineage | None = None
    end_lsn: int = 0
    is_clean: bool = False
    """Stopped with a shutdown checkpoint, which is the last record."""
    is_complete: bool = False
    """There is a data directory and no ``incomplete`` marker in force."""
    receiver: Receiver = Receiver.NONE
    names: bool = False
    """PRIMARY: the names are set *and* proven (§5.3). STANDBY: set and proven ahead of promotion.
    Turns False, for a primary told ``names=False``, only once waiters have been let go."""
    barrier_id: int = 0
    """The barrier that ``barrier_lsn`` belongs to; behind the wanted one while being proven."""
    barrier_lsn: int = 0
    peer_streaming: bool = False
    peer_flush_lsn: int = 0
    peer_signed_at: Instant = Instant(0)
    """Last sign of life on the replication connection of the peer (an advance or a reply)."""
    is_healthy: bool = True
    """Answers and, as primary, took a write within its deadline; False after the local restart
    budget is used up, on a full disk, or on a read-only file system."""
    failure: str = ""
    """A sentence for the operator, when something is wrong."""
    rung_needed: Rung = Rung.STREAM
    """STANDBY: what it takes to follow the wanted lineage, so far as known."""
    progress_percent: int = -1
    """Of a base backup under way; -1 while there is none."""


class NetWanted(Struct, frozen=True):
    """The level of the address lane: ``address`` to hold the virtual IP; ``admit`` to let clients
    in (False: connections are refused with a reset, so that they try again at once)."""

    address: bool = False
    admit: bool = False
    probe: bool = False
    """It may soon be wanted: whether somebody else has it can be asked already."""


class Address(StrEnum):
    """The virtual IP on this machine."""

    ABSENT = "absent"
    PROBING = "probing"
    HELD = "held"
    CONFLICT = "conflict"
    """Somebody else answers for it: it is not taken, and tried again each second."""


class NetView(Struct, frozen=True):
    """What the address lane last observed."""

    address: Address = Address.ABSENT
    admits: bool = False
    conflict_with: str = ""
    """The link-layer address that answers for the virtual IP."""
