"""The all-seeing observer: what is chosen in truth, what was acknowledged, what was removed.

It sees disks and wires, never what a core believes; so it also finds a core that believes wrongly.
"""

from msgspec import Struct
from msgspec.structs import replace

from openmse.ha.invariants import (
    Acknowledgement,
    Chosen,
    Holder,
    Learned,
    Promotion,
    Removal,
    Violation,
    Write,
    acknowledgement_faults,
    describe,
    holds,
    learned_faults,
    newest,
    removal_faults,
)
from openmse.ha.messages import Learn
from openmse.ha.transitions import MOVES, Verdict, row
from openmse.ha.values import (
    Ballot,
    Config,
    Lineage,
    Mode,
    Record,
    Release,
    is_fencing_pair,
)

FENCED = tuple(
    row(p, v).sentence for p, v in MOVES if v in (Verdict.OWNER_FENCED, Verdict.PEER_FENCED)
)
"""The reasons of configs that rest on a fencing agent's word."""
KEPT = 24
"""Attempts remembered; older ones can no longer become chosen."""

Member = tuple[str, str]
"""(voter id, incarnation): which memory accepted."""


class Attempt(Struct, frozen=True):
    """A ballot with its value, and who has it on disk."""

    ballot: Ballot
    value: Config
    parent: Config | None
    members: tuple[Member, ...] = ()


class History(Struct, frozen=True):
    """What has happened so far, as far as a later judgement can need it."""

    attempts: tuple[Attempt, ...] = ()
    chosen: tuple[Chosen, ...] = ()
    acknowledged: tuple[Write, ...] = ()
    promotions: tuple[Promotion, ...] = ()
    releases: tuple[Release, ...] = ()
    amnesic: tuple[str, ...] = ()
    """Voters whose disk was lost or went back, not admitted again yet."""
    emptied: tuple[str, ...] = ()
    """Those of them that know it themselves: they came back with a new incarnation."""
    forces: int = 0
    """How many takeovers operators have forced, or fencing agents confirmed."""
    disks_lost: tuple[str, ...] = ()
    """Nodes whose data was lost or went back, and has not been copied from the other since."""
    owed: tuple[tuple[str, Ballot, Ballot], ...] = ()
    """What an amnesic voter had promised and accepted: once it has learned as much as chosen, it
    contradicts nothing that it ever said, and its memory counts again."""
    forgotten: tuple[Chosen, ...] = ()
    """Chosen, but only on a disk that was lost; a message on its way may still tell of them."""
    faults: tuple[Violation, ...] = ()

    @property
    def forced_term(self) -> int:
        """The highest term in which an operator accepted a loss; 0 for none."""
        terms = [c.config.term for c in self.chosen if c.is_forced and not c.is_fenced]
        return max(terms, default=0)

    @property
    def newest(self) -> Chosen:
        """The newest chosen config; there always is one."""
        last = newest(self.chosen)
        assert last is not None
        return last

    def is_chosen(self, config: Config | None) -> bool:
        """Whether this config is chosen in truth."""
        return config is not None and any(one.config == config for one in self.chosen)


def proposed(history: History, ballot: Ballot, value: Config, parent: Config | None) -> History:
    """A ballot's value left its proposer."""
    if any(a.ballot == ballot for a in history.attempts):
        return history
    return replace(history, attempts=(*history.attempts, Attempt(ballot, value, parent)))


def persisted(
    history: History, before: Record, record: Record, wal: tuple[int, ...] = ()
) -> History:
    """A voter has written its record: count its vote, and check what it claims to know."""
    if record.accepted != before.accepted and record.value is not None:
        if not _is_learned(history, record):
            history = _passed_through(history, record, before, wal)
            history = _voted(history, record, before, wal)
    history = _regained(history, record)
    if record.released is not None and record.released not in history.releases:
        history = replace(history, releases=(*history.releases, record.released))
    if record.known is not None and record.known != before.known:
        history = _recalled(history, record.known)
        is_chosen = history.is_chosen(record.known)
        lost_memory = bool(history.amnesic)
        learned = Learned(record.me, describe(record.known), is_chosen, lost_memory)
        for fault in learned_faults(learned):
            history = blame(history, fault)
    return history


def _regained(history: History, record: Record) -> History:
    if record.me not in history.amnesic or record.me in history.emptied:
        return history
    for voter, promised, accepted in history.owed:
        if voter == record.me and record.promised >= promised and record.chosen >= accepted:
            rest = tuple(a for a in history.amnesic if a != voter)
            return replace(history, amnesic=rest)
    return history


def _recalled(history: History, known: Config) -> History:
    """A config thought lost with a disk is heard of again."""
    back = tuple(one for one in history.forgotten if one.config == known)
    if not back:
        return history
    rest = tuple(one for one in history.forgotten if one.config != known)
    return replace(history, chosen=(*history.chosen, *back), forgotten=rest)


def passed(
    history: History,
    record: Record,
    before: Record,
    told: tuple[Learn, ...],
    wal: tuple[int, ...],
) -> History:
    """One write to disk may hold several steps: configs chosen by the own vote, each built on the
    one before. What the batch tells of them shows the chain."""
    parent = before.known
    for learn in told:
        if learn.ballot.voter == record.me and not history.is_chosen(learn.value):
            history = proposed(history, learn.ballot, learn.value, parent)
            history = _vote(history, record, learn.ballot, wal)
        parent = learn.value
    return history


def _is_learned(history: History, record: Record) -> bool:
    """Whether the record took a value over as chosen, as against voting for it."""
    if record.parent is not None or record.chosen < record.accepted:
        return False
    is_proposed = any(a.ballot == record.accepted for a in history.attempts)
    return is_proposed or record.accepted.voter != record.me


def _passed_through(
    history: History, record: Record, before: Record, wal: tuple[int, ...]
) -> History:
    """One write to disk may hold two steps: the own vote that made a config chosen, and the next
    config built on it. The first is on disk as the parent of the second."""
    parent = record.parent
    if parent is None or history.is_chosen(parent):
        return history
    for attempt in reversed(history.attempts):
        if attempt.value == parent and attempt.ballot.voter == record.me:
            return _vote(history, record, attempt.ballot, wal)
    known = before.known
    if parent.owner == record.me and known is not None:  # needed nobody else, so was never sent
        ballot = Ballot(parent.term, -parent.epoch, record.me)
        return _vote(proposed(history, ballot, parent, known), record, ballot, wal)
    return history


def _voted(history: History, record: Record, before: Record, wal: tuple[int, ...]) -> History:
    assert record.value is not None
    parent = record.parent or (before.known if record.value != before.known else None)
    history = proposed(history, record.accepted, record.value, parent)
    return _vote(history, record, record.accepted, wal)


def _vote(history: History, record: Record, ballot: Ballot, wal: tuple[int, ...]) -> History:
    member = (record.me, record.incarnation)
    index = next(i for i, a in enumerate(history.attempts) if a.ballot == ballot)
    attempt = history.attempts[index]
    if member in attempt.members:
        return history
    after = replace(attempt, members=(*attempt.members, member))
    is_admitted = any((v.id, v.incarnation) == member for v in attempt.value.voters)
    if record.me in history.amnesic and not (record.me in history.emptied and is_admitted):
        # Its vote is void; a core that counts it takes something for chosen that is not.
        return history
    attempts = (*history.attempts[:index], after, *history.attempts[index + 1 :])
    history = replace(history, attempts=attempts[-KEPT:])
    return _choose(history, after, wal) if is_chosen_by(after) else history


def is_chosen_by(attempt: Attempt) -> bool:
    """§2.1: a quorum of the value, and of what it replaces (but for a forced term)."""
    value, parent = attempt.value, attempt.parent
    if not _quorum(value, attempt.members):
        return False
    return parent is None or value.term > parent.term or _leaves(parent, attempt.members)


def _leaves(config: Config, members: tuple[Member, ...]) -> bool:
    """§8: nobody leaves the PINNED of a fencing pair without the other's knowledge."""
    if config.mode is Mode.PINNED and is_fencing_pair(config):
        return all((v.id, v.incarnation) in members for v in config.voters)
    return _quorum(config, members)


def _quorum(config: Config, members: tuple[Member, ...]) -> bool:
    if config.mode is not Mode.SYNC:
        return any((v.id, v.incarnation) in members for v in config.voters if v.id == config.owner)
    present = sum(1 for v in config.voters if (v.id, v.incarnation) in members)
    return 2 * present > len(config.voters)


def _choose(history: History, attempt: Attempt, wal: tuple[int, ...]) -> History:
    value, parent = attempt.value, attempt.parent
    if history.is_chosen(value):
        return history
    is_forced = parent is not None and value.term > parent.term
    is_fenced = is_forced and value.reason in FENCED
    if is_forced:
        if history.forces == 0:
            history = blame(
                history, Violation("I11", f"{describe(value)} was chosen; nobody forced it.")
            )
        if not is_fenced:
            history = replace(
                history, acknowledged=tuple(w for w in history.acknowledged if holds(wal, w))
            )
    release = parent is not None and Release(parent.owner, *parent.version) in history.releases
    one = Chosen(value, parent, release, is_forced, is_fenced)
    new = {v.id for v in value.voters if (v.id, v.incarnation) not in _members(parent)}
    return replace(
        history,
        chosen=(*history.chosen, one),
        amnesic=tuple(a for a in history.amnesic if a not in new),
        emptied=tuple(a for a in history.emptied if a not in new),
    )


def _members(parent: Config | None) -> set[Member]:
    return {(v.id, v.incarnation) for v in parent.voters} if parent is not None else set()


def acknowledged(history: History, one: Acknowledgement, known: Config | None) -> History:
    """A client was told that its commit is safe; not counted under a superseded term."""
    if known is not None and known.term < history.forced_term:
        return history
    for fault in acknowledgement_faults(one):
        history = blame(history, fault)
    return replace(history, acknowledged=(*history.acknowledged, one.write))


def removed(history: History, one: Removal) -> History:
    """A node's log was replaced by another's."""
    for fault in removal_faults(one, history.acknowledged):
        history = blame(history, fault)
    return history


def promoted(history: History, node: str, lineage: Lineage) -> History:
    """A standby became a primary."""
    return replace(history, promotions=(*history.promotions, Promotion(node, lineage)))


def disk_changed(
    history: History,
    voter: str,
    holders: tuple[Holder, ...],
    *,
    is_emptied: bool,
    forgotten: Record | None,
) -> History:
    """A disk was lost or went back in time: what no disk holds any more cannot be asked for."""
    amnesic = history.amnesic
    owed = history.owed
    if forgotten is not None:
        if voter not in amnesic:
            amnesic = (*amnesic, voter)
        owed = tuple(o for o in owed if o[0] != voter)
        owed = (*owed, (voter, forgotten.promised, forgotten.accepted))
    kept = tuple(w for w in history.acknowledged if any(holds(holder.wal, w) for holder in holders))
    others = tuple(a for a in history.emptied if a != voter)
    emptied = (*others, voter) if is_emptied else others
    lost = (*(a for a in history.disks_lost if a != voter), voter)
    return replace(
        history, amnesic=amnesic, owed=owed, emptied=emptied, acknowledged=kept, disks_lost=lost
    )


def copied(history: History, node: str) -> History:
    """A node's data is that of the other again."""
    if node not in history.disks_lost:
        return history
    return replace(history, disks_lost=tuple(a for a in history.disks_lost if a != node))


def blame(history: History, fault: Violation) -> History:
    """Note a broken rule."""
    return replace(history, faults=(*history.faults, fault))
