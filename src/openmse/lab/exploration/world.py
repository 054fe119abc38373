"""A small world: two nodes and a witness, and everything around them, as the observer sees it.

``World`` holds the machines and the truth about them, ``lanes.Lanes`` adds the lanes of a node (the
database and the address), ``site.Site`` the core, the traffic and the faults. When things happen,
and in which order, is for the explorer (every order) and the simulator (a random one) to say, by
three hooks: ``post`` (a message leaves), ``notify`` (a lane saw something new), ``started`` (an
operation began). After each event the observer judges the whole by ``openmse.ha.invariants``.
"""

from collections import deque
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from openmse.ha import effects as fx
from openmse.ha import events as ev
from openmse.ha.invariants import Holder, Picture, Violation, violations
from openmse.ha.local import Address, DbView, DbWanted, NetView, NetWanted
from openmse.ha.messages import Message
from openmse.ha.state import Node
from openmse.ha.values import Instant, Lineage, Record, peer_of
from openmse.ha.witness import WitnessGroup
from openmse.lab.exploration import database as db
from openmse.lab.exploration.database import Data
from openmse.lab.exploration.observer import History

Cut = tuple[str, str, str]
"""(from, to, kind): kind is ``udp``, ``tls`` or ``wal``."""
KINDS = ("udp", "tls", "wal")


class Machine(Struct):
    """One machine: what survives its death (record, data), and what runs on it."""

    id: str
    record: Record
    is_witness: bool = False
    is_on: bool = True
    is_paused: bool = False
    """A stopped virtual machine: nothing runs, its clocks stand still."""
    is_frozen: bool = False
    """Its health monitor is stopped (SIGSTOP); the kernel and PostgreSQL go on."""
    node: Node | None = None
    group: WitnessGroup | None = None
    data: Data = Data()
    db_wanted: DbWanted | None = None
    """What the lane was told; None while no health monitor has said anything."""
    net_wanted: NetWanted = NetWanted()
    net: NetView = NetView()
    lease: Instant = Instant(0)
    """Until when, by its own clock, the kernel lets the virtual IP pass."""
    paused_lease: Instant = Instant(-1)
    """The kernel lease in force when it was last paused: I7 excepts what rests on it."""
    db_sent: DbView | None = None
    net_sent: NetView | None = None
    signed_at: Instant = Instant(0)
    inbox: tuple[Message, ...] = ()
    """Messages that wait while the health monitor is frozen."""
    due: tuple[fx.Effect, ...] = ()
    """Effects of a batch in whose midst the health monitor was frozen."""
    due_at: Instant = Instant(0)
    links: tuple[str, ...] = ()
    """Parties that the node believes a TLS connection with."""
    facts: tuple[str, ...] = ()
    """The other parties in its facts of the group; () until a machine was ever replaced."""
    is_retired: bool = False
    """Another machine has taken its place, under a name of its own; its disk may still work."""
    is_scrapped: bool = False
    """Nothing switches it on again."""

    @property
    def runs(self) -> bool:
        """Whether its processes run at all."""
        return self.is_on and not self.is_paused


class Shot(Struct, frozen=True):
    """A call of the fencing agent."""

    by: str
    run: str
    """The run of the process that called it; the answer is for nobody else."""
    target: str
    asked_at: Instant
    has_struck: bool = False


_NOBODY = Machine("", Record("", ""), is_on=False)
"""The other node of a machine that has none."""


class World:
    """Machines, network, and the observer. Not thread-safe, not persistent: a value to copy."""

    def __init__(self, machines: list[Machine], history: History) -> None:
        self.now = 0
        self.machines = {m.id: m for m in machines}
        self.history = history
        self.cuts: frozenset[Cut] = frozenset()
        self.serial = 1
        self.lineages: tuple[Lineage, ...] = ()
        self.planted: frozenset[str] = frozenset()
        self.refusing: frozenset[str] = frozenset()
        """Machines whose kernel takes no change of its lease."""
        self.answers: tuple[tuple[str, bool], ...] = ()
        self.queue: deque[tuple[str, ev.Event]] = deque()
        self.trace: list[str] | None = None
        self.is_judged = True

    def fork(self) -> Self:
        """An independent copy; everything but the machines is immutable."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.machines = {key: replace(m) for key, m in self.machines.items()}
        twin.queue = deque()
        return twin

    # -- hooks -----------------------------------------------------------------------------
    def post(self, source: str, to: str, message: Message) -> None:
        """A message leaves ``source``."""
        raise NotImplementedError

    def notify(self, m: Machine) -> None:
        """A lane of this machine saw something new: tell its core, now or soon."""
        raise NotImplementedError

    def started(self, m: Machine) -> None:
        """An operation of the database lane began; ``finish`` ends it."""

    def clock(self, m: Machine) -> Instant:
        """The machine's own clock."""
        return Instant(self.now)

    # -- the observer -----------------------------------------------------------------------
    def nodes(self) -> list[Machine]:
        """The two nodes."""
        return [m for m in self.machines.values() if not (m.is_witness or m.is_retired)]

    def retired(self) -> list[Machine]:
        """Machines that another one has taken the place of."""
        return [m for m in self.machines.values() if m.is_retired]

    def peer(self, m: Machine) -> Machine:
        """The other node; for one that was replaced, nobody: nothing streams to it."""
        if m.is_retired or not m.id:
            return _NOBODY
        return next(other for other in self.nodes() if other.id != m.id)

    def is_answering(self, m: Machine) -> bool:
        """Whether the machine answers for the virtual IP."""
        held = m.net.address is Address.HELD
        return m.runs and held and self.clock(m) < m.lease

    def is_serving(self, m: Machine) -> bool:
        """Whether clients can write through it."""
        return self.is_answering(m) and m.net.admits and m.data.is_primary and not m.data.is_sick

    def picture(self) -> Picture:
        """What the invariants judge."""
        last = self.history.newest.config
        holders = []
        for m in (*self.nodes(), *self.retired()):
            known = m.record.known
            superseded = known is not None and known.term < self.history.forced_term
            holders.append(
                Holder(
                    m.id,
                    m.data.wal,
                    self.is_answering(m),
                    self.is_serving(m),
                    superseded or (m.lease == m.paused_lease and m.lease != 0),
                    m.data.is_complete or m.is_retired,
                )
            )
        standby = self.machines.get(peer_of(last, last.owner))
        return Picture(
            self.history.chosen,
            tuple(holders),
            self.history.acknowledged,
            self.history.promotions,
            self.history.disks_lost,
            standby is not None and standby.data.is_connected,
        )

    def faults(self) -> tuple[Violation, ...]:
        """Everything that is wrong by now."""
        return (*self.history.faults, *violations(self.picture()))

    def say(self, sentence: str) -> None:
        """Leave a line in the trace, if one is kept."""
        if self.trace is not None:
            self.trace.append(f"{self.now / 1e9:9.3f}  {sentence}")

    # -- network ----------------------------------------------------------------------------
    def is_open(self, source: str, to: str, kind: str) -> bool:
        """Whether packets of this kind get from one machine to another."""
        return (source, to, kind) not in self.cuts and self.speaks(source, to)

    def speaks(self, one: str, other: str) -> bool:
        """Whether each is a party in the facts of the other: links and datagrams refuse others."""
        a, b = self.machines.get(one), self.machines.get(other)
        return a is not None and b is not None and self._is_party(a, b) and self._is_party(b, a)

    def _is_party(self, m: Machine, other: Machine) -> bool:
        if m.facts:
            return other.id in m.facts
        return True  # a witness never forgets whom its enrolment named

    def is_linked(self, one: str, other: str, kind: str) -> bool:
        """Whether a connection of this kind works: both ways."""
        return self.is_open(one, other, kind) and self.is_open(other, one, kind)

    def feed(self, m: Machine, event: ev.Event) -> None:
        """Give one event to a node's core, and perform what it asks for; then what follows."""
        raise NotImplementedError

    def entry(self, lineage: Lineage | None) -> int:
        """A new log entry of this lineage."""
        if lineage is None:
            return 0
        if lineage not in self.lineages:
            self.lineages = (*self.lineages, lineage)
        self.serial += 1
        return self.lineages.index(lineage) * db.SERIALS + self.serial
