"""The core at work in the model: events in, effects performed; life and death of processes.

What goes wrong is said here as actions (``power_off``, ``kill_monitor``, ``lose_disk`` ...); when,
is for the explorer and the simulator.
"""

from msgspec.structs import replace

from openmse.ha import effects as fx
from openmse.ha import events as ev
from openmse.ha import node as core
from openmse.ha import witness as witness_core
from openmse.ha.invariants import Chosen, Violation, describe, effect_faults
from openmse.ha.local import Address, DbProcess, DbRole, DbWanted, NetView, NetWanted
from openmse.ha.messages import DATAGRAMS, Accept, Beat, Learn, Message, Released
from openmse.ha.plan import is_serving
from openmse.ha.values import FOREVER, MILLISECOND, Instant, Mode, Record
from openmse.lab.exploration import database as db
from openmse.lab.exploration import observer, words
from openmse.lab.exploration.database import Data
from openmse.lab.exploration.lanes import Lanes
from openmse.lab.exploration.world import Machine, Shot

LEAST_ARMING_NS = 50 * MILLISECOND


class Site(Lanes):
    """A world in which the production core runs, and in which things break."""

    # -- the core ---------------------------------------------------------------------------
    def feed(self, m: Machine, event: ev.Event) -> None:
        """Give one event to a node's core, and perform what it asks for; then what follows."""
        self.queue.append((m.id, event))
        if len(self.queue) > 1:
            return
        while self.queue:
            key, one = self.queue[0]
            self._step(self.machines[key], one)
            self.queue.popleft()

    def _step(self, m: Machine, event: ev.Event) -> None:
        if m.node is None or not m.runs or m.is_frozen:
            return
        m.node, effects = core.step(m.node, event)
        if self.trace is not None and not isinstance(event, ev.Ticked):
            self.say(f"{m.id} < {words.event(event)}")
        if effects:
            for fault in effect_faults(m.node, effects):
                self.history = observer.blame(self.history, fault)
            self.perform(m, effects, self.clock(m))
        self._judge_lease(m)

    def perform(self, m: Machine, effects: tuple[fx.Effect, ...], decided_at: Instant) -> None:
        """Perform a batch in order."""
        if any(isinstance(effect, fx.Persist) for effect in effects):
            self._note_chain(m, effects)
        is_node = m.node is not None
        for effect in effects:
            if self.trace is not None:
                self.say(f"{m.id} > {words.effect(effect)}")
            self.perform_one(m, effect, decided_at)
            if is_node and m.node is None:
                return  # the process has ended; what it had still to do, nobody does

    def _note_chain(self, m: Machine, effects: tuple[fx.Effect, ...]) -> None:
        told = tuple(
            e.message for e in effects if isinstance(e, fx.Send) and isinstance(e.message, Learn)
        )
        record = next(e.record for e in effects if isinstance(e, fx.Persist))
        self.history = observer.passed(self.history, record, m.record, told, m.data.wal)

    def perform_one(self, m: Machine, effect: fx.Effect, decided_at: Instant) -> None:
        """Perform one effect."""
        match effect:
            case fx.Persist(record):
                self.persist(m, record)
            case fx.Send(to, message):
                if isinstance(message, Accept):
                    self.history = observer.proposed(
                        self.history, message.ballot, message.value, message.parent
                    )
                    self._judge_accept(m, message)
                self._judge_release(m, message)
                self.post(m.id, to, message)
            case fx.SetLease(until):
                self.arm(m, until, decided_at)
            case fx.WantDb(wanted):
                m.db_wanted = wanted
                self.lane(m)
            case fx.WantNet(wanted_net):
                m.net_wanted = wanted_net
                self.net_lane(m)
            case fx.Checkpoint(operation):
                self.feed(m, ev.CheckpointDone(self.clock(m), operation))
            case fx.Fence(peer, asked_at):
                self.fence(Shot(m.id, m.record.run, peer, asked_at))
            case fx.Answer(key, is_done, _):
                self.answers = (*self.answers[-3:], (key, is_done))
            case fx.Exit():
                self.kill_monitor(m)
            case fx.Reincarnate():
                self.reincarnate(m)
            case _:
                pass

    def persist(self, m: Machine, record: Record) -> None:
        """The record reaches the disk."""
        before, m.record = m.record, record
        self._judge_vote(m, before, record)
        self.history = observer.persisted(self.history, before, record, m.data.wal)

    def _judge_vote(self, m: Machine, before: Record, record: Record) -> None:
        """§3: an owner accepts nobody else before all of it has stopped, as far as it can see."""
        value, known = record.value, before.known
        if record.accepted == before.accepted or record.chosen >= record.accepted:
            return
        if value is None or known is None or value.owner == m.id or known.owner != m.id:
            return
        seen = m.node.db.process if m.node is not None else DbProcess.DOWN
        if value.term == known.term and seen is not DbProcess.DOWN:
            self._blame("I7", f"{m.id} votes for {value.owner} before it has stopped.")

    def _judge_accept(self, m: Machine, message: Accept) -> None:
        """§2: the kernel lease is finite before the first message of an own SYNC leaves."""
        value = message.value
        is_own = value.owner == m.id and m.record.accepted == message.ballot
        if is_own and value.mode is Mode.SYNC and m.lease >= FOREVER:
            self._blame("I7", f"{m.id} proposes {describe(value)} under a lease without end.")

    def _judge_release(self, m: Machine, message: Message) -> None:
        """§4: a release is told when everything has stopped."""
        told = message.released if isinstance(message, Beat) else None
        if isinstance(message, Released):
            told = message.release
        if told is None or told.node != m.id:
            return
        if m.data.process is not DbProcess.DOWN or m.net.address is Address.HELD:
            self._blame("I7", f"{m.id} tells its release before it has stopped.")

    def _judge_lease(self, m: Machine) -> None:
        """§4: while a health monitor lives that knows of no service here, the kernel is shut."""
        if m.node is None or m.is_frozen or m.id in self.refusing:
            return
        if self.clock(m) >= m.lease or is_serving(m.node):
            return
        self._blame("I7", f"the kernel of {m.id} lets the address pass, and nothing serves there.")

    def _blame(self, rule: str, sentence: str) -> None:
        self.history = observer.blame(self.history, Violation(rule, sentence))

    def arm(self, m: Machine, until: Instant, decided_at: Instant) -> None:
        """Set the kernel lease as the driver does: never late, never for less than 50 ms."""
        now = self.clock(m)
        if m.id in self.refusing:
            self._refuse(m, until)
            return
        if until >= FOREVER:
            m.lease = until
            return
        if "late_arming" in self.planted:
            until = Instant(until + now - decided_at)  # the timeout was computed before
        if until - now < LEAST_ARMING_NS:
            m.lease = Instant(0)
            if until > 0:
                self.feed(m, ev.LeaseLapsed(now))
            return
        m.lease = Instant(until + (1_000 * MILLISECOND if "soft_lease" in self.planted else 0))

    def _refuse(self, m: Machine, until: Instant) -> None:
        """The kernel takes no change. On the way into SYNC the driver ends the process: what would
        follow rests on the end of the lease without one."""
        if 0 < until < FOREVER <= m.lease and "lease_refused_unseen" not in self.planted:
            self.kill_monitor(m)
        elif until > 0:
            self.feed(m, ev.LeaseLapsed(self.clock(m)))

    # -- processes --------------------------------------------------------------------------
    def kill_monitor(self, m: Machine) -> None:
        """The health monitor (or the witness) dies; what it started runs on."""
        if m.node is None and m.group is None:
            return
        self.say(f"{m.id} process dies")
        m.node = m.group = None
        m.is_frozen = False
        m.db_wanted, m.db_sent, m.net_sent = None, None, None
        m.inbox, m.due, m.links = (), (), ()
        if m.data.op is not None and m.data.op not in db.SURVIVES_MONITOR:
            m.data = replace(m.data, op=None)
        m.data = replace(m.data, barrier_id=0, barrier_lsn=0)  # the lane's own memory
        for other in self.machines.values():
            if other is not m and self.is_linked(m.id, other.id, "tls"):
                self.link(other, m.id, is_up=False, was_reset=True)

    def start_monitor(self, m: Machine, *, is_boot: bool = False) -> None:
        """The process starts, as the guard or the machine's boot does, and adopts what runs."""
        if not m.runs or m.node is not None or m.group is not None:
            return
        self.say(f"{m.id} process starts")
        self.serial += 1
        record = replace(m.record, boot=m.record.boot + 1, run=f"r{self.serial}")
        m.record = record
        now = self.clock(m)
        if m.is_witness:
            m.group = witness_core.start(record, now)
        else:
            view = db.view_of(m.data, DbWanted(), m.signed_at)
            others = [o for o in self.machines.values() if o is not m]
            if m.facts:
                others = [o for o in others if o.id in m.facts]
            peer = next((o.id for o in others if not o.is_witness), "")
            witness = next((o.id for o in others if o.is_witness), "")
            m.node = core.boot(
                record,
                now=now,
                is_machine_boot=is_boot,
                db=view,
                net=m.net,
                peer=peer,
                witness=witness,
            )
            m.db_sent, m.net_sent = view, m.net
        for other in self.machines.values():
            if other is not m and self.is_linked(m.id, other.id, "tls"):
                if other.node is not None or other.group is not None:
                    self.link(m, other.id, is_up=True)
                    self.link(other, m.id, is_up=True)
        if m.node is not None:
            m.db_wanted, m.net_wanted = m.node.db_wanted, m.node.net_wanted
            self.net_lane(m)
            self.lane(m)
            self.feed(m, ev.Ticked(now))

    def link(self, m: Machine, party: str, *, is_up: bool, was_reset: bool = False) -> None:
        """A TLS connection came up or went, as this node notices."""
        if m.node is None or (party in m.links) == is_up:
            return
        m.links = (*m.links, party) if is_up else tuple(p for p in m.links if p != party)
        self.feed(m, ev.LinkChanged(self.clock(m), party, is_up, was_reset))

    def freeze_monitor(self, m: Machine) -> None:
        """The health monitor is stopped; kernel and PostgreSQL go on."""
        m.is_frozen = True
        self.say(f"{m.id} process frozen")

    def thaw_monitor(self, m: Machine) -> None:
        """It goes on where it was: first the rest of its batch; the next time what has piled up."""
        if not m.is_frozen:
            return
        if m.due:
            due, m.due = m.due, ()
            self.say(f"{m.id} process goes on with its batch")
            self.perform(m, due, m.due_at)
            return
        m.is_frozen = False
        self.say(f"{m.id} process thawed")
        messages, m.inbox = m.inbox, ()
        for message in messages:
            self.receive(m, message)
        self.tell(m)
        self.feed(m, ev.Ticked(self.clock(m)))

    def reincarnate(self, m: Machine) -> None:
        """Begin anew with a new incarnation and an empty record; the data stays."""
        self.say(f"{m.id} begins anew")
        self.kill_monitor(m)
        self.new_incarnation(m, m.record)

    def new_incarnation(self, m: Machine, record: Record) -> None:
        """A name of memory that nobody knows; what it held stays as a hint of where to look."""
        self.serial += 1
        m.record = replace(record, incarnation=f"{m.id}-{self.serial}", boot=1)
        if m.id not in self.history.emptied:
            self.history = replace(self.history, emptied=(*self.history.emptied, m.id))

    # -- machines ---------------------------------------------------------------------------
    def power_off(self, m: Machine) -> None:
        """The machine loses power: no packet leaves, disks stay."""
        if not m.is_on:
            return
        self.say(f"{m.id} power off")
        m.is_on = m.is_paused = m.is_frozen = False
        m.node = m.group = None
        m.db_wanted, m.db_sent, m.net_sent = None, None, None
        m.inbox, m.due, m.links = (), (), ()
        m.net, m.net_wanted, m.lease = NetView(), NetWanted(), Instant(0)
        m.data = db.crash(m.data)

    def power_on(self, m: Machine) -> None:
        """The machine boots."""
        if m.is_on:
            return
        self.say(f"{m.id} power on")
        m.is_on = True
        for other in self.machines.values():
            if other is not m:
                self.link(other, m.id, is_up=False)
        if not m.is_witness:
            self.disconnect(m)
            self.disconnect(self.peer(m))
        self.start_monitor(m, is_boot=True)

    def fence(self, shot: Shot) -> None:
        """The fencing agent was called: ``agent_strikes`` and ``agent_answers`` follow."""
        raise NotImplementedError

    def agent_strikes(self, shot: Shot) -> None:
        """The machine is switched off, whatever has become of the asker."""
        self.say(f"{shot.by} has {shot.target} switched off")
        self.power_off(self.machines[shot.target])
        self.history = replace(self.history, forces=self.history.forces + 1)

    def agent_answers(self, shot: Shot) -> None:
        """The agent's word arrives, if the process that called it still lives."""
        m = self.machines[shot.by]
        if m.node is not None and m.record.run == shot.run:
            self.feed(m, ev.FencingAnswered(self.clock(m), True, "", shot.asked_at))

    def pause(self, m: Machine) -> None:
        """The virtual machine stands still, clocks included."""
        if m.runs:
            self.say(f"{m.id} paused")
            m.is_paused = True
            m.paused_lease = m.lease

    def resume(self, m: Machine) -> None:
        """It goes on; the first act of a health monitor is a renewal."""
        if m.is_paused:
            self.say(f"{m.id} resumed")
            m.is_paused = False
            self.tell(m)
            self.feed(m, ev.Ticked(self.clock(m)))

    def crash_database(self, m: Machine) -> None:
        """PostgreSQL is killed; with ``restart_after_crash=off`` it stays down."""
        if m.data.process is not DbProcess.DOWN:
            self.say(f"{m.id} database killed")
            self.drop(m)
            self.lane(m)

    def lose_disk(self, m: Machine) -> None:
        """The disk is replaced by an empty one while the machine is off."""
        assert not m.is_on
        self.say(f"{m.id} lost its disk")
        m.data = Data(role=DbRole.DOWN, is_complete=False)
        before = m.record
        self.new_incarnation(m, Record(me=m.id, incarnation=""))
        self._disk_changed(m, is_emptied=True, forgotten=before)

    def replace_machine(self, old: Machine, name: str) -> Machine:
        """Another machine, empty and off, stands for ``old`` in the facts of the other node, which
        begins a new life by them (re-admission, decision 60). The voters are changed later.

        ``old`` and its disk stay as they are; its own facts still name it.
        """
        owner = self.peer(old)
        witness = tuple(m.id for m in self.machines.values() if m.is_witness)
        self.serial += 1
        new = Machine(
            name,
            Record(me=name, incarnation=f"{name}-{self.serial}"),
            is_on=False,
            data=Data(role=DbRole.DOWN, is_complete=False),
            facts=(owner.id, *witness),
        )
        self.say(f"{name} takes the place of {old.id}")
        self.disconnect(old)
        self.disconnect(owner)
        old.is_retired = True
        old.facts = old.facts or (owner.id, *witness)
        owner.facts = (name, *witness)
        self.machines[name] = new
        self.history = replace(self.history, disks_lost=(*self.history.disks_lost, name))
        self.kill_monitor(owner)
        self.start_monitor(owner)
        return new

    def restore_disk(self, m: Machine, record: Record, data: Data) -> None:
        """The disk goes back to an older state while the machine is off."""
        assert not m.is_on
        self.say(f"{m.id} disk restored to an older state")
        before, m.record, m.data = m.record, record, db.crash(data)
        same = replace(before, boot=record.boot, run=record.run, seen=record.seen)
        self._disk_changed(m, is_emptied=False, forgotten=before if same != record else None)

    def _disk_changed(self, m: Machine, *, is_emptied: bool, forgotten: Record | None) -> None:
        holders = self.picture().holders
        records = [other.record for other in self.machines.values()]
        remembered = max(c.version for r in records for c in (r.known, r.value) if c is not None)
        chosen: list[Chosen] = []
        gone: list[Chosen] = []
        for one in self.history.chosen:
            (chosen if one.config.version <= remembered else gone).append(one)
        self.history = replace(
            self.history,
            chosen=tuple(chosen),
            forgotten=(*self.history.forgotten, *gone),
        )
        self.history = observer.disk_changed(
            self.history, m.id, holders, is_emptied=is_emptied, forgotten=forgotten
        )

    # -- traffic ----------------------------------------------------------------------------
    def receive(self, m: Machine, message: Message) -> None:
        """A message arrives at a machine."""
        if not m.runs:
            return
        if m.is_frozen:
            m.inbox = (*m.inbox[-40:], message)
        elif m.group is not None:
            m.group, effects = witness_core.step(m.group, message, self.clock(m))
            self.perform(m, effects, self.clock(m))
        elif m.node is not None:
            self.feed(m, ev.Received(self.clock(m), message))

    def kind_of(self, message: Message) -> str:
        """Which connection a message travels on."""
        return "udp" if isinstance(message, DATAGRAMS) else "tls"

    def command(self, m: Machine, command: ev.Command) -> None:
        """An operator asks a node for something."""
        if m.node is None or not m.runs or m.is_frozen:
            return
        if isinstance(command, ev.ForceTakeover):
            self.history = replace(self.history, forces=self.history.forces + 1)
        self.serial += 1
        self.say(f"operator to {m.id}: {command}")
        self.feed(m, ev.Commanded(self.clock(m), f"c{self.serial}", command))

    def write(self, m: Machine) -> bool:
        """A client commits a row through this machine; False if it cannot."""
        if not self.is_serving(m):
            return False
        entry = self.entry(m.data.lineage)
        wal = (*m.data.wal, entry)
        write = (len(wal), entry)
        m.data = replace(m.data, wal=wal)
        self.stage_files(m)
        if m.data.flag:
            m.data = replace(m.data, waiting=(*m.data.waiting, write))
        else:
            self.acknowledge(m, write, by_peer=False)
        self.notify(m)
        return True
