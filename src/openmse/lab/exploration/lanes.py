"""The lanes of a node in the model: what they do with levels, and what they tell the core."""

from msgspec.structs import replace

from openmse.ha import events as ev
from openmse.ha.invariants import (
    Acknowledgement,
    FileSet,
    Removal,
    Write,
    file_faults,
    holds,
)
from openmse.ha.local import Address, DbProcess, DbRole, DbWanted, NetView
from openmse.ha.values import Mode
from openmse.lab.exploration import database as db
from openmse.lab.exploration import observer
from openmse.lab.exploration.database import Data, Op
from openmse.lab.exploration.world import Machine, World


class Lanes(World):
    """A world whose nodes have lanes."""

    def notify(self, m: Machine) -> None:
        """A lane of this machine saw something new: tell its core at once."""
        self.tell(m)

    def tell(self, m: Machine) -> None:
        """Tell the core what the lanes see, if it is news."""
        if m.node is None or not m.runs or m.is_frozen:
            return
        net = m.net
        if net != m.net_sent:
            m.net_sent = net
            self.feed(m, ev.NetObserved(self.clock(m), net))
        view = db.view_of(m.data, m.db_wanted or DbWanted(), m.signed_at)
        if view != m.db_sent:
            m.db_sent = view
            self.feed(m, ev.DbObserved(self.clock(m), view))

    # -- lanes ------------------------------------------------------------------------------
    def net_lane(self, m: Machine) -> None:
        """Bring the address to its level: at once down; up after a probe for conflicts."""
        wanted = m.net_wanted
        if not wanted.address:
            m.net = NetView(Address.ABSENT, wanted.admit)
        elif m.net.address is Address.HELD:
            m.net = NetView(Address.HELD, wanted.admit)
        elif self.is_probe_answered(m):
            m.net = NetView(Address.CONFLICT, False, self.peer(m).id)
        else:
            m.net = NetView(Address.HELD, wanted.admit)
        self.notify(m)

    def is_probe_answered(self, m: Machine) -> bool:
        """Whether a probe for the address would be answered. No argument may rest on it."""
        return self.is_answering(self.peer(m)) and self.is_open(self.peer(m).id, m.id, "udp")

    def lane(self, m: Machine) -> None:
        """Let the database lane begin its next operation, if there is one."""
        wanted = m.db_wanted
        if wanted is None or m.node is None or not m.runs:
            return
        if db.preempts(m.data, wanted) and m.data.is_up | (m.data.op is not None):
            self._abort(m)
        if m.data.op is not None:
            return
        op = db.next_op(m.data, wanted, self._source(m))
        if op is not None:
            self.begin(m, op, wanted)
        self.notify(m)

    def _source(self, m: Machine) -> Data:
        """The peer's database as far as this machine can reach it."""
        other = self.peer(m)
        is_reachable = other.runs and self.is_linked(m.id, other.id, "wal")
        return other.data if is_reachable else Data()

    def _abort(self, m: Machine) -> None:
        """A stop level cuts short what is under way, by an immediate stop."""
        if m.data.op in (Op.REWIND, Op.REBUILD):
            m.data = replace(m.data, op=None)
            return
        m.data = db.begin(m.data, Op.STOP_IMMEDIATE, m.db_wanted or DbWanted())
        self.started(m)

    def begin(self, m: Machine, op: Op, wanted: DbWanted) -> None:
        """An operation begins."""
        m.data = db.begin(m.data, op, wanted)
        if op in (Op.CLEAR_NAMES, Op.START) and not wanted.names:
            m.data = replace(m.data, is_licensed=self.is_licensed(m))
        if op in (Op.REWIND, Op.REBUILD):
            self._removes(m)
        self.say(f"{m.id} database: {op.value} begins")
        self.started(m)

    def is_licensed(self, m: Machine) -> bool:
        """Whether it may acknowledge without the peer: ALONE(self) known chosen, and chosen."""
        known = m.record.known
        is_alone = known is not None and known.mode is Mode.ALONE and known.owner == m.id
        return is_alone and self.history.is_chosen(known)

    def _removes(self, m: Machine) -> None:
        source = self.peer(m)
        shared = db.common_prefix(m.data.wal, source.data.wal)
        lost = tuple((shared + 1 + i, e) for i, e in enumerate(m.data.wal[shared:]))
        known = m.record.known
        self.history = observer.removed(
            self.history,
            Removal(m.id, source.id, lost, known, self.history.is_chosen(known)),
        )

    def finish(self, m: Machine) -> None:
        """The operation under way ends; the lane looks for the next."""
        op, data = m.data.op, m.data
        self.say(f"{m.id} database: {op} ends")
        match op:
            case Op.START:
                m.data = db.started(data, self.entry(data.lineage))
            case Op.STOP_IMMEDIATE:
                self.drop(m)
            case Op.STOP_FAST:
                self._stopped_fast(m)
            case Op.PROMOTE:
                self._promoted(m)
            case Op.RECEIVE:
                m.data = replace(data, receives=True, op=None)
            case Op.SET_NAMES:
                is_true = "unproven_gate" not in self.planted
                m.data = replace(data, flag=is_true or data.flag, is_proven=True, op=None)
                self._barrier(m)
            case Op.CLEAR_NAMES:
                self._cleared(m)
            case Op.BARRIER:
                m.data = replace(data, op=None)
                self._barrier(m)
            case Op.REWIND | Op.REBUILD:
                self._copied(m)
            case _:
                m.data = replace(data, op=None)
        self.lane(m)
        self.notify(m)

    def _barrier(self, m: Machine) -> None:
        if m.db_wanted is not None and m.data.is_primary and m.data.names:
            m.data = replace(m.data, barrier_id=m.db_wanted.barrier_id, barrier_lsn=len(m.data.wal))

    def _promoted(self, m: Machine) -> None:
        lineage = m.data.goal
        assert lineage is not None
        m.data = db.promoted(m.data, lineage, self.entry(lineage))
        if not m.data.names:
            m.data = replace(m.data, is_licensed=self.is_licensed(m))
        self.history = observer.promoted(self.history, m.id, lineage)
        self._judge_files(m)

    def stage_files(self, m: Machine) -> None:
        """A client brings new files to this owner: they go to its standby before the commit does,
        and are installed by nobody (or, planted, by the standby as they come)."""
        standby = self.peer(m)
        m.data = replace(m.data, staged=self.serial)
        if standby.runs and standby.data.is_connected and self.is_linked(m.id, standby.id, "wal"):
            is_hasty = "files_run_ahead" in self.planted
            installed = self.serial if is_hasty else standby.data.installed
            standby.data = replace(standby.data, staged=self.serial, installed=installed)

    def _judge_files(self, m: Machine) -> None:
        """I12: nothing newer is installed than what was acknowledged on the history it goes on."""
        known = [
            entry for lsn, entry in self.history.acknowledged if holds(m.data.wal, (lsn, entry))
        ]
        newest = max((entry % db.SERIALS for entry in known), default=0)
        for fault in file_faults(FileSet(m.id, m.data.installed, newest)):
            self.history = observer.blame(self.history, fault)

    def _cleared(self, m: Machine) -> None:
        waiting = m.data.waiting
        m.data = replace(m.data, flag=False, is_proven=False, waiting=(), op=None)
        for write in waiting:
            self.acknowledge(m, write, by_peer=False)

    def _stopped_fast(self, m: Machine) -> None:
        """The shutdown checkpoint is the last record, and goes to a connected standby."""
        standby = self.peer(m)
        is_primary = m.data.role is DbRole.PRIMARY
        follows = (
            is_primary
            and m.data.is_sending
            and standby.data.is_connected  # who hung up is refused: the server is shutting down
            and db.can_stream(standby.data, replace(m.data, process=DbProcess.UP))
        )
        if is_primary:
            m.data = replace(m.data, wal=(*m.data.wal, self.entry(m.data.lineage)))
        elif standby.data.is_sending and self.is_linked(m.id, standby.id, "wal"):
            standby.data = replace(standby.data, is_sending=False)  # the receiver says goodbye
            self.notify(standby)
        if follows and standby.runs and self.is_linked(m.id, standby.id, "wal"):
            standby.data = replace(standby.data, wal=m.data.wal, lineage=m.data.lineage)
        self.drop(m, is_clean=True)

    def _copied(self, m: Machine) -> None:
        """A rewind or a base backup is complete, if its source stayed."""
        source = self._source(m)
        if not source.is_primary:
            m.data = replace(m.data, op=None)
            return
        m.data = db.with_files(Data(wal=source.wal, lineage=source.lineage), source)
        self.history = observer.copied(self.history, m.id)
        self.say(f"{m.id} database: is a copy of {self.peer(m).id}'s")

    def drop(self, m: Machine, *, is_clean: bool = False) -> None:
        """The server is gone, at once; its peer's connection with it."""
        m.data = db.crash(m.data)
        if is_clean:
            m.data = replace(m.data, is_clean=True)
        other = self.peer(m)
        if other.data.is_connected:
            other.data = replace(other.data, is_connected=False)
            self.notify(other)
        self.notify(m)

    def acknowledge(self, m: Machine, write: Write, *, by_peer: bool) -> None:
        """A client is told that its commit is safe."""
        one = Acknowledgement(m.id, write, by_peer, m.data.is_licensed)
        self.say(f"{m.id} acknowledges {write}" + ("" if by_peer else " without the peer"))
        forced = self.history.forced_term
        if m.data.lineage is not None and m.data.lineage.term < forced:
            return  # after a forced takeover the old history's loss is on record (§2.5)
        before = self.history
        self.history = observer.acknowledged(before, one, m.record.known)
        if self.history is not before:
            m.data = replace(m.data, installed=write[1] % db.SERIALS)

    def stream(self, standby: Machine) -> bool:
        """Ship what the standby lacks, and its answer back; False if nothing changes."""
        primary = self.peer(standby)
        if not (standby.runs and primary.runs and self.is_linked(standby.id, primary.id, "wal")):
            return False
        if primary.data.is_sick or standby.data.is_sick:
            return False
        if db.is_parting(standby.data, primary.data):
            return False  # ``_stopped_fast`` ships the rest, and then hangs up
        if not db.can_stream(standby.data, primary.data):
            return self._refused(standby, primary)
        standby.data = db.with_files(standby.data, primary.data)
        old_standby, old_primary = standby.data, primary.data
        flush = len(primary.data.wal)
        standby.data = replace(
            standby.data,
            wal=primary.data.wal,
            lineage=primary.data.lineage,
            is_connected=True,
        )
        primary.data = replace(primary.data, is_sending=True, peer_flush=flush)
        self.history = observer.copied(self.history, standby.id)
        if primary.data.names and primary.data.waiting:
            waiting = primary.data.waiting
            primary.data = replace(primary.data, waiting=())
            for write in waiting:
                self.acknowledge(primary, write, by_peer=True)
        if standby.data == old_standby and primary.data == old_primary:
            return False
        self.sign(primary)
        self.notify(standby)
        self.notify(primary)
        return True

    def _refused(self, standby: Machine, primary: Machine) -> bool:
        """The walsender does not serve this standby; True if that is news."""
        before = standby.data
        wanted = standby.db_wanted
        is_ours = wanted is not None and primary.data.lineage == wanted.lineage
        if is_ours and before.is_up and before.receives and primary.data.is_primary:
            standby.data = replace(standby.data, is_misfit=before.role is DbRole.STANDBY)
        standby.data = replace(standby.data, is_connected=False)
        if standby.data == before:
            return False
        self.lane(standby)
        self.notify(standby)
        return True

    def sign(self, primary: Machine) -> None:
        """A reply of the standby reached the walsender."""
        primary.signed_at = self.clock(primary)

    def disconnect(self, standby: Machine) -> None:
        """Both ends notice that the replication connection is dead."""
        primary = self.peer(standby)
        if standby.data.is_connected:
            standby.data = replace(standby.data, is_connected=False)
            self.notify(standby)
        if primary.data.is_sending:
            primary.data = replace(primary.data, is_sending=False)
            self.notify(primary)
