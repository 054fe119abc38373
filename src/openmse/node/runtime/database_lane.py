"""The database lane: makes PostgreSQL be what the core wants, and says what it is.

Level-triggered: each turn observes, compares with ``wanted`` and does one thing. A stop is
signalled from within ``set_wanted`` itself, so nothing that is under way can delay it.
"""

import asyncio
import contextlib
import importlib
import signal
from collections.abc import Callable

from openmse.errors import MseError
from openmse.ha.local import DbProcess, DbRole, DbView, DbWanted, Receiver, Rung
from openmse.ha.values import SECOND, Instant, Lineage
from openmse.node.drivers.postgres import create, session
from openmse.node.drivers.postgres.connection import ConnectionLost
from openmse.node.drivers.postgres.instance import SETTLING, DiskFacts, Instance, promoted
from openmse.node.drivers.postgres.rejoin import find_wal_end
from openmse.node.drivers.postgres.settings import InstanceSettings
from openmse.node.drivers.postgres.sidecar import DirectoryRecord
from openmse.node.runtime.database_gate import ReceiverGate, SyncGate
from openmse.node.runtime.database_health import HealthWatch
from openmse.node.runtime.database_plan import Act, Facts, Step, next_step
from openmse.node.runtime.database_rejoin import RejoinKeeper
from openmse.node.runtime.database_server import ServerKeeper

POLL_FAST_S = 0.005
FAST_PERIOD_S = 10.0
"""How long after the last change the lane polls fast for something that does not come."""
CHECKPOINT_DEADLINE_S = 600.0
PROMOTION_PERIOD_S = 10.0
RETRY_S_MIN = 0.1
RETRY_S_MAX = 5.0
ACTS_TRIED_AGAIN_LATER = (Act.START_PRIMARY, Act.START_STANDBY, Act.REWIND, Act.REBUILD)


class DatabaseLane:
    """One instance of PostgreSQL, kept at the wanted level."""

    def __init__(
        self,
        settings: InstanceSettings,
        *,
        on_view: Callable[[DbView], None],
        clock: Callable[[], Instant],
    ) -> None:
        self.poll_interval_s = 0.25
        self._settings = settings
        self._on_view = on_view
        self._clock = clock
        self._instance = Instance(settings)
        self._wanted = DbWanted()
        self._view = DbView()
        self._wake = asyncio.Event()
        self._is_closing = False
        self._has_ended = asyncio.Event()
        self._has_ended.set()
        self._directory_lock = asyncio.Lock()
        self._keeper = ServerKeeper(self._instance, clock, self._take_end)
        self._sync_gate = SyncGate(self._instance, self._wake.set)
        self._receiver_gate = ReceiverGate(self._instance, self._wake.set)
        self._health = HealthWatch(self._instance, self._wake.set)
        self._session = session.Session(settings)
        self._status: session.Status | None = None
        self._silent_since: Instant | None = None
        self._disk: DiskFacts | None = None
        self._role = DbRole.DOWN
        self._record: DirectoryRecord | None = None
        self._marker = ""
        self._promoting_at: Instant | None = None
        self._last_lsn = 0
        self._wal_end: int | None = None
        self._peer_sign = ""
        self._peer_signed_at = Instant(0)
        self._rejoin = RejoinKeeper(self._instance, self._wake.set)
        self._least_rung = Rung.STREAM
        self._step = Step(Act.NOTHING)
        self._has_wanted = False
        self._has_observed = False
        self._problem = ""
        self._retry_s = RETRY_S_MIN
        self._retry_at = Instant(0)
        self._changed_at = clock()

    # -- what others use -------------------------------------------------------------------

    @property
    def view(self) -> DbView:
        """What was last observed."""
        return self._view

    @property
    def cancelled_waits(self) -> int:
        """Commits that stopped waiting for the peer since this lane began (protocol §5.4)."""
        return self._health.cancelled_waits

    @property
    def weak_sessions(self) -> tuple[str, ...]:
        """Roles and databases whose commits are not guaranteed (protocol §5.1)."""
        return self._health.weak_sessions

    def set_wanted(self, wanted: DbWanted) -> None:
        """State the level to work towards. Never blocks; a stop is signalled at once."""
        if wanted == self._wanted and self._has_wanted:
            return
        self._has_wanted = True
        before, self._wanted = self._wanted, wanted
        if (wanted.role, wanted.lineage) != (before.role, before.lineage):
            self._least_rung, self._wal_end = Rung.STREAM, None
        self._retry_at, self._retry_s = Instant(0), RETRY_S_MIN
        self._touch()
        is_wrong_way = wanted.role is DbRole.STANDBY and self._role is DbRole.PRIMARY
        if wanted.role is DbRole.DOWN or is_wrong_way:
            self._begin_stop()

    async def checkpoint(self) -> None:
        """Write a checkpoint now, so that a stop that follows is short. Raises: DatabaseError."""
        await session.checkpoint(self._settings, deadline_s=CHECKPOINT_DEADLINE_S)

    async def create_primary(self, lineage: Lineage) -> None:
        """Make the data directory of a new group; refused if there is one.

        Raises: CommandRefused, DatabaseError, StateError, ConfigError.
        """
        async with self._directory_lock:
            await create.create_primary(self._instance, lineage)
            self._disk = None
        self._touch()

    async def run(self) -> None:
        """Work until closed. Adopts a server that runs already."""
        health = asyncio.create_task(self._health.run())
        self._has_ended.clear()
        try:
            await self._prepare()
            while not self._is_closing:
                self._wake.clear()
                await self._turn()
                await self._pause()
        finally:
            health.cancel()
            await self._rejoin.end()
            await asyncio.gather(health, return_exceptions=True)
            self._has_ended.set()

    async def close(self, leave_running: bool = True) -> None:
        """End run(); the server goes on, to be adopted, or is stopped and waited for."""
        if not leave_running:
            self.set_wanted(DbWanted(stop=self._wanted.stop))
            while self._keeper.server is not None or self._keeper.process is not DbProcess.DOWN:
                await asyncio.sleep(POLL_FAST_S)
        self._is_closing = True
        self._wake.set()
        self._session.close()
        await self._has_ended.wait()
        await self._sync_gate.close()
        await self._receiver_gate.close()
        self._session.close()
        self._health.close()
        self._keeper.close()
        self._instance.close()

    # -- turns -----------------------------------------------------------------------------

    async def _prepare(self) -> None:
        """Find programs and account, adopt what runs; tried again until it succeeds."""
        while not self._is_closing:
            try:
                await self._instance.prepare()
                await asyncio.to_thread(importlib.import_module, "psycopg")
                await self._adopt()
                return
            except MseError as error:
                self._note_problem(error)
                self._push()
                self._wake.clear()
                await self._pause()

    async def _adopt(self) -> None:
        """Take over a server that runs; it goes on until the core states what it wants."""
        seen = await self._instance.on_disk(self._instance.look)
        if seen.record is not None and not seen.refusal and self._keeper.adopt():
            self._role, self._record, self._marker = seen.role, seen.record, seen.marker
            self._health.begin()
            self._has_observed = True

    async def _turn(self) -> None:
        async with self._directory_lock:
            try:
                await self._observe()
                self._has_observed = True
                if self._has_wanted:
                    await self._act()
            except ConnectionLost:
                # The server went away in mid-sentence; its pidfd says more.
                self._silent_since = self._silent_since or self._clock()
            except MseError as error:
                self._note_problem(error)
        self._push()

    async def _pause(self) -> None:
        delay_s = POLL_FAST_S if self._is_urgent() else self.poll_interval_s
        delay_s = max(delay_s, (self._retry_at - self._clock()) / SECOND)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._wake.wait()

    def _is_urgent(self) -> bool:
        """Whether something is expected within milliseconds."""
        wanted, view, process = self._wanted, self._view, self._keeper.process
        if process in (DbProcess.STARTING, DbProcess.STOPPING):
            return True
        if self._clock() - self._changed_at > FAST_PERIOD_S * SECOND:
            return False
        if wanted.is_urgent:
            return True
        if process is DbProcess.DOWN:
            return wanted.role is not DbRole.DOWN and not self._rejoin.is_busy
        is_waiting = view.receiver is Receiver.WAITING and wanted.receiver
        is_barred = view.names and view.peer_flush_lsn < view.barrier_lsn
        return wanted.role is not view.role or is_waiting or is_barred

    def _touch(self) -> None:
        self._changed_at = self._clock()
        self._wake.set()

    def _note_problem(self, error: MseError) -> None:
        self._problem = str(error)
        self._retry_at = Instant(self._clock() + int(self._retry_s * SECOND))
        self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)

    # -- observing -------------------------------------------------------------------------

    def _take_end(self) -> None:
        """The server process ended: say so before anything else."""
        self._forget_server()
        if self._keeper.process is DbProcess.DOWN:
            self._push()
        self._touch()

    def _begin_stop(self) -> None:
        if self._keeper.server is not None:
            self._keeper.begin_stop(self._wanted.stop)
            self._forget_server()

    def _forget_server(self) -> None:
        self._session.close()
        self._sync_gate.reset()
        self._receiver_gate.reset()
        self._health.set_role(DbRole.DOWN)
        self._status, self._silent_since, self._disk = None, None, None
        self._promoting_at = None

    async def _observe(self) -> None:
        keeper = self._keeper
        if keeper.server is None:
            await self._observe_disk()
        elif keeper.process is DbProcess.UP or keeper.accepts_connections:
            await self._observe_server()

    async def _observe_disk(self) -> None:
        if self._disk is not None or self._rejoin.is_busy:
            return
        if self._keeper.process is DbProcess.STOPPING:
            await self._keeper.finish_stop()
        disk = await self._instance.inspect()
        self._disk, self._role, self._marker = disk, disk.role, disk.marker
        self._record, self._wal_end = disk.record, None

    async def _observe_server(self) -> None:
        connection = await self._session.connection()
        status = await session.ask_status(
            connection, self._settings.peer_id, deadline_s=self._settings.status_deadline_s
        )
        server = self._keeper.server
        if server is None or self._keeper.process is DbProcess.STOPPING:
            return
        self._silent_since = None
        if self._keeper.process is DbProcess.STARTING:
            await self._take_ready(status)
        elif self._role is DbRole.STANDBY and not status.is_in_recovery:
            await self._take_promotion(status)
        self._status, self._last_lsn = status, status.lsn
        self._health.peer_flush_lsn = status.peer_flush_lsn
        if status.peer_sign and status.peer_sign != self._peer_sign:
            self._peer_signed_at = self._clock()
        self._peer_sign = status.peer_sign

    async def _take_ready(self, status: session.Status) -> None:
        """The first answer of a server that was started or adopted."""
        server = self._keeper.server
        assert server is not None
        role = DbRole.STANDBY if status.is_in_recovery else DbRole.PRIMARY
        if server.is_adopted:
            await self._take_adopted()
        else:
            await self._sync_gate.settle(
                server,
                names=self._instance.told_names,
                barrier_id=self._wanted.barrier_id if role is DbRole.PRIMARY else 0,
                lsn=status.lsn if role is DbRole.PRIMARY else 0,
            )
        if role is DbRole.STANDBY and self._marker == SETTLING:
            # It accepts connections, so it is consistent.
            await self._instance.on_disk(self._instance.sidecar.clear_marker)
            self._marker = ""
        if self._keeper.server is not server or self._keeper.process is not DbProcess.STARTING:
            return
        self._keeper.process, self._role = DbProcess.UP, role
        self._problem, self._retry_s = "", RETRY_S_MIN
        self._health.set_role(role)
        if role is DbRole.PRIMARY:
            await self._settle_promotion()
        self._touch()

    async def _take_adopted(self) -> None:
        """Learn what a former health monitor told this server, and what it had proven."""
        connection = await self._session.connection()
        ((names, receiver),) = await connection.query(
            "select current_setting('synchronous_standby_names') <> '',"
            " current_setting('primary_conninfo') <> ''",
            deadline_s=self._settings.status_deadline_s,
        )
        self._instance.told_names = names == "t"
        self._instance.told_receiver = receiver == "t"
        proof = await self._instance.on_disk(self._instance.sidecar.read_proof)
        if self._keeper.server is not None:
            self._sync_gate.adopt(self._keeper.server, proof)

    async def _take_promotion(self, status: session.Status) -> None:
        server = self._keeper.server
        assert server is not None
        self._role, self._promoting_at = DbRole.PRIMARY, None
        self._health.set_role(DbRole.PRIMARY)
        if self._sync_gate.names:
            await self._sync_gate.settle(
                server, names=True, barrier_id=self._wanted.barrier_id, lsn=status.lsn
            )
        self._receiver_gate.reset()
        await self._settle_promotion()
        self._touch()

    async def _settle_promotion(self) -> None:
        """A running primary with a promotion on record has been promoted."""
        record = self._record
        if record is not None and record.promoting_to is not None:
            self._record = await self._instance.update_record(
                **promoted(record, record.promoting_to, record.promoting_fork_lsn)
            )

    # -- acting ----------------------------------------------------------------------------

    async def _act(self) -> None:
        await self._find_wal_end()
        self._step = step = next_step(self._wanted, self._facts())
        if self._rejoin.is_over(step.act):
            await self._take_rejoin()
        elif self._clock() >= self._retry_at or step.act not in ACTS_TRIED_AGAIN_LATER:
            await self._perform(step.act)

    async def _perform(self, act: Act) -> None:
        match act:
            case Act.NOTHING | Act.REFUSE:
                self._pursue_names()
            case Act.STOP:
                self._begin_stop()
            case Act.START_PRIMARY:
                await self._start(names=self._wanted.names, receiver=False)
            case Act.START_STANDBY:
                await self._start_standby()
            case Act.PROMOTE:
                await self._promote()
            case Act.CUT:
                if self._keeper.server is not None:
                    self._receiver_gate.cut(self._keeper.server)
            case Act.RECEIVE:
                if self._keeper.server is not None:
                    self._receiver_gate.receive(self._keeper.server)
            case Act.REWIND | Act.REBUILD:
                assert self._disk is not None
                self._last_lsn = 0
                self._rejoin.begin(act, self._wanted, self._disk)

    def _facts(self) -> Facts:
        disk = self._disk
        end = self._status.lsn if self._status is not None else None
        if disk is not None and self._keeper.server is None:
            end = disk.end_lsn if disk.is_clean else self._wal_end
        is_wal_gone = self._health.is_wal_gone and self._role is DbRole.STANDBY
        if is_wal_gone and not (self._status is not None and self._status.is_receiving):
            self._least_rung = Rung.REBUILD
        return Facts(
            process=self._keeper.process,
            role=self._role,
            record=self._record,
            refusal=disk.refusal if disk is not None else "",
            marker=self._marker,
            end_lsn=end,
            is_told_to_receive=self._instance.told_receiver,
            is_cut=self._receiver_gate.is_cut,
            is_promoting=self._is_promoting(),
            least_rung=self._least_rung,
        )

    def _is_promoting(self) -> bool:
        """Whether a promotion was asked for and may still come; after a while it is repeated."""
        asked_at = self._promoting_at
        return asked_at is not None and self._clock() - asked_at < PROMOTION_PERIOD_S * SECOND

    async def _find_wal_end(self) -> None:
        """Where our history ends decides between following and rewinding; only then it is read."""
        disk, wanted = self._disk, self._wanted
        if self._keeper.process is not DbProcess.DOWN or self._wal_end is not None:
            return
        if disk is None or disk.record is None or wanted.role is not DbRole.STANDBY:
            return
        if not disk.is_clean and disk.record.lineage != wanted.lineage and not disk.marker:
            end = await find_wal_end(self._instance, disk)
            self._wal_end = end if end is not None else 2**63

    def _pursue_names(self) -> None:
        server, wanted = self._keeper.server, self._wanted
        if server is None or self._keeper.process is not DbProcess.UP:
            return
        if wanted.role is not self._role or not self._settings.peer_id:
            return
        self._sync_gate.pursue(
            server,
            names=wanted.names,
            barrier_id=wanted.barrier_id,
            is_primary=self._role is DbRole.PRIMARY,
        )

    async def _start(self, *, names: bool, receiver: bool) -> None:
        delay_ns = self._keeper.start_delay_ns
        if delay_ns:
            self._retry_at = Instant(self._clock() + delay_ns)
            return
        self._health.begin()
        await self._keeper.start(names=names and bool(self._settings.peer_id), receiver=receiver)
        if self._wanted.role is DbRole.DOWN:
            self._begin_stop()  # wanted changed while it was being started

    async def _start_standby(self) -> None:
        wanted, record = self._wanted, self._record
        assert record is not None
        data_dir = self._settings.data_dir
        await self._instance.on_disk(
            lambda: self._instance.set_standby_signal(data_dir, is_standby=True)
        )
        self._role = DbRole.STANDBY
        is_following = wanted.role is DbRole.STANDBY
        if is_following and wanted.lineage is not None and record.lineage != wanted.lineage:
            self._record = await self._instance.update_record(
                lineage=wanted.lineage,
                parent_lineage=wanted.parent_lineage,
                fork_lsn=wanted.fork_lsn,
                promoting_to=None,
                promoting_fork_lsn=0,
            )
        await self._start(names=wanted.names, receiver=is_following and wanted.receiver)

    async def _promote(self) -> None:
        """Ask for the promotion; the intent is on disk first, so that its fate can be told."""
        server, wanted = self._keeper.server, self._wanted
        assert server is not None
        lineage = wanted.lineage or (self._record.lineage if self._record else None)
        self._record = await self._instance.update_record(
            promoting_to=lineage, promoting_fork_lsn=self._receiver_gate.replay_lsn
        )
        if self._instance.told_names != wanted.names:
            self._sync_gate.reset()
            await self._instance.write_dynamic(names=wanted.names)
            server.signal(signal.SIGHUP)
        await self._instance.on_disk(self._instance.request_promotion)
        if self._keeper.process is DbProcess.UP and self._wanted.role is DbRole.PRIMARY:
            self._promoting_at = self._clock()
            server.signal(signal.SIGUSR1)
            self._touch()

    async def _take_rejoin(self) -> None:
        """Take the result of a rejoin that ended; stop one that is not wanted any more."""
        result = await self._rejoin.end()
        self._disk = None
        if isinstance(result, MseError):
            self._note_problem(result)
        elif result is False:
            self._least_rung = Rung.REBUILD
        elif result is True:
            self._least_rung, self._problem = Rung.STREAM, ""
            self._health.begin()
        self._touch()

    # -- saying so -------------------------------------------------------------------------

    def _push(self) -> None:
        view = self._compose()
        if view != self._view and (self._has_observed or view.failure):
            self._view = view
            self._on_view(view)

    def _compose(self) -> DbView:
        status, disk = self._status, self._disk
        is_up = self._keeper.process is DbProcess.UP
        is_primary = is_up and self._role is DbRole.PRIMARY
        failure = self._failure()
        is_stuck = bool(self._problem) and not is_up and self._wanted.role is DbRole.PRIMARY
        end_lsn = self._last_lsn
        if disk is not None and not is_up:
            end_lsn = disk.end_lsn if disk.is_clean else max(end_lsn, disk.end_lsn)
        is_ours = self._role is not DbRole.DOWN and not (disk is not None and disk.refusal)
        return DbView(
            process=self._keeper.process,
            role=self._role,
            lineage=self._record.lineage if self._record and is_ours else None,
            end_lsn=end_lsn if is_ours else 0,
            is_clean=bool(disk and disk.is_clean and self._keeper.process is DbProcess.DOWN),
            is_complete=is_ours and not self._marker,
            receiver=self._receiver(),
            names=is_up and self._sync_gate.names,
            barrier_id=self._sync_gate.barrier_id if is_primary else 0,
            barrier_lsn=self._sync_gate.barrier_lsn if is_primary else 0,
            peer_streaming=bool(is_primary and status and status.is_peer_streaming),
            peer_flush_lsn=status.peer_flush_lsn if is_primary and status else 0,
            peer_signed_at=self._peer_signed_at,
            is_healthy=not failure and not is_stuck and self._has_observed,
            failure=failure or self._problem or self._health.complaint,
            rung_needed=self._step.rung,
            progress_percent=self._rejoin.progress_percent,
        )

    def _receiver(self) -> Receiver:
        if self._keeper.process is not DbProcess.UP or self._role is not DbRole.STANDBY:
            return Receiver.NONE
        if self._receiver_gate.is_cut:
            return Receiver.CUT
        is_streaming = self._status is not None and self._status.is_receiving
        return Receiver.STREAMING if is_streaming else Receiver.WAITING

    def _failure(self) -> str:
        """Why this database cannot serve, '' while it can."""
        if self._step.act is Act.REFUSE:
            return self._step.sentence
        if self._health.problem:
            return self._health.problem
        if self._keeper.is_over_budget:
            complaint = self._instance.last_complaint()
            return (
                f"PostgreSQL died {self._keeper.deaths} times within "
                f"{self._settings.restart_window_s:g} s. Its last words: {complaint or 'none'}"
            )
        silent_ns = self._clock() - self._silent_since if self._silent_since is not None else 0
        if silent_ns > self._settings.status_deadline_s * SECOND:
            return f"PostgreSQL does not answer since {silent_ns // SECOND} s."
        return ""
