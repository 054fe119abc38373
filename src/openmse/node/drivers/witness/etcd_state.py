"""A witness whose memory is three keys of etcd: what to answer, and what to put. Pure.

The record of the voter, the newest grant and the newest release of a group are read together and
every put expects all three unchanged, so together they behave as one object that changes step by
step, whoever executes the step. The bond of a grant is not stored: each executor waits the whole
failover wait *from its own observation* of the newest grant (docs/adr tells why that is safe).
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from openmse.errors import StateError
from openmse.ha import witness
from openmse.ha.acceptor import Bond
from openmse.ha.effects import Send
from openmse.ha.messages import Beat, BeatAck, Message
from openmse.ha.values import Instant, Record, Release
from openmse.ha.witness import WitnessGroup
from openmse.node.drivers.witness.etcd_client import KeyValue, Reading

T = TypeVar("T")
STATE_VERSION = 1
WAIT_LIMIT_NS = 10**12
"""A grant that asks for a longer wait than this is damaged; ns."""


class StoredRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """The value of the record key. ``cluster``: etcd's id when this memory began."""

    record: Record
    cluster: str
    version: int = STATE_VERSION


class StoredGrant(Struct, frozen=True, forbid_unknown_fields=True):
    """The value of the grant key. Durations in nanoseconds.

    ``hold_ns``: how long an observer waits, from its observation: at least ``wait_ns``, and more
    while an earlier grant with a larger failover wait may still be in use.
    ``nonce``: the owner's own instant of sending, which tells one grant from the next.
    """

    owner: str
    term: int
    epoch: int
    wait_ns: int
    hold_ns: int
    nonce: int
    version: int = STATE_VERSION


class StoredRelease(Struct, frozen=True, forbid_unknown_fields=True):
    """The value of the release key."""

    release: Release
    version: int = STATE_VERSION


class Keys:
    """The names of a group's keys."""

    def __init__(self, prefix: str, group: str) -> None:
        self.folder = f"{prefix.rstrip('/')}/{group}/"
        self.record = self.folder + "record"
        self.grant = self.folder + "grant"
        self.release = self.folder + "release"

    @property
    def all(self) -> tuple[str, str, str]:
        """Record, grant, release."""
        return self.record, self.grant, self.release


class Snapshot(Struct, frozen=True):
    """A group's keys at one revision of etcd; ``revisions`` is what a put expects of each."""

    cluster: str
    revision: int
    keys: Mapping[str, KeyValue]
    revisions: Mapping[str, int]
    stored: StoredRecord | None = None
    grant: StoredGrant | None = None
    grant_revision: int = 0
    release: Release | None = None


class Watched(Struct, frozen=True):
    """What this executor has itself seen of grants since it started.

    ``until``: no vote for another owner than ``owner`` before that, on this machine's clock.
    ``is_first``: nothing was read yet.
    """

    revision: int = 0
    grant: StoredGrant | None = None
    until: Instant = Instant(0)
    owner_heard: bool = False
    is_first: bool = True


class Plan(Struct, frozen=True):
    """``replies`` may be given once ``puts`` are in etcd; at once where there are none."""

    replies: tuple[Message, ...]
    puts: dict[str, bytes]
    is_granted: bool = False


def snapshot_of(reading: Reading, keys: Keys) -> Snapshot:
    """Make sense of what was read; raises StateError where a key is damaged."""
    read = reading.keys
    release = _decode(read, keys.release, StoredRelease)
    return Snapshot(
        reading.cluster,
        reading.revision,
        read,
        {key: read[key].mod_revision if key in read else 0 for key in keys.all},
        _decode(read, keys.record, StoredRecord),
        _grant(read, keys),
        read[keys.grant].mod_revision if keys.grant in read else 0,
        release.release if release else None,
    )


def observe(watched: Watched, now_after: Instant, snapshot: Snapshot) -> Watched:
    """Take note of the grant; ``now_after`` is an instant *after* the answer had arrived."""
    return _observe(watched, now_after, snapshot.grant, snapshot.grant_revision)


def observe_put(watched: Watched, now_after: Instant, reading: Reading, keys: Keys) -> Watched:
    """Take note of a grant that etcd told of by itself; raises StateError where it is damaged.

    Such news can be late, but never early: etcd tells only of what it has done. News that a
    reading has overtaken are dropped, and nothing counts before a first reading.
    """
    grant = _grant(reading.keys, keys)
    revision = reading.keys[keys.grant].mod_revision
    if watched.is_first or revision <= watched.revision:
        return watched
    return _observe(watched, now_after, grant, revision)


def _observe(
    watched: Watched, now_after: Instant, grant: StoredGrant | None, revision: int
) -> Watched:
    if not watched.is_first and (watched.revision, watched.grant) == (revision, grant):
        return watched
    until = Instant(now_after + grant.hold_ns) if grant else watched.until
    if grant and watched.grant and watched.grant.owner == grant.owner:
        until = Instant(max(until, watched.until))
    heard = watched.owner_heard or (not watched.is_first and grant is not None)
    return Watched(revision, grant, until, heard, is_first=False)


def has_forgotten(snapshot: Snapshot, highest_revision: int, cluster: str) -> bool:
    """Whether etcd itself lost memory: its past is shorter than seen, or another cluster's."""
    if cluster and (snapshot.cluster != cluster or snapshot.revision < highest_revision):
        return True
    return snapshot.stored is not None and snapshot.stored.cluster != snapshot.cluster


def new_record(keys: Keys, voter: str, incarnation: str, cluster: str) -> dict[str, bytes]:
    """The put that begins a memory: a voter that nobody has admitted yet."""
    stored = StoredRecord(Record(voter, incarnation, boot=1), cluster)
    return {keys.record: msgspec.json.encode(stored)}


def plan(
    snapshot: Snapshot,
    watched: Watched,
    message: Message,
    now: Instant,
    keys: Keys,
    *,
    notes_wal: bool = True,
) -> Plan:
    """Execute one step of the witness on ``snapshot``, which ``watched`` has taken note of.

    ``notes_wal``: also put a record of which nothing but the ends of others' logs has changed;
    these grow with every beat, so that the caller says now and then.
    """
    assert snapshot.stored is not None
    assert (watched.revision, watched.grant) == (snapshot.grant_revision, snapshot.grant)
    before = WitnessGroup(snapshot.stored.record, _bond(snapshot, watched))
    after, effects = witness.step(before, message, now)
    replies = tuple(effect.message for effect in effects if isinstance(effect, Send))
    puts: dict[str, bytes] = {}
    is_news = without_wal(after.record) != without_wal(before.record)
    if is_news or (notes_wal and after.record != before.record):
        puts[keys.record] = msgspec.json.encode(StoredRecord(after.record, snapshot.cluster))
    if after.bond.release is not None and after.bond.release != before.bond.release:
        puts[keys.release] = msgspec.json.encode(StoredRelease(after.bond.release))
    is_granted = any(isinstance(r, BeatAck) and r.is_granted for r in replies)
    if is_granted:
        assert isinstance(message, Beat)
        puts[keys.grant] = msgspec.json.encode(_grant_for(message, watched, now))
    return Plan(replies, puts, is_granted)


def without_wal(record: Record) -> Record:
    """The record but for the ends of others' logs."""
    seen = tuple(replace(s, lineage=None, wal_end=0, wal_boot=0) for s in record.seen)
    return replace(record, seen=seen)


def _bond(snapshot: Snapshot, watched: Watched) -> Bond:
    return Bond(
        owner=watched.grant.owner if watched.grant else "",
        until=watched.until,
        release=snapshot.release,
        owner_heard=watched.owner_heard,
    )


def _grant_for(beat: Beat, watched: Watched, now: Instant) -> StoredGrant:
    hold_ns = beat.wait_ns
    if watched.grant is not None and watched.grant.owner == beat.stamp.id:
        hold_ns = max(hold_ns, watched.until - now)
    return StoredGrant(beat.stamp.id, beat.term, beat.epoch, beat.wait_ns, hold_ns, beat.nonce)


def _grant(read: Mapping[str, KeyValue], keys: Keys) -> StoredGrant | None:
    grant = _decode(read, keys.grant, StoredGrant)
    if grant is not None and not 0 < grant.wait_ns <= grant.hold_ns <= WAIT_LIMIT_NS:
        raise _damaged(keys.grant, "its durations make no sense")
    return grant


def _decode(read: Mapping[str, KeyValue], key: str, type_: type[T]) -> T | None:
    if key not in read:
        return None
    try:
        return msgspec.json.decode(read[key].value, type=type_)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _damaged(key, str(error)) from error


def _damaged(key: str, why: str) -> StateError:
    return StateError(
        f"The key {key} in etcd is damaged ({why}); this witness does not vote.",
        "Find out who wrote to it; delete the group's keys and re-admit the witness.",
        is_retryable=False,
    )
