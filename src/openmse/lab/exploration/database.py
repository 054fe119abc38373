"""A model of PostgreSQL and of the lane that drives it, to the contract of ``openmse.ha.local``.

The log is a tuple of entries (the LSN of an entry is its index + 1); an entry is a number that
names its lineage and itself, so that diverged histories differ. Only flushed entries exist: an
unflushed tail is lost with a crash and was never acknowledged. Of synchronous commit that is
modelled which was measured (protocol §5.3): backends obey a *flag* which only the checkpointer sets
from the configured names, and waiters are let go by the walsender or by the checkpointer.

Beside it the barest sketch of replicated files, which the core knows nothing of yet: each commit of
a client brings a new generation, which is staged on both before, and installed once acknowledged.
"""

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from openmse.ha.local import DbProcess, DbRole, DbView, DbWanted, Receiver, Rung, Stop
from openmse.ha.values import Instant, Lineage

SERIALS = 1_000_000
"""Entries are ``lineage number * SERIALS + serial``."""


class Op(StrEnum):
    """One operation of the database lane under way."""

    START = "start"
    STOP_FAST = "stop_fast"
    STOP_IMMEDIATE = "stop_immediate"
    PROMOTE = "promote"
    RECEIVE = "receive"
    CUT = "cut"
    SET_NAMES = "set_names"
    CLEAR_NAMES = "clear_names"
    BARRIER = "barrier"
    REWIND = "rewind"
    REBUILD = "rebuild"


SURVIVES_MONITOR = (Op.START, Op.STOP_FAST, Op.STOP_IMMEDIATE, Op.PROMOTE)
"""Operations that PostgreSQL finishes by itself when the health monitor dies meanwhile."""

RUNGS = {Rung.STREAM: 0, Rung.REWIND: 1, Rung.REBUILD: 2}


class Data(Struct, frozen=True):
    """One data directory and the server that may run on it."""

    process: DbProcess = DbProcess.DOWN
    role: DbRole = DbRole.STANDBY
    wal: tuple[int, ...] = ()
    lineage: Lineage | None = None
    is_clean: bool = True
    is_complete: bool = True
    receives: bool = True
    """STANDBY: the receiver is allowed to run."""
    is_connected: bool = False
    """STANDBY: its receiver streams from the peer."""
    is_sending: bool = False
    """PRIMARY: a walsender serves the peer (or has not noticed yet that it is gone)."""
    names: bool = True
    """The peer's name is configured; every process but the checkpointer has seen it."""
    flag: bool = True
    """What the checkpointer has last set: whether backends wait."""
    is_proven: bool = True
    """What the lane reports of the two."""
    waiting: tuple[tuple[int, int], ...] = ()
    """Commits (LSN, entry) that wait for the peer."""
    peer_flush: int = 0
    barrier_id: int = 0
    barrier_lsn: int = 0
    is_sick: bool = False
    """Answers nothing: frozen, disk full, read-only file system."""
    is_licensed: bool = False
    """The names were cleared while ALONE(self) was known chosen, and was chosen."""
    op: Op | None = None
    is_misfit: bool = False
    """STANDBY: the upstream refused its position, though the lineages fit (a disk went back)."""
    goal: Lineage | None = None
    """The history that a promotion under way begins."""
    staged: int = 0
    """Replicated files: the newest generation that is here."""
    installed: int = 0
    """The newest in use: known to be acknowledged, on the owner as on its peer (I12)."""

    @property
    def is_up(self) -> bool:
        """The server takes connections."""
        return self.process is DbProcess.UP

    @property
    def is_primary(self) -> bool:
        """A running primary."""
        return self.process is DbProcess.UP and self.role is DbRole.PRIMARY


def view_of(data: Data, wanted: DbWanted, signed_at: Instant) -> DbView:
    """What the lane observes of it."""
    is_primary = data.is_primary
    return DbView(
        process=data.process,
        role=data.role,
        lineage=data.lineage,
        end_lsn=len(data.wal),
        is_clean=data.process is DbProcess.DOWN and data.is_clean,
        is_complete=data.is_complete and data.role is not DbRole.DOWN,
        receiver=_receiver(data),
        names=data.is_up and data.names and data.is_proven,
        barrier_id=data.barrier_id if is_primary else 0,
        barrier_lsn=data.barrier_lsn if is_primary else 0,
        peer_streaming=is_primary and data.is_sending,
        peer_flush_lsn=data.peer_flush if is_primary else 0,
        peer_signed_at=signed_at if is_primary else Instant(0),
        is_healthy=not data.is_sick,
        failure="The server does not answer." if data.is_sick else "",
        rung_needed=rung_needed(data, wanted),
    )


def _receiver(data: Data) -> Receiver:
    if not data.is_up or data.role is not DbRole.STANDBY:
        return Receiver.NONE
    if not data.receives:
        return Receiver.CUT
    return Receiver.STREAMING if data.is_connected else Receiver.WAITING


def rung_needed(data: Data, wanted: DbWanted) -> Rung:
    """What it takes to follow the wanted lineage, judged by lineage, never by timeline (§5.5)."""
    if data.role is DbRole.DOWN or not data.is_complete:
        return Rung.REBUILD
    if wanted.role is not DbRole.STANDBY or wanted.lineage is None:
        return Rung.STREAM
    if data.is_misfit:
        return Rung.REWIND
    if data.lineage == wanted.lineage:
        return Rung.STREAM
    is_ancestor = data.lineage == wanted.parent_lineage and len(data.wal) <= wanted.fork_lsn
    return Rung.STREAM if is_ancestor else Rung.REWIND


def next_op(data: Data, wanted: DbWanted, source: Data) -> Op | None:
    """What the lane does next; None if the level is reached or cannot be worked towards now."""
    if data.process is DbProcess.STOPPING or data.process is DbProcess.STARTING:
        return None  # finishes by itself; only ``preempts`` may cut it short
    if wanted.role is DbRole.DOWN:
        return _stop(wanted) if data.is_up else None
    if wanted.role is DbRole.PRIMARY:
        return _towards_primary(data, wanted)
    return _towards_standby(data, wanted, source)


def preempts(data: Data, wanted: DbWanted) -> bool:
    """Whether a stop level must cut short what the lane is doing."""
    if wanted.role is not DbRole.DOWN or data.op is None:
        return False
    if data.op is Op.STOP_FAST:
        return wanted.stop is Stop.IMMEDIATE
    return data.op is not Op.STOP_IMMEDIATE


def _stop(wanted: DbWanted) -> Op:
    return Op.STOP_IMMEDIATE if wanted.stop is Stop.IMMEDIATE else Op.STOP_FAST


def _towards_primary(data: Data, wanted: DbWanted) -> Op | None:
    if data.role is DbRole.DOWN or not data.is_complete:
        return None  # nothing to serve
    if not data.is_up:
        return Op.START
    if data.role is DbRole.STANDBY:
        if data.names != wanted.names:
            return Op.SET_NAMES if wanted.names else Op.CLEAR_NAMES
        return Op.PROMOTE
    if wanted.lineage is not None and data.lineage != wanted.lineage:
        return Op.STOP_FAST  # restarted as a standby, then promoted into the new history
    if not wanted.names:
        return Op.CLEAR_NAMES if data.names or data.flag else None
    if not data.names or not data.is_proven:
        return Op.SET_NAMES
    return Op.BARRIER if data.barrier_id < wanted.barrier_id else None


def _towards_standby(data: Data, wanted: DbWanted, source: Data) -> Op | None:
    if data.role is DbRole.PRIMARY and data.is_up:
        return _stop(wanted)
    if data.is_up and data.receives and not wanted.receiver:
        return Op.CUT
    needed = rung_needed(data, wanted)
    if needed is not Rung.STREAM:
        if RUNGS[needed] > RUNGS[wanted.rung] or not source.is_primary or source.is_sick:
            return None
        if source.lineage != wanted.lineage:
            return None
        if data.is_up:
            return Op.STOP_FAST
        return Op.REBUILD if needed is Rung.REBUILD else Op.REWIND
    if not data.is_up:
        return Op.START
    if data.names != wanted.names:
        return Op.SET_NAMES if wanted.names else Op.CLEAR_NAMES
    if data.receives != wanted.receiver:
        return Op.RECEIVE if wanted.receiver else Op.CUT
    return None


def begin(data: Data, op: Op, wanted: DbWanted) -> Data:
    """The state while the operation is under way: what it changes at once."""
    data = replace(data, op=op)
    match op:
        case Op.START:
            is_standby = wanted.role is DbRole.STANDBY or (
                data.role is DbRole.STANDBY or data.lineage != wanted.lineage
            )
            return replace(
                data,
                process=DbProcess.STARTING,
                role=DbRole.STANDBY if is_standby else DbRole.PRIMARY,
                receives=wanted.receiver if wanted.role is DbRole.STANDBY else False,
                names=wanted.names,
            )
        case Op.STOP_FAST | Op.STOP_IMMEDIATE:
            return replace(data, process=DbProcess.STOPPING, waiting=(), is_connected=False)
        case Op.SET_NAMES:
            return replace(data, names=True)
        case Op.CLEAR_NAMES:
            return replace(data, names=False)
        case Op.PROMOTE:
            return replace(data, goal=wanted.lineage)
        case Op.CUT:
            return replace(data, receives=False, is_connected=False)
        case Op.REWIND | Op.REBUILD:
            return replace(data, is_complete=False, is_clean=False)
        case _:
            return data


def crash(data: Data) -> Data:
    """The server dies at once, by a kill or with its machine."""
    is_down = data.process is DbProcess.DOWN
    return replace(
        data,
        process=DbProcess.DOWN,
        is_clean=data.is_clean and is_down,
        is_connected=False,
        is_sending=False,
        waiting=(),
        peer_flush=0,
        barrier_id=0,
        barrier_lsn=0,
        is_sick=False,
        op=None,
    )


def started(data: Data, entry: int) -> Data:
    """Recovery is over; as primary after a crash its end is an entry of its own."""
    is_primary = data.role is DbRole.PRIMARY
    wal = data.wal if data.is_clean or not is_primary else (*data.wal, entry)
    return replace(
        data,
        process=DbProcess.UP,
        wal=wal,
        is_clean=False,
        flag=data.names,
        is_proven=data.names,
        peer_flush=0,
        barrier_id=0,
        barrier_lsn=0,
        op=None,
    )


def promoted(data: Data, lineage: Lineage, entry: int) -> Data:
    """The standby became a primary on a new history, which begins with an entry of its own."""
    return replace(
        data,
        role=DbRole.PRIMARY,
        lineage=lineage,
        wal=(*data.wal, entry),
        is_connected=False,
        peer_flush=0,
        barrier_id=0,
        barrier_lsn=0,
        op=None,
    )


def can_stream(standby: Data, primary: Data) -> bool:
    """Whether the receiver of ``standby`` can follow ``primary``: one history, not yet departed."""
    if not (standby.is_up and standby.role is DbRole.STANDBY and standby.receives):
        return False
    if not primary.is_primary or not standby.is_complete:
        return False
    size = len(standby.wal)
    return size <= len(primary.wal) and primary.wal[:size] == standby.wal


def is_parting(standby: Data, primary: Data) -> bool:
    """Whether a fast stop of ``primary`` is under way and its walsender still serves ``standby``:
    it stays until the shutdown checkpoint has been flushed there, and ends after everything else.
    """
    is_served = standby.is_connected and primary.is_sending
    return is_served and primary.role is DbRole.PRIMARY and primary.op is Op.STOP_FAST


def with_files(data: Data, owner: Data) -> Data:
    """A standby that is in touch with its owner: the same files are staged, and installed."""
    return replace(data, staged=owner.staged, installed=owner.installed)


def common_prefix(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """The LSN up to which two logs are the same."""
    size = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        size += 1
    return size
