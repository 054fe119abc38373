"""The state of one node's core: its durable record, and what it holds in memory.

``Node`` is mutable only inside ``node.step``, which works on a copy; its parts are frozen.
"""

from enum import StrEnum

from msgspec import Struct

from openmse.ha.acceptor import Bond
from openmse.ha.local import DbView, DbWanted, NetView, NetWanted
from openmse.ha.messages import Promise, Stamp, Standing
from openmse.ha.values import Ballot, Config, Instant, Record, Release, Settings, Voter


class Party(Struct, frozen=True):
    """What is known of another voter."""

    id: str = ""
    heard_at: Instant = Instant(0)
    """Last authenticated datagram from it; 0 for never since this process started."""
    first_heard_at: Instant = Instant(0)
    """Since when it has been heard without a gap of a lease."""
    stamp: Stamp | None = None
    answered: Instant = Instant(0)
    """The newest own beat that it has answered."""
    version: tuple[int, int] = (0, 0)
    """(term, epoch) of the newest config that it knows chosen."""
    standing: Standing = Standing()
    is_link_up: bool = False
    reset_at: Instant = Instant(0)
    """When its process closed the TLS connection; 0 while it is up again."""
    round_trip_ns: int = 0


class Aim(StrEnum):
    """What an attempt at the register is for."""

    WRITE_BACK = "write_back"
    """Read a quorum, and write a value of unknown fate back unchanged."""
    MOVE = "move"
    """Replace the known config by the config in ``move``."""


class Phase(StrEnum):
    """Where an attempt at the register stands."""

    PREPARE = "prepare"
    ACCEPT = "accept"


class Proposal(Struct, frozen=True):
    """One attempt to choose a config, under one ballot."""

    ballot: Ballot
    aim: Aim
    phase: Phase
    started_at: Instant
    sent_at: Instant
    """Last (re)sending, so that a lost message is repeated."""
    deadline: Instant
    base: Config | None = None
    """MOVE: the known chosen config that the move starts from."""
    move: Config | None = None
    promises: tuple[Promise, ...] = ()
    value: Config | None = None
    parent: Config | None = None
    accepted_by: frozenset[str] = frozenset()
    release: Release | None = None
    self_last: bool = False
    """Own acceptance comes last (a takeover), not first (⚠ replacing ALONE or PINNED)."""


class Poll(Struct, frozen=True):
    """A takeover in preparation: pre-vote, then cut the receiver, then propose."""

    number: int
    version: tuple[int, int]
    asked_at: Instant = Instant(0)
    retry_at: Instant = Instant(0)
    is_yes: bool = False
    yes_at: Instant = Instant(0)
    sent_accept: bool = False
    """An accept left: whether it was chosen is open until a quorum has been read."""


class OperationKind(StrEnum):
    """The long actions that an operator can follow."""

    HANDOVER = "handover"
    TAKEOVER = "takeover"
    RELEASE = "release"
    STOP = "stop"


class Step(Struct, frozen=True, array_like=True):
    """One finished or running step of an operation."""

    name: str
    at: Instant


class Operation(Struct, frozen=True):
    """A long action under way on this node: its steps so far, and who asked."""

    kind: OperationKind
    id: str
    step: str
    started_at: Instant
    steps: tuple[Step, ...] = ()
    answer_to: str = ""
    """The command id that waits for the answer; '' for nobody."""
    is_final: bool = False
    """Past the point of no return."""
    asked_by: str = ""
    """The other node, when the order was forwarded."""


class Pending(Struct, frozen=True):
    """A change of settings or voters that an operator asked for and the register does not show."""

    settings: Settings
    voters: tuple[Voter, ...]
    asked_at: Instant
    answer_to: str = ""
    asked_by: str = ""


class Node(Struct):
    """Everything one node's core knows. Pure data; see ``node.step``."""

    me: str
    record: Record
    now: Instant
    started_at: Instant
    is_machine_boot: bool
    """The machine booted (nothing ran before), as against a restart of the health monitor."""
    bond: Bond
    peer: Party = Party()
    witness: Party = Party()
    db: DbView = DbView()
    net: NetView = NetView()
    db_wanted: DbWanted = DbWanted()
    net_wanted: NetWanted = NetWanted()
    lease_until: Instant = Instant(0)
    """Until when the owner holds a granted lease, from its own sending; 0 for none."""
    cutoff_at: Instant = Instant(0)
    lease_set: Instant = Instant(0)
    """What the kernel was last told (``SetLease``)."""
    is_lease_known: bool = False
    """This process has told the kernel; before, one of its former life may be in force."""
    watchdog_armed: bool = False
    beat_at: Instant = Instant(0)
    """When the last beats were sent."""
    is_admitted: bool = False
    """This run of PostgreSQL as primary was admitted to clients once (barrier passed)."""
    is_halted: bool = False
    """The owner stopped for want of a lease; cleared when a lease is held and all is down."""
    is_fresh: bool = False
    """PostgreSQL was promoted in this run: everything it has, the old owner has too."""
    yields_until: Instant = Instant(0)
    """A halted owner leaves the next lease to the other node before this: its takeover is on its
    way, or about to be, and quicker than a restart here."""
    barrier_id: int = 0
    gate_id: int = 0
    """The barrier of the sync gate under way; 0 while there is none."""
    proposal: Proposal | None = None
    rounds: int = 0
    poll: Poll | None = None
    next_poll: int = 1
    asked_version: tuple[int, int] = (0, 0)
    """The config from which an operator asked this node to take over (failover type manual)."""
    next_attempt_at: Instant = Instant(0)
    attempts: int = 0
    operation: Operation | None = None
    pending: Pending | None = None
    unstreamed_at: Instant = Instant(0)
    """Since when the peer has not been streaming; 0 while it is."""
    behind_since: Instant = Instant(0)
    """Since when the peer, not streaming, has shown more of this owner's history than we have."""
    witness_lost_at: Instant = Instant(0)
    witness_back_at: Instant = Instant(0)
    unresolved_since: Instant = Instant(0)
    """Since when the witness renews nothing because of another owner's value of unknown fate."""
    losses: tuple[Instant, ...] = ()
    """When sync was lost lately, for the damping of flapping."""
    streaming_since: Instant = Instant(0)
    failbacks: tuple[Instant, ...] = ()
    """When automatic failbacks were begun here within the last day: each repeat waits longer."""
    db_failed_at: Instant = Instant(0)
    db_down_at: Instant = Instant(0)
    """Since when the database that should serve is down or recovering; 0 while it is not."""
    alone_confirmed: bool = False
    protect_released: bool = False
    quarantine: str = ""
    is_stopping: bool = False
    stopping_since: Instant = Instant(0)
    woke_at: Instant = Instant(0)
    """When this process last went on after having stood still: what it has not heard since, it may
    only not have read yet."""
    fencing_asked_at: Instant = Instant(0)
    """The last request to the fencing agent; 0 for none since this process started."""
    is_fencing: bool = False
    """That request has not been answered yet."""
    has_exited: bool = False
    software: str = ""
    """The version of the software that this node runs; the other node is told it in each beat."""
    config_seen: tuple[int, int] = (0, 0)
    """Version of the config whose arrival was acted upon."""
    sent_standing: Standing = Standing()
    wake_at: Instant = Instant(0)
    """When the core wants to be told the time at the latest."""

    @property
    def config(self) -> Config | None:
        """The newest config that this node knows chosen."""
        return self.record.known
