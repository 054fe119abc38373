"""The explored world: abstract time in coarse ticks, and every order of what may happen.

Heartbeats arrive at once or not at all (a cut loses them); the messages of the register are in
flight one by one, and may be delivered in any order, lost, or repeated. Operations of PostgreSQL
end whenever the explorer says so. Faults, commands and writes are bounded by budgets.
"""

from collections.abc import Callable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from openmse.ha import effects as fx
from openmse.ha import events as ev
from openmse.ha.messages import DATAGRAMS, Message
from openmse.ha.values import MILLISECOND, Instant
from openmse.lab.exploration.observer import History
from openmse.lab.exploration.site import Site
from openmse.lab.exploration.world import KINDS, Cut, Machine, Shot

TICK_NS = 250 * MILLISECOND
"""A failover wait of 1 s is four ticks, its lease three."""
NOTICE_TICKS = 8
FLIGHT_MOST = 6
Flight = tuple[str, str, Message]
Move = tuple[str, Callable[["Steps"], None]]


class Budget(Struct, frozen=True):
    """How much of each may still happen on this path."""

    ticks: int = 12
    writes: int = 2
    losses: int = 1
    repeats: int = 1
    crashes: int = 1
    """Power-offs, kills of a health monitor or of PostgreSQL."""
    cuts: int = 1
    freezes: int = 0
    commands: int = 0


class Steps(Site):
    """A world that moves one step at a time."""

    plants: frozenset[str] = frozenset()
    """The planted faults of worlds made from now on."""

    def __init__(self, machines: list[Machine], history: History, budget: Budget) -> None:
        super().__init__(machines, history)
        self.now = 1_000_000_000
        self.budget = budget
        self.planted = self.plants
        self.flight: tuple[Flight, ...] = ()
        self.instant: list[Flight] = []
        self.cut_at = 0
        self.stopped: frozenset[str] = frozenset()
        """Machines whose PostgreSQL does nothing more until thawed (checkpointer and all)."""
        self.shots: tuple[Shot, ...] = ()
        """Calls of a fencing agent that have not come to their end."""
        self.strike: tuple[str, type] | None = None
        """(machine, kind of effect): its health monitor freezes just before such an effect."""

    # -- hooks ------------------------------------------------------------------------------
    def post(self, source: str, to: str, message: Message) -> None:
        """Datagrams arrive within the move; what goes by TLS stays in flight."""
        if to not in self.machines:
            return
        if isinstance(message, DATAGRAMS):
            if self.is_open(source, to, "udp"):
                self.instant.append((source, to, message))
        elif self.is_linked(source, to, "tls"):
            one = (source, to, message)
            if one not in self.flight and len(self.flight) < FLIGHT_MOST:
                self.flight = (*self.flight, one)

    def perform(self, m: Machine, effects: tuple[fx.Effect, ...], decided_at: Instant) -> None:
        """As ever, unless the process is to freeze in the midst of a batch."""
        if self.strike is not None and self.strike[0] == m.id:
            kind = self.strike[1]
            for index, effect in enumerate(effects):
                if isinstance(effect, kind):
                    super().perform(m, effects[:index], decided_at)
                    m.due, m.due_at = effects[index:], decided_at
                    self.strike = None
                    self.freeze_monitor(m)
                    return
        super().perform(m, effects, decided_at)

    def is_probe_answered(self, m: Machine) -> bool:
        """The worst case: every probe is lost."""
        return False

    def fence(self, shot: Shot) -> None:
        """It strikes and answers when the explorer says so."""
        self.shots = (*self.shots, shot)

    def shoot(self, shot: Shot) -> None:
        """The next thing that a call of the agent does."""
        rest = tuple(s for s in self.shots if s != shot)
        if shot.has_struck:
            self.shots = rest
            self.agent_answers(shot)
        else:
            self.shots = (*rest, replace(shot, has_struck=True))
            self.agent_strikes(shot)
            self.cut_at = self.now

    def settle(self) -> None:
        """Let datagrams arrive, and what they cause."""
        while self.instant:
            batch, self.instant = self.instant, []
            for _, to, message in batch:
                self.receive(self.machines[to], message)

    def key(self) -> int:
        """The identity of this state."""
        encode = _ENCODER.encode
        flight = sorted(encode(f) for f in self.flight)
        return hash(
            encode(
                (
                    self.now,
                    list(self.machines.values()),
                    sorted(self.cuts),
                    self.history,
                    self.budget,
                    self.cut_at,
                    self.shots,
                    self.strike is None,
                )
            )
            + b"".join(flight)
        )

    def spend(self, name: str) -> None:
        """Take one of a budget."""
        self.budget = replace(self.budget, **{name: getattr(self.budget, name) - 1})

    # -- moves ------------------------------------------------------------------------------
    def moves(self) -> list[Move]:
        """Everything that may happen next."""
        found: list[Move] = []
        self._traffic_moves(found)
        self._database_moves(found)
        self._fault_moves(found)
        if self.budget.ticks > 0:
            found.append(("tick", Steps.tick))
            found.append(("tick, b first", Steps.tick_back))
        return found

    def apply(self, move: Move) -> "Steps":
        """The world after a move; this one stays as it is."""
        twin = self.fork()
        twin.instant = []
        if twin.trace is not None:
            twin.trace = [*twin.trace, f"--- {move[0]}"]
        move[1](twin)
        twin.settle()
        return twin

    def _traffic_moves(self, found: list[Move]) -> None:
        for flight in dict.fromkeys(self.flight):
            source, to, message = flight
            name = f"{type(message).__name__} {source}->{to}"
            found.append((f"deliver {name}", _bind(Steps.deliver, flight)))
            if self.budget.losses > 0:
                found.append((f"lose {name}", _bind(Steps.lose, flight)))
            if self.budget.repeats > 0:
                found.append((f"repeat {name}", _bind(Steps.repeat, flight)))
        for m in self.nodes():
            if self._can_stream(m):
                found.append((f"stream to {m.id}", _at(Steps.ship, m.id)))
            if self.budget.writes > 0 and self.is_serving(m):
                found.append((f"write at {m.id}", _at(Steps.client, m.id)))

    def _can_stream(self, standby: Machine) -> bool:
        primary = self.peer(standby)
        if not primary.data.is_primary or not standby.data.is_up:
            return False
        if not standby.data.receives or not self.is_linked(standby.id, primary.id, "wal"):
            return False
        if not (standby.runs and primary.runs):
            return False
        is_even = standby.data.wal == primary.data.wal
        is_told = primary.data.peer_flush == len(primary.data.wal)
        return not (standby.data.is_connected and is_even and is_told)

    def _database_moves(self, found: list[Move]) -> None:
        for m in self.nodes():
            if m.data.op is not None and m.is_on and m.id not in self.stopped:
                found.append((f"{m.data.op.value} of {m.id} ends", _at(Steps.end, m.id)))

    def _fault_moves(self, found: list[Move]) -> None:
        budget = self.budget
        for shot in self.shots:
            what = "answers" if shot.has_struck else "strikes"
            found.append((f"agent of {shot.by} {what}", _shot(shot)))
        for m in self.machines.values():
            lives = m.node is not None or m.group is not None
            if not m.is_on:
                found.append((f"power on {m.id}", _at(Steps.on, m.id)))
            elif not lives:
                found.append((f"restart {m.id}", _at(Steps.restart, m.id)))
            elif m.is_frozen:
                found.append((f"thaw {m.id}", _at(Steps.thaw, m.id)))
            if budget.crashes > 0 and m.is_on:
                found.append((f"power off {m.id}", _at(Steps.off, m.id)))
                if lives:
                    found.append((f"kill {m.id}", _at(Steps.kill, m.id)))
                if m.data.is_up and not m.is_witness:
                    found.append((f"kill database of {m.id}", _at(Steps.crash, m.id)))
            if budget.freezes > 0 and lives and not m.is_frozen:
                found.append((f"freeze {m.id}", _at(Steps.freeze, m.id)))
            if budget.commands > 0 and m.node is not None and not m.is_frozen:
                found.append((f"switchover at {m.id}", _at(Steps.switch, m.id)))
        self._cut_moves(found)

    def _cut_moves(self, found: list[Move]) -> None:
        if self.cuts:
            found.append(("heal the network", Steps.heal))
        elif self.budget.cuts > 0:
            ids = list(self.machines)
            for one in ids:
                found.append((f"isolate {one}", _at(Steps.isolate, one)))
                for other in ids:
                    if one != other:
                        found.append((f"cut {one}->{other}", _pair(one, other)))

    # -- what the moves do ------------------------------------------------------------------
    def tick(self) -> None:
        """Time goes on by one tick for everybody."""
        self._tick(self.nodes())

    def tick_back(self) -> None:
        """The same, the other node first."""
        self._tick(self.nodes()[::-1])

    def _tick(self, order: list[Machine]) -> None:
        self.spend("ticks")
        self.now += TICK_NS
        order = [*order, *self.retired()]
        for m in order:
            standby = self.peer(m)
            linked = self.is_linked(m.id, standby.id, "wal") and standby.runs
            if m.data.is_primary and standby.data.is_connected and linked:
                self.sign(m)
                self.notify(m)
        if self.cut_at and self.now - self.cut_at >= NOTICE_TICKS * TICK_NS:
            self.cut_at = 0
            a, b = self.nodes()
            if not self.is_linked(a.id, b.id, "wal"):
                self.disconnect(a)
                self.disconnect(b)
        for m in order:
            if m.runs:
                self.feed(m, ev.Ticked(Instant(self.now)))
                self.lane(m)  # lanes look again from time to time
            self.settle()

    def deliver(self, flight: Flight) -> None:
        """A message of the register arrives."""
        self._remove(flight)
        source, to, message = flight
        if self.is_open(source, to, "tls"):
            self.receive(self.machines[to], message)

    def lose(self, flight: Flight) -> None:
        """It is lost."""
        self.spend("losses")
        self._remove(flight)

    def repeat(self, flight: Flight) -> None:
        """It arrives, and will arrive again."""
        self.spend("repeats")
        self.receive(self.machines[flight[1]], flight[2])

    def _remove(self, flight: Flight) -> None:
        index = self.flight.index(flight)
        self.flight = (*self.flight[:index], *self.flight[index + 1 :])

    def ship(self, m: Machine) -> None:
        """The standby receives everything."""
        self.stream(m)

    def client(self, m: Machine) -> None:
        """A client commits."""
        self.spend("writes")
        self.write(m)

    def end(self, m: Machine) -> None:
        """The operation under way ends."""
        self.finish(m)

    def on(self, m: Machine) -> None:
        """The machine boots."""
        self.power_on(m)

    def off(self, m: Machine) -> None:
        """The machine loses power."""
        self.spend("crashes")
        self.power_off(m)
        self.cut_at = self.now

    def restart(self, m: Machine) -> None:
        """The guard restarts the process."""
        self.start_monitor(m)

    def kill(self, m: Machine) -> None:
        """The process dies."""
        self.spend("crashes")
        self.kill_monitor(m)

    def crash(self, m: Machine) -> None:
        """PostgreSQL dies."""
        self.spend("crashes")
        self.crash_database(m)

    def freeze(self, m: Machine) -> None:
        """The process stands still."""
        self.spend("freezes")
        self.freeze_monitor(m)

    def thaw(self, m: Machine) -> None:
        """It goes on."""
        self.thaw_monitor(m)

    def switch(self, m: Machine) -> None:
        """An operator asks for a switchover."""
        self.spend("commands")
        self.command(m, ev.Switchover())

    def isolate(self, m: Machine) -> None:
        """A machine is cut from all others."""
        others = [o for o in self.machines if o != m.id]
        cuts = {(m.id, o, k) for o in others for k in KINDS}
        self._cut(frozenset(cuts | {(o, s, k) for s, o, k in cuts}))

    def _cut(self, cuts: frozenset[Cut]) -> None:
        self.spend("cuts")
        self.cuts = cuts
        self.cut_at = self.now

    def heal(self) -> None:
        """All packets get through again."""
        self.cuts = frozenset()
        for m in self.machines.values():
            for other in self.machines.values():
                lives = other.node is not None or other.group is not None
                if other is not m and lives and other.runs:
                    self.link(m, other.id, is_up=True)


def _at(action: Callable[[Steps, Machine], None], machine_id: str) -> Callable[[Steps], None]:
    return lambda world: action(world, world.machines[machine_id])


def _bind(action: Callable[[Steps, Flight], None], flight: Flight) -> Callable[[Steps], None]:
    return lambda world: action(world, flight)


def _shot(shot: Shot) -> Callable[[Steps], None]:
    return lambda world: world.shoot(shot)


def _pair(one: str, other: str) -> Callable[[Steps], None]:
    cuts = frozenset((one, other, kind) for kind in KINDS)
    return lambda world: world._cut(cuts)


_ENCODER = msgspec.msgpack.Encoder()
