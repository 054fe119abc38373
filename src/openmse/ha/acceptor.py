"""The memory of one voter: promise, accept, learn, grant. Shared by nodes and the witness.

Pure functions over ``Record`` and ``Bond``; the caller persists the record before it sends the
reply. Nothing here knows whether it runs on a node, in the witness or against etcd.
"""

from msgspec import Struct
from msgspec.structs import replace

from openmse.ha.messages import (
    Accept,
    Accepted,
    Beat,
    Learn,
    Prepare,
    Promise,
    Refusal,
    Refused,
    Stamp,
    Standing,
)
from openmse.ha.values import (
    Ballot,
    Config,
    Instant,
    Lineage,
    Mode,
    Record,
    Release,
    Seen,
)


class Bond(Struct, frozen=True):
    """What a voter has bound itself to by granting leases; lives in memory only.

    ``until``: no vote for an owner other than ``owner`` before that. ``abstains_until``: no vote
    for a change of owner at all, since grants given before a restart are forgotten (protocol §3).
    """

    owner: str = ""
    until: Instant = Instant(0)
    abstains_until: Instant = Instant(0)
    release: Release | None = None
    """The release of the known config's owner, if held: it frees the voter from both."""
    owner_heard: bool = False
    """The owner was heard since this voter started."""


def stamp_of(record: Record, lineage: Lineage | None = None, wal_end: int = 0) -> Stamp:
    """The stamp that goes on every message of this voter."""
    return Stamp(
        record.me, record.incarnation, record.boot, record.promised, lineage, wal_end, record.run
    )


def is_member(record: Record) -> bool:
    """Whether the config known chosen means this very memory. One that began anew, or was taken
    out of the group, does not vote, own or propose until a config change names it (⚠ §2.6)."""
    if record.known is None:
        return True
    for voter in record.known.voters:  # a loop: asked some twenty times in each step
        if voter.id == record.me and voter.incarnation == record.incarnation:
            return True
    return False


def holds_release(record: Record, bond: Bond) -> bool:
    """Whether the owner of the newest config known chosen here has released it."""
    known, release = record.known, bond.release
    if known is None or release is None:
        return False
    return (release.node, release.term, release.epoch) == (known.owner, *known.version)


def with_release(bond: Bond, release: Release | None) -> Bond:
    """Keep a release if it is newer than the one held: an old one must not displace it."""
    held = bond.release
    if release is None:
        return bond
    if held is not None and (held.term, held.epoch) >= (release.term, release.epoch):
        return bond
    return replace(bond, release=release)


def change_refusal(record: Record, bond: Bond, owner: str, now: Instant) -> tuple[Refusal, int]:
    """Why this voter may not vote for ``owner`` now, and for how many ns at the least."""
    known = record.known
    if known is not None and owner == known.owner:
        return Refusal.NONE, 0
    if holds_release(record, bond):
        return Refusal.NONE, 0
    if now < bond.until and owner != bond.owner:
        return Refusal.BOUND, bond.until - now
    if now < bond.abstains_until:
        return Refusal.ABSTAINS, bond.abstains_until - now
    return Refusal.NONE, 0


def is_forgetful(record: Record, stamp: Stamp, config: Config | None) -> bool:
    """Whether the sender shows less memory than it did, or one that was never admitted (§2.6).

    Within one boot a lower promise is only a message that was overtaken by a later one.
    """
    voters = config.voters if config is not None else ()
    if any(v.id == stamp.id and v.incarnation != stamp.incarnation for v in voters):
        return True
    for seen in record.seen:
        if seen.id == stamp.id and seen.incarnation == stamp.incarnation:
            is_less = stamp.boot > seen.boot and stamp.promised < seen.promised
            is_other = stamp.boot == seen.boot and stamp.run != seen.run
            is_older = stamp.boot < seen.boot
            return is_less or is_other or is_older or _shows_less_wal(seen, stamp)
    return False


def _shows_less_wal(seen: Seen, stamp: Stamp) -> bool:
    """Whether the whole log of the sender is shorter than what it has had (⚠ §2.6)."""
    if stamp.lineage is None or seen.lineage is None or stamp.boot <= seen.wal_boot:
        return False
    return (stamp.lineage, stamp.wal_end) < (seen.lineage, seen.wal_end)


def remember(record: Record, stamp: Stamp, standing: Standing | None = None) -> Record:
    """Note the most that a voter has shown of its memory. Kept with the next record persisted.

    ``standing`` adds the log of a node that streams or serves: what it has, at the least.
    """
    known = Seen(stamp.id, stamp.incarnation, stamp.boot, stamp.promised, run=stamp.run)
    for seen in record.seen:
        if seen.id == stamp.id and seen.incarnation == stamp.incarnation:
            known = replace(
                seen,
                boot=max(seen.boot, stamp.boot),
                run=stamp.run if stamp.boot >= seen.boot else seen.run,
                promised=max(seen.promised, stamp.promised),
            )
    lineage, end = stamp.lineage, stamp.wal_end
    if standing is not None and (standing.is_streaming or standing.is_primary):
        lineage, end = standing.lineage, standing.end_lsn
    if lineage is not None and (lineage, end) > (known.lineage or Lineage(0, 0, ""), known.wal_end):
        known = replace(known, lineage=lineage, wal_end=end, wal_boot=stamp.boot)
    if known in record.seen:
        return record
    return replace(record, seen=(*(s for s in record.seen if s.id != stamp.id), known))


def on_prepare(record: Record, message: Prepare) -> tuple[Record, Promise | Refused]:
    """Promise to accept nothing lower than the ballot, or say what was promised already."""
    if message.ballot < record.promised:
        return record, Refused(stamp_of(record), message.ballot, record.promised, Refusal.OUTBID)
    record = replace(record, promised=message.ballot)
    return record, Promise(
        stamp_of(record),
        message.ballot,
        record.accepted,
        record.value,
        record.parent,
        record.chosen,
    )


def on_accept(
    record: Record, bond: Bond, message: Accept, now: Instant
) -> tuple[Record, Accepted | Refused]:
    """Accept a value, unless a higher ballot was promised or a grant forbids its owner."""
    if message.ballot < record.promised:
        return record, Refused(stamp_of(record), message.ballot, record.promised, Refusal.OUTBID)
    bond = with_release(bond, message.release)
    refusal, retry_ns = change_refusal(record, bond, message.value.owner, now)
    if refusal is not Refusal.NONE:
        return record, Refused(stamp_of(record), message.ballot, record.promised, refusal, retry_ns)
    record = replace(
        record,
        promised=message.ballot,
        accepted=message.ballot,
        value=message.value,
        parent=message.parent,
    )
    return record, Accepted(stamp_of(record), message.ballot)


def on_learn(record: Record, message: Learn) -> Record:
    """Take note that a value is chosen; the ballot decides, never the epoch (protocol §2.2)."""
    if message.ballot <= record.chosen:
        return record
    record = replace(record, chosen=message.ballot, known=message.value)
    if message.ballot >= record.accepted:
        record = replace(
            record,
            promised=max(record.promised, message.ballot),
            accepted=message.ballot,
            value=message.value,
            parent=record.parent if record.accepted == message.ballot else None,
        )
    return record


def learn_for(record: Record, chosen: Ballot) -> Learn | None:
    """What to tell a voter that knows only up to ``chosen``; None if it knows as much."""
    if record.known is None or record.chosen <= chosen:
        return None
    return Learn(stamp_of(record), record.chosen, record.known)


def grant(record: Record, bond: Bond, beat: Beat, now: Instant) -> tuple[Record, Bond, Refusal]:
    """Decide on a renewal: bind this voter to the owner for the wait from now, or say why not.

    The largest wait ever granted is part of the record: it must be on disk before the answer.
    """
    known, value = record.known, record.value
    if known is None or known.version < (beat.term, beat.epoch):
        return record, bond, Refusal.AHEAD
    if known.version > (beat.term, beat.epoch) or known.owner != beat.stamp.id:
        return record, bond, Refusal.BEHIND
    if value is not None and record.accepted > record.chosen:
        is_out = all(voter.id != record.me for voter in value.voters)
        if is_out or value.owner != beat.stamp.id:  # ⚠ its successors may be chosen without it
            return record, bond, Refusal.UNRESOLVED
    if beat.released is not None or holds_release(record, bond):
        return record, bond, Refusal.RELEASED
    until = Instant(max(bond.until if bond.owner == beat.stamp.id else 0, now + beat.wait_ns))
    bond = replace(bond, owner=beat.stamp.id, until=until)
    if beat.wait_ns > record.largest_wait_ns:
        record = replace(record, largest_wait_ns=beat.wait_ns)
    return record, bond, Refusal.NONE


def is_lease_needed(config: Config | None) -> bool:
    """Whether the owner of this config may serve only while a voter's grant lasts."""
    return config is not None and config.mode is Mode.SYNC
