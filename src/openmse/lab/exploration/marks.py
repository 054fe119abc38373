"""Every warning sign of the protocol and of the code, and what finds its rule when it is removed.

A mark without a mutant of its own is a rule that another one covers: it is named in
docs/adr/0042-rules-that-overlap.md, with the reason and with what was measured.
``tests/exploration/test_marks.py`` keeps this list whole.
"""

from msgspec import Struct


class Mark(Struct, frozen=True):
    """One warning sign: where it stands, the words beside it, the mutants that remove its rule."""

    place: str
    """A section of the protocol, or a file below ``openmse``."""
    words: str
    """A piece of the marked line, which is found in no other marked line of the file."""
    mutants: tuple[str, ...] = ()
    """Those that are found; none: see the decision."""


def _mark(place: str, words: str, *mutants: str) -> Mark:
    return Mark(place, words, mutants)


PROTOCOL = (
    _mark("§2.1", "before the first accept message leaves", "owner_records_last"),
    _mark("§2.2", "never the highest epoch", "highest_epoch"),
    _mark("§2.3", "first written back unchanged", "no_write_back"),
    _mark(
        "§2.4",
        "booting alone, adopting a running server and clearing the sync names",
        "boots_on_own_word",
        "adopts_on_own_word",
        "clears_names_on_own_word",
    ),
    _mark("§2", "a granted lease in force before the first message", "lease_later"),
    _mark(
        "§2",
        "finite kernel leases in force before the first message",
        "kernel_lease_later",
        "lease_refused_unseen",
    ),
    _mark(
        "§2",
        "lineage equal, or exactly the recorded parent up to the fork LSN",
        "any_lineage_takes_over",
        "any_length_takes_over",
    ),
    _mark("§3", "before everything of it is stopped", "owner_votes_while_serving"),
    _mark("§3", "a voter that restarts abstains", "no_abstention"),
    _mark("§3", "only after a yes does the peer cut its receiver", "no_prevote"),
    _mark("§3", "and record its own last", "takeover_records_first"),
    _mark("§4", "in ALONE and PINNED nothing times out", "alone_times_out"),
    _mark("§4.2", "a late arming is removed before anything else", "late_arming"),
    _mark("§4.2", "no argument rests on valid_lft", "soft_lease"),
    _mark("§4", "a release is fsynced before it is sent", "release_not_durable"),
    _mark("§4", "neither renews nor serves in that epoch again", "release_not_final"),
    _mark("§5.3", "the checkpointer's flag is the proof", "unproven_gate"),
    _mark("§5.3", "the peer's flush reaches the barrier", "gate_without_barrier"),
    _mark("§5.6", "beyond streaming only when ALONE(owner)", "rewind_in_any_mode"),
)
"""Of the protocol. A sign that stands for several things has a line for each."""

CODE = (
    _mark("ha/acceptor.py", "out of the group, does not vote", "any_memory_acts", "any_node_acts"),
    _mark("ha/acceptor.py", "is shorter than what it has had", "shorter_log_votes"),
    _mark("ha/acceptor.py", "may be chosen without it", "old_witness_grants"),
    _mark("ha/draft.py", "no lease of the old config counts", "voted_owner_serves"),
    _mark("ha/facts.py", "another memory of this node is meant"),
    _mark("ha/facts.py", "the loss that it was given for is over", "release_outlives_loss"),
    _mark("ha/facts.py", "which disk is the older one", "older_disk_goes_alone", "old_disk_serves"),
    _mark("ha/facts.py", "a planned stop releases nothing", "stop_releases"),
    _mark("ha/facts.py", "the lease comes before the first message", "lease_later"),
    _mark("ha/facts.py", "it could own, and nobody could tell", "any_node_acts"),
    _mark("ha/facts.py", "exactly the recorded parent", "any_length_takes_over"),
    _mark("ha/fencing.py", "a new memory does not know", "new_memory_lets_fence"),
    _mark("ha/fencing.py", "has not answered this node", "unanswered_peer_fences"),
    _mark("ha/fencing.py", "by this node's own vote", "voter_fences"),
    _mark("ha/fencing.py", "heard since", "late_answer_counts"),
    _mark("ha/leases.py", "before all is stopped", "release_before_stop"),
    _mark("ha/leases.py", "a grant and a vote for oneself exclude each other"),
    _mark("ha/node.py", "before it serves or proposes with what is left", "older_disk_stays"),
    _mark("ha/node.py", "leave it the time of one", "new_owner_gets_no_time"),
    _mark("ha/node.py", "it has no vote, and nobody would count it"),
    _mark("ha/node.py", "nobody else before everything here is stopped"),
    _mark("ha/plan.py", "a lease of this process's former life", "old_lease_stays_open"),
    _mark("ha/plan.py", "a new memory does not know", "new_memory_lets_serve"),
    _mark("ha/plan.py", "may have had this one switched off", "fenced_owner_serves"),
    _mark("ha/plan.py", "only towards the owner of a config known chosen", "rewind_in_any_mode"),
    _mark("ha/plan.py", "ahead of the owner on its own history", "longer_copy_is_rewound"),
    _mark("ha/proposer.py", "of what it replaces is needed as well", "parent_promises_nothing"),
    _mark("ha/proposer.py", "granted to itself until it has stopped", "owner_votes_while_serving"),
    _mark("ha/proposer.py", "and* of the one that it replaces", "joint_quorum"),
    _mark("ha/state.py", "Own acceptance", "takeover_records_first", "owner_records_last"),
    _mark("ha/takeover.py", "always a history of its own", "force_keeps_history"),
    _mark("ha/takeover.py", "an agent may be at work", "agents_word_outranks"),
    _mark("ha/takeover.py", "nobody could tell that it owns", "outsider_forces"),
    _mark("ha/values.py", "without the other's knowledge", "owner_leaves_fencing_pair"),
    _mark("node/runtime/core_runner.py", "on the way into SYNC", "lease_refused_unseen"),
)
"""Of the code."""
