"""At most one rewind or rebuild, as a task beside the lane, so that a stop is never delayed."""

import asyncio
from collections.abc import Callable

from openmse.errors import MseError
from openmse.ha.local import DbWanted
from openmse.node.drivers.postgres.instance import DiskFacts, Instance
from openmse.node.drivers.postgres.rejoin import Rejoin, Upstream
from openmse.node.runtime.database_plan import Act


class RejoinKeeper:
    """Runs one rejoin at a time and keeps its result until it is taken."""

    def __init__(self, instance: Instance, on_change: Callable[[], None]) -> None:
        self.progress_percent = -1
        self._instance = instance
        self._on_change = on_change
        self._task: asyncio.Task[bool] | None = None
        self._act = Act.NOTHING

    @property
    def is_busy(self) -> bool:
        """Whether there is one, or a result that nobody took."""
        return self._task is not None

    def is_over(self, act: Act) -> bool:
        """Whether there is a result to take, or one under way that ``act`` does not ask for."""
        return self._task is not None and (self._task.done() or act is not self._act)

    def begin(self, act: Act, wanted: DbWanted, disk: DiskFacts) -> None:
        """Begin to follow the wanted history; nothing happens while one is under way."""
        if self._task is not None or wanted.lineage is None:
            return
        upstream = Upstream(
            lineage=wanted.lineage,
            parent_lineage=wanted.parent_lineage,
            fork_lsn=wanted.fork_lsn,
        )
        rejoin = Rejoin(self._instance, upstream, self._take_progress)
        work = rejoin.rewind(disk) if act is Act.REWIND else rejoin.rebuild(disk)
        self._act = act
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(lambda _: self._on_change())

    async def end(self) -> bool | MseError | None:
        """The result; None if there was none, or it was stopped before its end."""
        task, self._task = self._task, None
        if task is None:
            return None
        if not task.done():
            task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        self.progress_percent = -1
        if isinstance(result, asyncio.CancelledError):
            return None
        if isinstance(result, BaseException) and not isinstance(result, MseError):
            raise result
        return result

    def _take_progress(self, percent: int) -> None:
        self.progress_percent = percent
        self._on_change()
