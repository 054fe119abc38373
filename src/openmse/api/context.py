"""What the routes work with: made once per process, carried by the application, no globals."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

from openmse.api.answers import ClaimView, ConsoleView
from openmse.api.audit import Audit, AuditEntry
from openmse.api.authentication import Authenticator
from openmse.api.config import ManagementConfig
from openmse.api.errors import GuessesExhausted, TooMuchAtOnce
from openmse.api.events import Tail, event_of
from openmse.api.hub import Hub
from openmse.api.identity import ensure_certificate, fingerprint, tls_files
from openmse.api.monitor import Monitor, Watcher
from openmse.api.operations import OperationStore
from openmse.api.people import People
from openmse.api.runner import Runner
from openmse.api.store import ManagementPlaces, prepare
from openmse.errors import MseError
from openmse.node.config import NodeConfig
from openmse.node.control.snapshot import Snapshot
from openmse.node.runtime.event_log import wall_now

LOOK_EVERY_S = 0.25
"""How often the event log is looked at for what is new."""
MAX_REFUSALS_PER_MINUTE = 6
MAX_READS = 2
MAX_READS_WAITING = 16
_LOG = logging.getLogger("openmse.api")


class Context:
    """One admin process."""

    def __init__(self, node: NodeConfig, node_path: Path, config: ManagementConfig) -> None:
        """Makes what is missing on disk; raises StateError. Blocking."""
        self.node = node
        self.node_path = node_path
        self.config = config
        self.places = ManagementPlaces.of(node.places.state_dir)
        prepare(self.places)
        hosts = tuple(host for host in (node.node.host, node.node.host6) if host)
        if not config.management.certificate_file:
            ensure_certificate(self.places, node.node.name, hosts)
        self.tls = tls_files(config, self.places)
        self.fingerprint = fingerprint(self.tls.certificate)
        self.started_at = wall_now()
        self.people = People(self.places)
        self.authenticator = Authenticator(self.people)
        self.monitor = Monitor(node.places.control_socket)
        self.audit = Audit(self.places)
        self.hub = Hub(node.node.name, node.node.role.value, config.limits.streams)
        self.runner = Runner(
            node.node.name,
            OperationStore(self.places.operations),
            self.audit,
            self.hub.on_operation,
        )
        try:
            self.runner.recover()
        except MseError as error:  # a full disk, say: what can be served is served
            _LOG.error("recovering operations: %s", error.sentence)
        self.hub.on_snapshot = self._on_snapshot
        self.authenticator.on_refusal = self._on_refusal
        self._refusals_audited_at: list[float] = []
        self._watcher = Watcher(node.places.control_socket, self.hub.on_picture, self.hub.on_down)
        self._tail: Tail | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._claim = self.people.claim.read()
        console = self._claim.console
        self.hub.know_console(console.id if console is not None else None)
        self._reads = asyncio.Semaphore(MAX_READS)
        self._reads_waiting = 0

    def start(self) -> None:
        """Begin to follow the health monitor and the event log; within the loop."""
        self._tail = Tail(self.node.places.events)
        self._watcher.start()
        self._tasks.add(asyncio.create_task(self._look()))

    async def stop(self) -> None:
        """Let go of everything; operations get a moment to end."""
        self.hub.close("The management API of this node is being stopped.")
        await self.runner.stop(within_s=2.0)
        self._watcher.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tail is not None:
            self._tail.close()

    async def _look(self) -> None:
        """Every moment: what is new in the event log, and whether the claim has changed."""
        assert self._tail is not None
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for entry in self._tail.new():
                self.hub.on_event(event_of(entry))
            with contextlib.suppress(MseError):  # a file that cannot be read is told to who asks
                self.tell_claim()

    def _on_snapshot(self, snapshot: Snapshot | None) -> None:
        percent = snapshot.progress_percent if snapshot is not None else -1
        if snapshot is not None and percent < 0 and snapshot.peer is not None:
            percent = snapshot.peer.progress_percent
        self.runner.on_progress(percent if percent >= 0 else None)

    def _on_refusal(self, address: str, user: str, wait_s: float) -> None:
        """Guessing shows in the audit; bounded, so that nobody can push the rest out of it."""
        now_s = time.monotonic()
        recent = [at for at in self._refusals_audited_at if now_s - at < 60.0]
        self._refusals_audited_at = recent
        if len(recent) >= MAX_REFUSALS_PER_MINUTE:
            return
        recent.append(now_s)
        # A stranger's word, which 'mse admin audit' prints on a terminal.
        name = "".join(c if c.isprintable() else "?" for c in user[:64])
        entry = AuditEntry(
            at=wall_now(),
            who=f"user {name}" if user else "token",
            scope="",
            from_address=address,
            action="log_in",
            result="refused",
            code=GuessesExhausted.code,
            sentence=f"Too many wrong guesses: all are refused for {wait_s:.0f} s.",
        )
        task = asyncio.create_task(self._note(entry))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _note(self, entry: AuditEntry) -> None:
        try:
            await asyncio.to_thread(self.audit.write, entry)
        except MseError as error:
            _LOG.error("audit: %s", error.sentence)

    def claim_view(self, console_id: str = "") -> ClaimView:
        """Who manages this engine, as told to the console ``console_id`` ('' for others)."""
        console = self.people.claim.read().console
        if console is None:
            return ClaimView(console=None, is_you=False)
        return ClaimView(console=ConsoleView.of(console), is_you=console.id == console_id)

    def tell_claim(self) -> None:
        """Tell the stream if the claim is another than before (also changed by a command)."""
        claim = self.people.claim.read()
        if claim == self._claim:
            return
        self._claim = claim
        console_id = claim.console.id if claim.console is not None else None
        self.hub.on_console(console_id, self.claim_view())

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """A turn for work that reads much; few at once, so that the machine stays calm."""
        if self._reads_waiting >= MAX_READS_WAITING:
            raise TooMuchAtOnce("Too many long readings wait.", "Try again in a second.")
        self._reads_waiting += 1
        try:
            await self._reads.acquire()
        finally:
            self._reads_waiting -= 1
        try:
            yield
        finally:
            self._reads.release()
