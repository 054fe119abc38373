"""The invariants I1-I12 and the liveness goals L1-L4 of the protocol, as predicates.

They judge a *picture*: what an all-seeing observer knows about a group at one moment. The explorer
and the simulator draw it after every step, the laboratory's checker from real runs. Beside them
``effect_faults`` judges what one node asks for: what a running node asserts about itself. Pure.

A write is a pair (LSN, identity): the identity is that of the entry, so that two histories which
hold different entries at the same position are told apart.
"""

from collections.abc import Iterable

from msgspec import Struct

from openmse.ha.effects import Effect, SetLease, WantDb
from openmse.ha.local import DbRole, Rung
from openmse.ha.state import Node
from openmse.ha.values import FOREVER, Config, Lineage, Mode, peer_of

Write = tuple[int, int]
"""(LSN, identity of the entry): the entry is in a log that has it at that position."""


class Violation(Struct, frozen=True):
    """A rule that does not hold, and how it was broken, in a sentence."""

    rule: str
    sentence: str


class Chosen(Struct, frozen=True):
    """A config that was accepted by the quorums it needs; in the order of being chosen."""

    config: Config
    parent: Config | None = None
    is_released: bool = False
    """The parent's owner had its release of the parent's epoch on disk."""
    is_forced: bool = False
    """An operator forced it, or a fencing agent confirmed that the other node is off."""
    is_fenced: bool = False
    """The latter: nobody has accepted any loss, so none is forgiven."""


class Holder(Struct, frozen=True):
    """One node with its log, as the observer sees it."""

    id: str
    wal: tuple[int, ...] = ()
    """The entries flushed to its disk; the LSN of an entry is its index + 1."""
    is_answering: bool = False
    """It answers for the virtual IP: powered, running, address held, kernel lease in force."""
    is_serving: bool = False
    """It answers, lets clients in, and its PostgreSQL takes writes."""
    is_exempt: bool = False
    """I7 excepts it: paused since its lease was armed, or superseded by a force unseen."""
    is_complete: bool = True


class Promotion(Struct, frozen=True):
    """A standby became a primary on a new history."""

    node: str
    lineage: Lineage


class Picture(Struct, frozen=True):
    """Everything the state rules judge at one moment."""

    chosen: tuple[Chosen, ...] = ()
    holders: tuple[Holder, ...] = ()
    acknowledged: tuple[Write, ...] = ()
    promotions: tuple[Promotion, ...] = ()
    disks_lost: tuple[str, ...] = ()
    """Nodes whose disk was lost or went back in time, and holds no copy of the other's yet: I1
    and I2 cannot hold for them; but none of them may serve."""
    streaming: bool = False
    """The peer of the newest config streams from its owner."""


class Acknowledgement(Struct, frozen=True):
    """How one commit came to be acknowledged."""

    node: str
    write: Write
    is_flushed_by_peer: bool
    """The peer's flush, reported on a stream from this primary, covers it."""
    is_licensed: bool
    """ALONE(node) was known chosen by it when it cleared the names, and is chosen in truth."""


class Removal(Struct, frozen=True):
    """A rewind or rebuild that takes entries out of a node's log."""

    node: str
    towards: str
    """The node whose history replaces it."""
    removed: tuple[Write, ...]
    config: Config | None
    """The newest config known chosen by the node when it began."""
    is_chosen: bool
    """That config is chosen in truth."""


class Learned(Struct, frozen=True):
    """A config that a voter takes for chosen."""

    voter: str
    config: str
    """In words."""
    is_chosen: bool
    """A quorum of voters that remember what they promised has accepted it."""
    lost_memory: bool
    """Some voter's disk was lost or went back in time and no config has admitted it again."""


class FileSet(Struct, frozen=True):
    """Replicated files as installed on a node that was promoted."""

    node: str
    installed: int
    """Generation of the newest file installed."""
    acknowledged: int
    """Newest generation acknowledged for the promoted node's epoch."""


def newest(chosen: Iterable[Chosen]) -> Chosen | None:
    """The newest chosen config: that with the highest (term, epoch)."""
    return max(chosen, key=lambda one: one.config.version, default=None)


def holds(wal: tuple[int, ...], write: Write) -> bool:
    """Whether a log has this entry at its position."""
    lsn, entry = write
    return lsn <= len(wal) and wal[lsn - 1] == entry


def violations(picture: Picture) -> tuple[Violation, ...]:
    """All state rules that do not hold in this picture."""
    found: list[Violation] = []
    found += data_faults(picture)
    found += register_faults(picture.chosen)
    found += presence_faults(picture.holders)
    found += promotion_faults(picture.promotions)
    return tuple(found)


def data_faults(picture: Picture) -> list[Violation]:
    """I1 and I2: acknowledged writes are where they must be."""
    last = newest(picture.chosen)
    if last is None:
        return []
    config = last.config
    found = []
    for holder in picture.holders:
        if holder.id in picture.disks_lost and not holder.is_serving:
            continue
        if holder.id == config.owner:
            rule, who = "I1", "the owner"
        elif config.mode is not Mode.ALONE and holder.id == peer_of(config, config.owner):
            rule, who = "I2", "the peer"
        else:
            continue
        lost = [w for w in picture.acknowledged if not holds(holder.wal, w)]
        if lost:
            found.append(
                Violation(
                    rule,
                    f"{len(lost)} acknowledged write(s), first {lost[0]}, are not in the log of "
                    f"{holder.id}, {who} of {describe(config)}.",
                )
            )
    return found


def register_faults(chosen: tuple[Chosen, ...]) -> list[Violation]:
    """I3, I4 and I11: what may become of a config."""
    found = []
    seen: dict[tuple[int, int], Config] = {}
    for one in chosen:
        config, parent = one.config, one.parent
        twin = seen.setdefault(config.version, config)
        if twin != config:
            found.append(
                Violation("I3", f"Both {describe(twin)} and {describe(config)} are chosen.")
            )
        if parent is None or parent.owner == config.owner or one.is_forced:
            continue
        if parent.mode is not Mode.SYNC and not one.is_released:
            found.append(
                Violation("I4", f"{describe(parent)} led to {describe(config)} without a handover.")
            )
        if config.term > parent.term and not one.is_forced:
            found.append(
                Violation("I11", f"{describe(config)} raised the term, though nobody forced it.")
            )
    return found


def presence_faults(holders: tuple[Holder, ...]) -> list[Violation]:
    """I7: at most one node answers for the virtual IP."""
    answering = [h.id for h in holders if h.is_answering and not h.is_exempt]
    if len(answering) > 1:
        return [Violation("I7", f"{' and '.join(answering)} answer for the virtual IP at once.")]
    return []


def promotion_faults(promotions: tuple[Promotion, ...]) -> list[Violation]:
    """I9: no two promotions share a lineage."""
    found = []
    by: dict[Lineage, Promotion] = {}
    for promotion in promotions:
        if by.setdefault(promotion.lineage, promotion) is not promotion:
            found.append(
                Violation("I9", f"Lineage {promotion.lineage} was begun by two promotions.")
            )
    return found


def acknowledgement_faults(one: Acknowledgement) -> list[Violation]:
    """I5: no acknowledgement without the peer, unless alone by a chosen config."""
    if one.is_flushed_by_peer or one.is_licensed:
        return []
    return [
        Violation(
            "I5",
            f"{one.node} acknowledged {one.write} without the peer, and without knowing "
            f"ALONE({one.node}) chosen.",
        )
    ]


def removal_faults(one: Removal, acknowledged: Iterable[Write]) -> list[Violation]:
    """I6 and I8: who may be rewound towards whom, and what it may cost."""
    found = []
    config = one.config
    is_allowed = (
        config is not None
        and one.is_chosen
        and config.mode is Mode.ALONE
        and config.owner == one.towards
    )
    if not is_allowed:
        found.append(
            Violation(
                "I6",
                f"{one.node} is rewound towards {one.towards} under "
                f"{describe(config) if config else 'no config'}.",
            )
        )
    lost = set(one.removed) & set(acknowledged)
    if lost:
        found.append(
            Violation("I8", f"A rewind of {one.node} removes the acknowledged {min(lost)}.")
        )
    return found


def learned_faults(one: Learned) -> list[Violation]:
    """I3: what is known chosen was chosen. I10, the same where a memory was lost: a voter without
    it has no vote. It may give one before it finds out, but nobody counts it."""
    if one.is_chosen:
        return []
    rule = "I10" if one.lost_memory else "I3"
    return [Violation(rule, f"{one.voter} takes {one.config} for chosen; it is not.")]


def file_faults(one: FileSet) -> list[Violation]:
    """I12: a promoted node has installed no file newer than what was acknowledged."""
    if one.installed > one.acknowledged:
        return [
            Violation(
                "I12",
                f"{one.node} serves files of generation {one.installed}; only those up to "
                f"{one.acknowledged} were acknowledged.",
            )
        ]
    return []


def effect_faults(node: Node, effects: Iterable[Effect]) -> list[Violation]:
    """What a node must never ask for, judged by its own state: the production assertions."""
    found = []
    known = node.record.known
    is_alone = known is not None and known.owner == node.me and known.mode is Mode.ALONE
    is_free = known is not None and known.owner == node.me and known.mode is not Mode.SYNC
    for effect in effects:
        if isinstance(effect, SetLease) and effect.until >= FOREVER and not is_free:
            found.append(_fault(node, "I7", "serves without a lease in"))
        elif isinstance(effect, WantDb):
            wanted = effect.wanted
            if wanted.role is DbRole.PRIMARY and not wanted.names and not is_alone:
                found.append(_fault(node, "I5", "lets commits pass without the peer in"))
            if wanted.role is DbRole.STANDBY and wanted.rung is not Rung.STREAM:
                if known is None or known.mode is not Mode.ALONE or known.owner == node.me:
                    found.append(_fault(node, "I6", "would rewind its data in"))
    return found


def _fault(node: Node, rule: str, what: str) -> Violation:
    known = node.record.known
    return Violation(rule, f"{node.me} {what} {describe(known) if known else 'no config'}.")


def describe(config: Config) -> str:
    """A config in a few characters, as in the protocol: ``SYNC(mse1) 1.7``."""
    return f"{config.mode.value}({config.owner}) {config.term}.{config.epoch}"


def has_service(picture: Picture) -> bool:
    """L1: one node serves, and it is the owner of the newest chosen config."""
    last = newest(picture.chosen)
    return last is not None and any(
        h.is_serving and h.id == last.config.owner for h in picture.holders
    )


def is_healthy_sync(picture: Picture) -> bool:
    """L2 and L3: SYNC is chosen, its owner serves, the peer streams and is complete.

    A pair without a witness has its healthy state in PINNED (protocol §8).
    """
    last = newest(picture.chosen)
    if last is None or not picture.streaming or not has_service(picture):
        return False
    has_witness = any(v.is_witness for v in last.config.voters)
    goal = Mode.SYNC if has_witness else Mode.PINNED
    return last.config.mode is goal and all(h.is_complete for h in picture.holders)


def owner_changes(chosen: Iterable[Chosen]) -> int:
    """L4: how often the owner changed; once faults have stopped, more than once is ping-pong."""
    return sum(1 for one in chosen if one.parent and one.parent.owner != one.config.owner)
