"""The database lane: makes PostgreSQL be what the core wants, and says what it is.

Level-triggered: each turn observes, compares with ``wanted`` and does one thing. A stop is
signalled from within ``set_wanted`` itself, so nothing that is under way can delay it.
"""

import asyncio
import importlib
import signal
from collections.abc import Callable
from dataclasses import replace

from openmse.errors import MseError
from openmse.ha.local import DbProcess, DbRole, DbView, DbWanted, Receiver, Rung
from openmse.ha.timing import QUIET_LOOK_NS
from openmse.ha.values import SECOND, Instant, Lineage
from openmse.node.drivers.postgres import create, session
from openmse.node.drivers.postgres.connection import ConnectionLost
from openmse.node.drivers.postgres.instance import Instance
from openmse.node.drivers.postgres.rejoin import find_wal_end
from openmse.node.drivers.postgres.settings import InstanceSettings
from openmse.node.runtime.database_observer import Observer
from openmse.node.runtime.database_plan import Act, Step, next_step
from openmse.node.runtime.database_rejoin import RejoinKeeper

POLL_FAST_S = 0.005
POLL_QUIET_S = QUIET_LOOK_NS / SECOND
"""Between two looks at a database that is whole and at rest. The end of a server or of its link to
the peer is told at once all the same."""
POLL_STALE_S = 0.03
"""How often an owner looks whether its peer has come back over the other path."""
FAST_PERIOD_S = 10.0
"""How long after the last change the lane polls fast for something that does not come."""
CHECKPOINT_DEADLINE_S = 600.0
RETRY_S_MIN = 0.1
RETRY_S_MAX = 5.0
ACTS_TRIED_AGAIN_LATER = (Act.START_PRIMARY, Act.START_STANDBY, Act.REWIND, Act.REBUILD)
END_UNKNOWN = 2**63
"""Past every fork: a history whose end cannot be told is rewound."""


class DatabaseLane:
    """One instance of PostgreSQL, kept at the wanted level."""

    def __init__(
        self,
        settings: InstanceSettings,
        *,
        on_view: Callable[[DbView], None],
        clock: Callable[[], Instant],
    ) -> None:
        """``on_view`` is called from the event loop whenever the view changes."""
        self.poll_interval_s = 0.25
        self._settings = settings
        self._on_view = on_view
        self._clock = clock
        self._instance = Instance(settings)
        self._wake = asyncio.Event()
        self._seen = Observer(
            self._instance,
            clock,
            on_news=self._wake.set,
            on_change=self._touch,
            on_end=self._take_end,
        )
        self._keeper = self._seen.keeper
        self._rejoin = RejoinKeeper(self._instance, self._take_progress)
        self._wanted = DbWanted()
        self._has_wanted = False
        self._view = DbView()
        self._step = Step(Act.NOTHING)
        self._least_rung = Rung.STREAM
        self._problem = ""
        self._retry_s = RETRY_S_MIN
        self._retry_at = Instant(0)
        self._changed_at = clock()
        self._stale_since: Instant | None = None
        """Since when the direct path is down and may have left a sender behind."""
        self._directory_lock = asyncio.Lock()
        self._is_closing = False
        self._has_ended = asyncio.Event()
        self._has_ended.set()

    # -- what others use -------------------------------------------------------------------

    @property
    def view(self) -> DbView:
        """What was last observed."""
        return self._view

    @property
    def cancelled_waits(self) -> int:
        """Commits that stopped waiting for the peer since this lane began (protocol §5.4)."""
        return self._seen.health.cancelled_waits

    @property
    def unsettled_waits(self) -> int:
        """Those of them that the peer may still lack."""
        return self._seen.health.unsettled_waits

    @property
    def weak_sessions(self) -> tuple[str, ...]:
        """Roles and databases whose commits are not guaranteed (protocol §5.1)."""
        return self._seen.health.weak_sessions

    def set_wanted(self, wanted: DbWanted) -> None:
        """State the level to work towards. Never blocks; a stop is signalled at once."""
        if wanted == self._wanted and self._has_wanted:
            return
        before, self._wanted, self._has_wanted = self._wanted, wanted, True
        if (wanted.role, wanted.lineage) != (before.role, before.lineage):
            self._least_rung, self._seen.wal_end = Rung.STREAM, None
        if (wanted.role, wanted.lineage, wanted.rung) != (before.role, before.lineage, before.rung):
            self._retry_at, self._retry_s = Instant(0), RETRY_S_MIN
        self._touch()
        is_wrong_way = wanted.role is DbRole.STANDBY and self._seen.role is DbRole.PRIMARY
        if wanted.role is DbRole.DOWN or is_wrong_way:
            self._begin_stop()

    def prefer_direct(self, is_direct: bool) -> None:
        """Have WAL come over the direct connection, or not, where there is one. Never blocks.

        A standby's receiver is told by the next turn; an owner ends what the lost path left.
        """
        if not self._settings.peer_direct_address or self._instance.direct_first is is_direct:
            return
        self._instance.direct_first = is_direct
        self._stale_since = None if is_direct else self._clock()
        self._touch()

    async def checkpoint(self) -> None:
        """Write a checkpoint now, so that a stop that follows is short. Raises: DatabaseError."""
        await session.checkpoint(self._settings, deadline_s=CHECKPOINT_DEADLINE_S)

    async def reload(self) -> None:
        """Have renewed certificates and a changed configuration taken up. Raises: StateError."""
        await self._instance.refresh()
        if self._keeper.server is not None:
            self._keeper.server.signal(signal.SIGHUP)

    async def create_primary(self, lineage: Lineage) -> None:
        """Make the data directory of a new group; refused if there is one.

        Raises: CommandRefused, DatabaseError, StateError, ConfigError.
        """
        async with self._directory_lock:
            await create.create_primary(self._instance, lineage)
            self._seen.disk = None
        self._touch()

    async def run(self) -> None:
        """Work until closed. Adopts a server that runs already."""
        self._has_ended.clear()
        try:
            await self._prepare()
            health = asyncio.create_task(self._seen.health.run())
            try:
                while not self._is_closing:
                    if health.done():
                        health.result()  # it never returns: a mistake, which ends the lane too
                    self._wake.clear()
                    await self._turn()
                    await self._pause()
            finally:
                health.cancel()
                await self._rejoin.end()
                await asyncio.gather(health, return_exceptions=True)
        finally:
            self._has_ended.set()

    async def close(self, leave_running: bool = True) -> None:
        """End run(); the server goes on, to be adopted, or is stopped and waited for."""
        if not leave_running:
            self.set_wanted(DbWanted(stop=self._wanted.stop))
            while self._keeper.process is not DbProcess.DOWN and not self._has_ended.is_set():
                await asyncio.sleep(POLL_FAST_S)
        self._is_closing = True
        self._wake.set()
        self._seen.session.close()
        await self._has_ended.wait()
        await self._seen.close()
        self._instance.close()

    # -- turns -----------------------------------------------------------------------------

    async def _prepare(self) -> None:
        """Find programs and account, adopt what runs; tried again until it succeeds."""
        while not self._is_closing:
            self._wake.clear()
            try:
                await self._instance.prepare()
                await asyncio.to_thread(importlib.import_module, "psycopg")
                await self._seen.adopt()
                return
            except MseError as error:
                self._note_problem(error)
                self._push()
                await self._pause()

    async def _turn(self) -> None:
        async with self._directory_lock:
            try:
                await self._seen.observe(self._wanted, may_look=not self._rejoin.is_busy)
                if self._has_wanted:
                    await self._act()
                if self._stale_since is not None:
                    await self._drop_stale_link(self._stale_since)
                if self._keeper.process is DbProcess.UP:
                    self._note_success()
            except ConnectionLost:
                # The server went away in mid-sentence; its pidfd says more.
                self._seen.note_silence()
            except MseError as error:
                self._note_problem(error)
        self._push()

    async def _pause(self) -> None:
        delay_s = self.poll_interval_s
        if self._is_urgent():
            delay_s = POLL_FAST_S
        elif self._seen.pulse.is_quiet:
            delay_s = max(delay_s, POLL_QUIET_S)
        if self._stale_since is not None:
            delay_s = min(delay_s, POLL_STALE_S)
        delay_s = max(delay_s, (self._retry_at - self._clock()) / SECOND)
        # A timer rather than a timeout: that ends in an exception, at each of these pauses.
        timer = asyncio.get_running_loop().call_later(delay_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

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
        is_barred = view.names and (
            view.role is DbRole.PRIMARY
            and (not view.peer_streaming or view.peer_flush_lsn < view.barrier_lsn)
        )
        return wanted.role is not view.role or is_waiting or is_barred

    def _touch(self) -> None:
        self._changed_at = self._clock()
        self._wake.set()

    def _note_problem(self, error: MseError) -> None:
        self._problem = str(error)
        self._retry_at = Instant(self._clock() + int(self._retry_s * SECOND))
        self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)

    def _note_success(self) -> None:
        self._problem, self._retry_s = "", RETRY_S_MIN

    def _take_end(self) -> None:
        """The server process ended: say so before anything else."""
        self._seen.forget_server()
        if self._keeper.process is DbProcess.DOWN:
            self._push()
        self._touch()

    def _push(self) -> None:
        view = self._seen.view(
            self._wanted,
            self._step,
            problem=self._problem,
            progress=self._rejoin.progress_percent,
        )
        if view != self._view and (self._seen.has_observed or view.failure):
            self._view = view
            self._on_view(view)

    def _take_progress(self) -> None:
        self._push()
        self._wake.set()

    # -- acting ----------------------------------------------------------------------------

    async def _act(self) -> None:
        await self._find_wal_end()
        if self._seen.is_wal_lost:
            self._least_rung = Rung.REBUILD
        elif self._view.receiver is Receiver.STREAMING:
            self._least_rung = Rung.STREAM
        facts = replace(self._seen.facts(), least_rung=self._least_rung)
        self._step = step = next_step(self._wanted, facts)
        if self._rejoin.is_over(step.act):
            await self._take_rejoin()
        elif self._clock() >= self._retry_at or step.act not in ACTS_TRIED_AGAIN_LATER:
            await self._perform(step.act)

    async def _perform(self, act: Act) -> None:
        server, receiver_gate = self._keeper.server, self._seen.receiver_gate
        match act:
            case Act.NOTHING | Act.REFUSE:
                self._pursue_names()
            case Act.STOP:
                self._begin_stop()
            case Act.START_PRIMARY:
                await self._start(receiver=False)
            case Act.START_STANDBY:
                await self._start_standby()
            case Act.PROMOTE:
                await self._promote()
            case Act.CUT if server is not None:
                receiver_gate.cut(server)
            case Act.RECEIVE if server is not None:
                receiver_gate.receive(server)
            case Act.REWIND | Act.REBUILD if self._seen.disk is not None:
                self._seen.last_lsn = 0
                self._rejoin.begin(act, self._wanted, self._seen.disk)

    async def _drop_stale_link(self, since: Instant) -> None:
        """On an owner: end the sender of the lost path once the peer has come over the other."""
        if self._clock() - since > FAST_PERIOD_S * SECOND:
            self._stale_since = None  # its own timeout has ended it by now
        elif self._keeper.process is DbProcess.UP and self._seen.role is DbRole.PRIMARY:
            connection = await self._seen.session.connection()
            if await session.drop_stale_link(connection, self._settings):
                self._stale_since = None

    async def _find_wal_end(self) -> None:
        """Where our history ends decides between following and rewinding; only then it is read."""
        seen, wanted = self._seen, self._wanted
        disk = seen.disk
        if self._keeper.process is not DbProcess.DOWN or seen.wal_end is not None:
            return
        if disk is None or disk.record is None or wanted.role is not DbRole.STANDBY:
            return
        if not disk.is_clean and disk.record.lineage != wanted.lineage and not disk.marker:
            end = await find_wal_end(self._instance, disk)
            seen.wal_end = end if end is not None else END_UNKNOWN

    def _pursue_names(self) -> None:
        server, wanted, role = self._keeper.server, self._wanted, self._seen.role
        if server is None or self._keeper.process is not DbProcess.UP:
            return
        names = wanted.names and bool(self._settings.peer_id)  # nobody's name: never wait for it
        if wanted.role is role:
            self._seen.sync_gate.pursue(
                server,
                names=names,
                barrier_id=wanted.barrier_id,
                is_primary=role is DbRole.PRIMARY,
            )

    def _begin_stop(self) -> None:
        if self._keeper.server is not None:
            self._keeper.begin_stop(self._wanted.stop)
            self._seen.forget_server()

    async def _start(self, *, receiver: bool) -> None:
        delay_ns = self._keeper.start_delay_ns
        if delay_ns:
            self._retry_at = Instant(self._clock() + delay_ns)
            return
        names = self._wanted.names and bool(self._settings.peer_id)
        self._seen.health.begin()
        await self._keeper.start(names=names, receiver=receiver)
        if self._wanted.role is DbRole.DOWN:
            self._begin_stop()  # wanted changed while it was being started

    async def _start_standby(self) -> None:
        wanted, record = self._wanted, self._seen.record
        assert record is not None
        data_dir = self._settings.data_dir
        await self._instance.on_disk(
            lambda: self._instance.set_standby_signal(data_dir, is_standby=True)
        )
        self._seen.role = DbRole.STANDBY
        is_following = wanted.role is DbRole.STANDBY
        if is_following and wanted.lineage is not None and record.lineage != wanted.lineage:
            self._seen.record = await self._instance.update_record(
                lineage=wanted.lineage,
                parent_lineage=wanted.parent_lineage,
                fork_lsn=wanted.fork_lsn,
                promoting_to=None,
                promoting_fork_lsn=0,
            )
        await self._start(receiver=is_following and wanted.receiver)

    async def _promote(self) -> None:
        """Ask for the promotion; the intent is on disk first, so that its fate can be told."""
        server, wanted, seen = self._keeper.server, self._wanted, self._seen
        assert server is not None
        assert seen.record is not None
        seen.record = await self._instance.update_record(
            promoting_to=wanted.lineage or seen.record.lineage,
            promoting_fork_lsn=seen.receiver_gate.replay_lsn,
        )
        names = wanted.names and bool(self._settings.peer_id)
        if self._instance.told_names != names:
            seen.sync_gate.reset()
            await self._instance.write_dynamic(names=names)
            server.signal(signal.SIGHUP)
        await self._instance.on_disk(self._instance.request_promotion)
        if self._keeper.process is DbProcess.UP and self._wanted.role is DbRole.PRIMARY:
            seen.promoting_at = self._clock()
            server.signal(signal.SIGUSR1)
            self._touch()

    async def _take_rejoin(self) -> None:
        """Take the result of a rejoin that ended; stop one that is not wanted any more."""
        result = await self._rejoin.end()
        self._seen.disk = None
        if isinstance(result, MseError):
            self._note_problem(result)
        elif result is False:
            self._least_rung = Rung.REBUILD
        elif result is True:
            self._least_rung = Rung.STREAM
            self._note_success()
            self._seen.health.begin()
        self._touch()
