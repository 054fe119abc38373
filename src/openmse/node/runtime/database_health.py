"""Whether the database can do its work: the disk, a test write, and what the log complains of."""

import asyncio
from collections.abc import Callable

from openmse.errors import MseError
from openmse.ha.local import DbRole
from openmse.node.drivers.postgres import session
from openmse.node.drivers.postgres.connection import ConnectionLost
from openmse.node.drivers.postgres.disk import DiskWatch
from openmse.node.drivers.postgres.instance import Instance
from openmse.node.drivers.postgres.log import LogWatch

HOUSEKEEPING_ROUNDS = 10
WEAK_ROUNDS = 60
DEADLINE_S = 10.0
PROBE_RETRY_S = 0.1


class HealthWatch:
    """Probes an instance beside the lane; never holds it up."""

    def __init__(self, instance: Instance, on_change: Callable[[], None]) -> None:
        self._instance = instance
        self._settings = instance.settings
        self._on_change = on_change
        self._session = session.Session(instance.settings)
        self._disk = DiskWatch(instance.settings)
        self._disk_check: asyncio.Future[str] | None = None
        self._log = LogWatch(instance.settings.log_file)
        self._round = 0
        self._is_slot_settled = False
        self._waits_seen = self._waits_settled = 0
        self._waits_lsn = 0
        self.role = DbRole.DOWN
        """What runs and answers at the moment; DOWN while nothing does."""
        self.peer_flush_lsn = 0
        self.problem = ""
        """Why the database cannot do its work; '' while it can."""
        self.complaint = ""
        """What does not work beside that, and is no reason to move."""
        self.weak_sessions: tuple[str, ...] = ()

    @property
    def cancelled_waits(self) -> int:
        """Commits that stopped waiting for the peer, since this process began (protocol §5.4)."""
        return self._log.cancelled_waits

    @property
    def unsettled_waits(self) -> int:
        """Those of them that no barrier has passed yet: the peer may still lack them."""
        return self._log.cancelled_waits - self._waits_settled

    def settle_waits(self, *, flush_lsn: int, peer_flush_lsn: int, is_receiving: bool) -> None:
        """A look at the server: what was flushed here after a wait was cancelled is its barrier.

        ``is_receiving``: this node follows the other, whose history is what counts now.
        """
        count = self._log.cancelled_waits
        if count != self._waits_seen:
            self._waits_seen, self._waits_lsn = count, flush_lsn
        if is_receiving or peer_flush_lsn >= self._waits_lsn:
            self._waits_settled = self._waits_seen

    @property
    def is_wal_gone(self) -> bool:
        """The peer no longer has the WAL that this standby needs."""
        return self._log.is_wal_gone

    def forget_complaints(self) -> None:
        """The standby receives: what it complained of before is past."""
        self._log.is_wal_gone = False

    def begin(self) -> None:
        """A server is about to start: what an earlier one said or failed at is past."""
        self._log.begin()
        self._is_slot_settled = False

    def set_role(self, role: DbRole) -> None:
        """What runs now."""
        if role is not self.role:
            self.role = role
            self._is_slot_settled = False
            self._session.close()

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            await asyncio.sleep(self._settings.probe_interval_s)
            problem = await self._check()
            if problem != self.problem:
                self.problem = problem
                self._on_change()
            elif self.is_wal_gone:
                self._on_change()

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    async def _check(self) -> str:
        self._round += 1
        role = self.role
        problem = await self._check_disk() or await self._probe(role)
        if not problem and role is not DbRole.DOWN:
            self.complaint = ""
            try:
                await self._keep_house(role)
            except MseError as error:
                self.complaint = error.sentence if self.role is role else ""
        return problem

    async def _check_disk(self) -> str:
        """A disk that hangs keeps its thread, so there is never more than one."""
        if self._disk_check is None:
            self._disk_check = asyncio.get_running_loop().run_in_executor(None, self._look)
        try:
            async with asyncio.timeout(self._settings.probe_deadline_s):
                problem = await asyncio.shield(self._disk_check)
        except TimeoutError:
            return f"The disk of {self._settings.data_dir} does not answer."
        self._disk_check = None
        return problem

    def _look(self) -> str:
        """In the thread."""
        self._log.read()
        return self._disk.check()

    async def _probe(self, role: DbRole) -> str:
        """A test write. A connection that breaks is tried again until the deadline: a server that
        just died or stopped is the lane's affair, not a failed write.
        """
        if role is not DbRole.PRIMARY:
            return ""
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        while self.role is role:
            try:
                connection = await self._session.connection()
                return await session.probe_write(connection, self._settings)
            except ConnectionLost as error:
                await asyncio.sleep(PROBE_RETRY_S)
                if self.role is role and loop.time() - began_at > self._settings.probe_deadline_s:
                    return await self._check_disk() or error.sentence
        return ""

    async def _keep_house(self, role: DbRole) -> None:
        if self._round % WEAK_ROUNDS == 1:
            connection = await self._session.connection()
            self.weak_sessions = await session.ask_weak_sessions(connection, deadline_s=DEADLINE_S)
            await self._instance.on_disk(self._instance.trim_log)
        if not self._settings.peer_id:
            return
        if role is DbRole.STANDBY and not self._is_slot_settled:
            await session.drop_slot(await self._session.connection(), self._settings)
            self._is_slot_settled = True
        elif role is DbRole.PRIMARY and (
            not self._is_slot_settled or self._round % HOUSEKEEPING_ROUNDS == 0
        ):
            connection = await self._session.connection()
            await session.keep_slot(connection, self._settings, self.peer_flush_lsn)
            self._is_slot_settled = True
