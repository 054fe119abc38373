"""The values the protocol is about: ballots, lineages, configs, the durable record of a voter.

All are frozen msgspec structs: hashable for the explorer, and encodable for disk and wire.
Units: instants and durations are integer nanoseconds of this machine's CLOCK_BOOTTIME, never
compared across machines; an LSN is a byte position in the write-ahead log.
"""

from enum import StrEnum
from typing import NewType

from msgspec import Struct

Instant = NewType("Instant", int)
"""Nanoseconds of this node's CLOCK_BOOTTIME; meaningless on any other machine or boot."""

FOREVER = Instant(2**62)
SECOND = 1_000_000_000
MILLISECOND = 1_000_000


class Mode(StrEnum):
    """What the owner of a config may do without asking (protocol §2)."""

    SYNC = "SYNC"
    """The peer holds every acknowledged commit; the owner needs a lease; either may own next."""
    ALONE = "ALONE"
    """The owner acknowledges by itself; nobody else is electable; no lease."""
    PINNED = "PINNED"
    """The peer holds everything, but is not electable and the owner needs no lease."""


class FailoverType(StrEnum):
    """Who starts a takeover when the owner is lost."""

    MANUAL = "manual"
    AUTOMATIC = "automatic"


class NoWitnessMode(StrEnum):
    """What a pair without a witness does when the other node dies (protocol §8)."""

    MANUAL = "manual"
    FENCING = "fencing"
    """Automatic, through a fencing agent that must confirm."""
    PROTECT = "protect"
    """The owner blocks commits until the peer is back or an operator releases it."""


class BootAlone(StrEnum):
    """What a node whose last word is ALONE(self) does when it boots and nobody answers."""

    AUTO = "auto"
    ASK = "ask"


class Ballot(Struct, frozen=True, order=True, array_like=True):
    """The number of an attempt to choose; ordered by term, then round, then proposer."""

    term: int = 0
    round: int = 0
    voter: str = ""


class Lineage(Struct, frozen=True, order=True, array_like=True):
    """The identity of one history of the write-ahead log.

    Named after the config that began it, of which there is one per (term, epoch): so no two
    promotions share a lineage (I9), which PostgreSQL's timeline numbers cannot promise.
    """

    term: int
    epoch: int
    owner: str


class Voter(Struct, frozen=True, order=True, array_like=True):
    """One of the parties that keep the register, and which memory of it is meant."""

    id: str
    incarnation: str
    is_witness: bool = False


class Settings(Struct, frozen=True):
    """The part of a config that an administrator sets. Durations in nanoseconds."""

    failover_wait_ns: int = 5 * SECOND
    failover_type: FailoverType = FailoverType.AUTOMATIC
    failback_type: FailoverType = FailoverType.MANUAL
    no_witness_mode: NoWitnessMode = NoWitnessMode.MANUAL
    boot_alone: BootAlone = BootAlone.AUTO
    boot_patience_ns: int = 60 * SECOND
    failback_stable_ns: int = 600 * SECOND
    maintenance: bool = False


class Config(Struct, frozen=True):
    """One value of the register: who owns, how, and on which history (protocol §2)."""

    term: int
    epoch: int
    mode: Mode
    owner: str
    voters: tuple[Voter, ...]
    lineage: Lineage
    settings: Settings
    parent_lineage: Lineage | None = None
    fork_lsn: int = 0
    """Where ``lineage`` leaves ``parent_lineage``; 0 while there is no parent."""
    primary: str = ""
    """The configured primary of the group; the owner may be either node."""
    reason: str = ""

    @property
    def version(self) -> tuple[int, int]:
        """(term, epoch): orders *chosen* configs, and only those."""
        return (self.term, self.epoch)


class Seen(Struct, frozen=True, array_like=True):
    """The most that a voter has shown of its own memory (protocol §2.6)."""

    id: str
    incarnation: str
    boot: int = 0
    promised: Ballot = Ballot()
    lineage: Lineage | None = None
    wal_end: int = 0
    """The highest end of its write-ahead log on ``lineage``, once it was streaming or serving."""
    wal_boot: int = 0
    """The boot in which it showed that: only a later one can have lost it."""
    run: str = ""
    """The name of the run that showed ``boot``."""


class Release(Struct, frozen=True, array_like=True):
    """An owner's final word that it no longer serves in one (term, epoch)."""

    node: str
    term: int
    epoch: int


class Record(Struct, frozen=True):
    """What one voter keeps on disk, fsynced before any answer that rests on it.

    ``accepted`` is the ballot under which ``value`` (replacing ``parent``) was accepted.
    ``chosen`` is the highest ballot whose value this voter *knows* chosen, and ``known`` that
    value: the same as ``value`` once ``chosen`` has caught up with ``accepted``.
    """

    me: str
    incarnation: str
    boot: int = 0
    run: str = ""
    """Drawn at random at each start: a disk that went back by one start counts to the same boot
    number again, but under another name."""
    promised: Ballot = Ballot()
    accepted: Ballot = Ballot()
    value: Config | None = None
    parent: Config | None = None
    chosen: Ballot = Ballot()
    known: Config | None = None
    released: Release | None = None
    largest_wait_ns: int = 0
    """The largest failover wait ever granted: how long to abstain after a restart."""
    seen: tuple[Seen, ...] = ()
    version: int = 1

    @property
    def is_known_chosen(self) -> bool:
        """Whether this voter knows its own value to be chosen."""
        return self.value is not None and self.chosen >= self.accepted


def quorum_reached(config: Config, voters: frozenset[str]) -> bool:
    """Whether ``voters`` (ids) contain a quorum of ``config`` (protocol §2).

    SYNC: a majority of its voters. ALONE and PINNED: the owner.
    """
    if config.mode is not Mode.SYNC:
        return config.owner in voters and any(v.id == config.owner for v in config.voters)
    present = sum(1 for voter in config.voters if voter.id in voters)
    return 2 * present > len(config.voters)


def may_be_left(config: Config, voters: frozenset[str]) -> bool:
    """Whether ``voters`` (ids) suffice to *replace* this config by another.

    Its quorum; but both nodes for the PINNED of a pair with a fencing agent, where either may go
    on alone once the other is off: neither may leave it without the other's knowledge (⚠ §8).
    """
    if config.mode is Mode.PINNED and is_fencing_pair(config):
        return all(voter.id in voters for voter in config.voters)
    return quorum_reached(config, voters)


def is_fencing_pair(config: Config) -> bool:
    """Whether this is a pair without a witness that goes on through a fencing agent."""
    is_set = config.settings.no_witness_mode is NoWitnessMode.FENCING
    return is_set and not witness_of(config) and len(config.voters) > 1


def peer_of(config: Config, node: str) -> str:
    """The other node of the group, or '' while it is unpaired."""
    return next((v.id for v in config.voters if not v.is_witness and v.id != node), "")


def witness_of(config: Config) -> str:
    """The witness of the group, or '' where there is none."""
    return next((v.id for v in config.voters if v.is_witness), "")
