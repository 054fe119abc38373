"""The core of a node: ``boot`` makes its state, ``step`` applies one event to it.

Pure: the same state and event always give the same result, which is what lets the explorer drive
this very code and the decision journal replay an incident. ``step`` never changes its argument.
"""

from copy import copy
from typing import assert_never

from msgspec.structs import replace

from openmse.ha import (
    acceptor,
    commands,
    facts,
    failback,
    fencing,
    leases,
    operations,
    proposer,
    takeover,
)
from openmse.ha.acceptor import Bond
from openmse.ha.draft import (
    Draft,
    is_owner,
    is_stopped,
    own_value_in_flight,
    since,
    timing_of,
)
from openmse.ha.effects import Effect
from openmse.ha.events import (
    CheckpointDone,
    Commanded,
    DbObserved,
    Event,
    FencingAnswered,
    LeaseLapsed,
    LinkChanged,
    NetObserved,
    Received,
    Ticked,
)
from openmse.ha.local import Address, DbProcess, DbRole, DbView, DbWanted, NetView, NetWanted
from openmse.ha.messages import Standing
from openmse.ha.plan import plan
from openmse.ha.receive import begin_anew, receive
from openmse.ha.state import Aim, Node, OperationKind, Party, Step
from openmse.ha.transitions import Owner, Post, Row, Verdict, row
from openmse.ha.values import (
    MILLISECOND,
    SECOND,
    Config,
    Instant,
    Lineage,
    Mode,
    Record,
    peer_of,
    witness_of,
)

BEAT_SPACING_NS = 4 * MILLISECOND
"""Beats out of turn (news that somebody waits for) keep at least this distance."""

ASK_SPACING_NS = 50 * MILLISECOND
"""How often an owner without any lease asks for one."""
_NO_DB, _NO_NET = DbView(), NetView()


def boot(
    record: Record,
    *,
    now: Instant,
    is_machine_boot: bool,
    db: DbView = _NO_DB,
    net: NetView = _NO_NET,
    peer: str = "",
    witness: str = "",
    software: str = "",
) -> Node:
    """The state after a start: of the machine, or of the health monitor alone, which adopts.

    ``db`` and ``net`` are what is running already, ``software`` is the version that runs. An
    adopted owner keeps serving under the lease that the kernel still holds; a new one is asked for
    at once.
    """
    n = Node(
        me=record.me,
        record=record,
        now=now,
        started_at=now,
        is_machine_boot=is_machine_boot,
        bond=Bond(abstains_until=Instant(now + record.largest_wait_ns)),
        peer=Party(id=peer),
        witness=Party(id=witness),
        db=db,
        net=net,
        software=software,
    )
    _name_parties(n)
    runs = db.process is DbProcess.UP and db.role is DbRole.PRIMARY
    known = record.known
    if known is not None and is_owner(n):
        n.is_halted = known.mode is Mode.SYNC and not runs
        if n.is_halted and not is_machine_boot:
            n.yields_until = leases.yield_until(n, timing_of(known).margin_ns)
        n.alone_confirmed = runs or not (is_machine_boot or fencing.is_in_force(n))
    if runs and not is_machine_boot:
        n.is_admitted = net.admits
        n.cutoff_at = Instant(now + timing_of(known).cutoff_ns)
        lineage = db.lineage
        n.db_wanted = DbWanted(role=DbRole.PRIMARY, lineage=lineage, names=db.names)
        n.net_wanted = NetWanted(net.address is Address.HELD, net.admits)
    n.wake_at = now
    return n


def step(node: Node, event: Event) -> tuple[Node, tuple[Effect, ...]]:
    """Apply one event; return the next state and the effects in the order they must happen."""
    n = copy(node)
    if event.at > n.now:
        if event.at - n.now > 4 * timing_of(n.record.known).beat_ns:
            n.woke_at = event.at
        n.now = event.at
    d = Draft(node, n)
    _apply(d, event)
    for _ in range(3):
        known = n.record.known
        _settle(d)
        if n.record.known == known:
            break
    plan(d)
    _beat(d)
    n.wake_at = _wake_at(d)
    return n, d.effects()


def _apply(d: Draft, event: Event) -> None:
    n = d.n
    match event:
        case Ticked():
            pass
        case Received(message=message):
            receive(d, message)
        case DbObserved(view=view):
            _observe_db(n, view)
        case NetObserved(view=view):
            _observe_net(d, view)
        case LinkChanged():
            _observe_link(n, event)
        case LeaseLapsed():
            n.lease_until = n.cutoff_at = Instant(0)
        case CheckpointDone(operation=operation):
            operations.on_checkpoint(d, operation)
        case FencingAnswered():
            fencing.on_answer(d, event)
        case Commanded():
            commands.on_command(d, event)
        case _:
            assert_never(event)


def _observe_db(n: Node, view: DbView) -> None:
    was_standby = n.db.role is DbRole.STANDBY
    is_up = view.role is DbRole.PRIMARY and view.process is DbProcess.UP
    if was_standby and is_up and n.db_wanted.role is DbRole.PRIMARY:
        n.is_fresh = True
    n.db = view


def _observe_net(d: Draft, view: NetView) -> None:
    if view.address is Address.CONFLICT and d.n.net.address is not Address.CONFLICT:
        d.note(
            "address_conflict",
            "error",
            f"Another machine ({view.conflict_with}) answers for the virtual IP address, so it "
            "is not taken here; it is tried again each second.",
        )
    d.n.net = view


def _observe_link(n: Node, event: LinkChanged) -> None:
    reset_at = n.now if event.was_reset and not event.is_up else Instant(0)
    if event.party == n.peer.id:
        n.peer = replace(n.peer, is_link_up=event.is_up, reset_at=reset_at)
    elif event.party == n.witness.id:
        n.witness = replace(n.witness, is_link_up=event.is_up, reset_at=reset_at)


def _settle(d: Draft) -> None:
    """Everything that follows from the present state, whichever event brought it about."""
    n = d.n
    if d.n.record.known != d.before.record.known and n.config_seen != _version(n):
        _on_config(d)
    _name_parties(n)
    facts.note_facts(d)
    leases.on_time(d)
    leases.resume(d)
    if facts.has_gone_back(n):
        begin_anew(d, n.peer.id)  # ⚠ before it serves or proposes with what is left
        return
    proposer.on_time(d)
    operations.advance(d)
    takeover.advance(d)
    fencing.advance(d)
    _keep_gate(d)
    failback.begin_if_due(d)
    _act(d)
    commands.settle_pending(d)
    operations.advance_stop(d)


def _version(n: Node) -> tuple[int, int]:
    return n.record.known.version if n.record.known else (0, 0)


def _name_parties(n: Node) -> None:
    config = n.record.known or n.record.value
    if config is None:
        return
    peer, witness = peer_of(config, n.me), witness_of(config)
    if peer and peer != n.peer.id:
        n.peer = Party(id=peer)
    if witness and witness != n.witness.id:
        n.witness = Party(id=witness)
        n.witness_lost_at = n.witness_back_at = Instant(0)  # of the one before it


def _drop_parties(n: Node, old: Config, new: Config) -> None:
    """Who was a voter and is none any more is no party either; one that is yet to become a voter
    was in neither config, and stays."""
    if not peer_of(new, n.me) and peer_of(old, n.me) == n.peer.id:
        n.peer = Party()
    if not witness_of(new) and witness_of(old) == n.witness.id:
        n.witness = Party()


def _on_config(d: Draft) -> None:
    """A newer config is known chosen: drop what belonged to the old one, and say so."""
    n, old, new = d.n, d.before.record.known, d.n.record.known
    assert new is not None
    n.config_seen = new.version
    n.gate_id = 0
    n.poll = None
    n.unresolved_since = Instant(0)
    if old is not None:
        _drop_parties(n, old, new)
    d.note(
        "config_chosen",
        "info" if new.mode is Mode.SYNC else "warning",
        f"{new.mode}({new.owner}), term {new.term}, epoch {new.epoch}: {new.reason}",
    )
    if new.mode is not Mode.ALONE:
        n.protect_released = False  # a release is for one loss of the peer, not for the next
    if old is not None and old.owner == n.me and new.owner == n.me:
        if new.mode is Mode.ALONE and old.mode is not Mode.ALONE:
            n.losses = (*n.losses[-15:], n.now)
        return
    n.lease_until = Instant(0)
    n.is_halted = False
    n.protect_released = False
    if is_owner(n):
        n.cutoff_at = Instant(n.now + timing_of(new).cutoff_ns)
        n.alone_confirmed = True
        if n.operation is not None and n.operation.kind is OperationKind.TAKEOVER:
            steps = (*n.operation.steps, Step("promote", n.now))
            n.operation = replace(n.operation, step="promote", steps=steps, is_final=True)
    elif new.owner != n.me:
        # ⚠ the new owner has not asked for a lease yet: leave it the time of one
        until = Instant(n.now + timing_of(new).wait_ns)
        n.bond = replace(n.bond, owner=new.owner, until=max(n.bond.until, until))


def _keep_gate(d: Draft) -> None:
    """Enter the sync gate when nothing speaks against it; leave it when something does."""
    n = d.n
    if facts.post_of(n) is not Post.OWNER_ALONE:
        n.gate_id = 0
        return
    if own_value_in_flight(n) is not None:
        return  # its fate decides
    if facts.why_no_gate(n):
        n.gate_id = 0
        if n.proposal is not None and n.proposal.aim is Aim.MOVE and n.proposal.move is not None:
            if n.proposal.move.mode is not Mode.ALONE:
                n.proposal = None
    elif not n.gate_id:
        n.barrier_id += 1
        n.gate_id = n.barrier_id


def _act(d: Draft) -> None:
    """Turn the verdict into the table's row, and the row into an attempt at the register."""
    n = d.n
    if n.proposal is not None or n.now < n.next_attempt_at:
        return
    if not acceptor.is_member(n.record):
        return  # ⚠ it has no vote, and nobody would count it
    verdict = facts.verdict(n)
    if verdict is Verdict.STEADY:
        return
    if verdict is Verdict.UNKNOWN_FATE:
        proposer.begin(d, Aim.WRITE_BACK)
        if n.proposal is not None and not is_owner(n):
            n.next_attempt_at = Instant(n.now + 500 * MILLISECOND)
        return
    found = row(facts.post_of(n), verdict)
    if found.mode is None or n.record.known is None:
        return
    if found.owner is Owner.PEER and not is_stopped(n):
        return  # ⚠ nobody else before everything here is stopped
    release = n.record.released if found.owner is Owner.PEER else None
    proposer.begin(d, Aim.MOVE, target_of(n, found, verdict), release=release)


def target_of(n: Node, found: Row, verdict: Verdict) -> Config:
    """The config that a row leads to, from the one known chosen."""
    known = n.record.known
    assert known is not None
    assert found.mode is not None
    epoch = known.epoch + 1
    owner = n.me if found.owner is Owner.ME else n.peer.id
    target = replace(known, epoch=epoch, mode=found.mode, owner=owner, reason=found.sentence)
    if owner != known.owner:
        target = replace(
            target,
            lineage=Lineage(known.term, epoch, owner),
            parent_lineage=known.lineage,
            fork_lsn=n.db.end_lsn,
        )
    wants_change = verdict in (Verdict.VOTERS_CHANGED, Verdict.STOP_ON_PURPOSE)
    if wants_change and n.pending is not None:
        target = replace(target, settings=n.pending.settings, voters=n.pending.voters)
        target = replace(target, primary=_primary_in(target, known))
    changed = facts.readmitted(n) if verdict is Verdict.VOTERS_CHANGED else None
    if changed is not None and n.pending is None:
        target = replace(target, voters=changed.voters)
    if target.mode is Mode.SYNC and not witness_of(target):
        # two voters alone are no majority of anything once one is gone (protocol §8)
        target = replace(target, mode=Mode.PINNED)
    return target


def _primary_in(target: Config, known: Config) -> str:
    """The configured primary of a config with other voters: a node that joins as the primary
    leaves takes its place (re-admission); with nobody to take it, it is the owner's."""
    nodes = [voter.id for voter in target.voters if not voter.is_witness]
    if known.primary in nodes:
        return known.primary
    before = [voter.id for voter in known.voters]
    return next((node for node in nodes if node not in before), target.owner)


def _beat(d: Draft) -> None:
    """Send beats when due, or at once when there is news that somebody waits for."""
    n = d.n
    if not n.peer.id and not n.witness.id:
        return
    own = leases.standing(n, "" if is_owner(n) else facts.why_not_own(n, n.record.known))
    is_due = n.now - n.beat_at >= _beat_interval(d)
    if not is_due and d.hears_owner:
        is_due = n.now - n.beat_at >= d.timing.beat_ns // 2
    if not is_due:
        is_due = _has_news(d, own) and n.now - n.beat_at >= BEAT_SPACING_NS
    if is_due:
        leases.send_beats(d, own)


def _beat_interval(d: Draft) -> int:
    """After how long without a beat the next one is due. Who hears the owner's beats sends its own
    together with the answer to them: one waking of each machine instead of two. It leaves them an
    eighth of an interval to come, and no more than one beat's time once they have stopped.
    """
    n, beat_ns = d.n, d.timing.beat_ns
    is_led = not is_owner(n) and since(n.now, n.peer.heard_at) < 2 * beat_ns
    return beat_ns + beat_ns // 8 if is_led else beat_ns


def _has_news(d: Draft, own: Standing) -> bool:
    n, sent = d.n, d.n.sent_standing
    if n.record.known != d.before.record.known:
        return True
    if n.peer.standing.is_handing_over and own.end_lsn != sent.end_lsn:
        return True
    quiet = replace(own, end_lsn=sent.end_lsn, progress_percent=sent.progress_percent)
    if quiet != sent:
        return True
    is_asking = leases.wants_grant(n) and not n.lease_until
    return is_asking and n.now - n.beat_at >= ASK_SPACING_NS


def _wake_at(d: Draft) -> Instant:
    """The next instant at which time alone changes something."""
    n = d.n
    has_parties = bool(n.peer.id or n.witness.id)
    due = [n.beat_at + _beat_interval(d) if has_parties else n.now + SECOND]
    if n.proposal is not None:
        due += [n.proposal.deadline, n.proposal.sent_at + proposer.RESEND_NS]
    if n.poll is not None:
        due.append(n.poll.retry_at)
    due += [n.bond.until, n.bond.abstains_until, n.cutoff_at, n.next_attempt_at]
    due.append(n.yields_until)
    if is_owner(n) and n.db.role is DbRole.PRIMARY and n.record.known is not None:
        if n.record.known.mode is not Mode.ALONE:
            due.append(facts.peer_lost_at(n))
    if n.operation is not None or n.is_stopping:
        due.append(n.now + 50 * MILLISECOND)
    if n.db_down_at:
        due.append(n.db_down_at + operations.RECOVERY_BUDGET_NS + MILLISECOND)
    if n.db_failed_at:
        due.append(n.db_failed_at + operations.UNHEALTHY_GRACE_NS + MILLISECOND)
    if not n.lease_until and leases.wants_grant(n):
        due.append(n.beat_at + ASK_SPACING_NS)
    later = [at for at in due if at > n.now]
    return Instant(min(later))
