"""The rules of the protocol marked with a warning sign, removed one at a time.

Trust an explorer or a simulator only after it finds planted faults. A mutant edits the source of
functions of the core and puts the result in their place for a while; the edit fails loudly when
the code it is about has changed. Some rules live in a driver: those are flags of the model
(``planted``). Nothing in production knows of this.
"""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FunctionType, ModuleType

from msgspec import Struct


class Edit(Struct, frozen=True):
    """One function of the core with one piece of its text replaced."""

    module: str
    function: str
    old: str
    new: str


class Mutant(Struct, frozen=True):
    """A rule, removed."""

    name: str
    rule: str
    edits: tuple[Edit, ...] = ()
    planted: frozenset[str] = frozenset()


def _one(name: str, rule: str, module: str, function: str, *change: str) -> Mutant:
    old, new = change
    return Mutant(name, rule, (Edit(module, function, old, new),))


MUTANTS: tuple[Mutant, ...] = (
    _one(
        "owner_records_last",
        "§2.1: replacing ALONE or PINNED, the owner records it before the first accept leaves",
        "proposer",
        "_accept_phase",
        "self_last = p.self_last or (",
        "self_last = p.self_last or (parent and parent.mode.value != 'SYNC') or (",
    ),
    _one(
        "highest_epoch",
        "§2.2: a reader adopts the value of the highest ballot, never of the highest epoch",
        "proposer",
        "_check_promises",
        "key=lambda promise: promise.accepted",
        "key=lambda promise: promise.value.version if promise.value else (0, 0)",
    ),
    _one(
        "joint_quorum",
        "§2.1: chosen by a quorum of the config itself and of the one that it replaces",
        "proposer",
        "_is_joint_quorum",
        "p.parent is None or may_be_left(p.parent, ids)",
        "True",
    ),
    _one(
        "no_write_back",
        "§2.3: a config of unknown fate is first written back unchanged until it is chosen",
        "proposer",
        "_check_promises",
        "if not is_known:\n",
        "if False:\n",
    ),
    _one(
        "own_word_is_licence",
        "§2.4: ALONE(self) on the own disk is no licence before it is known chosen",
        "proposer",
        "_accept_own",
        "n.proposal = replace(p, accepted_by=p.accepted_by | {n.me})",
        "n.proposal = replace(p, accepted_by=p.accepted_by | {n.me})\n"
        "    if p.value.mode.value == 'ALONE':\n"
        "        n.record = replace(n.record, chosen=p.ballot, known=p.value)",
    ),
    Mutant(
        "owner_votes_while_serving",
        "§3: the owner has granted to itself until its services, address and PostgreSQL stopped",
        (
            Edit("receive", "_on_prepare", "is_owner(n) and not is_stopped(n)", "False"),
            Edit("receive", "_on_accept", "is_owner(n) and not is_stopped(n)", "False"),
            Edit("proposer", "_accept_own", "is_owner(n) and not is_stopped(n)", "False"),
        ),
    ),
    _one(
        "voted_owner_serves",
        "§3: an owner that has voted for another one does not serve until the fate is known",
        "draft",
        "has_voted_away",
        "return is_owner(n) and",
        "return False and",
    ),
    Mutant(
        "no_abstention",
        "§3: a voter that restarts abstains for the largest wait it has ever granted",
        (
            Edit("acceptor", "change_refusal", "if now < bond.abstains_until:", "if False:"),
            Edit("facts", "why_no_takeover", "if n.now < n.bond.abstains_until:", "if False:"),
        ),
    ),
    _one(
        "no_grant_binds",
        "§3: a grant binds its giver for the whole failover wait",
        "acceptor",
        "change_refusal",
        "if now < bond.until",
        "if False",
    ),
    _one(
        "no_prevote",
        "§3: only after a pre-vote's yes does the peer cut its receiver",
        "takeover",
        "_ask_or_cut",
        "assert poll is not None\n",
        "assert poll is not None\n"
        "    if not poll.is_yes:\n"
        "        n.poll = poll = replace(poll, is_yes=True, yes_at=n.now)\n",
    ),
    _one(
        "alone_times_out",
        "§4: in ALONE and PINNED nothing times out",
        "draft",
        "needs_lease",
        "return known.mode is Mode.SYNC or (flying",
        "return True or (flying",
    ),
    Mutant(
        "late_arming",
        "§4.2: after arming the clock is read again, and a late arming is removed",
        planted=frozenset({"late_arming"}),
    ),
    Mutant(
        "soft_lease",
        "§4.2: no argument rests on address lifetimes, which end up to 1 s late",
        planted=frozenset({"soft_lease"}),
    ),
    _one(
        "release_not_durable",
        "§4: a release is on disk before it is told",
        "draft",
        "durable",
        "replace(record, seen=())",
        "replace(record, seen=(), released=None)",
    ),
    _one(
        "release_not_final",
        "§4: after its release the owner neither renews nor serves in that epoch",
        "draft",
        "is_released",
        "return (released.node, released.term, released.epoch) == (n.me, *known.version)",
        "return False",
    ),
    _one(
        "release_before_stop",
        "§4: a release is told only when everything has stopped",
        "leases",
        "send_beats",
        "is_released(n) and is_stopped(n)",
        "is_released(n)",
    ),
    Mutant(
        "unproven_gate",
        "§5.3: sync_state is no proof; the checkpointer must have run",
        planted=frozenset({"unproven_gate"}),
    ),
    _one(
        "gate_without_barrier",
        "§5.3: the peer's flush must have reached the barrier",
        "facts",
        "_alone_verdict",
        "n.db.peer_flush_lsn < n.db.barrier_lsn",
        "False",
    ),
    _one(
        "rewind_in_any_mode",
        "§5.6: beyond streaming only when ALONE(owner) is known chosen",
        "plan",
        "_db_of_peer",
        "known.mode is Mode.ALONE and hears_owner",
        "hears_owner",
    ),
    _one(
        "any_memory_acts",
        "§2.6: a memory that began anew neither owns nor votes until it is admitted",
        "acceptor",
        "is_member",
        "(v.id, v.incarnation) == (record.me, record.incarnation)",
        "v.id == record.me",
    ),
    Mutant(
        "any_node_acts",
        "§2.6: a node that is no voter is no second copy, and does not own",
        (
            Edit("facts", "why_no_gate", "if peer_of(known, n.me) != peer.id:", "if False:"),
            Edit("acceptor", "is_member", "return any(", "return True or any("),
            Edit("values", "quorum_reached", " and any(v.id == config.owner for", " or any(v for"),
        ),
    ),
    _one(
        "old_disk_serves",
        "§2.6: a primary that holds less than its standby began from an older disk",
        "facts",
        "_is_behind_peer",
        "return held.lineage == n.db.lineage == known.lineage and held.end_lsn > n.db.end_lsn",
        "return False",
    ),
    _one(
        "any_lineage_takes_over",
        "§2: a takeover needs the owner's lineage, or exactly the recorded parent up to the fork",
        "facts",
        "why_not_own",
        'return "Its database belongs to another history."',
        'return ""',
    ),
    _one(
        "release_outlives_loss",
        "§8: a release is for one loss of the peer",
        "facts",
        "note_facts",
        "n.protect_released = False",
        "pass",
    ),
    _one(
        "stop_releases",
        "§8: a planned stop of the owner in protect mode releases nothing",
        "facts",
        "_wants_to_stop",
        "return not is_protected(n)",
        "return True",
    ),
    _one(
        "owner_leaves_fencing_pair",
        "§8: nobody leaves the PINNED of a fencing pair without the other's vote or confirmed end",
        "values",
        "may_be_left",
        "config.mode is Mode.PINNED and is_fencing_pair(config)",
        "False",
    ),
    _one(
        "fenced_owner_serves",
        "§8: an owner that boots in a fencing pair waits for the other's answer",
        "plan",
        "_confirm_alone",
        "elif is_pinned_to_answers:",
        "elif False:",
    ),
    _one(
        "fenced_owner_forgets",
        "§8: a restart of the health monitor is no answer",
        "node",
        "boot",
        "is_machine_boot or fencing.is_in_force(n)",
        "is_machine_boot",
    ),
    _one(
        "unanswered_peer_fences",
        "§8: the peer fences only an owner that has answered it in this run",
        "fencing",
        "_why_not_owner",
        "if not owner.answered or",
        "if",
    ),
    _one(
        "voter_fences",
        "§8: the peer does not fence an owner that it may have let go on alone by its own vote",
        "fencing",
        "_why_not_owner",
        "if is_unresolved(n) and",
        "if False and",
    ),
    _one(
        "late_answer_counts",
        "§8: a confirmation counts only if the other node was not heard since it was asked for",
        "fencing",
        "on_answer",
        "or was_heard:",
        "or False:",
    ),
    _one(
        "lease_later",
        "§2: ALONE to SYNC: a lease and finite kernel leases come before the first message",
        "facts",
        "_alone_verdict",
        "if n.lease_until <= n.now + timing_of(known).margin_ns:",
        "if False:",
    ),
)


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Put the mutant in place of the core's functions for the time being."""
    undo: list[tuple[ModuleType, str, object]] = []
    try:
        for edit in mutant.edits:
            _apply(edit, undo)
        yield
    finally:
        for module, name, original in reversed(undo):
            setattr(module, name, original)


def _apply(edit: Edit, undo: list[tuple[ModuleType, str, object]]) -> None:
    home = import_module(f"openmse.ha.{edit.module}")
    original = getattr(home, edit.function)
    assert isinstance(original, FunctionType)
    source = inspect.getsource(original)
    assert edit.old in source, f"{edit.module}.{edit.function} no longer reads {edit.old!r}"
    space: dict[str, object] = {}
    exec(compile(source.replace(edit.old, edit.new), edit.module, "exec"), home.__dict__, space)
    changed = space[edit.function]
    for module in list(sys.modules.values()):
        is_ours = getattr(module, "__name__", "").startswith("openmse.")
        if is_ours and module.__dict__.get(edit.function) is original:
            undo.append((module, edit.function, original))
            setattr(module, edit.function, changed)
