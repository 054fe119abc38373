"""Performs operations: audited before and after, kept, and told to the stream at each step."""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from openmse.api.audit import Audit, AuditEntry
from openmse.api.authentication import Principal
from openmse.api.errors import (
    AlreadyUnderWay,
    NotFound,
    OwnMistake,
    Stopping,
    TooMuchAtOnce,
    fault_of,
    outcome_of,
)
from openmse.api.operations import (
    KEPT,
    KeptOperation,
    Operation,
    OperationKind,
    OperationState,
    OperationStore,
    Step,
    is_id,
    new_id,
    with_step,
)
from openmse.cli.drill import Report
from openmse.errors import MseError
from openmse.node.runtime.event_log import wall_now

MAX_RUNNING = 8
_LOG = logging.getLogger("openmse.api")


class Asked(Struct, frozen=True, kw_only=True):
    """Who asks for a change, and from where; ``key``: what makes a repetition safe, or ''."""

    principal: Principal
    address: str
    key: str = ""

    @property
    def key_of_caller(self) -> str:
        """The key within the keys of this caller."""
        return f"{self.principal}/{self.key}" if self.key else ""


class Outcome(Struct, frozen=True):
    """How an operation ended well enough to have a sentence."""

    sentence: str
    state: OperationState = OperationState.DONE
    report: Report | None = None


class Reporter(Protocol):
    """What the work of an operation may tell on its way, and know."""

    @property
    def by(self) -> str:
        """Who asked for it."""

    def step(self, name: str, ms: float | None = None) -> None:
        """A step was reached."""


Work = Callable[[Reporter], Awaitable[Outcome]]


class _Running:
    """One operation under way."""

    def __init__(self, kept: KeptOperation, tell: Callable[[Operation], None]) -> None:
        self.kept = kept
        self.over = asyncio.Event()
        self._tell = tell
        self._started = time.monotonic()

    @property
    def operation(self) -> Operation:
        """As it is now, with the time that has passed."""
        operation = self.kept.operation
        return operation if operation.is_over else replace(operation, elapsed_ms=self.elapsed_ms())

    @property
    def by(self) -> str:
        """Who asked for it."""
        return self.kept.operation.by

    def elapsed_ms(self) -> float:
        """Since it began."""
        return round((time.monotonic() - self._started) * 1000, 1)

    def step(self, name: str, ms: float | None = None) -> None:
        """A step was reached."""
        step = Step(name, self.elapsed_ms() if ms is None else ms)
        self.update(with_step(self.kept.operation, step))

    def progress(self, percent: int | None) -> None:
        """What is measured of a copy under way has changed."""
        if percent != self.kept.operation.progress_percent:
            self.update(replace(self.kept.operation, progress_percent=percent))

    def update(self, operation: Operation) -> None:
        """Keep and tell it; not once it is over."""
        if not self.kept.operation.is_over:
            self.kept = replace(self.kept, operation=operation)
            self._tell(self.operation)


class Runner:
    """Every operation that this process has begun or remembers."""

    def __init__(
        self, node: str, store: OperationStore, audit: Audit, tell: Callable[[Operation], None]
    ) -> None:
        """``tell`` is called at each change of an operation, and must not block."""
        self._node = node
        self._store = store
        self._audit = audit
        self._tell = tell
        self._all: OrderedDict[str, _Running] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        for kept in store.load():
            running = _Running(kept, tell)
            running.over.set()
            self._all[kept.operation.id] = running

    def recover(self) -> None:
        """Write down what was under way when this process last ended: it is lost to us.

        Blocking; raises AuditUnavailable or StateError.
        """
        for lost in self._store.unsettled():
            operation = lost.operation
            entry = AuditEntry(
                at=wall_now(),
                who=operation.by,
                scope="",
                from_address=operation.from_address,
                action=operation.kind.value,
                args=operation.args,
                result=operation.state.value,
                sentence=operation.sentence,
                operation=operation.id,
            )
            self._audit.write(entry)
            self._store.save(lost)

    # -- looking ----------------------------------------------------------------------------

    def newest(self, state: str = "", limit: int = KEPT) -> list[Operation]:
        """The newest first; ``state`` '' for all."""
        found = [one.operation for one in reversed(self._all.values())]
        return [one for one in found if not state or one.state == state][:limit]

    def begun_by(self, asked: Asked) -> list[Operation]:
        """What this caller began with this key."""
        key = asked.key_of_caller
        return [one.operation for one in self._all.values() if key and one.kept.key == key]

    def get(self, operation_id: str) -> Operation:
        """One of them; raises NotFound."""
        return self._find(operation_id).operation

    def _find(self, operation_id: str) -> _Running:
        if not is_id(operation_id) or operation_id not in self._all:
            raise NotFound(
                "There is no such operation; the newest 200 are kept.", "GET /v1/operations"
            )
        return self._all[operation_id]

    async def wait_over(self, operation_id: str, within_s: float) -> Operation:
        """The operation once it is over, or as it is after ``within_s``."""
        running = self._find(operation_id)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running.over.wait(), within_s)
        return running.operation

    def on_progress(self, percent: int | None) -> None:
        """The health monitor measured a copy under way (None: nothing is measured)."""
        for running in self._under_way():
            if running.kept.operation.kind in (
                OperationKind.PAIR,
                OperationKind.DRILL,
                OperationKind.REJOIN,
            ):
                running.progress(percent)

    def _under_way(self) -> list[_Running]:
        return [one for one in self._all.values() if not one.over.is_set()]

    # -- doing ------------------------------------------------------------------------------

    async def begin(
        self, kind: OperationKind, args: dict[str, Any], asked: Asked, work: Work
    ) -> str:
        """Begin an operation; its id, or that of the one this repeats.

        ``args`` is kept and shown: no secrets. Raises AlreadyUnderWay, TooMuchAtOnce,
        AuditUnavailable or Stopping, and then nothing was begun.
        """
        repeated = self._repeated(kind, asked)
        if repeated is not None:
            return repeated
        self._refuse(kind)
        operation = Operation(
            id=new_id(),
            kind=kind,
            node=self._node,
            state=OperationState.RUNNING,
            args=args,
            by=str(asked.principal),
            from_address=asked.address,
            started_at=wall_now(),
        )
        kept = KeptOperation(operation, asked.key_of_caller)
        running = _Running(kept, self._tell)
        self._all[operation.id] = running  # taken before anything is awaited: no second one
        try:
            await asyncio.to_thread(self._store.save, kept)
            await asyncio.to_thread(self._audit.write, self._entry(operation, asked, "begun"))
        except MseError:
            del self._all[operation.id]
            self._store.prune(set(self._all))  # it was never begun: no trace that says so
            raise
        self._forget_oldest()
        self._tell(operation)
        task = asyncio.create_task(self._run(running, asked, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return operation.id

    def _repeated(self, kind: OperationKind, asked: Asked) -> str | None:
        key = asked.key_of_caller
        for one in self._all.values() if key else ():
            if one.kept.key == key and one.kept.operation.kind is kind:
                return one.kept.operation.id
        return None

    def _refuse(self, kind: OperationKind) -> None:
        if self._is_stopping:
            raise Stopping("This process is being stopped; nothing was begun.", "Ask again soon.")
        under_way = self._under_way()
        for one in under_way:
            operation = one.operation
            if operation.kind is kind or OperationKind.DRILL in (operation.kind, kind):
                raise AlreadyUnderWay(
                    f"The operation {operation.kind.value} of {operation.started_at}, begun by "
                    f"{operation.by}, is under way; nothing was changed.",
                    f"Follow it: GET /v1/operations/{operation.id}.",
                    operation=operation.id,
                )
        if len(under_way) >= MAX_RUNNING:
            raise TooMuchAtOnce(f"{MAX_RUNNING} operations are under way; nothing was changed.")

    def _forget_oldest(self) -> None:
        over = [key for key, one in self._all.items() if one.over.is_set()]
        for key in over[: max(0, len(self._all) - KEPT)]:
            del self._all[key]
        self._store.prune(set(self._all))

    async def _run(self, running: _Running, asked: Asked, work: Work) -> None:
        try:
            outcome = await work(running)
            ended = replace(
                running.operation,
                state=outcome.state,
                sentence=outcome.sentence,
                report=outcome.report,
            )
        except MseError as error:
            ended = _ended_badly(running.operation, error)
        except asyncio.CancelledError:
            raise
        except Exception:
            _LOG.exception("operation %s", running.operation.id)
            mistake = OwnMistake(
                "The management API made a mistake; what was begun may go on.",
                "Look at the status. Please report it with this process's log.",
            )
            ended = replace(_ended_badly(running.operation, mistake), state=OperationState.LOST)
        await self._end(running, asked, ended)

    async def _end(self, running: _Running, asked: Asked, ended: Operation) -> None:
        ended = replace(ended, ended_at=wall_now(), elapsed_ms=running.elapsed_ms())
        if ended.state is not OperationState.RUNNING and ended.progress_percent is not None:
            ended = replace(ended, progress_percent=None)
        kept = replace(running.kept, operation=ended)
        try:
            await asyncio.to_thread(self._store.save, kept)
            entry = self._entry(ended, asked, ended.state.value)
            await asyncio.to_thread(self._audit.write, entry)
        except MseError as error:  # it has happened: that it cannot be written changes nothing
            _LOG.error("operation %s: %s", ended.id, error.sentence)
        running.update(ended)
        running.over.set()

    def _entry(self, operation: Operation, asked: Asked, result: str) -> AuditEntry:
        fault = operation.error
        return AuditEntry(
            at=wall_now(),
            who=operation.by,
            scope=asked.principal.scope.value,
            from_address=operation.from_address,
            action=operation.kind.value,
            args=operation.args,
            result=result,
            code=fault.code if fault is not None else "",
            sentence=fault.sentence if fault is not None else operation.sentence,
            operation=operation.id,
        )

    async def record(self, asked: Asked, action: str, args: dict[str, Any]) -> None:
        """Audit a small change that is no operation, before it is made; AuditUnavailable."""
        await self._note(asked, action, args, None)

    async def record_end(
        self, asked: Asked, action: str, args: dict[str, Any], error: MseError | None
    ) -> None:
        """Audit how it ended; a full disk at this point is logged only."""
        try:
            await self._note(asked, action, args, error, is_end=True)
        except MseError as failure:
            _LOG.error("audit of %s: %s", action, failure.sentence)

    async def _note(
        self,
        asked: Asked,
        action: str,
        args: dict[str, Any],
        error: MseError | None,
        *,
        is_end: bool = False,
    ) -> None:
        result = "begun" if not is_end else "done" if error is None else outcome_of(error).state
        entry = AuditEntry(
            at=wall_now(),
            who=str(asked.principal),
            scope=asked.principal.scope.value,
            from_address=asked.address,
            action=action,
            args=args,
            result=result,
            code=error.code if error is not None else "",
            sentence=error.sentence if error is not None else "",
        )
        await asyncio.to_thread(self._audit.write, entry)

    async def stop(self, within_s: float) -> None:
        """Begin nothing more; wait a while for what is under way. What is left counts as lost."""
        self._is_stopping = True
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=within_s)
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _ended_badly(operation: Operation, error: MseError) -> Operation:
    outcome = outcome_of(error)
    sentence = error.sentence
    if outcome.state == "lost":
        sentence += " What was begun may go on: look at the status."
    return replace(
        operation,
        state=OperationState(outcome.state),
        sentence=sentence,
        error=fault_of(error, operation.id),
    )
