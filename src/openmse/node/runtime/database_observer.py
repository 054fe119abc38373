"""What is known of the database: on disk while it is down, from its own answers while it is up."""

import signal
from collections.abc import Callable

from openmse.ha.local import DbProcess, DbRole, DbView, DbWanted, Receiver
from openmse.ha.values import SECOND, Instant
from openmse.node.drivers.postgres import session
from openmse.node.drivers.postgres.instance import SETTLING, DiskFacts, Instance, promoted
from openmse.node.drivers.postgres.process import ExitWatch
from openmse.node.drivers.postgres.sidecar import DirectoryRecord
from openmse.node.runtime.database_gate import ReceiverGate, SyncGate
from openmse.node.runtime.database_health import HealthWatch
from openmse.node.runtime.database_plan import Act, Facts, Step
from openmse.node.runtime.database_pulse import Pulse
from openmse.node.runtime.database_server import ServerKeeper

PROMOTION_PERIOD_S = 10.0
FAILURE_CHARACTERS_MAX = 600
"""Of a sentence that quotes PostgreSQL, whose words have no bound: it travels in each heartbeat."""


class Observer:
    """Looks, remembers and says; changes nothing but its own records of what happened."""

    def __init__(
        self,
        instance: Instance,
        clock: Callable[[], Instant],
        *,
        on_news: Callable[[], None],
        on_change: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        """``on_news``: something is worth another look. ``on_change``: so much that more is to be
        expected soon. ``on_end``: the server has ended.
        """
        self.keeper = ServerKeeper(instance, clock, on_end)
        self.sync_gate = SyncGate(instance, on_news)
        self.receiver_gate = ReceiverGate(instance, on_news)
        self.health = HealthWatch(instance, on_news)
        self.session = session.Session(instance.settings)
        self.status: session.Status | None = None
        self.disk: DiskFacts | None = None
        """What is on disk; None while a server runs, or when it must be looked at anew."""
        self.role = DbRole.DOWN
        self.record: DirectoryRecord | None = None
        self.marker = ""
        self.wal_end: int | None = None
        """Where our history ends, where that was worth reading the WAL for."""
        self.last_lsn = 0
        self.has_observed = False
        self.promoting_at: Instant | None = None
        self._instance = instance
        self._settings = instance.settings
        self._clock = clock
        self._on_change = on_change
        self._link = ExitWatch(on_change)
        self._silent_since: Instant | None = None
        self.pulse = Pulse()

    # -- looking ---------------------------------------------------------------------------

    async def adopt(self) -> None:
        """Take over a server that runs already, if it is ours. Raises: StateError."""
        seen = await self._instance.on_disk(self._instance.look)
        if seen.record is not None and not seen.refusal and self.keeper.adopt():
            self.role, self.record, self.marker = seen.role, seen.record, seen.marker
            self.health.begin()
            self.has_observed = True

    async def observe(self, wanted: DbWanted, *, may_look: bool) -> None:
        """Look once. ``may_look``: nobody is at work on the data directory.

        Raises: DatabaseError, StateError.
        """
        if self.keeper.server is None:
            if self.disk is None and may_look:
                await self._observe_disk()
        elif self.keeper.process is DbProcess.UP or self.keeper.accepts_connections:
            await self._observe_server(wanted)

    async def _observe_disk(self) -> None:
        if self.keeper.process is DbProcess.STOPPING:
            await self.keeper.finish_stop()
        disk = await self._instance.inspect()
        self.disk, self.role, self.marker = disk, disk.role, disk.marker
        self.record, self.wal_end = disk.record, None
        self.has_observed = True

    async def _observe_server(self, wanted: DbWanted) -> None:
        connection = await self.session.connection()
        status = await session.ask_status(
            connection, self._settings.peer_id, deadline_s=self._settings.status_deadline_s
        )
        if self.keeper.server is None or self.keeper.process is DbProcess.STOPPING:
            return
        self._silent_since = None
        if self.keeper.process is DbProcess.STARTING:
            await self._take_ready(wanted, status)
        elif self.role is DbRole.STANDBY and not status.is_in_recovery:
            await self._take_promotion(wanted, status)
        self.status, self.last_lsn = status, status.lsn
        self.health.peer_flush_lsn = status.peer_flush_lsn
        self.health.settle_waits(
            flush_lsn=status.lsn,
            peer_flush_lsn=status.peer_flush_lsn if status.is_peer_streaming else 0,
            is_receiving=status.is_receiving,
        )
        if status.is_receiving:
            self.health.forget_complaints()
        self._link.watch(status.link_pid)
        self.pulse.take(status, self._clock())

    async def _take_ready(self, wanted: DbWanted, status: session.Status) -> None:
        """The first answer of a server that was started or adopted."""
        server = self.keeper.server
        assert server is not None
        role = DbRole.STANDBY if status.is_in_recovery else DbRole.PRIMARY
        if server.is_adopted:
            await self._take_adopted()
        else:
            await self.sync_gate.settle(
                server,
                names=self._instance.told_names,
                barrier_id=wanted.barrier_id if role is DbRole.PRIMARY else 0,
                lsn=status.lsn if role is DbRole.PRIMARY else 0,
            )
        if role is DbRole.STANDBY and self.marker == SETTLING:
            # It accepts connections, so it is consistent.
            await self._instance.on_disk(self._instance.sidecar.clear_marker)
            self.marker = ""
        if self.keeper.server is not server or self.keeper.process is not DbProcess.STARTING:
            return
        self.keeper.process, self.role = DbProcess.UP, role
        self.health.set_role(role)
        if role is DbRole.PRIMARY:
            await self._settle_promotion()
        self._on_change()

    async def _take_adopted(self) -> None:
        """Learn what a former health monitor told this server, and what it had proven."""
        connection = await self.session.connection()
        ((names, receiver),) = await connection.query(
            "select current_setting('synchronous_standby_names') <> '',"
            " current_setting('primary_conninfo')",
            deadline_s=self._settings.status_deadline_s,
        )
        self._instance.told_names = names == "t"
        self._instance.take_told_receiver(receiver or "")
        proof = await self._instance.on_disk(self._instance.sidecar.read_proof)
        await self._instance.refresh()
        if self.keeper.server is not None:
            self.keeper.server.signal(signal.SIGHUP)
            self.sync_gate.adopt(self.keeper.server, proof)

    async def _take_promotion(self, wanted: DbWanted, status: session.Status) -> None:
        server = self.keeper.server
        assert server is not None
        self.role, self.promoting_at = DbRole.PRIMARY, None
        self.health.set_role(DbRole.PRIMARY)
        if self.sync_gate.names:
            await self.sync_gate.settle(
                server, names=True, barrier_id=wanted.barrier_id, lsn=status.lsn
            )
        self.receiver_gate.reset()
        await self._settle_promotion()
        self._on_change()

    async def _settle_promotion(self) -> None:
        """A running primary with a promotion on record has been promoted."""
        record = self.record
        if record is not None and record.promoting_to is not None:
            self.record = await self._instance.update_record(
                **promoted(record, record.promoting_to, record.promoting_fork_lsn)
            )

    def note_silence(self) -> None:
        """The server did not answer."""
        if self._silent_since is None:
            self._silent_since = self._clock()

    def forget_server(self) -> None:
        """The server has ended, or is about to: nothing that it said holds any more."""
        self.session.close()
        self.sync_gate.reset()
        self.receiver_gate.reset()
        self.health.set_role(DbRole.DOWN)
        self._link.close()
        self.status, self._silent_since, self.disk = None, None, None
        self.promoting_at = None
        self.pulse.forget()

    async def close(self) -> None:
        """Let go of everything; a server that runs is left running."""
        self.session.close()
        await self.sync_gate.close()
        await self.receiver_gate.close()
        self._link.close()
        self.health.close()
        self.keeper.close()

    # -- saying ----------------------------------------------------------------------------

    @property
    def is_promoting(self) -> bool:
        """Whether a promotion was asked for and may still come; after a while it is repeated."""
        asked_at = self.promoting_at
        return asked_at is not None and self._clock() - asked_at < PROMOTION_PERIOD_S * SECOND

    @property
    def is_wal_lost(self) -> bool:
        """Whether the peer no longer has what this standby needs to follow."""
        is_receiving = self.status is not None and self.status.is_receiving
        return self.health.is_wal_gone and self.role is DbRole.STANDBY and not is_receiving

    def facts(self) -> Facts:
        """What the next step is decided on."""
        disk = self.disk
        end = self.status.lsn if self.status is not None else None
        if disk is not None and self.keeper.server is None:
            end = disk.end_lsn if disk.is_clean else self.wal_end
        return Facts(
            process=self.keeper.process,
            role=self.role,
            record=self.record,
            refusal=disk.refusal if disk is not None else "",
            marker=self.marker,
            end_lsn=end,
            is_told_to_receive=self._instance.is_told_to_receive,
            is_cut=self.receiver_gate.is_cut,
            is_promoting=self.is_promoting,
        )

    def view(self, wanted: DbWanted, step: Step, *, problem: str, progress: int) -> DbView:
        """All of it, as the core is told."""
        status, disk = self.status, self.disk
        is_up = self.keeper.process is DbProcess.UP
        is_primary = is_up and self.role is DbRole.PRIMARY
        failure = self._failure(step)
        is_stuck = bool(problem) and not is_up and wanted.role is DbRole.PRIMARY
        is_ours = self.role is not DbRole.DOWN and not (disk is not None and disk.refusal)
        return DbView(
            process=self.keeper.process,
            role=self.role,
            lineage=self.record.lineage if self.record and is_ours else None,
            end_lsn=self._end_lsn(is_up) if is_ours else 0,
            is_clean=bool(disk and disk.is_clean and self.keeper.process is DbProcess.DOWN),
            is_complete=is_ours and not self.marker,
            receiver=self._receiver(),
            names=is_up and self.sync_gate.names,
            barrier_id=self.sync_gate.barrier_id if is_primary else 0,
            barrier_lsn=self.sync_gate.barrier_lsn if is_primary else 0,
            peer_streaming=bool(is_primary and status and status.is_peer_streaming),
            peer_flush_lsn=status.peer_flush_lsn if is_primary and status else 0,
            peer_signed_at=self.pulse.signed_at,
            is_healthy=not failure and not is_stuck and self.has_observed,
            failure=(failure or problem or self.health.complaint)[:FAILURE_CHARACTERS_MAX],
            rung_needed=step.rung,
            progress_percent=progress,
        )

    def _end_lsn(self, is_up: bool) -> int:
        if self.disk is None or is_up:
            return self.last_lsn
        if self.disk.is_clean:
            return self.disk.end_lsn
        return max(self.last_lsn, self.disk.end_lsn)

    def _receiver(self) -> Receiver:
        if self.keeper.process is not DbProcess.UP or self.role is not DbRole.STANDBY:
            return Receiver.NONE
        if self.receiver_gate.is_cut:
            return Receiver.CUT
        is_streaming = self.status is not None and self.status.is_receiving
        return Receiver.STREAMING if is_streaming else Receiver.WAITING

    def _failure(self, step: Step) -> str:
        """Why this database cannot serve, '' while it can."""
        if step.act is Act.REFUSE:
            return step.sentence
        if self.health.problem:
            return self.health.problem
        if self.keeper.is_over_budget:
            complaint = self._instance.last_complaint()
            return (
                f"PostgreSQL died {self.keeper.deaths} times within "
                f"{self._settings.restart_window_s:g} s. Its last words: {complaint or 'none'}"
            )
        silent_ns = self._clock() - self._silent_since if self._silent_since is not None else 0
        if silent_ns > self._settings.status_deadline_s * SECOND:
            return f"PostgreSQL does not answer since {silent_ns // SECOND} s."
        return ""
