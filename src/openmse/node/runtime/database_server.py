"""The life of the server process: start, adopt, stop, and the moment it dies."""

import asyncio
import signal
from collections import deque
from collections.abc import Callable

from openmse.ha.local import DbProcess, Stop
from openmse.ha.values import SECOND, Instant
from openmse.node.drivers.postgres.instance import Instance
from openmse.node.drivers.postgres.process import (
    READY_STATES,
    Server,
    end_unborn_sessions,
    kill_all,
    read_pid_file,
    wait_no_leftovers,
)

KILL_AFTER_S = 0.3
"""An immediate stop becomes SIGKILL after this."""
UNBORN_EVERY_S = 0.02
"""How often a fast stop looks for children that would hold it up."""
OVER_BUDGET_PAUSE_S = 5.0
"""How long to wait before another start once the restart budget is used up."""


class ServerKeeper:
    """At most one server process, and what it is going through."""

    def __init__(
        self, instance: Instance, clock: Callable[[], Instant], on_end: Callable[[], None]
    ) -> None:
        self.process = DbProcess.DOWN
        self.server: Server | None = None
        self._instance = instance
        self._clock = clock
        self._on_end = on_end
        self._deaths: deque[Instant] = deque()
        self._stop: Stop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def adopt(self) -> bool:
        """Take over a server that runs already; whether there is one."""
        self.server = Server.adopt(self._instance.settings.data_dir)
        if self.server is None:
            return False
        self.process = DbProcess.STARTING  # until it answers
        self.server.watch(self._take_death)
        return True

    async def start(self, *, names: bool, receiver: bool) -> None:
        """Start the server on the data directory as it is. Raises: DatabaseError, StateError."""
        server = await self._instance.start(names=names, receiver=receiver)
        self.server, self.process, self._stop = server, DbProcess.STARTING, None
        server.watch(self._take_death)

    @property
    def accepts_connections(self) -> bool:
        """Whether the postmaster says so: cheaper to ask than to be refused."""
        return read_pid_file(self._instance.settings.data_dir)[1] in READY_STATES

    def begin_stop(self, stop: Stop) -> None:
        """Signal a stop; a more urgent one replaces one under way, never the other way round."""
        server = self.server
        if server is None or self._stop is Stop.IMMEDIATE or self._stop is stop:
            return
        self.process, self._stop = DbProcess.STOPPING, stop
        self._cancel_timer()
        loop = asyncio.get_running_loop()
        if stop is Stop.FAST:
            server.signal(signal.SIGINT)
            deadline_s = self._instance.settings.stop_deadline_s
            self._timer = loop.call_later(deadline_s, self.begin_stop, Stop.IMMEDIATE)
            loop.call_later(UNBORN_EVERY_S, self._end_unborn, server)
        else:
            server.signal(signal.SIGQUIT)
            self._timer = loop.call_later(KILL_AFTER_S, self._kill)

    async def finish_stop(self) -> None:
        """After the postmaster ended: nothing of it is left. Raises: DatabaseError."""
        await wait_no_leftovers(self._instance.settings.data_dir)
        self.process, self._stop = DbProcess.DOWN, None

    @property
    def is_over_budget(self) -> bool:
        """Whether the server died more often of late than it may (protocol: restart budget)."""
        settings = self._instance.settings
        oldest = self._clock() - int(settings.restart_window_s * SECOND)
        while self._deaths and self._deaths[0] < oldest:
            self._deaths.popleft()
        return len(self._deaths) > settings.restart_budget

    @property
    def start_delay_ns(self) -> int:
        """How long to wait before the next start; 0 within the budget."""
        if not self.is_over_budget:
            return 0
        again_at = self._deaths[-1] + int(OVER_BUDGET_PAUSE_S * SECOND)
        return max(0, again_at - self._clock())

    @property
    def deaths(self) -> int:
        """Unexpected ends within the window."""
        return len(self._deaths)

    def close(self) -> None:
        """Forget the server and leave it running."""
        self._cancel_timer()
        if self.server is not None:
            self.server.release()
            self.server = None

    def _end_unborn(self, server: Server) -> None:
        """While ``server`` stops fast: end children that wait for a client kept out."""
        if self.server is server and self._stop is Stop.FAST:
            end_unborn_sessions(self._instance.settings.data_dir, server.pid)
            asyncio.get_running_loop().call_later(UNBORN_EVERY_S, self._end_unborn, server)

    def _kill(self) -> None:
        kill_all(self._instance.settings.data_dir)
        if self.server is not None:
            self.server.signal(signal.SIGKILL)

    def _take_death(self) -> None:
        """From the event loop, within a millisecond of the postmaster's end."""
        self._cancel_timer()
        if self.server is not None:
            self.server.release()
            self.server = None
        if self._stop is None:
            # Orphaned backends hold the shared memory, and nobody else will end a frozen one.
            kill_all(self._instance.settings.data_dir)
            self._deaths.append(self._clock())
            self.process = DbProcess.DOWN
        self._on_end()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
