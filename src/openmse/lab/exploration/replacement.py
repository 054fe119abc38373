"""A machine that is lost for good, and another one in its place under a name of its own
(re-admission, decision 60); the old disk, which may be found to work after all."""

from openmse.ha import events as ev
from openmse.ha.draft import is_owner
from openmse.ha.names import is_heard
from openmse.ha.state import Node
from openmse.ha.values import MILLISECOND, SECOND, Config, Mode, NoWitnessMode, Voter
from openmse.lab.exploration.troubles import Troubles
from openmse.lab.exploration.virtual import Virtual
from openmse.lab.exploration.world import KINDS, Machine

REPLACEMENTS = 2
PATIENCE_NS = 20 * SECOND
"""After how long an operator forces the survivor, where it does not come to own by itself."""
FORCES = 3


class Replacing(Troubles):
    """Troubles of which one is that a machine is lost for good, and replaced."""

    def __init__(self, world: Virtual, pace_ns: int, *, is_long: bool = False) -> None:
        super().__init__(world, pace_ns, is_long=is_long)
        self.kinds.append((12, self.lose_machine))
        self.lost: Machine | None = None
        self.is_isolated = False
        self.lost_at = 0
        self.replaced = 0
        world.at(SECOND, self._reconcile)

    def lose_machine(self) -> None:
        """A node is lost: its disk for ever, or it lies on a shelf, or it is only cut off."""
        world, m = self.world, self._node()
        if self.lost is not None or self.replaced >= REPLACEMENTS:
            return
        if not world.peer(m).data.is_complete:
            return  # the last copy
        known = world.history.newest.config
        can_fence = known.settings.no_witness_mode is NoWitnessMode.FENCING
        self.is_isolated = self.rng.random() < 0.3 and not (can_fence and not self.has_witness)
        if self.is_isolated:
            for other in world.machines:
                if other != m.id:
                    world.cut(m.id, other, KINDS, both=True)
        else:
            m.is_scrapped = True
            world.power_off(m)
        world.say(f"{m.id} is lost for good")
        self.lost, self.lost_at = m, world.now
        self._try()

    def _try(self) -> None:
        """What an operator does at the survivor, again and again."""
        m, world = self.lost, self.world
        if m is None:
            return
        survivor = world.peer(m)
        node = survivor.node
        if node is not None and survivor.runs and not survivor.is_frozen:
            if is_heard(node, node.peer):
                if self.is_over and self.is_isolated:
                    self.lost = None  # it was not lost at all
                    return
            elif is_owner(node) and _mode(node) is Mode.ALONE:
                self._replace(m)
                return
            elif world.now - self.lost_at > PATIENCE_NS:
                self._urge(survivor, node)
        world.at(self.rng.randrange(300, 1500) * MILLISECOND, self._try)

    def _urge(self, survivor: Machine, node: Node) -> None:
        """It does not go on by itself."""
        known = node.record.known
        if known is None or not survivor.data.is_complete:
            return
        if is_owner(node) and self.world.is_serving(survivor):
            self.world.command(survivor, ev.ReleaseProtect())
        elif self.forced < FORCES and any(v.id == survivor.id for v in known.voters):
            self.forced += 1
            self.lost_at = self.world.now
            self.world.command(survivor, ev.ForceTakeover("simulator"))

    def _replace(self, m: Machine) -> None:
        world = self.world
        self.lost = None
        self.replaced += 1
        is_first = self.rng.random() < 0.5  # the order of the names decides on forced terms
        name = f"{'0' if is_first else ''}{m.id}-{self.replaced + 1}"
        new = world.replace_machine(m, name)
        world.at(self.rng.randrange(10, 6000) * MILLISECOND, lambda: world.power_on(new))
        if self.rng.random() < 0.75:
            world.at(self.rng.randrange(1, 15_000) * MILLISECOND, lambda: self._found(m))

    def _found(self, m: Machine) -> None:
        """The dead disk works after all."""
        m.is_scrapped = False
        self.world.power_on(m)

    # -- by level, as the runtime of an owner does ------------------------------------------
    def _reconcile(self) -> None:
        for m in self.world.nodes():
            node = m.node
            if m.facts and node is not None and is_owner(node) and node.record.known is not None:
                self._reconcile_one(m, node, node.record.known)
        self.world.at(self.rng.randrange(5, 1000) * MILLISECOND, self._reconcile)

    def _reconcile_one(self, m: Machine, node: Node, known: Config) -> None:
        names = (m.id, *m.facts)
        kept = [v for v in known.voters if v.id in names or v.is_witness]
        if known.mode is not Mode.ALONE and len([v for v in kept if not v.is_witness]) < 2:
            return
        for name in m.facts:
            other = self.world.machines[name]
            if other.is_witness or any(v.id == name for v in kept):
                continue
            stamp = node.peer.stamp if node.peer.id == name else None
            first = stamp.incarnation if stamp is not None else other.record.incarnation
            kept.append(Voter(name, first))
        if set(kept) != set(known.voters):
            self.world.command(m, ev.ChangeVoters(tuple(kept)))

    def _admit(self) -> None:
        """As ever, of those who are parties; nobody whose place was taken."""
        world = self.world
        last = world.history.newest.config
        owner = world.machines[last.owner]
        if owner.is_retired:
            return
        there = {v.id for v in last.voters}
        kept = tuple(v for v in last.voters if not world.machines[v.id].is_retired)
        if len(kept) < len(last.voters) and last.mode is not Mode.ALONE:
            return
        missing = [m for m in world.machines.values() if m.id not in there and not m.is_retired]
        news = tuple(Voter(m.id, m.record.incarnation, m.is_witness) for m in missing)
        if news:
            world.command(owner, ev.ChangeVoters((*kept, *news)))

    def lose_disk(self) -> None:
        """Not while the other machine is lost: it has the last copy, and the last memory."""
        if self.lost is None:
            super().lose_disk()

    def restore_disk(self) -> None:
        """As ``lose_disk``."""
        if self.lost is None:
            super().restore_disk()

    def _force(self, owner: Machine) -> None:
        if not owner.is_retired and self.lost is None:
            super()._force(owner)


def _mode(node: Node) -> Mode | None:
    return node.record.known.mode if node.record.known is not None else None
