"""The simulated world: virtual time, drifting clocks, a lossy network, lanes that take their time.

Everything random comes from one generator, so a seed is a run. Durations are nanoseconds.
"""

import heapq
from collections.abc import Callable
from random import Random

from openmse.ha import effects as fx
from openmse.ha import events as ev
from openmse.ha.invariants import Violation, presence_faults
from openmse.ha.local import DbProcess
from openmse.ha.messages import Message
from openmse.ha.values import MILLISECOND, SECOND, Instant
from openmse.lab.exploration.database import Op
from openmse.lab.exploration.observer import History
from openmse.lab.exploration.site import Site
from openmse.lab.exploration.world import Machine, Shot

MS = MILLISECOND
DRIFT_PPM = 240
"""Each clock is off by at most this; two differ by less than the 500 ppm that a margin covers."""

DURATIONS_MS: dict[Op, tuple[int, int, int]] = {
    Op.START: (60, 500, 3000),
    Op.STOP_FAST: (30, 400, 6000),
    Op.STOP_IMMEDIATE: (10, 150, 1500),
    Op.PROMOTE: (30, 150, 2500),
    Op.RECEIVE: (5, 50, 300),
    Op.CUT: (5, 80, 1000),
    Op.SET_NAMES: (10, 150, 2500),
    Op.CLEAR_NAMES: (10, 100, 1500),
    Op.BARRIER: (10, 100, 1500),
    Op.REWIND: (200, 1500, 4000),
    Op.REBUILD: (400, 2500, 6000),
}
"""(least, usual most, most when slow) of each operation; one in ten is slow."""

EVENTS_MOST = 2_000_000
CONFIGS_MOST = 500
"""Bounds of a run: many times what the longest takes. Something that goes round in circles without
the time going on is a fault as well."""

NOTICE_NS = 3 * SECOND
"""After how long both ends of a dead connection notice (``wal_sender_timeout``, keepalives)."""


class Virtual(Site):
    """A world in virtual time."""

    def __init__(self, machines: list[Machine], history: History, rng: Random) -> None:
        super().__init__(machines, history)
        self.rng = rng
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.counter = 0
        self.steps = 0
        self.events = 0
        self.calls = 0
        """Calls of a fencing agent that have not struck yet."""
        self.held_off = ""
        """A machine that nobody switches on any more."""
        self.loss = 0.0
        self.slow_share = 0.1
        self.is_checkpointer_frozen = dict.fromkeys(self.machines, False)
        self.rates = {i: rng.uniform(-DRIFT_PPM, DRIFT_PPM) / 1e6 for i in self.machines}
        self.offsets = {i: rng.randrange(1, 1000) * SECOND for i in self.machines}
        self.stood = dict.fromkeys(self.machines, 0)
        self.stands_since = dict.fromkeys(self.machines, 0)
        self.op_tokens = dict.fromkeys(self.machines, 0)
        self.net_tokens = dict.fromkeys(self.machines, 0)
        self.wakes = dict.fromkeys(self.machines, 0)
        self.telling: set[str] = set()
        self.strikes: dict[str, tuple[int, str]] = {}
        """Machine -> (effects left, what then): a health monitor is struck in mid-batch."""
        self.judged = history
        self.found: tuple[Violation, ...] = ()

    # -- time -------------------------------------------------------------------------------
    def at(self, delay: int, action: Callable[[], None]) -> None:
        """Do something after a delay of global time."""
        self.counter += 1
        heapq.heappush(self.heap, (self.now + max(delay, 0), self.counter, action))

    def run(self, until: int) -> bool:
        """Let time go on; False once a rule is broken."""
        while self.heap and self.heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self.heap)
            action()
            self.events += 1
            configs = len(self.history.chosen)
            if self.events > EVENTS_MOST or configs > CONFIGS_MOST:
                sentence = (
                    f"No end after {self.events} events and {configs} configs, at "
                    f"{self.now / SECOND:.3f} s."
                )
                self.found = (Violation("endless", sentence),)
                return False
            if not self.judge():
                return False
        self.now = until
        return True

    def judge(self) -> bool:
        """Check the invariants where something changed; False if one is broken."""
        if sum(self.is_answering(m) for m in self.machines.values()) > 1:
            self.found = tuple(presence_faults(self.picture().holders))
        if self.history is not self.judged:
            self.judged = self.history
            self.found = (*self.found, *self.faults())
        return not self.found

    def clock(self, m: Machine) -> Instant:
        """Drifts, and stands still while the machine is paused."""
        now = self.stands_since[m.id] if m.is_paused else self.now
        real = now - self.stood[m.id]
        return Instant(self.offsets[m.id] + real + int(real * self.rates[m.id]))

    def pause(self, m: Machine) -> None:
        """Its clocks stand still from now on."""
        if m.runs:
            self.stands_since[m.id] = self.now
        super().pause(m)

    def resume(self, m: Machine) -> None:
        """Its clocks go on."""
        if m.is_paused:
            self.stood[m.id] += self.now - self.stands_since[m.id]
        super().resume(m)
        self.lane(m)

    def thaw_monitor(self, m: Machine) -> None:
        """Between the rest of a batch and the next event there is a moment."""
        had_due = m.is_frozen and bool(m.due)
        super().thaw_monitor(m)
        if had_due:
            self.at(self.rng.randrange(MS, 8 * MS), lambda: super(Virtual, self).thaw_monitor(m))

    def power_on(self, m: Machine) -> None:
        """The machine boots, unless it is to stay off."""
        if m.id != self.held_off and not m.is_scrapped:
            super().power_on(m)

    def power_off(self, m: Machine) -> None:
        """A powered-off machine does not stand still, it is off."""
        if m.is_paused:
            self.stood[m.id] += self.now - self.stands_since[m.id]
        super().power_off(m)

    # -- the core ---------------------------------------------------------------------------
    def _step(self, m: Machine, event: ev.Event) -> None:
        self.steps += 1
        super()._step(m, event)
        if m.node is not None and m.node.wake_at != self.wakes[m.id]:
            self._plan_wake(m)

    def _plan_wake(self, m: Machine) -> None:
        assert m.node is not None
        wake = m.node.wake_at
        self.wakes[m.id] = wake

        def fire() -> None:
            if self.wakes[m.id] != wake or m.node is None:
                return
            if not m.runs or m.is_frozen:
                self.wakes[m.id] = 0
                return
            self.feed(m, ev.Ticked(max(self.clock(m), wake)))
            if m.node is not None and m.node.wake_at <= wake:
                self.wakes[m.id] = 0

        late = self.rng.randrange(200_000, 2 * MS)
        self.at(wake - self.clock(m) + late, fire)

    def perform(self, m: Machine, effects: tuple[fx.Effect, ...], decided_at: Instant) -> None:
        """As ever, unless the process is to be struck in the midst of a batch."""
        strike = self.strikes.get(m.id)
        if strike is None:
            super().perform(m, effects, decided_at)
            return
        left, what = strike
        super().perform(m, effects[:left], decided_at)
        if len(effects) < left or not m.runs:
            self.strikes[m.id] = (left - len(effects), what)
            return
        del self.strikes[m.id]
        if what == "freeze":
            m.due, m.due_at = effects[left:], decided_at
            self.freeze_monitor(m)
        elif what == "kill":
            self.kill_monitor(m)

    # -- lanes ------------------------------------------------------------------------------
    def notify(self, m: Machine) -> None:
        """The lane tells the core a little later."""
        if m.node is None or m.id in self.telling:
            return
        self.telling.add(m.id)

        def fire() -> None:
            self.telling.discard(m.id)
            self.tell(m)

        self.at(self.rng.randrange(MS // 2, 12 * MS), fire)

    def started(self, m: Machine) -> None:
        """The operation ends after its time, unless something came in between."""
        assert m.data.op is not None
        self.op_tokens[m.id] += 1
        token = self.op_tokens[m.id]
        least, most, slow = DURATIONS_MS[m.data.op]
        is_slow = self.rng.random() < self.slow_share
        self._end_later(m, token, self.rng.randint(least, slow if is_slow else most) * MS)

    def _end_later(self, m: Machine, token: int, delay: int) -> None:
        def fire() -> None:
            if token != self.op_tokens[m.id] or m.data.op is None or not m.is_on:
                return
            needs_checkpointer = m.data.op in (Op.SET_NAMES, Op.CLEAR_NAMES)
            is_stuck = m.data.is_sick and m.data.op is not Op.STOP_IMMEDIATE
            is_held = needs_checkpointer and self.is_checkpointer_frozen[m.id]
            if m.is_paused or is_stuck or is_held:
                if is_held and "unproven_gate" in self.planted:
                    self.finish(m)
                else:
                    self._end_later(m, token, 100 * MS)
                return
            self.finish(m)

        self.at(delay, fire)

    def net_lane(self, m: Machine) -> None:
        """The address takes a moment: a little to go, a probe to come."""
        self.net_tokens[m.id] += 1
        token = self.net_tokens[m.id]
        is_up = m.net_wanted.address and m.net.address.value != "held"
        delay = self.rng.randint(5, 110) if is_up else self.rng.randint(1, 40)

        def fire() -> None:
            if token == self.net_tokens[m.id] and m.node is not None and m.runs:
                super(Virtual, self).net_lane(m)
                if m.net.address.value == "conflict":
                    self.at(SECOND, lambda: self._probe_again(m, token))

        self.at(delay * MS, fire)

    def is_probe_answered(self, m: Machine) -> bool:
        """Half of the probes are lost."""
        return super().is_probe_answered(m) and self.rng.random() < 0.5

    def _probe_again(self, m: Machine, token: int) -> None:
        if token == self.net_tokens[m.id] and m.node is not None and m.runs:
            self.net_lane(m)

    # -- network ----------------------------------------------------------------------------
    def post(self, source: str, to: str, message: Message) -> None:
        """Lose, delay, repeat."""
        kind = self.kind_of(message)
        target = self.machines.get(to)
        if target is None or not self.is_open(source, to, kind):
            return
        if kind == "tls" and not self.is_open(to, source, kind):
            return
        if self.loss and self.rng.random() < self.loss:
            return
        copies = 2 if self.loss and self.rng.random() < self.loss / 2 else 1
        for _ in range(copies):
            delay = self.rng.randrange(150_000, 3 * MS)
            if self.loss and self.rng.random() < self.loss:
                delay += self.rng.randrange(20 * MS, 2500 * MS)
            self.at(delay, lambda: self._arrive(source, target, kind, message))

    def _arrive(self, source: str, target: Machine, kind: str, message: Message) -> None:
        if self.is_open(source, target.id, kind):
            self.receive(target, message)

    def cut(self, one: str, other: str, kinds: tuple[str, ...], *, both: bool) -> None:
        """Packets no longer get through; who is connected notices later."""
        self.say(f"cut {one} -> {other} {'both ways' if both else ''} {kinds}")
        cuts = {(one, other, k) for k in kinds}
        if both:
            cuts |= {(other, one, k) for k in kinds}
        self.cuts = self.cuts | cuts
        self.at(NOTICE_NS, lambda: self.notice(one, other))

    def mend(self, one: str, other: str) -> None:
        """Packets get through again; connections come up a little later."""
        self.say(f"mend {one} - {other}")
        pairs = {(one, other), (other, one)}
        self.cuts = frozenset(c for c in self.cuts if (c[0], c[1]) not in pairs)
        self.at(self.rng.randrange(10 * MS, 1500 * MS), lambda: self.reconnect(one, other))

    def notice(self, one: str, other: str) -> None:
        """Both ends find out that their connection is dead."""
        a, b = self.machines[one], self.machines[other]
        if not self.is_linked(one, other, "tls"):
            self.link(a, other, is_up=False)
            self.link(b, one, is_up=False)
        is_pair = not (a.is_witness or b.is_witness) and self.peer(a) is b
        if is_pair and not self.is_linked(one, other, "wal"):
            self.disconnect(a)
            self.disconnect(b)

    def reconnect(self, one: str, other: str) -> None:
        """A new connection, if both ends live."""
        a, b = self.machines[one], self.machines[other]
        alive = all(x.runs and (x.node or x.group) for x in (a, b))
        if alive and self.is_linked(one, other, "tls"):
            self.link(a, other, is_up=True)
            self.link(b, one, is_up=True)

    def fence(self, shot: Shot) -> None:
        """The agent takes its time; somebody switches on again what it has switched off."""
        target = self.machines[shot.target]

        def confirm() -> None:
            m = self.machines[shot.by]
            if m.is_on and (m.is_paused or m.is_frozen):
                self.at(100 * MS, confirm)
            else:
                self.agent_answers(shot)

        self.calls += 1

        def strike() -> None:
            self.calls -= 1
            self.agent_strikes(shot)
            self.at(self.rng.randrange(5 * MS, 300 * MS), confirm)
            self.at(self.rng.randrange(SECOND // 10, 15 * SECOND), lambda: self.power_on(target))

        self.at(self.rng.randrange(50 * MS, 3 * SECOND), strike)

    # -- what goes on by itself -------------------------------------------------------------
    def live(self) -> None:
        """Start replication, status replies, clients and the guard."""
        for m in self.nodes():
            self._live(m)
        for m in self.machines.values():
            self._every(300 * MS, 900 * MS, self._guard, m)

    def _live(self, m: Machine) -> None:
        self._every(25 * MS, 60 * MS, self.stream, m)
        self._every(900 * MS, 1000 * MS, self._status, m)
        self._every(90 * MS, 260 * MS, self.write, m)
        self._every(1000 * MS, 1100 * MS, self.lane, m)

    def replace_machine(self, old: Machine, name: str) -> Machine:
        """As ever, and the new machine has clocks and a life of its own."""
        self.rates[name] = self.rng.uniform(-DRIFT_PPM, DRIFT_PPM) / 1e6
        self.offsets[name] = self.rng.randrange(1, 1000) * SECOND
        self.is_checkpointer_frozen[name] = False
        for counts in (self.stood, self.stands_since, self.op_tokens, self.net_tokens, self.wakes):
            counts[name] = 0
        new = super().replace_machine(old, name)
        self._live(new)
        self._every(300 * MS, 900 * MS, self._guard, new)
        return new

    def _every(
        self, least: int, most: int, action: Callable[[Machine], object], m: Machine
    ) -> None:
        def fire() -> None:
            action(m)
            self.at(self.rng.randrange(least, most), fire)

        self.at(self.rng.randrange(most), fire)

    def _status(self, standby: Machine) -> None:
        primary = self.peer(standby)
        is_linked = self.is_linked(standby.id, primary.id, "wal")
        if standby.data.is_connected and standby.runs and primary.runs and is_linked:
            if not primary.data.is_sick and not standby.data.is_sick:
                self.sign(primary)
                self.notify(primary)

    def _guard(self, m: Machine) -> None:
        if m.runs and m.node is None and m.group is None:
            self.start_monitor(m)
            if m.data.process is DbProcess.STARTING and m.data.op is None:
                self.crash_database(m)
