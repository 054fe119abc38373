"""What goes wrong in a simulated run, when, and for how long; and how it is all put right."""

from collections.abc import Callable

from msgspec.structs import replace

from openmse.ha import events as ev
from openmse.ha.values import (
    SECOND,
    Config,
    FailoverType,
    Mode,
    Record,
    Voter,
    is_fencing_pair,
    peer_of,
)
from openmse.lab.exploration.database import Data
from openmse.lab.exploration.virtual import MS, Virtual
from openmse.lab.exploration.world import KINDS, Machine


class Troubles:
    """Strikes a world at random until ``heal``."""

    def __init__(self, world: Virtual, pace_ns: int, *, is_long: bool = False) -> None:
        self.world = world
        self.rng = world.rng
        self.pace_ns = pace_ns
        self.has_witness = "w" in world.machines
        self.is_over = False
        self.hold_until = 0
        self.disk_losses = 1
        self.forced = 0
        self.snapshots: dict[str, tuple[Record, Data]] = {}
        self.kinds: list[tuple[int, Callable[[], None]]] = [
            (6, self.power),
            (6, self.cut),
            (4, self.isolate),
            (2, self.cut_kind),
            (4, self.kill_monitor),
            (4, self.freeze),
            (5, self.kill_database),
            (2, self.sicken),
            (2, self.pause),
            (3, self.slow),
            (3, self.freeze_checkpointer),
            (3, self.switchover),
            (2, self.strike_batch),
            (1, self.lose_disk),
            (1, self.restore_disk),
            (1, self.stop_node),
            (1, self.maintenance),
            (1, self.blackout),
            (1, self.change_wait),
            (1, self.force),
            (1, self.replace_witness),
            (2, self.release_protect),
            (1, self.confirm_alone),
            (1, self.unpair),
            (3 if is_long else 0, self.lose_witness),
        ]

    def begin(self) -> None:
        """The first trouble comes soon."""
        self._next()
        self.world.at(self.rng.randrange(4 * SECOND), self._snapshot)

    def _snapshot(self) -> None:
        m = self.rng.choice(list(self.world.machines.values()))
        self.snapshots[m.id] = (m.record, m.data)

    def _next(self) -> None:
        delay = int(self.rng.expovariate(1 / self.pace_ns)) + 5 * MS
        self.world.at(delay, self._strike)

    def _strike(self) -> None:
        if self.is_over:
            return
        if self.world.now >= self.hold_until:
            weights = [w for w, _ in self.kinds]
            kind = self.rng.choices([k for _, k in self.kinds], weights)[0]
            kind()
        self._next()

    def _span(self, most_s: int = 12) -> int:
        """For how long: mostly short, sometimes long."""
        return int(self.rng.expovariate(1 / 2.5) * SECOND) % (most_s * SECOND) + 20 * MS

    def _any(self) -> Machine:
        return self.rng.choice(list(self.world.machines.values()))

    def _node(self) -> Machine:
        return self.rng.choice(self.world.nodes())

    def _later(self, action: Callable[[], None], most_s: int = 12) -> None:
        self.world.at(self._span(most_s), action)

    # -- kinds ------------------------------------------------------------------------------
    def power(self) -> None:
        """A machine loses power, and gets it back."""
        m = self._any()
        self.world.power_off(m)
        self._later(lambda: self.world.power_on(m), 20)

    def blackout(self) -> None:
        """All machines lose power at once."""
        for m in list(self.world.machines.values()):
            self.world.power_off(m)
            self._later(lambda m=m: self.world.power_on(m))  # type: ignore[misc]

    def cut(self) -> None:
        """A pair of machines is cut, perhaps one way only."""
        one, other = self.rng.sample(list(self.world.machines), 2)
        self.world.cut(one, other, KINDS, both=self.rng.random() < 0.6)
        self._later(lambda: self.world.mend(one, other))

    def isolate(self) -> None:
        """A machine is cut from all others."""
        m = self._any()
        others = [i for i in self.world.machines if i != m.id]
        for other in others:
            self.world.cut(m.id, other, KINDS, both=True)
            self._later(lambda other=other: self.world.mend(m.id, other))  # type: ignore[misc]

    def cut_kind(self) -> None:
        """Only heartbeats, only the register, or only replication is cut."""
        one, other = self.rng.sample(list(self.world.machines), 2)
        kind = self.rng.choice(KINDS)
        self.world.cut(one, other, (kind,), both=self.rng.random() < 0.6)
        self._later(lambda: self.world.mend(one, other))

    def kill_monitor(self) -> None:
        """The health monitor or the witness dies; the guard restarts it."""
        self.world.kill_monitor(self._any())

    def freeze(self) -> None:
        """The health monitor stands still."""
        m = self._any()
        if m.node is not None or m.group is not None:
            self.world.freeze_monitor(m)
            self._later(lambda: self.world.thaw_monitor(m))

    def strike_batch(self) -> None:
        """The health monitor dies or freezes in the midst of a batch of effects."""
        m = self._node()
        what = self.rng.choice(("freeze", "kill"))
        self.world.strikes[m.id] = (self.rng.randint(1, 12), what)
        if what == "freeze":
            self._later(lambda: self.world.thaw_monitor(m))

    def kill_database(self) -> None:
        """PostgreSQL is killed."""
        self.world.crash_database(self._node())

    def sicken(self) -> None:
        """PostgreSQL is stopped by a signal, or its disk is full."""
        m = self._node()
        self._sick(m, is_sick=True)
        self._later(lambda: self._sick(m, is_sick=False))

    def _sick(self, m: Machine, *, is_sick: bool) -> None:
        if m.data.is_up or not is_sick:
            m.data = replace(m.data, is_sick=is_sick)
            self.world.notify(m)

    def pause(self) -> None:
        """A virtual machine stands still, clocks and all."""
        m = self._any()
        self.world.pause(m)
        self._later(lambda: self.world.resume(m))

    def slow(self) -> None:
        """Everything on the machines takes long for a while."""
        self.world.slow_share = 0.6
        self._later(self._quick)

    def _quick(self) -> None:
        self.world.slow_share = 0.1

    def freeze_checkpointer(self) -> None:
        """The checkpointer of one PostgreSQL stands still."""
        m = self._node()
        self.world.is_checkpointer_frozen[m.id] = True

        def thaw() -> None:
            self.world.is_checkpointer_frozen[m.id] = False

        self._later(thaw)

    def switchover(self) -> None:
        """An operator asks either node for a switchover."""
        self.world.command(self._node(), ev.Switchover())

    def stop_node(self) -> None:
        """A machine is stopped on purpose, and booted later."""
        m = self._node()
        self.world.command(m, ev.StopNode(handover=self.rng.random() < 0.5))

        def off() -> None:
            if not self.is_over:
                self.world.power_off(m)

        self._later(off)
        self.world.at(13 * SECOND, lambda: self.world.power_on(m))

    def maintenance(self) -> None:
        """Maintenance goes on, and off again."""
        m = self._node()
        self.world.command(m, ev.Maintenance(True))
        self._later(lambda: self.world.command(m, ev.Maintenance(False)))

    def change_wait(self) -> None:
        """An administrator sets another failover wait."""
        m = self._node()
        last = self.world.history.newest.config
        wait = self.rng.choice((2, 3, 5)) * SECOND
        self.world.command(m, ev.ChangeSettings(replace(last.settings, failover_wait_ns=wait)))

    def force(self) -> None:
        """An operator forces a takeover though it may be needless: once a run, and rarely."""
        if self.forced or self.rng.random() < 0.5:
            return
        m = self._node()
        known = m.record.known
        is_voter = known is not None and any(v.id == m.id for v in known.voters)
        if m.node is not None and m.data.is_complete and is_voter:
            self.forced += 1
            self.world.command(m, ev.ForceTakeover("simulator"))

    def release_protect(self) -> None:
        """An operator lets writes go on without the peer, though perhaps nothing waits."""
        last = self.world.history.newest.config
        self.world.command(self.world.machines[last.owner], ev.ReleaseProtect())

    def confirm_alone(self) -> None:
        """An operator tells a node that waits at boot to serve."""
        self.world.command(self._node(), ev.ConfirmAlone())

    def lose_witness(self) -> None:
        """The witness is away for so long that the pair goes on without (PINNED)."""
        witness = self.world.machines.get("w")
        if witness is not None:
            self.world.power_off(witness)
            span = self.rng.randrange(62, 85) * SECOND
            self.world.at(span, lambda: self.world.power_on(witness))

    def replace_witness(self) -> None:
        """The witness is taken out of the group, and it or another machine in its place comes in
        a little later."""
        world = self.world
        last = world.history.newest.config
        nodes = tuple(v for v in last.voters if not v.is_witness)
        if self.has_witness and len(nodes) < len(last.voters):
            world.command(world.machines[last.owner], ev.ChangeVoters(nodes))
            self._later(self._renew_witness)

    def _renew_witness(self) -> None:
        """Perhaps another machine; only one that is no voter, whatever became of the change."""
        world = self.world
        witness = world.machines["w"]
        is_voter = any(
            v.is_witness
            for m in world.machines.values()
            for config in (m.record.known, m.record.value)
            if config is not None and m is not witness
            for v in config.voters
        )
        if not is_voter and not self.is_over and self.rng.random() < 0.5:
            world.power_off(witness)
            world.lose_disk(witness)
            world.power_on(witness)
        self._admit()

    def unpair(self) -> None:
        """The other node is taken out of the group while the owner is ALONE; it does not hear of
        it, or does; and is paired again a little later."""
        world = self.world
        last = world.history.newest.config
        stay = tuple(v for v in last.voters if v.is_witness or v.id == last.owner)
        if last.mode is Mode.ALONE and len(stay) < len(last.voters):
            world.command(world.machines[last.owner], ev.ChangeVoters(stay))
            self._later(self._admit)

    def _admit(self) -> None:
        """Whoever is missing becomes a voter (again), with the memory that it has now."""
        world = self.world
        last = world.history.newest.config
        there = {v.id for v in last.voters}
        missing = [m for m in world.machines.values() if m.id not in there]
        if missing:
            news = tuple(Voter(m.id, m.record.incarnation, m.is_witness) for m in missing)
            world.command(world.machines[last.owner], ev.ChangeVoters((*last.voters, *news)))

    def lose_disk(self) -> None:
        """A machine comes back with an empty disk: once a run."""
        if self.disk_losses <= 0:
            return
        m = self._any()
        peer = self.world.peer(m)
        voters = [v.id for v in self.world.history.newest.config.voters]
        is_copied = peer.data.is_complete and peer.id in voters
        if m.is_retired or not (m.is_witness or is_copied):
            return  # the last copy of the group: nothing could bring it back
        self.disk_losses -= 1
        self.world.power_off(m)
        self.world.lose_disk(m)
        self._later(lambda: self.world.power_on(m))

    def restore_disk(self) -> None:
        """A disk goes back in time: only while the machine will see both others (§2.6)."""
        world = self.world
        m = self._any()
        others = [o for o in world.machines.values() if not (o is m or o.is_retired)]
        is_seen = not (world.cuts or world.strikes) and all(
            o.runs and not o.is_frozen and (o.node or o.group) for o in others
        )
        if m.is_retired or m.id not in self.snapshots or not is_seen or self.disk_losses <= 0:
            return
        record, data = self.snapshots[m.id]
        if m.record.incarnation != record.incarnation or m.data.lineage != data.lineage:
            return
        if 0 < len(m.data.wal) - len(data.wal) < 4:
            return  # less than a recovery writes: see adr/, remaining assumptions
        self.disk_losses -= 1
        self.hold_until = world.now + 8 * SECOND
        loss, world.loss = world.loss, 0.0
        world.power_off(m)
        world.restore_disk(m, *self.snapshots[m.id])
        world.power_on(m)
        world.at(8 * SECOND, lambda: self._lossy_again(loss))

    def _lossy_again(self, loss: float) -> None:
        if not self.is_over:
            self.world.loss = loss

    # -- healing ----------------------------------------------------------------------------
    def heal(self) -> None:
        """Everything that was broken is put right; an operator helps where one is needed."""
        self.is_over = True
        world = self.world
        world.say("everything is healed")
        world.strikes.clear()
        self._quick()
        names = list(world.machines)
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                world.mend(one, other)
        for m in world.machines.values():
            world.resume(m)
            world.thaw_monitor(m)
            world.is_checkpointer_frozen[m.id] = False
            if not m.is_witness:
                self._sick(m, is_sick=False)
            world.power_on(m)
        world.at(3 * SECOND, self._help)

    def _help(self) -> None:
        """What an operator does: maintenance off, and a forced takeover where nobody else can."""
        world = self.world
        world.at(3 * SECOND, self._help)
        last = world.history.newest.config
        owner = world.machines[last.owner]
        if last.settings.maintenance:
            world.command(owner, ev.Maintenance(False))
        self._admit()
        if last.mode is Mode.PINNED and self._is_new(last, peer_of(last, last.owner)):
            world.command(owner, ev.ReleaseProtect())  # it is copied anew, and only from ALONE
        for m in world.nodes():
            node = m.node
            if node is not None and node.is_stopping:
                world.kill_monitor(m)
            if node is not None and node.quarantine:
                world.command(m, ev.LeaveQuarantine())
        self._force(owner)

    def _is_new(self, last: Config, name: str) -> bool:
        """Whether a voter came back with another memory than the config means."""
        return any(
            v.id == name and v.incarnation != self.world.machines[name].record.incarnation
            for v in last.voters
        )

    def _is_limbo(self, lost: list[str]) -> bool:
        """Whether a value of unknown fate can be told only by a memory that is lost: its owner's,
        who may have chosen it by itself and served (protocol §2.2)."""
        records = [m.record for m in self.world.machines.values()]
        return any(
            config is not None and config.mode is not Mode.SYNC and config.owner in lost
            for r in records
            if r.accepted > r.chosen
            for config in (r.value, r.parent)
        )

    def _waits(self, owner: Machine, lost: list[str]) -> bool:
        """Whether the owner of a fencing pair has booted, and the memory is lost that could tell it
        that the other has not gone on (protocol §8)."""
        node, known = owner.node, owner.record.known
        is_in_force = known is not None and known.mode is Mode.PINNED and is_fencing_pair(known)
        return bool(lost) and is_in_force and node is not None and not node.alone_confirmed

    def _force(self, owner: Machine) -> None:
        world = self.world
        last = world.history.newest.config
        lost = [v.id for v in last.voters if self._is_new(last, v.id)]
        is_owner_lost = owner.id in lost or not owner.data.is_complete
        is_manual = last.settings.failover_type is FailoverType.MANUAL
        is_lost = is_owner_lost and (last.mode is not Mode.SYNC or is_manual)
        if not (is_lost or len(lost) > 1 or self._is_limbo(lost) or self._waits(owner, lost)):
            return
        if self.forced >= 3:
            return
        for m in (world.peer(owner), owner):
            node = m.node
            if node is not None and m.data.is_complete and m.record.known is not None:
                self.forced += 1
                world.command(m, ev.ForceTakeover("simulator"))
                return
