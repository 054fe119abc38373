"""A thread that writes what may be lost: the loop hands it work and never waits for a disk.

The queue is bounded; what does not fit is refused and counted by whoever asked.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

Job = Callable[[], None]
QUEUE_LIMIT = 256
CLOSE_WITHIN_S = 2.0


class Background:
    """One thread, one queue of jobs. Jobs handle their own errors: one that raises ends nothing."""

    def __init__(self, name: str, limit: int = QUEUE_LIMIT) -> None:
        self._jobs: queue.Queue[Job | None] = queue.Queue(limit)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, job: Job) -> bool:
        """Hand over a job; False where the queue is full and the job was not taken."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    async def wait_idle(self) -> None:
        """Return when everything that was handed over before has been done."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(done.set)

        while not self.put(tell):
            await asyncio.sleep(0.01)
        await done.wait()

    def drain(self, within_s: float) -> None:
        """Wait for what was handed over before, blocking, but no longer than this."""
        done = threading.Event()
        if self.put(done.set):
            done.wait(within_s)

    def close(self) -> None:
        """Do what is queued, then end the thread; gives up on a disk that hangs."""
        with suppress(queue.Full):
            self._jobs.put(None, timeout=CLOSE_WITHIN_S)
        self._thread.join(CLOSE_WITHIN_S)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            with suppress(OSError):
                job()
