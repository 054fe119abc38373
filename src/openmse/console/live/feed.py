"""One engine's stream: connects, reads, reconnects; everything it learns goes into EngineLive."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from msgspec.structs import replace

from openmse.console.errors import NodeRefused, NodeUnreachable, NodeUntrusted
from openmse.console.live.state import EngineLive, Reach, Sample
from openmse.console.nodes.client import NodeClient
from openmse.console.nodes.connection import NodeConnection
from openmse.console.nodes.licences import Licences, LicencesTold
from openmse.console.nodes.models import (
    TEXT_MAX,
    Claim,
    Info,
    LogEntry,
    LogPage,
    MonitorView,
    Operation,
    Readmission,
    Snapshot,
    Summary,
    read,
)
from openmse.console.nodes.sse import SseEvent
from openmse.console.store.store import now
from openmse.errors import MseError

BACKOFF_MIN_S = 0.5
BACKOFF_MAX_S = 15.0
BACKOFF_SEEN_S = 2.0
"""At most this long while somebody looks: who watches a machine boot wants to see it come."""
NEW_EVENTS_MAX = 5000
OPERATIONS_MAX = 50
INFO_EVERY_S = 300.0
"""Who an engine is changes with what its stream tells; this is for what that does not show."""
INFO_WATCHED_EVERY_S = 60.0
INFO_AFTER_CHANGE_S = 1.0
LICENCES_EVERY_S = 3600.0
"""For what is in use, which no message tells, and for engines that tell no changes."""
LICENCES_AFTER_S = (5.0, 120.0)
"""So long after connecting, or a change of the day, they are read: a thousand engines are not asked
at once."""
LICENCES_SOON_S = (0.2, 1.0)
"""So long after somebody has installed or removed one, or while somebody looks."""
LICENCES_AGAIN_S = 60.0
"""After a reading that failed."""
EVENTS_AT_ONCE = 1000
READMITTED = "readmitted"
"""The kind of event with which an owner tells that a new machine has the place of a lost one."""


class EngineFeed:
    """Runs until cancelled."""

    def __init__(
        self,
        live: EngineLive,
        *,
        view: Callable[[], str],
        slots: asyncio.Semaphore,
        on_change: Callable[[], None],
        cursor: str = "",
    ) -> None:
        """``view``: full or summary, as it is wanted now; ``slots`` bounds who connects at once;
        ``cursor``: of the newest event that is kept already."""
        self.live = live
        self._view = view
        self._slots = slots
        self._on_change = on_change
        self._cursor = cursor
        self._view_now = ""
        self._info_due_s = 0.0
        self._licences_due_s = 0.0
        self._licences_now: LicencesTold | None = None
        """How the engine says that its licences stand."""
        self._licences_read: LicencesTold | None = None
        """How they stood when they were read last."""
        self._turn = asyncio.Event()
        self.onlookers: set[Callable[[EngineLive], None]] = set()
        """Told of each new picture, and when there is none any more; they must not wait."""
        engine = live.engine
        self.client = NodeClient(
            engine.address,
            engine.port,
            engine.certificate,
            name=engine.name,
            token=engine.token,
        )

    async def run(self) -> None:
        """Keep the picture up to date for as long as the console runs."""
        backoff_s = BACKOFF_MIN_S
        while True:
            began_s = time.monotonic()
            try:
                await self._connected()
            except MseError as error:
                self._lost(error)
            else:
                continue  # another view is wanted: connect again at once
            if self.live.heard_at_s > began_s + BACKOFF_MIN_S:
                backoff_s = BACKOFF_MIN_S
            await self._rest(backoff_s * random.uniform(0.8, 1.2))
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def _rest(self, backoff_s: float) -> None:
        """Wait before the next attempt, shorter while the full picture is wanted."""
        began_s = time.monotonic()
        while True:
            wanted_s = min(backoff_s, BACKOFF_SEEN_S) if self._view() == "full" else backoff_s
            left_s = began_s + wanted_s - time.monotonic()
            if left_s <= 0:
                return
            await asyncio.sleep(min(left_s, BACKOFF_MIN_S))

    async def refresh_info(self) -> None:
        """Ask the engine again who it is: version, role, services."""
        self._know(await self.client.get("/v1/info", Info))
        self._on_change()

    async def refresh_licences(self) -> Licences:
        """Read what is licensed there. Raises MseError; what was read before counts no more."""
        spread = random.uniform(0.8, 1.2)
        self._licences_due_s = time.monotonic() + LICENCES_EVERY_S * spread
        live, told = self.live, self._licences_now
        try:
            found: Licences = await self.client.get("/v1/licences", Licences)
        except MseError as error:
            live.licences, live.licences_error, self._licences_read = None, error, None
            self._licences_due_s = time.monotonic() + LICENCES_AGAIN_S * spread
            raise
        finally:
            live.version += 1
            self._on_change()
        live.licences, live.licences_at, live.licences_error = found, now(), None
        self._licences_read = told
        return found

    def _know(self, info: Info) -> None:
        live = self.live
        every_s = INFO_WATCHED_EVERY_S if self._view() == "full" else INFO_EVERY_S
        self._info_due_s = time.monotonic() + every_s * random.uniform(0.8, 1.2)
        if info != live.info:
            live.info = info
            live.version += 1

    def _read_licences_in(self, bounds_s: tuple[float, float]) -> None:
        """Have them read so soon, or within a second while somebody looks."""
        after_s = LICENCES_SOON_S if self._view_now == "full" else bounds_s
        self._licences_due_s = time.monotonic() + random.uniform(*after_s)
        self._turn.set()

    async def _connected(self) -> None:
        live, name = self.live, self.live.engine.name
        self._view_now = self._view()
        live.readmission = None  # told at once, where there is one
        connection = self.client.connection()
        try:
            async with self._slots:
                await connection.open()
                self._know(read(await connection.get("/v1/info"), Info, name))
                await self._catch_up(connection)
            self._turn.clear()
            if live.licences is None:
                self._read_licences_in(LICENCES_AFTER_S)
            target = f"/v1/stream?view={self._view_now}&last_event_id={self._after()}"
            connection.follow(target, self._told, self._turn.set)
            while self._view() == self._view_now:
                connection.raise_error()
                due_s = min(self._info_due_s, self._licences_due_s)
                try:
                    async with asyncio.timeout(max(0.0, due_s - time.monotonic())):
                        await self._turn.wait()
                except TimeoutError:
                    await self._read_what_is_due()
                self._turn.clear()
        finally:
            connection.close()

    async def _read_what_is_due(self) -> None:
        """Raises MseError where it cannot tell who it is; licences are beside the picture."""
        if time.monotonic() >= self._licences_due_s:
            with contextlib.suppress(NodeRefused, NodeUnreachable):
                await self.refresh_licences()
        if time.monotonic() >= self._info_due_s:
            await self.refresh_info()

    def _told(self, event: SseEvent | None) -> None:
        """The stream said something; called as it arrives, so it must not wait for anything."""
        now_s = time.monotonic()
        live = self.live
        live.heard_at_s = now_s
        if live.reach is not Reach.UP:
            live.become(Reach.UP, now_s)
            self._on_change()
        if event is None:
            if self._view() != self._view_now:
                self._turn.set()
            return
        handle = _HANDLERS.get(event.name)
        if handle is not None:
            handle(self, event)
            self._show()
        elif event.name == "bye":
            raise NodeUnreachable(f"{live.engine.name} has ended the stream.")

    def _after(self) -> str:
        """The newest cursor as a part of an address: the engine's word, which may be anything."""
        return quote(self._cursor, safe="")

    async def _catch_up(self, connection: NodeConnection) -> None:
        """Read what happened while nobody here was listening."""
        name = self.live.engine.name
        while True:
            after = f"&after={self._after()}" if self._cursor else ""
            data = await connection.get(f"/v1/events?limit={EVENTS_AT_ONCE}{after}")
            page: LogPage = read(data, LogPage, name)
            self._keep(page.events)
            if not after or not page.is_more or not page.events:
                return

    def _keep(self, told: tuple[LogEntry, ...]) -> None:
        entries = tuple(bounded(entry) for entry in told)
        for entry in entries:
            if entry.kind == READMITTED:
                self.live.readmitted = entry
        room = NEW_EVENTS_MAX - len(self.live.new_events)
        self.live.new_events.extend(entries[-room:] if room else ())
        if entries:
            self._cursor = entries[-1].cursor

    def _lost(self, error: MseError) -> None:
        now_s = time.monotonic()
        if isinstance(error, NodeUntrusted):
            reach = Reach.UNTRUSTED
        elif isinstance(error, NodeRefused) and error.node_status in (401, 403):
            reach = Reach.TAKEN
        else:
            reach = Reach.SILENT
        known = self.live.error
        is_same = known is not None and str(known) == str(error)
        self.live.become(reach, now_s, known if is_same else error)
        self._show()

    def _show(self) -> None:
        """Something of the picture has changed: tell who looks on, and the pages."""
        for look in tuple(self.onlookers):
            look(self.live)
        self._on_change()

    def _on_snapshot(self, event: SseEvent) -> None:
        live = self.live
        snapshot = read(event.data, Snapshot, live.engine.name)
        live.snapshot = snapshot
        live.is_monitor_up = True
        live.summary = without_stranger(_summary_of(snapshot, live.summary))
        peer, database = snapshot.peer, snapshot.database
        self._sample(
            peer.round_trip_ms if peer and peer.is_heard else None,
            database.lag_bytes if database else None,
        )
        live.version += 1

    def _on_summary(self, event: SseEvent) -> None:
        live = self.live
        before = live.summary
        summary = without_stranger(read(event.data, Summary, live.engine.name))
        live.summary = summary
        live.is_monitor_up = summary.is_monitor_up
        if before is not None and _who(before) != _who(summary):
            self._info_due_s = time.monotonic() + INFO_AFTER_CHANGE_S * random.uniform(0.5, 1.5)
            self._turn.set()
        live.snapshot = None
        self._sample(summary.round_trip_ms, summary.lag_bytes)
        live.version += 1

    def _sample(self, round_trip_ms: float | None, lag_bytes: int | None) -> None:
        at_ms = time.time_ns() // 1_000_000
        samples = self.live.samples
        if samples and at_ms - samples[-1].at_ms < 900:
            return  # changes come in bursts; the charts show seconds
        trip = round_trip_ms if round_trip_ms is not None and round_trip_ms >= 0 else None
        lag = lag_bytes if lag_bytes is not None and lag_bytes >= 0 else None
        samples.append(Sample(at_ms, trip, lag))

    def _on_monitor(self, event: SseEvent) -> None:
        view: MonitorView = read(event.data, MonitorView, self.live.engine.name)
        self.live.is_monitor_up = view.is_up
        if not view.is_up:
            self.live.snapshot = None
            self.live.summary = Summary(node=self.live.engine.node, error=view.error)
        self.live.version += 1

    def _on_licences(self, event: SseEvent) -> None:
        """Read them if they are others than when they were read last, and only then."""
        told = self._licences_now = read(event.data, LicencesTold, self.live.engine.name)
        before = self._licences_read
        if told != before:
            is_change = before is not None and before.mark != told.mark
            self._read_licences_in(LICENCES_SOON_S if is_change else LICENCES_AFTER_S)

    def _on_readmission(self, event: SseEvent) -> None:
        told: Readmission = read(event.data, Readmission, self.live.engine.name)
        self.live.readmission = told if told.is_waiting else None
        self.live.version += 1

    def _on_log(self, event: SseEvent) -> None:
        self._keep((read(event.data, LogEntry, self.live.engine.name),))
        self.live.version += 1

    def _on_operation(self, event: SseEvent) -> None:
        operation: Operation = read(event.data, Operation, self.live.engine.name)
        operations = self.live.operations
        operations.pop(operation.id, None)
        operations[operation.id] = operation
        while len(operations) > OPERATIONS_MAX:
            operations.pop(next(iter(operations)))
        self.live.version += 1

    def _on_claim(self, event: SseEvent) -> None:
        claim: Claim = read(event.data, Claim, self.live.engine.name)
        if claim.is_you:
            return
        who = claim.console.name if claim.console else "nobody"
        raise NodeRefused(
            f"{self.live.engine.name} is managed by another console now ({who}).",
            "Claim it again on its page, or delete it here.",
            status=403,
        )


def bounded(entry: LogEntry) -> LogEntry:
    """An event as it is kept: up to 5000 wait in memory, so none may be of any length. Pure."""
    texts = ((name, getattr(entry, name)) for name in entry.__struct_fields__)
    cut = {
        name: text[:TEXT_MAX]
        for name, text in texts
        if isinstance(text, str) and len(text) > TEXT_MAX
    }
    return replace(entry, **cut) if cut else entry


def _who(s: Summary) -> tuple[object, ...]:
    """What services and addresses of an engine hang on: when it changes, they are asked anew."""
    return (s.is_monitor_up, s.version, s.role, s.owner, s.peer, s.admits_clients)


def without_stranger(summary: Summary) -> Summary:
    """A machine without a register and without a peer's address belongs to no group. Pure."""
    if summary.peer and summary.term is None and not summary.peer_address:
        return replace(summary, peer=None, is_peer_heard=None)
    return summary


def _summary_of(s: Snapshot, before: Summary | None) -> Summary:
    """The small picture that follows from the full one."""
    register, peer, witness = s.register, s.peer, s.witness
    if peer is not None and register is not None and peer.name not in register.voters:
        peer = None  # known from before, but no party of the group
    return Summary(
        node=s.node,
        is_monitor_up=True,
        made_at=s.made_at,
        version=s.version,
        configured_role=s.configured_role,
        state=s.state,
        reason=s.reason,
        role=s.role,
        sync=s.sync,
        health=s.health,
        operation=s.operation,
        progress_percent=s.progress_percent,
        owner=register.owner if register else None,
        mode=register.mode if register else None,
        term=register.term if register else None,
        epoch=register.epoch if register else None,
        peer=peer.name if peer else None,
        is_peer_heard=peer.is_heard if peer else None,
        witness=witness.name if witness else None,
        is_witness_heard=witness.is_heard if witness else None,
        round_trip_ms=peer.round_trip_ms if peer else None,
        lag_bytes=s.database.lag_bytes if s.database else None,
        virtual_ips=s.virtual_ips,
        peer_address=s.peer_address,
        admits_clients=s.admits_clients,
        alarms=s.alarms,
        console_id=before.console_id if before else None,
    )


_HANDLERS: dict[str, Callable[[EngineFeed, SseEvent], Any]] = {
    "status": EngineFeed._on_snapshot,
    "summary": EngineFeed._on_summary,
    "monitor": EngineFeed._on_monitor,
    "event": EngineFeed._on_log,
    "licences": EngineFeed._on_licences,
    "readmission": EngineFeed._on_readmission,
    "operation": EngineFeed._on_operation,
    "console": EngineFeed._on_claim,
}
