"""The simulated world with etcd as its witness: the production functions on a pretended etcd.

Where the other simulations have a witness process on machine ``w``, here ``w`` is etcd, and each
node's driver reads, decides and swaps with delays, losses, freezes and restarts in between.
"""

from collections import deque
from collections.abc import Callable
from random import Random

import msgspec

from openmse.errors import StateError
from openmse.ha.messages import Beat, Message
from openmse.ha.values import Record
from openmse.lab.exploration.database import Data
from openmse.lab.exploration.observer import History
from openmse.lab.exploration.virtual import MS, Virtual
from openmse.lab.exploration.world import Machine
from openmse.node.drivers.witness import etcd_state
from openmse.node.drivers.witness.etcd_client import KeyValue, Reading
from openmse.node.drivers.witness.etcd_state import Keys, Snapshot, StoredRecord, Watched

KEYS = Keys("/openmse/", "g")
W = "w"
ATTEMPTS = 6
TIMEOUT_NS = 500 * MS


class Store:
    """What etcd promises of a few keys, and how far it has come."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self.revision = 1
        self.keys: dict[str, KeyValue] = {}

    def read(self) -> Reading:
        return Reading(self.cluster, self.revision, dict(self.keys))

    def swap(self, expected: dict[str, int], puts: dict[str, bytes]) -> bool:
        for key, revision in expected.items():
            if (self.keys[key].mod_revision if key in self.keys else 0) != revision:
                return False
        self.revision += 1
        for key, value in puts.items():
            self.keys[key] = KeyValue(value, self.revision)
        return True

    def copy(self) -> "Store":
        twin = Store(self.cluster)
        twin.revision, twin.keys = self.revision, dict(self.keys)
        return twin


class Driver:
    """One run of a node's driver: a queue, and one operation at a time."""

    def __init__(self, world: "EtcdWorld", node: Machine) -> None:
        self.world = world
        self.node = node
        self.waiting: deque[Message] = deque(maxlen=64)
        self.watched = Watched()
        self.cluster = ""
        self.revision = 0
        self.is_busy = False

    def send(self, message: Message) -> None:
        if isinstance(message, Beat):
            beats = [m for m in self.waiting if isinstance(m, Beat)]
            for beat in beats:
                self.waiting.remove(beat)
        self.waiting.append(message)
        self.next()

    def next(self) -> None:
        if self.waiting and not self.is_busy:
            self.is_busy = True
            self.attempt(self.waiting.popleft(), ATTEMPTS)

    def drop(self) -> None:
        self.is_busy = False
        self.next()

    def attempt(self, message: Message, left: int) -> None:
        if left == 0:
            self.drop()
            return

        def read() -> Reading:
            return self.world.store.read()

        def answered(reading: Reading | None) -> None:
            if reading is None:
                self.failed(message, left)
            else:
                self.decide(message, reading, left)

        self.world.ask(self, read, answered)

    def failed(self, message: Message, left: int) -> None:
        if isinstance(message, Beat):
            self.drop()
        else:
            self.attempt(message, left - 1)

    def decide(self, message: Message, reading: Reading, left: int) -> None:
        """What the production driver does with a reading, in one turn of its loop."""
        snapshot = self.take(reading)
        if snapshot.stored is None or self.has_forgotten(snapshot):
            self.world.serial += 1
            name = f"w-{self.world.serial}"
            puts = etcd_state.new_record(KEYS, W, name, snapshot.cluster)
            self.cluster, self.revision = snapshot.cluster, snapshot.revision
            self.swap(snapshot, puts, lambda _: self.attempt(message, left - 1))
            return
        now = self.world.clock(self.node)
        plan = etcd_state.plan(snapshot, self.watched, message, now, KEYS)

        def swapped(is_done: bool | None) -> None:
            if is_done is None:
                self.failed(message, left)
            elif is_done:
                self.reply(plan.replies)
            else:
                self.attempt(message, left - 1)

        if plan.puts:
            self.swap(snapshot, plan.puts, swapped)
        else:
            self.reply(plan.replies)

    def swap(
        self, snapshot: Snapshot, puts: dict[str, bytes], then: Callable[[bool | None], None]
    ) -> None:
        expected = dict(snapshot.revisions)
        self.world.ask(self, lambda: self.world.swap(expected, puts), then)

    def take(self, reading: Reading) -> Snapshot:
        snapshot = etcd_state.snapshot_of(reading, KEYS)
        at = self.world.clock(self.node)
        self.watched = etcd_state.observe(self.watched, at, snapshot)
        if not self.has_forgotten(snapshot):
            self.cluster, self.revision = snapshot.cluster, snapshot.revision
        return snapshot

    def has_forgotten(self, snapshot: Snapshot) -> bool:
        return etcd_state.has_forgotten(snapshot, self.revision, self.cluster)

    def told(self, reading: Reading) -> None:
        """etcd tells of a grant by itself."""
        if reading.cluster == self.cluster:
            at = self.world.clock(self.node)
            self.watched = etcd_state.observe_put(self.watched, at, reading, KEYS)

    def reply(self, replies: tuple[Message, ...]) -> None:
        for reply in replies:
            self.world.receive(self.node, reply)
        self.drop()


class EtcdWorld(Virtual):
    """A world whose ``w`` is etcd."""

    def __init__(self, machines: list[Machine], history: History, rng: Random) -> None:
        super().__init__(machines, history, rng)
        self.drivers: dict[str, Driver] = {}
        self.store = Store("c1")
        self.past: list[tuple[Record, Store]] = []
        first = machines[-1].record
        assert first.me == W
        stored = msgspec.json.encode(StoredRecord(first, "c1"))
        assert self.store.swap({}, {KEYS.record: stored})
        self.past.append((first, self.store.copy()))

    # -- etcd -------------------------------------------------------------------------------
    def swap(self, expected: dict[str, int], puts: dict[str, bytes]) -> bool:
        is_done = self.store.swap(expected, puts)
        if is_done and KEYS.record in puts:
            record = msgspec.json.decode(puts[KEYS.record], type=StoredRecord).record
            self.persist(self.machines[W], record)
            self.past.append((record, self.store.copy()))
        if is_done and KEYS.grant in puts:
            reading = self.store.read()
            for driver in self.drivers.values():
                self._later(driver, self.rng.randrange(MS // 4, 60 * MS), driver.told, reading)
        return is_done

    def ask(self, driver: Driver, act: "Callable[[], object]", then: "Callable[..., None]") -> None:
        """A call of etcd: it gets there or not, is done at one instant, and the answer may be
        lost; ``then`` is called with None after the deadline."""
        node, etcd = driver.node, self.machines[W]

        def arrive() -> None:
            is_reached = etcd.runs and self.is_open(node.id, W, "tls")
            if not is_reached or self._is_lost():
                self._later(driver, TIMEOUT_NS, then, None)
                return
            result = act()
            if not self.is_open(W, node.id, "tls") or self._is_lost():
                self._later(driver, TIMEOUT_NS, then, None)
                return
            self._later(driver, self.rng.randrange(MS // 4, 8 * MS), then, result)

        self.at(self.rng.randrange(MS // 4, 8 * MS), arrive)

    def _is_lost(self) -> bool:
        return bool(self.loss) and self.rng.random() < self.loss / 4

    def _later(
        self, driver: Driver, delay: int, then: "Callable[..., None]", value: object
    ) -> None:
        """In the driver's own process: not while it is frozen, never after its end."""

        def fire() -> None:
            if self.drivers.get(driver.node.id) is not driver:
                return
            if driver.node.is_frozen or not driver.node.runs:
                self.at(5 * MS, fire)
                return
            then(value)

        self.at(delay, fire)

    # -- the world --------------------------------------------------------------------------
    def post(self, source: str, to: str, message: Message) -> None:
        """To the witness: through the node's own driver."""
        if to != W:
            super().post(source, to, message)
        elif source in self.drivers:
            self.drivers[source].send(message)

    def start_monitor(self, m: Machine, *, is_boot: bool = False) -> None:
        """A node's driver starts with it; etcd has no process of ours."""
        if m.is_witness:
            return
        is_start = m.runs and m.node is None
        if is_start:
            self.drivers[m.id] = Driver(self, m)
        super().start_monitor(m, is_boot=is_boot)

    def kill_monitor(self, m: Machine) -> None:
        """The driver dies with it."""
        self.drivers.pop(m.id, None)
        super().kill_monitor(m)

    def power_off(self, m: Machine) -> None:
        """The driver dies with its machine."""
        self.drivers.pop(m.id, None)
        super().power_off(m)

    def lose_disk(self, m: Machine) -> None:
        """etcd comes back empty: as another cluster."""
        super().lose_disk(m)
        if m.is_witness:
            self.store = Store(f"c{self.serial}")
            self.past.clear()

    def restore_disk(self, m: Machine, record: Record, data: Data) -> None:
        """etcd's disk goes back in time, grants and all."""
        super().restore_disk(m, record, data)
        if m.is_witness:
            found = [store for known, store in self.past if known == record]
            if not found:
                raise StateError("the simulation has not seen this record")
            self.store = found[-1].copy()
