"""The health monitor of this machine as the API uses it: over the control socket, in threads.

The control client blocks, so each call has a thread of its own, which never keeps the process from
ending: what was begun goes on in the health monitor. The number of calls at once is bounded, since
the health monitor accepts few connections and the command line must always find one free.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Raw, Struct

from openmse.api.errors import TooMuchAtOnce
from openmse.errors import ControlError, MseError
from openmse.node.control.client import ControlClient, decode
from openmse.node.control.commands import Done, Progress, WatchArgs
from openmse.node.control.protocol import MAX_OPERATOR
from openmse.node.control.snapshot import Snapshot

T = TypeVar("T")
_LOG = logging.getLogger("openmse.api")
MAX_CALLS = 8
MAX_WAITING = 32
CALL_WITHIN_S = 5.0
OPERATION_WITHIN_S = 180.0
"""Between two lines of an operation's answer; the core's own deadlines are shorter."""
WATCH_EVERY_S = 1.0
SILENT_AFTER_S = 5.0
"""A health monitor that says nothing for so long, although asked each second, counts as down."""
AGAIN_AFTER_S = 0.5


async def in_thread(work: Callable[[], T], name: str) -> T:
    """Run ``work`` in a thread that does not outlive the process; its result or its error."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:  # handed on to whoever waits
            failure = error
        _post(loop, settle, result, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future


def _post(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return  # the loop has ended, and with it whoever waited


def _short(operator: str) -> str:
    """As the control socket takes it."""
    printable = (c if c.isprintable() else "?" for c in operator[:MAX_OPERATOR])
    return "".join(printable)


class Monitor:
    """Asks the health monitor."""

    def __init__(self, control_socket: Path) -> None:
        self._path = control_socket
        self._slots = asyncio.Semaphore(MAX_CALLS)
        self._waiting = 0

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting >= MAX_WAITING:
            raise TooMuchAtOnce(
                "Too many requests wait for the health monitor.", "Try again in a second."
            )
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def call(
        self, command: str, args: Struct | None = None, *, type: type[T] | Any = Any
    ) -> T:
        """Ask and wait for the result, for a few seconds. Raises MseError."""

        def work() -> T:
            with ControlClient(self._path) as client:
                found: T = client.call(command, args, type=type, within_s=CALL_WITHIN_S)
                return found

        async with self._slot():
            return await in_thread(work, f"call {command}")

    async def status(self) -> Snapshot:
        """The picture of this moment. Raises MseError."""
        found: Snapshot = await self.call("status", type=Snapshot)
        return found

    async def status_json(self) -> bytes:
        """The same as it came over the socket: nothing is added or lost on the way."""
        found: Raw = await self.call("status", type=Raw)
        return bytes(found)

    async def perform(
        self,
        command: str,
        args: Struct | None,
        on_step: Callable[[Progress], None],
        *,
        operator: str,
    ) -> Done:
        """Ask for a change and see it through; ``on_step`` is called in the loop. Raises MseError.

        ``operator``: who asked for it, for the health monitor's own records.
        Not counted among the calls: operations are few and bounded themselves.
        """
        loop = asyncio.get_running_loop()

        def work() -> Done:
            with ControlClient(self._path, operator=_short(operator)) as client:
                for reply in client.stream(command, args, within_s=OPERATION_WITHIN_S):
                    if reply.event is not None:
                        _post(loop, on_step, decode(reply.event, Progress))
                    elif reply.result is not None:
                        done: Done = decode(reply.result, Done)
                        return done
            raise ControlError("The daemon ended the answer without a result.")

        return await in_thread(work, f"operation {command}")

    async def with_client(
        self, work: Callable[[ControlClient], T], name: str, *, operator: str
    ) -> T:
        """Run blocking work that needs a client for long, such as a rehearsal. Raises MseError."""

        def run() -> T:
            with ControlClient(self._path, operator=_short(operator)) as client:
                return work(client)

        return await in_thread(run, name)


class Watcher:
    """Follows the health monitor in a thread: every picture, and when it goes or comes."""

    def __init__(
        self,
        control_socket: Path,
        on_picture: Callable[[bytes], None],
        on_down: Callable[[MseError], None],
    ) -> None:
        """Both are called in the loop that calls ``start``; a picture is a Snapshot as JSON."""
        self._path = control_socket
        self._on_picture = on_picture
        self._on_down = on_down
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to follow."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, args=(loop,), name="watch", daemon=True).start()

    def stop(self) -> None:
        """Follow no longer; the thread ends with the next picture, or with the process."""
        self._stop.set()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stop.is_set():
            try:
                with ControlClient(self._path) as client:
                    self._follow(client, loop)
            except MseError as error:
                _post(loop, self._on_down, error)
            except Exception as error:  # the top of this thread: it must never end in silence
                _LOG.exception("following the health monitor")
                mistake = ControlError(
                    f"The management API made a mistake ({type(error).__name__}) while following "
                    "the health monitor.",
                    "Please report it with this process's log.",
                )
                _post(loop, self._on_down, mistake)
            self._stop.wait(AGAIN_AFTER_S)

    def _follow(self, client: ControlClient, loop: asyncio.AbstractEventLoop) -> None:
        for reply in client.stream("watch", WatchArgs(WATCH_EVERY_S), within_s=SILENT_AFTER_S):
            if self._stop.is_set():
                return
            if reply.event is not None:
                _post(loop, self._on_picture, bytes(reply.event))
