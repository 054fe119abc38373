"""From what is known to the levels wanted of this machine: database, address, kernel lease.

Pure and total: called after every event, so that nothing depends on which event came last. The
first rule of each function is what must be *off*.
"""

from openmse.ha import fencing
from openmse.ha.draft import (
    Draft,
    is_owner,
    is_released,
    needs_lease,
    own_value_in_flight,
    since,
)
from openmse.ha.facts import is_known_voter, is_peer_silent, is_streaming_standby
from openmse.ha.local import (
    DbProcess,
    DbRole,
    DbWanted,
    NetWanted,
    Receiver,
    Rung,
    Stop,
)
from openmse.ha.operations import may_go_down
from openmse.ha.state import Node, OperationKind, Party, Phase
from openmse.ha.timing import BOOT_ALONE_NS
from openmse.ha.values import FOREVER, BootAlone, Config, Instant, Mode

_DOWN_NOW = DbWanted(role=DbRole.DOWN, stop=Stop.IMMEDIATE)
_DOWN = DbWanted(role=DbRole.DOWN, stop=Stop.FAST)


def plan(d: Draft) -> None:
    """Set the wanted levels from everything else in the node."""
    n = d.n
    _confirm_alone(d)
    _admit(n)
    n.db_wanted = _db(n)
    n.net_wanted = _net(n)
    n.lease_set = _lease(n)
    if not n.is_lease_known and (n.lease_set or not is_serving(n)):
        n.is_lease_known = True  # ⚠ a lease of this process's former life is closed, or replaced
    n.watchdog_armed = is_serving(n) and needs_lease(n) and n.lease_set > n.now


def is_serving(n: Node) -> bool:
    """Whether this node may hold the address and serve, so far as the register goes."""
    if not is_owner(n) or n.is_halted or n.quarantine or not n.alone_confirmed:
        return False
    if is_released(n):
        return _is_draining(n)
    return not may_go_down(n) or n.db.process is not DbProcess.DOWN


def _is_draining(n: Node) -> bool:
    """During a handover the address stays until PostgreSQL is down, so that clients get a clear
    end of their connection instead of silence; the lease is no longer renewed."""
    operation = n.operation
    return (
        operation is not None
        and operation.kind is OperationKind.HANDOVER
        and operation.step == "stop"
        and n.db.process is not DbProcess.DOWN
    )


def _confirm_alone(d: Draft) -> None:
    """Boot of an owner that needs nobody: it serves once the others know nothing newer, or after
    20 s without an answer, or when told (protocol §6)."""
    n, known = d.n, d.n.record.known
    if n.alone_confirmed or known is None or not is_owner(n):
        return
    if known.mode is Mode.SYNC:
        n.alone_confirmed = True  # the lease is what it waits for
        return
    is_pinned_to_answers = fencing.is_in_force(n)
    answers = [
        p
        for p in (n.peer, n.witness)
        if p.id and p.heard_at and (not is_pinned_to_answers or _has_answered(n, p))
    ]
    others = [v for v in known.voters if v.id != n.me]
    if not others or any(p.version <= known.version and p.version > (0, 0) for p in answers):
        n.alone_confirmed = True
    elif is_pinned_to_answers:
        return  # ⚠ the other node may have had this one switched off, and own
    elif known.settings.boot_alone is BootAlone.AUTO:
        n.alone_confirmed = since(n.now, n.started_at) >= BOOT_ALONE_NS
    if n.alone_confirmed:
        d.note("boot_confirmed", "info", "This node has the newest data and serves.")


def _has_answered(n: Node, p: Party) -> bool:
    """Whether this party has answered in the present run, and remembers what it did before."""
    return bool(p.answered) and is_known_voter(n, p.id)  # ⚠ a new memory does not know


def _admit(n: Node) -> None:
    """Let clients in once what they could read can no longer be lost (protocol §5.2)."""
    db, known = n.db, n.record.known
    runs = db.process is DbProcess.UP and db.role is DbRole.PRIMARY
    if not runs or known is None or known.owner != n.me or n.is_halted:
        if n.is_admitted or n.is_fresh:
            n.barrier_id += 1
        n.is_admitted = n.is_fresh = False
        return
    if n.is_admitted or db.lineage != known.lineage:
        return
    if known.mode is Mode.ALONE and own_value_in_flight(n) is None:
        n.is_admitted = True
    elif n.is_fresh:
        n.is_admitted = db.names
    else:
        n.is_admitted = (
            db.names
            and db.barrier_id == n.barrier_id
            and db.peer_streaming
            and db.peer_flush_lsn >= db.barrier_lsn
        )


def waits_for_peer(n: Node) -> bool:
    """Whether commits must wait for the peer: the stricter of known, in flight and in the gate."""
    known, flying = n.record.known, own_value_in_flight(n)
    if n.gate_id or (known is not None and known.mode is not Mode.ALONE):
        return True
    return flying is not None and flying.mode is not Mode.ALONE


def _db(n: Node) -> DbWanted:
    known = n.record.known
    if known is None or n.quarantine:
        return _DOWN
    if may_go_down(n):
        return _DOWN
    if is_owner(n):
        return _db_of_owner(n, known)
    if known.owner == n.me:
        return _DOWN  # another memory of this node is meant; see ``acceptor.is_member``
    return _db_of_peer(n, known)


def _db_of_owner(n: Node, known: Config) -> DbWanted:
    if is_released(n):
        operation = n.operation
        is_planned = operation is not None and operation.kind is OperationKind.HANDOVER
        return _DOWN if is_planned else _DOWN_NOW
    if n.is_halted:
        return _DOWN_NOW
    if not n.alone_confirmed:
        return _DOWN
    wanted = DbWanted(
        role=DbRole.PRIMARY,
        lineage=known.lineage,
        parent_lineage=known.parent_lineage,
        fork_lsn=known.fork_lsn,
        names=waits_for_peer(n),
        barrier_id=n.barrier_id,
        is_urgent=_is_urgent(n),
    )
    if n.db.lineage == known.lineage or not n.db.is_complete:
        return wanted if n.db.is_complete else _DOWN
    if _may_promote(n, known):
        return wanted
    # The record says owner, the data is that of a standby: bring it up to see how far it reaches.
    return DbWanted(
        role=DbRole.STANDBY,
        lineage=n.db.lineage,
        receiver=False,
        names=waits_for_peer(n),
        is_urgent=True,
    )


def _may_promote(n: Node, known: Config) -> bool:
    """Whether the data is exactly what the config was chosen on: nothing less, never more."""
    db = n.db
    if db.role is DbRole.PRIMARY:
        return False
    if n.db_wanted.role is DbRole.PRIMARY and n.db_wanted.lineage == known.lineage:
        return True  # under way
    return db.lineage == known.parent_lineage and db.end_lsn >= known.fork_lsn


def _is_urgent(n: Node) -> bool:
    if not n.is_admitted or n.gate_id:
        return True
    operation = n.operation
    return operation is not None and operation.kind is OperationKind.HANDOVER


def _db_of_peer(n: Node, known: Config) -> DbWanted:
    p = n.proposal
    is_cutting = (n.poll is not None and (n.poll.is_yes or n.poll.sent_accept)) or (
        p is not None and p.self_last and p.phase is Phase.ACCEPT
    )
    if is_cutting:
        return DbWanted(
            role=DbRole.STANDBY, lineage=n.db.lineage, receiver=False, names=False, is_urgent=True
        )
    rung = Rung.STREAM
    hears_owner = n.peer.version == known.version and not is_peer_silent(n)
    if known.mode is Mode.ALONE and hears_owner:
        rung = Rung.REBUILD  # ⚠ only towards the owner of a config known chosen that is ALONE
    is_same = n.db.role is DbRole.STANDBY and n.db.lineage == known.lineage
    if n.db.is_complete and is_same and n.db.end_lsn >= n.peer.standing.end_lsn:
        rung = Rung.STREAM  # ⚠ ahead of the owner on its own history: the owner's disk went back
    if not n.db.is_complete and rung is Rung.STREAM:
        return _DOWN
    return DbWanted(
        role=DbRole.STANDBY,
        lineage=known.lineage,
        parent_lineage=known.parent_lineage,
        fork_lsn=known.fork_lsn,
        rung=rung,
        receiver=not _is_drained(n),
        names=True,
        is_urgent=n.peer.standing.is_handing_over or n.db.receiver is Receiver.NONE,
    )


def _is_drained(n: Node) -> bool:
    """The owner is handing over, has shut down, and everything of it is here: cutting the receiver
    now, while the register changes, keeps that out of the time in which nobody serves."""
    held = n.peer.standing
    is_gone = n.db.receiver in (Receiver.WAITING, Receiver.CUT)
    return (
        held.is_handing_over
        and not held.is_primary
        and is_gone
        and held.lineage == n.db.lineage
        and n.db.end_lsn >= held.end_lsn > 0
    )


def _net(n: Node) -> NetWanted:
    if not is_serving(n):
        return NetWanted(probe=_is_about_to_own(n))
    if needs_lease(n) and n.lease_until <= n.now and n.lease_set == 0:
        return NetWanted(address=n.net_wanted.address, admit=n.net_wanted.admit, probe=True)
    is_up = n.db.process is DbProcess.UP and n.db.role is DbRole.PRIMARY
    return NetWanted(address=True, admit=n.is_admitted and is_up)


def _is_about_to_own(n: Node) -> bool:
    """Whether this node has the witness's yes, or has accepted that it owns: the probe for the
    address, which takes 100 ms, then runs beside the change of the register."""
    if is_owner(n):
        return False
    return own_value_in_flight(n) is not None or (n.poll is not None and n.poll.is_yes)


def _lease(n: Node) -> Instant:
    """What the kernel lease should be: closed, until the granted instant, or without end."""
    if not is_serving(n):
        return Instant(0)
    if not needs_lease(n):
        return FOREVER
    if is_released(n):
        return n.lease_set if n.lease_set != FOREVER else n.lease_until
    if n.lease_until > n.now:
        return n.lease_until
    return n.lease_set if n.lease_set != FOREVER else Instant(0)


__all__ = ["is_serving", "is_streaming_standby", "plan", "waits_for_peer"]
