"""Runs the pure core in the event loop: an inbox of events, effects performed in order.

Everything happens in one thread and in one callback: an event is applied, its effects are
performed (persisting first, as the core orders them), then the next. What takes longer goes to a
lane and comes back as an event.

A mistake in a step or an effect ends the process there and then. asyncio would only log it, and
what goes on would be a node that has told what it never wrote, or that neither renews nor stops.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import NoReturn, Protocol, assert_never

from openmse.errors import NetworkError
from openmse.ha.effects import (
    Answer,
    Checkpoint,
    Effect,
    Exit,
    Fence,
    Note,
    Persist,
    Reincarnate,
    Send,
    SetLease,
    WantDb,
    WantNet,
    WantWatchdog,
)
from openmse.ha.events import Command, Commanded, Event, LeaseLapsed, Ticked
from openmse.ha.invariants import effect_faults
from openmse.ha.local import DbWanted, NetWanted
from openmse.ha.messages import Message
from openmse.ha.node import step
from openmse.ha.state import Node
from openmse.ha.values import FOREVER, SECOND, Instant, Record
from openmse.node.runtime.clock import now


class Store(Protocol):
    """The durable record."""

    def save(self, record: Record) -> None:
        """Return once it is on disk; raises StateError."""


class Lease(Protocol):
    """The kernel lease."""

    @property
    def until(self) -> Instant:
        """When what was last armed, or found, ends."""

    def arm(self, until: Instant) -> bool:
        """Let traffic pass until then; False where that came too late."""

    def arm_forever(self) -> None:
        """Let traffic pass without end."""

    def disarm(self) -> None:
        """Let nothing pass."""


class Links(Protocol):
    """The ways to the other voters."""

    def send(self, to: str, message: Message) -> None:
        """Send, or drop; never blocks."""


class Watchdog(Protocol):
    """The machine's watchdog."""

    def want(self, is_armed: bool) -> None:
        """Arm or disarm it."""

    def feed(self) -> None:
        """Show that this node is alive and rightly serving."""


class Actions(Protocol):
    """What the runtime does for the core beside its lanes."""

    def want_db(self, wanted: DbWanted) -> None:
        """The level of the database lane."""

    def want_net(self, wanted: NetWanted) -> None:
        """The level of the address lane."""

    def checkpoint(self, operation: str) -> None:
        """Write a checkpoint; answer with ``CheckpointDone``."""

    def fence(self, peer: str, asked_at: Instant) -> None:
        """Run the fencing agent; answer with ``FencingAnswered`` for this very request."""

    def note(self, note: Note) -> None:
        """An entry for the event log."""

    def journal(self, before: Node, event: Event, after: Node, effects: tuple[Effect, ...]) -> None:
        """An entry for the decision journal."""

    def leave(self, *, new_incarnation: bool) -> None:
        """The process may end, or begin anew with a new memory."""

    def die(self, error: Exception) -> NoReturn:
        """End the process at once; the guard starts another, which adopts what runs."""


class Lag:
    """By how much this process was late for its own appointments, lately."""

    WINDOW_NS = 30 * SECOND

    def __init__(self) -> None:
        self._since = Instant(0)
        self._longest_ns = 0
        self._before_ns = 0

    def note(self, at: Instant, late_ns: int) -> None:
        """A timer rang ``late_ns`` after it was due."""
        if at - self._since > self.WINDOW_NS:
            is_next = at - self._since < 2 * self.WINDOW_NS
            self._before_ns = self._longest_ns if is_next else 0
            self._since, self._longest_ns = at, 0
        self._longest_ns = max(self._longest_ns, late_ns)

    @property
    def longest_ms(self) -> float:
        """The longest delay of the last 30 to 60 s."""
        return max(self._longest_ns, self._before_ns) / 1e6


class CoreRunner:
    """Owns the node's state; ``post`` is the only way in."""

    def __init__(
        self, node: Node, *, store: Store, lease: Lease, links: Links, watchdog: Watchdog
    ) -> None:
        self.node = node
        self._store = store
        self._lease = lease
        self._links = links
        self._watchdog = watchdog
        self._actions: Actions | None = None
        self._inbox: deque[Event] = deque()
        self._is_running = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_for = Instant(0)
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._changed = asyncio.Event()
        self._next_command = 1
        self.on_step: Callable[[Node], None] | None = None
        """Called after each event, for the guard's feed."""
        self.lag = Lag()
        self._due = Instant(0)

    def start(self, actions: Actions) -> None:
        """Begin: time counts, and each lane is told its level, also where that is the initial one.

        Only after the first step: before it the level of everything but an adopted owner is
        "down", and telling that would stop an adopted standby.
        """
        self._actions = actions
        self.post(Ticked(now()))
        if self._actions is not None:
            actions.want_db(self.node.db_wanted)
            actions.want_net(self.node.net_wanted)

    def stop(self) -> None:
        """Take nothing more; what runs on this machine stays as it is."""
        self._actions = None
        self._inbox.clear()
        if self._timer is not None:
            self._timer.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.cancel()

    def post(self, event: Event) -> None:
        """Apply an event, after those that came before it."""
        self._inbox.append(event)
        if self._is_running or self._actions is None:
            return
        self._is_running = True
        try:
            while self._inbox and self._actions is not None:
                self._apply(self._inbox.popleft())
        except Exception as error:
            self._die(error)
        finally:
            self._is_running = False
        self._set_timer()

    async def submit(self, command: Command, *, operator: str = "") -> Answer:
        """Give a command to the core and wait for its answer."""
        identity = f"{self.node.me}-{os.getpid()}-{self._next_command}"
        self._next_command += 1
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[identity] = future
        try:
            self.post(Commanded(now(), identity, command))
            return await future
        finally:
            self._waiting.pop(identity, None)

    async def wait_changed(self, within_s: float) -> None:
        """Return when something that people see changed, or after ``within_s``."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), within_s)

    def _apply(self, event: Event) -> None:
        assert self._actions is not None
        before = self.node
        self.node, effects = step(before, event)
        self._actions.journal(before, event, self.node, effects)
        faults = effect_faults(self.node, effects)
        assert not faults, faults[0].sentence  # our own mistake: nothing of it is performed
        for effect in effects:
            self._perform(effect)
            if self._actions is None:
                return
        if _is_visible_change(before, self.node):
            self._changed.set()
            self._changed = asyncio.Event()
        if self.on_step is not None:
            self.on_step(self.node)

    def _perform(self, effect: Effect) -> None:
        actions = self._actions
        assert actions is not None
        match effect:
            case Persist(record=record):
                self._persist(record)
            case Send(to=to, message=message):
                self._links.send(to, message)
            case SetLease(until=until):
                self._set_lease(until)
            case WantDb(wanted=db):
                actions.want_db(db)
            case WantNet(wanted=net):
                actions.want_net(net)
            case WantWatchdog(is_armed=is_armed):
                self._watchdog.want(is_armed)
            case Checkpoint(operation=operation):
                actions.checkpoint(operation)
            case Fence(peer=peer, asked_at=asked_at):
                actions.fence(peer, asked_at)
            case Answer():
                self._answer(effect)
            case Note():
                actions.note(effect)
            case Exit():
                actions.leave(new_incarnation=False)
            case Reincarnate():
                actions.leave(new_incarnation=True)
            case _:
                assert_never(effect)

    def _persist(self, record: Record) -> None:
        """Without the record on disk nothing may follow from it: this process ends (the lease is
        closed, and the guard starts another once the disk takes it)."""
        try:
            self._store.save(record)
        except Exception:
            with contextlib.suppress(NetworkError):
                self._lease.disarm()
            raise

    def _die(self, error: Exception) -> NoReturn:
        """Nothing is applied or performed any more, whatever still calls."""
        actions = self._actions
        assert actions is not None
        self.stop()
        actions.die(error)

    def _set_lease(self, until: Instant) -> None:
        try:
            if until == FOREVER:
                self._lease.arm_forever()
            elif until == 0:
                self._lease.disarm()
            elif self._lease.arm(until):
                self._watchdog.feed()
            else:
                self._inbox.append(LeaseLapsed(now()))
        except NetworkError as error:
            if until not in (0, FOREVER) and self._lease.until == FOREVER:
                raise  # ⚠ on the way into SYNC: what follows rests on its end
            assert self._actions is not None
            self._actions.note(Note("kernel_lease_failed", "error", str(error)))
            self._inbox.append(LeaseLapsed(now()))

    def _answer(self, answer: Answer) -> None:
        future = self._waiting.get(answer.id)
        if future is not None and not future.done():
            future.set_result(answer)

    def _set_timer(self) -> None:
        if self._timer is not None:
            if self._timer_for == self.node.wake_at and self._actions is not None:
                return  # it rings then, or before
            self._timer.cancel()
            self._timer = None
        if self._actions is None:
            return
        self._timer_for = self.node.wake_at
        delay_s = max(0.0, (self.node.wake_at - now()) / 1e9)
        delay_s = min(delay_s, 1.0)
        self._due = Instant(now() + int(delay_s * 1e9))
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        at = now()
        self.lag.note(at, at - self._due)
        self.post(Ticked(at))


def _is_visible_change(before: Node, after: Node) -> bool:
    return (
        before.record is not after.record
        or before.db.role is not after.db.role
        or before.db.process is not after.db.process
        or before.db.receiver is not after.db.receiver
        or before.db.progress_percent != after.db.progress_percent
        or before.net.address is not after.net.address
        or before.operation is not after.operation
        or before.is_halted != after.is_halted
        or before.is_admitted != after.is_admitted
    )
