"""The working copy of a node inside one step, and the effects gathered on the way."""

from msgspec.structs import replace

from openmse.ha import acceptor
from openmse.ha.acceptor import stamp_of
from openmse.ha.effects import (
    Answer,
    Effect,
    Note,
    Persist,
    Send,
    SetLease,
    WantDb,
    WantNet,
    WantWatchdog,
)
from openmse.ha.local import Address, DbProcess, DbRole, DbWanted, NetWanted, Receiver
from openmse.ha.messages import Message, Stamp
from openmse.ha.state import Node
from openmse.ha.timing import Timing, timing
from openmse.ha.values import Config, Instant, Mode, Record, Settings

_TIMINGS: dict[int, Timing] = {}


def timing_of(config: Config | None) -> Timing:
    """The durations in force under this config (those of the default before the first)."""
    wait = (config.settings if config else Settings()).failover_wait_ns
    found = _TIMINGS.get(wait)
    if found is None:
        found = _TIMINGS[wait] = timing(wait)
    return found


class Draft:
    """One step's working copy ``n`` and what it asks for.

    Effects are sorted into the lawful order at the end: what lowers a level first (stopping is
    always safe and must not wait for a disk), then persist, then tell, then what raises one.
    """

    __slots__ = ("before", "extra", "hears_owner", "n", "notes", "sends")

    def __init__(self, before: Node, n: Node) -> None:
        self.before = before
        self.n = n
        self.hears_owner = False
        """Whether this step's event is a beat of the owner."""
        self.sends: list[Send] = []
        self.notes: list[Effect] = []
        self.extra: list[Effect] = []

    @property
    def stamp(self) -> Stamp:
        """The stamp for the messages of this step, with what has been promised so far."""
        n = self.n
        is_whole = n.db.role is DbRole.PRIMARY or n.db.receiver is Receiver.CUT
        if n.db.process is DbProcess.UP and is_whole:
            return stamp_of(n.record, n.db.lineage, n.db.end_lsn)
        return stamp_of(n.record)

    @property
    def timing(self) -> Timing:
        """The durations in force."""
        return timing_of(self.n.record.known)

    def send(self, to: str, message: Message) -> None:
        """Tell another voter; ignored for '' (no such voter)."""
        if to and to != self.n.me:
            self.sends.append(Send(to, message))

    def note(self, kind: str, severity: str, sentence: str) -> None:
        """Leave an entry in the event log."""
        self.notes.append(Note(kind, severity, sentence))

    def answer(self, command_id: str, is_done: bool, sentence: str) -> None:
        """Answer an operator's command; ignored for ''."""
        if command_id:
            self.extra.append(Answer(command_id, is_done, sentence))

    def record(self, **changes: object) -> None:
        """Change the durable record."""
        self.n.record = replace(self.n.record, **changes)

    def effects(self) -> tuple[Effect, ...]:
        """All effects of this step in their lawful order."""
        before, n = self.before, self.n
        lower, raised = self._levels()
        persist: list[Effect] = []
        if n.record is not before.record and durable(n.record) != durable(before.record):
            persist.append(Persist(n.record))
        return (*lower, *persist, *self.sends, *raised, *self.notes, *self.extra)

    def _levels(self) -> tuple[list[Effect], list[Effect]]:
        before, n = self.before, self.n
        lower: list[Effect] = []
        raised: list[Effect] = []
        if n.lease_set != before.lease_set or n.is_lease_known != before.is_lease_known:
            (lower if n.lease_set <= before.lease_set else raised).append(SetLease(n.lease_set))
        if n.watchdog_armed != before.watchdog_armed:
            raised.append(WantWatchdog(n.watchdog_armed))
        if n.net_wanted != before.net_wanted:
            is_lower = _net_rank(n.net_wanted) < _net_rank(before.net_wanted)
            (lower if is_lower else raised).append(WantNet(n.net_wanted))
        if n.db_wanted != before.db_wanted:
            is_lower = _is_db_lower(before.db_wanted, n.db_wanted)
            (lower if is_lower else raised).append(WantDb(n.db_wanted))
        return lower, raised


def durable(record: Record) -> Record:
    """What must be on disk before an answer; memories of others follow with the next write."""
    return replace(record, seen=())


def _net_rank(wanted: NetWanted) -> int:
    return 2 * wanted.address + wanted.admit


def _is_db_lower(before: DbWanted, after: DbWanted) -> bool:
    return after.role is DbRole.DOWN and before.role is not DbRole.DOWN


def is_owner(n: Node) -> bool:
    """Whether the newest config known chosen names this node, and this very memory of it."""
    known = n.record.known
    return known is not None and known.owner == n.me and acceptor.is_member(n.record)


def is_released(n: Node) -> bool:
    """Whether this node, as owner, has released the present epoch: final for that epoch."""
    known, released = n.record.known, n.record.released
    if known is None or released is None:
        return False
    return (released.node, released.term, released.epoch) == (n.me, *known.version)


def is_unresolved(n: Node) -> bool:
    """Whether a value of unknown fate was accepted here."""
    return n.record.value is not None and n.record.accepted > n.record.chosen


def own_value_in_flight(n: Node) -> Config | None:
    """A value accepted here, naming this node, whose fate is not known yet."""
    if is_unresolved(n) and n.record.value is not None and n.record.value.owner == n.me:
        return n.record.value
    return None


def has_voted_away(n: Node) -> bool:
    """Whether this owner has accepted another owner, of unknown fate: it may be chosen by this very
    vote, so no lease of the old config counts until that is known (⚠ §3)."""
    value = n.record.value
    return is_owner(n) and is_unresolved(n) and value is not None and value.owner != n.me


def needs_lease(n: Node) -> bool:
    """Whether this node, as owner, may serve only on a granted lease.

    The stricter of what is known chosen and of an own value in flight: with a SYNC of unknown
    fate the others may already act on it.
    """
    known, flying = n.record.known, own_value_in_flight(n)
    if known is None or known.owner != n.me:
        return True
    return known.mode is Mode.SYNC or (flying is not None and flying.mode is Mode.SYNC)


def is_stopped(n: Node) -> bool:
    """Whether nothing of this node serves: PostgreSQL is down and the address is gone."""
    return n.db.process is DbProcess.DOWN and n.net.address in (Address.ABSENT, Address.CONFLICT)


def since(now: Instant, then: Instant) -> int:
    """Nanoseconds since ``then``; very many if that never was."""
    return now - then if then else 2**62


__all__ = [
    "Draft",
    "acceptor",
    "durable",
    "has_voted_away",
    "is_owner",
    "is_released",
    "is_stopped",
    "is_unresolved",
    "needs_lease",
    "own_value_in_flight",
    "since",
    "timing_of",
]
