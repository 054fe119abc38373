"""Long actions: begun at an engine, followed step by step, kept after the end.

An action lives in the store; this module follows the engine's operation that carries it out. A
console that was restarted meanwhile takes it up again by the operation's id.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from openmse.console.errors import (
    ConsoleStoreError,
    NeverAsked,
    NodeRefused,
    NodeUnreachable,
    NotFound,
)
from openmse.console.live.feed import EngineFeed
from openmse.console.live.fleet import Fleet
from openmse.console.live.onlooker import Onlooker
from openmse.console.live.pairs import pair_of
from openmse.console.nodes.models import TEXT_MAX, Operation, Operations
from openmse.console.store.audit import Audit
from openmse.console.store.past import SEEN, Action, Past, Step, new_action_id
from openmse.console.store.store import now
from openmse.errors import MseError

ASK_EVERY_S = 0.25
FOLLOW_MAX_S = 3600.0
KEPT_IN_MEMORY = 200
STEPS_MAX = 200
TIDY_S = 60.0
WRITE_AGAIN_S = 2.0
LOOK_ON_S = 60.0
"""For as long, at most, machines are looked at after the end: the old owner rejoins."""

Around = tuple[tuple[Step, ...], tuple[Step, ...]]
"""Steps that the console did before, and what it has seen of the machines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked of an engine."""

    kind: str
    engine_id: int
    title: str
    method: str
    path: str
    body: dict[str, Any] = field(repr=False)
    who: str
    before: tuple[Step, ...] = ()
    """Steps that the console has done already, such as preparing the other machine."""


class Actions:
    """All actions that are under way, and the way to those that ended."""

    def __init__(self, fleet: Fleet, past: Past, audit: Audit, changed: Callable[[], None]) -> None:
        self._fleet = fleet
        self._past = past
        self._audit = audit
        self._changed = changed
        self._known: dict[str, Action] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._looked_at: set[str] = set()
        self._unwritten: dict[str, Callable[[], None]] = {}
        """What the store could not take, by what it is of; written once the store works again."""
        self._is_writing_later = False

    def get(self, action_id: str) -> Action:
        """One action; raises NotFound. Blocking where it has ended long ago."""
        found = self._known.get(action_id)
        return found if found is not None else self._past.action(action_id)

    def at_hand(self, action_id: str) -> Action:
        """One action, for pages that are kept up to date: asks no store. Raises NotFound."""
        found = self._known.get(action_id)
        if found is None:
            raise NotFound("There is no such action in this console.")
        return found

    async def recall(self, action_id: str) -> None:
        """Have an action at hand that has ended long ago, if there is one."""
        with contextlib.suppress(MseError):
            found = await asyncio.to_thread(self.get, action_id)
            if found.state != "running":  # else it is at hand, or was refused just now
                self._known.setdefault(action_id, found)
                self._forget_oldest()

    def running_of(self, engine_ids: tuple[int, ...]) -> Action | None:
        """What is under way at these engines."""
        for action in self._known.values():
            if action.engine_id in engine_ids and action.state == "running":
                return action
        return None

    async def begin(self, order: Order) -> Action:
        """Begin an operation; raises MseError where it is refused at once (nothing changed).

        It is written down first: a console that dies now knows after its restart what it asked.
        """
        feed = self._fleet.feed(order.engine_id)
        action = Action(
            id=new_action_id(),
            kind=order.kind,
            engine_id=order.engine_id,
            title=order.title,
            who=order.who,
            state="running",
            started_at=now(),
            steps=order.before,
        )
        await self._write_down(action)
        onlooker = self._onlooker(order.engine_id)
        onlooker.begin()
        try:
            operation = await feed.client.begin(
                order.method, order.path, order.body, key=action.id, wait_s=0.2
            )
        except BaseException:
            onlooker.end()
            await self._forget(action)
            raise
        action = merged(action, operation, (order.before, onlooker.steps))
        await self._keep(action)
        if action.state != "running":
            await self._note_end(action)
        self._spawn(self._follow(feed, action, operation.id, (order.before, onlooker)))
        return action

    def is_looked_at(self, action_id: str) -> bool:
        """Whether there may be more to see of it: it goes on, or the machines are not calm yet."""
        return action_id in self._looked_at

    def _onlooker(self, engine_id: int) -> Onlooker:
        """Looks at the engine, and at the other one of its pair where this console has it."""
        pair = pair_of(self._fleet.all(), engine_id)
        engine_ids = pair.engine_ids if pair is not None else (engine_id,)
        for one in engine_ids:
            self._fleet.watch(one)
        return Onlooker([self._fleet.feed(one) for one in engine_ids], self._changed)

    async def run(self, action: Action, work: Callable[[Action], Awaitable[Action]]) -> Action:
        """Carry out an action of several parts (pairing); ``work`` keeps it up to date."""
        await self._write_down(action)
        self._spawn(self._work(action, work))
        return action

    async def keep(self, action: Action) -> None:
        """An action has moved on."""
        await self._keep(action)

    async def follow_to_end(
        self,
        feed: EngineFeed,
        action: Action,
        operation_id: str,
        around: Callable[[], Around],
    ) -> Action:
        """Follow an engine's operation until it has ended; the action as it ended. ``around``:
        the steps that are not the operation's."""
        deadline_s = time.monotonic() + FOLLOW_MAX_S
        silent_since_s = 0.0
        while time.monotonic() < deadline_s:
            try:
                operation = await feed.client.operation(operation_id)
                silent_since_s = 0.0
            except NodeRefused as error:
                if error.node_status in (401, 403, 404):
                    return _lost(action, error)
            except NodeUnreachable as error:
                silent_since_s = silent_since_s or time.monotonic()
                if time.monotonic() - silent_since_s > TIDY_S:
                    return _lost(action, error)
            else:
                action = merged(action, operation, around())
                if action.state != "running":
                    return action
                await self._keep(action)
            await asyncio.sleep(ASK_EVERY_S)
        return _lost(action, NotFound("It took longer than an hour and is not followed any more."))

    async def take_up(self) -> None:
        """After a restart: go on following what was under way, as far as the engines know of it.

        Pairing has parts that only the console that began it could carry on: it says so.
        """
        for action in await asyncio.to_thread(self._past.running_actions):
            self._known[action.id] = action
            self._spawn(self._resume(action))

    async def _resume(self, action: Action) -> None:
        try:
            feed = self._fleet.feed(action.engine_id)
            operation = await self._begun_before(feed, action) if action.kind != "pair" else None
        except MseError as error:
            await self._end(_lost(action, error))
            return
        if operation is None:
            await self._end(_restarted(action))
            return
        around = around_of(action, operation)
        action = merged(action, operation, around)
        if action.state == "running":
            action = await self.follow_to_end(feed, action, operation.id, lambda: around)
        await self._end(action)

    async def _begun_before(self, feed: EngineFeed, action: Action) -> Operation | None:
        """The engine's operation of an action, None if the engine cannot tell. Raises MseError."""
        deadline_s = time.monotonic() + TIDY_S
        while True:
            try:
                found = await feed.client.get("/v1/operations", Operations, key=action.id)
                break
            except NodeUnreachable:
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(WRITE_AGAIN_S)
        if found.key == action.id and not found.operations:
            raise NeverAsked(
                "The console was restarted before the engine was asked; nothing was changed.",
                "Begin it again.",
            )
        return found.operations[0] if found.key == action.id else None

    async def stop(self) -> None:
        """Follow nothing any more; the engines go on."""
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _follow(
        self,
        feed: EngineFeed,
        action: Action,
        operation_id: str,
        around: tuple[tuple[Step, ...], Onlooker],
    ) -> None:
        before, onlooker = around
        self._looked_at.add(action.id)
        try:
            if action.state == "running":
                action = await self.follow_to_end(
                    feed, action, operation_id, lambda: (before, onlooker.steps)
                )
                await self._end(action)
            await self._calm_down(action, onlooker)
        finally:
            onlooker.end()
            self._looked_at.discard(action.id)

    async def _calm_down(self, action: Action, onlooker: Onlooker) -> None:
        """It has ended; what the machines still do (such as rejoining) belongs to it, too."""
        deadline_s = time.monotonic() + LOOK_ON_S
        while not onlooker.is_calm() and time.monotonic() < deadline_s:
            await asyncio.sleep(ASK_EVERY_S)
            told = tuple(step for step in action.steps if step.state != SEEN)
            await self._keep(replace(action, steps=(*told, *onlooker.steps)))

    async def _work(self, action: Action, work: Callable[[Action], Awaitable[Action]]) -> None:
        try:
            ended = await work(action)
        except MseError as error:
            current = self._known.get(action.id, action)
            ended = failed(current, error)
        await self._end(ended)

    async def _end(self, action: Action) -> None:
        await self._keep(action)
        await self._note_end(action)

    async def _note_end(self, action: Action) -> None:
        await self._write(
            f"end of {action.id}",
            lambda: self._audit.add(
                who=action.who,
                action=action.kind,
                target=action.title,
                outcome=action.state,
                detail=action.sentence,
            ),
        )

    async def _write(self, of_what: str, work: Callable[[], None]) -> None:
        """Write to the store; where it fails, again later: what is followed goes on."""
        self._unwritten.pop(of_what, None)
        try:
            await asyncio.to_thread(work)
        except MseError:
            self._unwritten[of_what] = work
            if not self._is_writing_later:
                self._is_writing_later = True
                self._spawn(self._write_later())

    async def _write_later(self) -> None:
        while self._unwritten:
            await asyncio.sleep(WRITE_AGAIN_S)
            for of_what, work in list(self._unwritten.items()):
                try:
                    await asyncio.to_thread(work)
                except MseError:
                    break
                if self._unwritten.get(of_what) is work:
                    del self._unwritten[of_what]
        self._is_writing_later = False

    async def _write_down(self, action: Action) -> None:
        """Keep what is about to be asked; raises ConsoleStoreError, and then nothing is asked."""
        try:
            await asyncio.to_thread(self._past.keep_action, action)
        except MseError as error:
            raise ConsoleStoreError(
                f"{error.sentence} Nothing was asked of the engine, nothing was changed.",
                f"{error.hint} Meanwhile 'mse' on the engine does the same.".strip(),
            ) from error
        await self._keep(action)

    async def _forget(self, action: Action) -> None:
        """It was refused at once: who asked has the answer, and there is nothing to follow."""
        self._known.pop(action.id, None)
        self._changed()
        await self._write(f"action {action.id}", lambda: self._past.forget_action(action.id))

    async def _keep(self, action: Action) -> None:
        if self._known.get(action.id) == action:
            return
        self._known.pop(action.id, None)
        self._known[action.id] = action
        self._forget_oldest()
        self._changed()
        await self._write(f"action {action.id}", lambda: self._past.keep_action(action))

    def _forget_oldest(self) -> None:
        for old in list(self._known.values()):
            if len(self._known) <= KEPT_IN_MEMORY:
                break
            if old.state != "running":
                self._known.pop(old.id)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def merged(action: Action, operation: Operation, around: Around) -> Action:
    """The action as the engine's operation tells it; its steps count on from those before. Pure."""
    is_running = operation.state == "running"
    before, seen = around
    steps = [*before]
    offset_ms = before[-1].ms if before else 0.0
    reached = operation.steps[:STEPS_MAX]
    for index, step in enumerate(reached):
        is_last = index == len(reached) - 1
        state = "running" if is_last and is_running and not step.is_done else "done"
        if is_last and operation.state == "failed" and not step.is_done:
            state = "failed"
        ms = round(step.ms + offset_ms, 1) if step.ms >= 0 else step.ms
        name, sentence = step.name[:TEXT_MAX], step.sentence[:TEXT_MAX]
        steps.append(Step(operation.node[:64], name, state, ms, sentence))
    error = operation.error
    return replace(
        action,
        state=operation.state,
        steps=(*steps, *seen),
        progress_percent=-1 if operation.progress_percent is None else operation.progress_percent,
        sentence=(operation.sentence or (error.sentence if error else ""))[:TEXT_MAX],
        hint=error.hint[:TEXT_MAX] if error else "",
        ended_at="" if is_running else (operation.ended_at or now()),
    )


def around_of(action: Action, operation: Operation) -> Around:
    """What is kept of an action besides its operation's steps. Pure."""
    told = {(operation.node, step.name) for step in operation.steps}
    seen = tuple(step for step in action.steps if step.state == SEEN)
    before = tuple(
        step
        for step in action.steps
        if step.state != SEEN and (step.machine, step.name) not in told
    )
    return before, seen


def failed(action: Action, error: MseError) -> Action:
    """The action as it ended by an error; the step under way is where it stands. Pure."""
    steps = tuple(
        replace(step, state="failed") if step.state == "running" else step for step in action.steps
    )
    return replace(
        action,
        state="failed",
        ended_at=now(),
        sentence=error.sentence,
        hint=error.hint,
        steps=steps,
    )


def _restarted(action: Action) -> Action:
    sentence = (
        "The console was restarted while this was under way; what was begun goes on at "
        "the engine. Its state shows what came of it."
    )
    return replace(action, state="lost", ended_at=now(), sentence=sentence)


def _lost(action: Action, error: MseError) -> Action:
    if isinstance(error, NeverAsked):
        return replace(failed(action, error), state="refused")
    sentence = f"The outcome is not known here: {error.sentence}"
    hint = "What was begun goes on at the engine; its state shows what came of it."
    return replace(action, state="lost", ended_at=now(), sentence=sentence, hint=hint)
