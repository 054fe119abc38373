"""A site's etcd as the witness: on each node an object that answers as the witness would.

It executes the witness's own step on a record kept in etcd, by compare-and-swap. One message at a
time; a message that meets trouble is dropped, as a network would, and the trouble is told by
``status``. The arguments why two executors are one safe voter are in docs/adr.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from openmse.errors import ConfigError, MseError, StateError
from openmse.ha.messages import Beat, Message
from openmse.ha.values import SECOND, Instant, Voter
from openmse.node.drivers.witness import etcd_state
from openmse.node.drivers.witness.etcd_client import (
    EtcdClient,
    EtcdError,
    EtcdSettings,
    KeyValue,
    Reading,
)
from openmse.node.drivers.witness.etcd_state import Keys, Snapshot, Watched
from openmse.node.runtime.clock import now
from openmse.wire.ids import require_id

ATTEMPTS = 6
"""To execute one message, while others write at the same time."""
INBOX_LIMIT = 64
CONFIG_RETRY_S = 5.0
WATCH_RETRY_S = 1.0
NOTE_WAL_EVERY_NS = 10 * SECOND
"""How often the end of this node's log is noted in etcd, where nothing else changes."""
_LOG = logging.getLogger(__name__)


class EtcdStatus(Struct, frozen=True):
    """How the driver fares. ``trouble``: a sentence, or '' while etcd answers."""

    trouble: str = ""
    answered_at: Instant = Instant(0)
    incarnation: str = ""
    """Of the voter in etcd; a config admits it under this one."""
    renewal_seen_at: Instant = Instant(0)
    """When the newest grant was first seen."""


class EtcdWitness:
    """The witness port by etcd. Messages go in by ``send``, answers come by ``on_message``.

    ``group``: the group this voter serves. ``on_message`` is called in the loop that runs ``run``.
    """

    def __init__(
        self,
        settings: EtcdSettings,
        group: str,
        on_message: Callable[[Message], None],
        *,
        clock: Callable[[], Instant] = now,
    ) -> None:
        require_id(settings.voter, "name of the etcd witness")
        self._settings = settings
        self._client = EtcdClient(settings)
        self._keys = Keys(settings.prefix, require_id(group, "name of the group"))
        self._on_message = on_message
        self._clock = clock
        self._inbox: deque[Message] = deque(maxlen=INBOX_LIMIT)
        self._filled = asyncio.Event()
        self._watched = Watched()
        self._cached: Snapshot | None = None
        self._cluster = ""
        self._revision = 0
        self._note_wal_at = Instant(0)
        self._status = EtcdStatus()

    @property
    def status(self) -> EtcdStatus:
        """How it fares right now."""
        return self._status

    def send(self, message: Message) -> None:
        """Take a message; never blocks. A newer beat replaces one that still waits."""
        if isinstance(message, Beat):
            for waiting in self._inbox:
                if isinstance(waiting, Beat):
                    self._inbox.remove(waiting)
                    break
        self._inbox.append(message)
        self._filled.set()

    async def run(self) -> None:
        """Serve until cancelled; what goes wrong is told by ``status``, never raised."""
        while True:
            try:
                async with self._client, asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._watch_grants())
                    await self._serve_all()
            except ConfigError as error:  # certificates that cannot be used, yet
                self._tell(error)
                await asyncio.sleep(CONFIG_RETRY_S)

    async def _serve_all(self) -> None:
        while True:
            await self._filled.wait()
            while self._inbox:
                await self._serve(self._inbox.popleft())
            self._filled.clear()

    async def identity(self) -> Voter:
        """The voter in etcd, made if it is missing: what a config admits. Raises MseError."""
        async with self._client:
            for _ in range(ATTEMPTS):
                snapshot = await self._read()
                if snapshot.stored is not None and not self._has_forgotten(snapshot):
                    record = snapshot.stored.record
                    return Voter(record.me, record.incarnation, is_witness=True)
                await self._begin(snapshot)
        raise self._contended()

    async def _watch_grants(self) -> None:
        """See renewals as they happen, so that a takeover need not wait from this node's own next
        question on. Everything works without it, up to one heartbeat later."""
        while True:
            try:
                await self._client.watch(self._keys.grant, self._on_grant)
            except MseError:
                await asyncio.sleep(WATCH_RETRY_S)

    def _on_grant(self, reading: Reading) -> None:
        if reading.cluster == self._cluster:
            at = self._clock()
            self._note(etcd_state.observe_put(self._watched, at, reading, self._keys), at)

    def _note(self, watched: Watched, at: Instant) -> None:
        if watched is not self._watched:
            self._watched = watched
            self._status = replace(self._status, renewal_seen_at=at)

    async def _serve(self, message: Message) -> None:
        try:
            replies = await self._execute(message)
        except MseError as error:
            self._cached = None
            self._tell(error)
            return
        self._status = replace(self._status, trouble="", answered_at=self._clock())
        for reply in replies:
            self._on_message(reply)

    def _tell(self, error: MseError) -> None:
        if error.sentence != self._status.trouble:
            _LOG.warning("etcd_witness_trouble: %s %s", error.sentence, error.hint)
        self._status = replace(self._status, trouble=error.sentence)

    async def _execute(self, message: Message) -> tuple[Message, ...]:
        """Execute one step; its replies may be given, since what they rest on is in etcd."""
        is_renewal = isinstance(message, Beat) and message.wants_grant
        snapshot = self._cached if is_renewal else None
        if snapshot is not None and snapshot.grant_revision != self._watched.revision:
            snapshot = None  # a grant was seen since
        is_fresh = False
        error: EtcdError | None = None
        for _ in range(ATTEMPTS):
            try:
                if snapshot is None:
                    snapshot, is_fresh = await self._read(), True
                if snapshot.stored is None or self._has_forgotten(snapshot):
                    snapshot = await self._begin(snapshot)
                    continue
                at = self._clock()
                plan = etcd_state.plan(
                    snapshot,
                    self._watched,
                    message,
                    at,
                    self._keys,
                    notes_wal=at >= self._note_wal_at,
                )
                if not (is_fresh or plan.is_granted):
                    snapshot = None  # a refusal must not rest on what was true a while ago
                    continue
                if not plan.puts:
                    return plan.replies
                is_done, snapshot = await self._swap(snapshot, plan.puts)
                is_fresh = True
                if is_done:
                    if self._keys.record in plan.puts:
                        self._note_wal_at = Instant(at + NOTE_WAL_EVERY_NS)
                    return plan.replies
            except EtcdError as failure:
                if not failure.is_retryable or is_renewal:
                    raise
                error, snapshot = failure, None
        raise error or self._contended()

    async def _read(self) -> Snapshot:
        return self._take(await self._client.read(self._keys.folder))

    async def _swap(self, snapshot: Snapshot, puts: dict[str, bytes]) -> tuple[bool, Snapshot]:
        """Whether ``puts`` were put, all of them; and the keys after that, or as they are."""
        result = await self._client.swap(self._keys.folder, snapshot.revisions, puts)
        if not result.is_done:
            return False, self._take(result.reading)
        revision = result.reading.revision
        if result.reading.cluster != snapshot.cluster or revision <= snapshot.revision:
            self._cached = None
            raise EtcdError("etcd went back in time while it was written to.")
        put = {key: KeyValue(value, revision) for key, value in puts.items()}
        keys = {**snapshot.keys, **put}
        return True, self._take(Reading(snapshot.cluster, revision, keys))

    def _take(self, reading: Reading) -> Snapshot:
        """Make sense of a reading, and take note of the grant in it: it was seen before now."""
        snapshot = etcd_state.snapshot_of(reading, self._keys)
        at = self._clock()
        self._note(etcd_state.observe(self._watched, at, snapshot), at)
        self._cached = snapshot
        if not self._has_forgotten(snapshot):
            self._cluster, self._revision = snapshot.cluster, snapshot.revision
        if snapshot.stored is not None:
            incarnation = snapshot.stored.record.incarnation
            self._status = replace(self._status, incarnation=incarnation)
            if snapshot.stored.record.me != self._settings.voter:
                raise StateError(
                    f"etcd keeps this group's memory under the name "
                    f"{snapshot.stored.record.me}, not {self._settings.voter}.",
                    "Give both nodes the same voter name for etcd.",
                    is_retryable=False,
                )
        return snapshot

    def _has_forgotten(self, snapshot: Snapshot) -> bool:
        return etcd_state.has_forgotten(snapshot, self._revision, self._cluster)

    async def _begin(self, snapshot: Snapshot) -> Snapshot:
        """Begin a memory where there is none, or only one that has lost its end (§2.6)."""
        _LOG.warning("etcd_witness_begins_anew: the group must admit it before it votes")
        puts = etcd_state.new_record(
            self._keys, self._settings.voter, secrets.token_hex(8), snapshot.cluster
        )
        self._cluster, self._revision = snapshot.cluster, snapshot.revision
        _, after = await self._swap(snapshot, puts)
        return after

    def _contended(self) -> EtcdError:
        return EtcdError(
            f"Others kept changing the group's keys in etcd; gave up after {ATTEMPTS} attempts."
        )
