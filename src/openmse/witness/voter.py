"""One group's vote: messages in, answers out once what they rest on is on disk.

The decisions are ``openmse.ha.witness``'s. While a record is being written the group's further
messages wait, so that no answer rests on what a crash would take back; other groups go on.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress

from openmse.errors import StateError
from openmse.ha import witness
from openmse.ha.effects import Effect, Persist, Send
from openmse.ha.messages import Beat, Message
from openmse.ha.values import Instant, Record
from openmse.ha.witness import WitnessGroup
from openmse.node.drivers.store import RecordStore

WAITING_LIMIT = 64
"""Messages of one group that may wait for its disk; beyond it the oldest are lost."""


class GroupVoter:
    """The vote of one group.

    ``send(to, message)``: called for each answer. ``disk``: where the blocking writes run; writes
    of different groups are under way together, so that the file system can join their fsyncs.
    ``on_trouble(sentence)``: '' when it is over.
    """

    def __init__(
        self,
        store: RecordStore,
        record: Record,
        *,
        send: Callable[[str, Message], None],
        on_record: Callable[[Record], None],
        on_trouble: Callable[[str], None],
        clock: Callable[[], Instant],
        disk: Executor,
    ) -> None:
        self._store = store
        self._state = witness.start(record, clock())
        self._saved = record
        self._send = send
        self._on_record = on_record
        self._on_trouble = on_trouble
        self._clock = clock
        self._disk = disk
        self._waiting: deque[Message] = deque(maxlen=WAITING_LIMIT)
        self._write: asyncio.Future[None] | None = None
        self._write_began = Instant(0)
        self._is_troubled = False
        self._is_closed = False
        self.last_heard: dict[str, Instant] = {}
        """When each node was last heard."""

    @property
    def state(self) -> WitnessGroup:
        """What is on disk, and the grants in memory."""
        return self._state

    @property
    def writing_ns(self) -> int:
        """For how long its present write has been under way; 0 where there is none."""
        return self._clock() - self._write_began if self._write is not None else 0

    def receive(self, message: Message) -> None:
        """Take a genuine message; answers at once where nothing has to be written. Never blocks."""
        self.last_heard[message.stamp.id] = self._clock()
        if self._write is None:
            self._execute(message)
        else:
            self._wait(message)

    async def close(self) -> None:
        """Take nothing more, and wait for a write that is under way.

        The ends of others' logs, which are kept with the next write, are written if they can be.
        """
        self._is_closed = True
        self._waiting.clear()
        if self._write is not None:
            await asyncio.wait([self._write])
        elif self._state.record != self._saved:
            loop = asyncio.get_running_loop()
            with suppress(StateError):
                await loop.run_in_executor(self._disk, self._store.save, self._state.record)

    def _wait(self, message: Message) -> None:
        if isinstance(message, Beat):  # a newer beat says all that the older one did
            for other in self._waiting:
                if isinstance(other, Beat) and other.stamp.id == message.stamp.id:
                    self._waiting.remove(other)
                    break
        self._waiting.append(message)

    def _execute(self, message: Message) -> None:
        if self._is_closed:
            return
        after, effects = witness.step(self._state, message, self._clock())
        must_persist = bool(effects) and isinstance(effects[0], Persist)
        if must_persist or _runs(after.record) != _runs(self._state.record):
            loop = asyncio.get_running_loop()
            self._write_began = self._clock()
            self._write = loop.run_in_executor(self._disk, self._store.save, after.record)
            self._write.add_done_callback(lambda done: self._written(done, after, effects))
        else:
            self._state = after
            self._answer(effects)

    def _written(
        self, done: asyncio.Future[None], after: WitnessGroup, effects: tuple[Effect, ...]
    ) -> None:
        self._write = None
        if done.cancelled() or self._is_closed:
            return
        error = done.exception()
        if error is None:
            self._state = after
            self._saved = after.record
            self._tell_trouble("")
            self._on_record(after.record)
            self._answer(effects)
        elif isinstance(error, StateError):
            # as if the message had been lost: what is in force is what was on disk before
            self._tell_trouble(f"{error.sentence} {error.hint}".strip())
        else:
            raise error
        while self._waiting and self._write is None:
            self._execute(self._waiting.popleft())

    def _tell_trouble(self, sentence: str) -> None:
        if sentence or self._is_troubled:
            self._is_troubled = bool(sentence)
            self._on_trouble(sentence)

    def _answer(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._send(effect.to, effect.message)


def _runs(record: Record) -> tuple[tuple[str, str, int, str], ...]:
    """Which starts of the nodes' processes were seen: a node that shows an older one has lost
    its memory, and this voter's own restart must not hide that."""
    return tuple(sorted((s.id, s.incarnation, s.boot, s.run) for s in record.seen))
