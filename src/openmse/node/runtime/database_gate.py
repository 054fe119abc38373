"""The two things that must be proven of a running server before anybody relies on them.

The sync gate (protocol §5.3): commits wait for the peer. The receiver gate (§4.5): a standby
acknowledges nothing more to the old owner. Both are tasks beside the lane, so that it keeps
observing meanwhile.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path

from openmse.errors import MseError
from openmse.node.drivers.postgres.connection import Connection, ConnectionLost
from openmse.node.drivers.postgres.instance import Instance
from openmse.node.drivers.postgres.process import Server
from openmse.node.drivers.postgres.session import PROBE_SQL, Session, ask_recovery
from openmse.node.drivers.postgres.settings import GENERATION
from openmse.node.drivers.postgres.sidecar import Proof
from openmse.node.drivers.postgres.tools import parse_lsn

POLL_S = 0.002
RETRY_S = 0.1
CHECKPOINT_DEADLINE_S = 1800.0
WAITER_DEADLINE_S = 24 * 3600.0
STATEMENT_DEADLINE_S = 10.0
TURNS_MIN = 2
"""Voluntary context switches that prove a whole turn of the startup process's loop."""


async def reload_seen(
    instance: Instance,
    server: Server,
    connection: Connection,
    *,
    names: bool | None = None,
    receiver: bool | None = None,
) -> None:
    """Change dynamic.conf and return once every process of the server was told of it.

    ``connection`` was open before. It shows the new generation when the postmaster has signalled
    *it*; the postmaster signals its sessions before the checkpointer and the startup process. It
    works off one reload after the other, so a second one seen proves the first was told to all.
    Raises: DatabaseError, StateError.
    """
    for _ in range(2):
        generation = await instance.write_dynamic(names=names, receiver=receiver)
        server.signal(signal.SIGHUP)
        while await _shown_generation(connection) < generation:
            await asyncio.sleep(POLL_S)


async def _shown_generation(connection: Connection) -> int:
    ((shown,),) = await connection.query(
        f"select current_setting('{GENERATION}', true)", deadline_s=STATEMENT_DEADLINE_S
    )
    return int(shown) if shown and shown.isdigit() else 0


class _Pursuit:
    """At most one task, which works towards one target."""

    def __init__(self, instance: Instance, on_change: Callable[[], None]) -> None:
        self.instance = instance
        self.on_change = on_change
        self.problem = ""
        self._task: asyncio.Task[None] | None = None
        self._target: object = None

    @property
    def is_busy(self) -> bool:
        """Whether something is being proven."""
        return self._task is not None and not self._task.done()

    def start(self, target: object, work: Callable[[Session], Coroutine[None, None, None]]) -> None:
        """Work towards ``target``; goes on if that is what is being done already."""
        if self.is_busy and self._target == target:
            return
        self.cancel()
        self._target = target
        self._task = asyncio.create_task(self._run(work))

    def cancel(self) -> asyncio.Task[None] | None:
        """Give up what is being proven, at once; the task that is ending."""
        task, self._task, self._target = self._task, None, None
        if task is not None:
            task.cancel()
        return task

    async def close(self) -> None:
        """Give up, and wait until nothing is left of it."""
        task = self.cancel()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self, work: Callable[[Session], Coroutine[None, None, None]]) -> None:
        session = Session(self.instance.settings)
        try:
            await work(session)
            self.problem = ""
        except ConnectionLost as error:
            self.problem = error.sentence
            await asyncio.sleep(RETRY_S)
        except MseError as error:
            self.problem = error.sentence
            await asyncio.sleep(10 * RETRY_S)
        finally:
            session.close()
        self.on_change()


class SyncGate:
    """Whether commits wait for the peer, proven, and the barrier of that proof."""

    def __init__(self, instance: Instance, on_change: Callable[[], None]) -> None:
        self._instance = instance
        self._pursuit = _Pursuit(instance, on_change)
        self.names = False
        self.barrier_id = 0
        self.barrier_lsn = 0

    @property
    def problem(self) -> str:
        """Why the last attempt failed; '' after a success."""
        return self._pursuit.problem

    async def close(self) -> None:
        """Give up what is being proven; the server keeps what it was told."""
        await self._pursuit.close()

    def reset(self) -> None:
        """The server is gone, and with it everything that was proven."""
        self._pursuit.cancel()
        self.names = False
        self.barrier_id = 0
        self.barrier_lsn = 0

    async def settle(self, server: Server, *, names: bool, barrier_id: int, lsn: int) -> None:
        """Take over what is known without a proof: the server was started or promoted with it.

        At its start the checkpointer sets the flag before anything can commit.
        """
        self.names = names
        self.barrier_id = barrier_id if names else 0
        self.barrier_lsn = lsn if names else 0
        await self._keep_proof(server)

    def adopt(self, server: Server, proof: Proof | None) -> None:
        """Take over what a former health monitor proved of this very process.

        Its numbers mean nothing to the core of this one, which counts from 0 again.
        """
        if proof is not None and proof.server == server.identity:
            self.names = proof.names
            self.barrier_id = 0
            self.barrier_lsn = proof.barrier_lsn

    def pursue(self, server: Server, *, names: bool, barrier_id: int, is_primary: bool) -> bool:
        """Work towards the wanted names and barrier; whether there is nothing left to do."""
        is_told = self._instance.told_names == names
        if not names:
            if is_told and not self.names:
                self._pursuit.cancel()
                return True
            self._pursuit.start(
                ("clear", is_primary), lambda session: self._clear(server, session, is_primary)
            )
            return False
        if is_told and self.names and (not is_primary or self.barrier_id >= barrier_id):
            return True
        self._pursuit.start(
            ("prove", barrier_id, is_primary),
            lambda session: self._prove(server, session, barrier_id, is_primary),
        )
        return False

    async def _prove(
        self, server: Server, session: Session, barrier_id: int, is_primary: bool
    ) -> None:
        """Protocol §5.3: reload seen, then a checkpoint requested after that, then the barrier."""
        instance = self._instance
        connection = await session.connection()
        await instance.on_disk(lambda: instance.sidecar.write_proof(None))
        await reload_seen(instance, server, connection, names=True)
        # The second one, of almost nothing, is for a checkpointer that stood still between looking
        # for signals and looking for requests when the first was asked for.
        for _ in range(2):
            await connection.query("checkpoint", deadline_s=CHECKPOINT_DEADLINE_S)
        lsn = 0
        if is_primary:
            ((text,),) = await connection.query(
                "select pg_current_wal_flush_lsn()", deadline_s=STATEMENT_DEADLINE_S
            )
            lsn = parse_lsn(text or "0/0")
        self.names = True
        self.barrier_id = barrier_id if is_primary else 0
        self.barrier_lsn = lsn
        await self._keep_proof(server)

    async def _clear(self, server: Server, session: Session, is_primary: bool) -> None:
        """Stop waiting for the peer, and see that the checkpointer has let the waiters go.

        No checkpoint: it would keep the checkpointer from doing just that. Instead a commit that
        waits as a client's would.
        """
        instance = self._instance
        connection = await session.connection()
        await instance.on_disk(lambda: instance.sidecar.write_proof(None))
        await reload_seen(instance, server, connection, names=False)
        if is_primary:
            await connection.query("set synchronous_commit = 'on'", deadline_s=STATEMENT_DEADLINE_S)
            await connection.query(PROBE_SQL, deadline_s=WAITER_DEADLINE_S)
        self.names = False
        self.barrier_id = 0
        self.barrier_lsn = 0
        await self._keep_proof(server)

    async def _keep_proof(self, server: Server) -> None:
        proof = Proof(
            server=server.identity,
            names=self.names,
            barrier_id=self.barrier_id,
            barrier_lsn=self.barrier_lsn,
        )
        sidecar = self._instance.sidecar
        # Only an adopting successor needs it; without one the proof is made anew.
        with contextlib.suppress(MseError):
            await self._instance.on_disk(lambda: sidecar.write_proof(proof))


class ReceiverGate:
    """Whether a standby receives WAL; cut means proven gone and everything received replayed."""

    def __init__(self, instance: Instance, on_change: Callable[[], None]) -> None:
        self._instance = instance
        self._pursuit = _Pursuit(instance, on_change)
        self.is_cut = False
        self.replay_lsn = 0
        """Where replay ended, once cut."""

    @property
    def problem(self) -> str:
        """Why the last attempt failed; '' after a success."""
        return self._pursuit.problem

    async def close(self) -> None:
        """Give up what is being proven; the server keeps what it was told."""
        await self._pursuit.close()

    def reset(self) -> None:
        """The server is gone."""
        self._pursuit.cancel()
        self.is_cut = False
        self.replay_lsn = 0

    def cut(self, server: Server) -> None:
        """Stop receiving, and prove it."""
        if not self.is_cut:
            self._pursuit.start("cut", lambda session: self._cut(server, session))

    def receive(self, server: Server) -> None:
        """Receive again."""
        self.is_cut = False
        self._pursuit.start("receive", lambda session: self._receive(server, session))

    async def _receive(self, server: Server, session: Session) -> None:
        await session.connection()
        await self._instance.write_dynamic(receiver=True)
        server.signal(signal.SIGHUP)

    async def _cut(self, server: Server, session: Session) -> None:
        """Protocol §4.5. The startup process may just be about to start a receiver with the old
        setting; it reads the new one in each turn of its loop. A signal wakes it for one, so a
        few signals and its going back to sleep prove whole turns without waiting for its timer.
        """
        connection = await session.connection()
        await reload_seen(self._instance, server, connection, receiver=False)
        pid, turns = 0, 0
        while True:
            recovery = await ask_recovery(connection, deadline_s=STATEMENT_DEADLINE_S)
            if not recovery.is_in_recovery:
                return
            taken = context_switches(recovery.startup_pid)
            if recovery.startup_pid != pid:
                pid, turns = recovery.startup_pid, taken
            is_idle = recovery.is_out_of_wal and not recovery.has_receiver
            if is_idle and pid and taken >= turns + TURNS_MIN:
                self.replay_lsn = recovery.replay_lsn
                self.is_cut = True
                return
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGHUP)
            await asyncio.sleep(POLL_S)


def context_switches(pid: int) -> int:
    """How often a process has gone to sleep of its own accord; 0 if it is gone (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    line = next((x for x in text.splitlines() if x.startswith("voluntary_ctxt_switches")), "")
    return int(line.partition(":")[2] or 0)
