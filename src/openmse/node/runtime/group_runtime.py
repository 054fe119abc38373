"""One life of this node's part in its group: core, lanes, links and kernel lease, wired together.

Built again, in the same process, when the group's facts change (pairing, another witness), with
everything that runs on the machine adopted, as after a restart of the health monitor.
"""

import asyncio
import contextlib
import os
import traceback
from collections.abc import Callable
from typing import NoReturn

import msgspec.structs

from openmse import __version__
from openmse.errors import DriverError, NetworkError, PeerError
from openmse.ha import node as core
from openmse.ha.draft import is_owner, needs_lease, timing_of
from openmse.ha.effects import Answer, Effect, Note
from openmse.ha.events import (
    ChangeVoters,
    CheckpointDone,
    Command,
    DbObserved,
    Event,
    FencingAnswered,
    NetObserved,
)
from openmse.ha.local import DbProcess, DbRole, DbView, DbWanted, NetView, NetWanted
from openmse.ha.state import Node
from openmse.ha.values import Ballot, Config, Instant, Lineage, Mode, Record, Voter
from openmse.node.config import NodeConfig
from openmse.node.direct import direct_path
from openmse.node.drivers.kernel_lease import KernelLease, LeaseConfig, remove_other_leases
from openmse.node.drivers.peer.paths import Path
from openmse.node.drivers.store import Opened
from openmse.node.group import GroupInfo
from openmse.node.identity import keyring
from openmse.node.renewal import Renewals
from openmse.node.runtime.address_lane import AddressLane, AddressSettings
from openmse.node.runtime.clock import now
from openmse.node.runtime.core_runner import CoreRunner
from openmse.node.runtime.database_lane import DatabaseLane
from openmse.node.runtime.database_settings import instance_settings
from openmse.node.runtime.event_log import Entry, EventLog, wall_now
from openmse.node.runtime.fencing import run_agent
from openmse.node.runtime.journal import Journal
from openmse.node.runtime.links import Links
from openmse.node.runtime.notices import Notice
from openmse.node.runtime.watchdog_port import WatchdogPort

FIRST_VIEW_WITHIN_S = 3.0
FIRST_TERM = 1
EXIT_AGAIN = 75
"""The process ended because of a fault of its own; whoever started it may start it again."""
LAST_WORDS_WITHIN_S = 0.2
"""What a dying process spends on its event log and journal: the lease goes on running out."""


class GroupRuntime:
    """Runs until ``ended`` is set: by a reload, by an order to stop, or by a lost memory."""

    def __init__(
        self,
        config: NodeConfig,
        group: GroupInfo | None,
        opened: Opened,
        *,
        events: EventLog,
        journal: Journal,
        is_machine_boot: bool,
        on_notice: Callable[[Notice], None],
    ) -> None:
        self.config = config
        self.group = group
        self._opened = opened
        self._events = events
        self._journal = journal
        self._is_machine_boot = is_machine_boot
        self.ended = asyncio.Event()
        self.is_exit = False
        self.wants_new_incarnation = False
        self.keeps_record = True
        """False once the memory on disk was replaced: this life's record is void."""
        self.on_step: Callable[[Node], None] | None = None
        self.lease: KernelLease | None = None
        self.database: DatabaseLane | None = None
        self.address: AddressLane | None = None
        self.watchdog = WatchdogPort(config.watchdog, self._on_watchdog_failure)
        self._tasks: set[asyncio.Task[None]] = set()
        self._db_view = DbView()
        self._net_view = NetView()
        self._observed: tuple[Record | None, DbView | None] = (None, None)
        self._first_views = asyncio.Event()
        self._is_changing_voters = False
        self._agreed: Config | None = None
        """The config whose voters are those of the group's facts: nothing to look at again."""
        self._waits_noted = 0
        self._refused = 0
        self.runner: CoreRunner | None = None
        self.renewals: Renewals | None = None
        self.links = Links(config, self._post, self._on_refused, on_notice)
        self.links.on_path = self._on_path
        self._was_direct_up: bool | None = None

    @property
    def node(self) -> Node:
        """The core's state at this moment."""
        assert self.runner is not None
        return msgspec.structs.replace(self.runner.node, now=now())

    async def submit(self, command: Command, *, operator: str) -> Answer:
        """Give a command to the core and wait for its answer."""
        assert self.runner is not None
        who = operator or "The machine"
        self.note(Note("command", "info", f"{who} asked: {type(command).__name__}."))
        return await self.runner.submit(command, operator=operator)

    # -- life ------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open links and lanes, and look at what runs. Raises MseError."""
        with contextlib.suppress(NetworkError):
            # Of a group that was left: its rules would close the address and port for ever.
            remove_other_leases(() if self.group is None else (self.group.group,))
        if self.group is not None:
            await self._open_group(self.group)

    async def start(self) -> None:
        """Boot the core on what was found, adopting it. Raises MseError."""
        group, config = self.group, self.config
        record = self._opened.record
        if group is not None and record.known is None and len(group.nodes) == 1:
            record = await self._found(record)
        node = core.boot(
            record,
            now=now(),
            is_machine_boot=self._is_machine_boot,
            db=self._db_view,
            net=self._net_view,
            peer=_name(group.peer_of(config.node.name)) if group else "",
            witness=_name(group.witness) if group else "",
            software=__version__,
        )
        lease = self.lease or _NoLease()
        self.runner = CoreRunner(
            node, store=self._opened.store, lease=lease, links=self.links, watchdog=self.watchdog
        )
        self.links.node_now = lambda: self.node
        self.runner.on_step = self._after_step
        self.runner.start(self)
        self.links.tell_up()

    async def stop(self) -> None:
        """End this life; PostgreSQL, the address and the lease stay as they are."""
        if self.runner is not None:
            self.runner.stop()
            if self.keeps_record:
                self._opened.record = self.runner.node.record
        self.watchdog.close()
        await self.links.close()
        if self.database is not None:
            await self.database.close(leave_running=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.address is not None:
            self.address.close()
        if self.lease is not None:
            self.lease.close()

    async def _open_group(self, group: GroupInfo) -> None:
        ring, me = keyring(self.config), self.config.node.name
        peer = group.peer_of(me)
        addresses = tuple(ip.partition("/")[0] for ip in group.virtual_ips)
        direct = direct_path(self.config, group)
        peers = tuple(a for a in (peer.address, peer.address6) if a) if peer else ()
        peers += (direct.peer,) if direct else ()
        cable = direct.interface if direct else ""
        self.lease = KernelLease(
            LeaseConfig(group.group, addresses, (self.config.database.port,), peers, cable), now
        )
        self.lease.install()
        self.address = AddressLane(
            AddressSettings(self.config.node.interface, addresses),
            self.lease,
            on_view=self._on_net,
            clock=now,
        )
        self.database = DatabaseLane(
            instance_settings(self.config, group), on_view=self._on_db, clock=now
        )
        self._spawn(self.address.run(), "address lane")
        self._spawn(self.database.run(), "database lane")
        self.renewals = Renewals(
            self.config,
            group=lambda: self.group,
            on_renewed=self._on_renewed,
            on_failed=lambda error: self.note(Note("renewal_failed", "error", str(error))),
        )
        self._spawn(self.renewals.run(), "certificate renewal")
        await self.links.open(group, roots=ring.roots(group, me), files=ring.tls)
        self._use_etcd(group)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_VIEW_WITHIN_S):
                await self._first_views.wait()

    def _use_etcd(self, group: GroupInfo) -> None:
        witness = group.witness
        if witness is None or witness.kind != "etcd":
            return
        from openmse.node.drivers.witness.wiring import etcd_witness

        driver = etcd_witness(witness, group.group, self.config.node.name, self.links.from_etcd)
        self.links.use_etcd(witness.name, driver.send)
        self._spawn(driver.run(), "etcd witness")

    async def _found(self, record: Record) -> Record:
        """The first start of an unpaired primary: its database, and a register of one voter."""
        assert self.database is not None
        me = self.config.node.name
        lineage = Lineage(FIRST_TERM, 1, me)
        if self._db_view.role is DbRole.DOWN:
            await self.database.create_primary(lineage)
        first = Config(
            term=FIRST_TERM,
            epoch=1,
            mode=Mode.ALONE,
            owner=me,
            voters=(Voter(me, record.incarnation),),
            lineage=lineage,
            settings=self.config.group.settings,
            primary=me,
            reason="This primary was set up and is not paired yet.",
        )
        ballot = Ballot(FIRST_TERM, 1, me)
        record = msgspec.structs.replace(
            record, promised=ballot, accepted=ballot, value=first, chosen=ballot, known=first
        )
        self._opened.store.save(record)
        return record

    def _spawn(self, work: object, name: str) -> None:
        assert asyncio.iscoroutine(work)
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled() or self.ended.is_set():
            return
        error = task.exception()
        if error is not None:
            # A lane that died of our own mistake must not leave half a node: the process ends,
            # the guard starts another, which adopts what runs.
            sentence = f"The {task.get_name()} failed: {error!r}."
            self.note(Note("internal_error", "error", sentence))
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the {task.get_name()} failed", "exception": error, "fatal": True}
            )

    def _on_renewed(self, reason: str) -> None:
        """Links and PostgreSQL take the renewed certificates; what is up stays up."""
        assert self.group is not None
        self.note(Note("certificates_renewed", "info", f"Certificates were renewed: {reason}"))
        self.links.mesh.reload(self.group.group)
        if self.database is not None:
            self._spawn(self.database.reload(), "reload of PostgreSQL")

    # -- events in -------------------------------------------------------------------------

    def _post(self, event: Event) -> None:
        if self.runner is not None:
            self.runner.post(event)

    def _on_db(self, view: DbView) -> None:
        self._db_view = view
        self._first_views.set()
        self._note_cancelled_waits()
        self._post(DbObserved(now(), view))

    def _note_cancelled_waits(self) -> None:
        """The alarm ends with the next barrier; that it happened stays in the event log."""
        count = self.database.cancelled_waits if self.database is not None else 0
        if count > self._waits_noted:
            sentence = (
                f"{count - self._waits_noted} commits stopped waiting for the other node before it "
                "had confirmed them: their clients were warned, so they are not acknowledged."
            )
            self._waits_noted = count
            self.note(Note("sync_waits_cancelled", "warning", sentence))

    def _on_net(self, view: NetView) -> None:
        self._net_view = view
        self._post(NetObserved(now(), view))

    def _on_path(self, preferred: Path) -> None:
        """WAL follows the links to the path that carries."""
        if self.database is not None:
            self.database.prefer_direct(preferred is Path.DIRECT)
        assert self.links.paths is not None
        is_up = bool(self.links.paths.sides[Path.DIRECT].is_up)
        if is_up is not self._was_direct_up:
            lost = Note("direct_lost", "warning", "The direct connection does not carry any more.")
            found = Note(
                "direct_back", "info", "The direct connection carries heartbeats and data."
            )
            self.note(found if is_up else lost)
        self._was_direct_up = is_up

    def _on_watchdog_failure(self, sentence: str) -> None:
        self.note(Note("watchdog_failed", "error", sentence))

    def _on_refused(self, error: PeerError) -> None:
        self._refused += 1
        if self._refused & (self._refused - 1) == 0:  # the 1st, 2nd, 4th, 8th …
            sentence = f"{error.sentence} ({self._refused} such so far.)"
            self.note(Note("party_refused", "warning", sentence))

    # -- what the core asks for ------------------------------------------------------------

    def want_db(self, wanted: DbWanted) -> None:
        """Pass the level on to the database lane."""
        if self.database is not None:
            self.database.set_wanted(wanted)

    def want_net(self, wanted: NetWanted) -> None:
        """Pass the level on to the address lane."""
        if self.address is not None:
            self.address.set_wanted(wanted)

    def checkpoint(self, operation: str) -> None:
        """Have a checkpoint written; its failure only makes the stop slower."""

        async def work() -> None:
            if self.database is not None:
                with contextlib.suppress(DriverError):
                    await self.database.checkpoint()
            self._post(CheckpointDone(now(), operation))

        self._spawn(work(), "checkpoint")

    def fence(self, peer: str, asked_at: Instant) -> None:
        """Run the fencing agent."""

        async def work() -> None:
            fencing = self.config.fencing
            is_confirmed, sentence = await run_agent(fencing.agent, peer, fencing.timeout_s)
            self._post(FencingAnswered(now(), is_confirmed, sentence, asked_at))

        self._spawn(work(), "fencing agent")

    def note(self, note: Note) -> None:
        """Write an entry of the event log."""
        known = self.runner.node.record.known if self.runner is not None else None
        term, epoch = known.version if known else (0, 0)
        self._events.write(
            Entry(
                wall_now(),
                now(),
                self.config.node.name,
                note.kind,
                note.severity,
                note.sentence,
                term,
                epoch,
            )
        )

    def journal(self, before: Node, event: Event, after: Node, effects: tuple[Effect, ...]) -> None:
        """Keep the decision."""
        self._journal.record(before, event, after, effects)

    def leave(self, *, new_incarnation: bool) -> None:
        """The process may end, or this life does and another begins."""
        self.is_exit = not new_incarnation
        self.wants_new_incarnation = new_incarnation
        self.ended.set()

    def die(self, error: Exception) -> NoReturn:
        """End the process at once, in the middle of whatever it does, as a kill would: what runs on
        this machine is left as it is (the watchdog armed, too) and adopted by the next one."""
        try:
            traceback.print_exception(error)
            sentence = f"The health monitor ends and is started again: {error or repr(error)}"
            self.note(Note("internal_error", "error", sentence))
            self._journal.flush()
            self._events.drain(LAST_WORDS_WITHIN_S)
        finally:
            os._exit(EXIT_AGAIN)

    async def shut_down_database(self) -> None:
        """Stop PostgreSQL and everything that serves, for good: the group is being forgotten."""
        if self.runner is not None:
            self.runner.stop()
        if self.lease is not None:
            self.lease.disarm()
        if self.address is not None:
            self.address.set_wanted(NetWanted())
        if self.database is not None:
            await self.database.close(leave_running=False)

    def reload(self) -> None:
        """The group's facts on disk have changed: end this life, begin another."""
        self.ended.set()

    # -- after each step -------------------------------------------------------------------

    def _after_step(self, node: Node) -> None:
        record, db = self._observed
        if node.record is not record or node.db is not db:  # at rest it is the same for minutes
            self._observed = (node.record, node.db)
            self._observe(node)
        if self.on_step is not None:
            self.on_step(node)
        self._reconcile_voters(node)

    def _observe(self, node: Node) -> None:
        timing = timing_of(node.record.known)
        if self.database is not None:
            self.database.poll_interval_s = timing.beat_ns / 1e9
        is_serving_db = node.db.process is not DbProcess.DOWN and node.db.role is DbRole.PRIMARY
        self.watchdog.observe(
            lease_ns=timing.lease_ns,
            is_writing=node.db.is_healthy,
            may_disarm=not (is_serving_db and needs_lease(node)),
        )

    def _reconcile_voters(self, node: Node) -> None:
        """An owner whose group has parties that are no voters yet makes them voters (pairing, a
        new witness): by level, so that a crash in between costs nothing."""
        known, group = node.record.known, self.group
        if known is self._agreed or self._is_changing_voters:
            return
        if known is None or group is None or not is_owner(node):
            return
        wanted = desired_voters(node, known, group)
        if wanted is None:
            if {v.id for v in known.voters} == group.parties:
                self._agreed = known
            return
        self._is_changing_voters = True

        async def work() -> None:
            try:
                assert self.runner is not None
                answer = await self.runner.submit(ChangeVoters(wanted))
                if not answer.is_done:
                    await asyncio.sleep(1.0)
            finally:
                self._is_changing_voters = False

        self._spawn(work(), "change of voters")


def desired_voters(node: Node, known: Config, group: GroupInfo) -> tuple[Voter, ...] | None:
    """The voters that the group's facts ask for, or None where nothing can or must change now."""
    witness = _name(group.witness)
    names = [n.name for n in group.nodes]
    kept = [v for v in known.voters if v.id in names or v.id == witness]
    if known.mode is not Mode.ALONE and len([v for v in kept if not v.is_witness]) < 2:
        return None
    present = {v.id for v in kept}
    for info, party in ((group.peer_of(node.me), node.peer), (group.witness, node.witness)):
        if info is None or info.name in present:
            continue
        stamp = party.stamp if party.id == info.name else None
        incarnation = stamp.incarnation if stamp is not None else info.incarnation
        if incarnation:
            kept.append(Voter(info.name, incarnation, info.name == witness))
    wanted = tuple(kept)
    return None if set(wanted) == set(known.voters) else wanted


def _name(party: object) -> str:
    return str(getattr(party, "name", "")) if party is not None else ""


class _NoLease:
    """The kernel lease of a node without a group: there is nothing to let pass."""

    until = Instant(0)

    def arm(self, until: int) -> bool:
        """Nothing serves before a group exists."""
        return False

    def arm_forever(self) -> None:
        """Nothing serves before a group exists."""

    def disarm(self) -> None:
        """Nothing serves before a group exists."""
