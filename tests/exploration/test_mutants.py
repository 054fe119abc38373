"""Every rule that the protocol marks with a warning sign, removed, is found; else nothing is."""

import pytest

from openmse.lab.exploration.attacks import ATTACKS, assault
from openmse.lab.exploration.mutants import MUTANTS, Mutant, planted

FOUND_BY = {
    "owner_records_last": ("gate forgotten", "I2"),
    "highest_epoch": ("stale alone", "I3"),
    "joint_quorum": ("owner frozen", "I3"),
    "parent_promises_nothing": ("stale alone", "I3"),
    "no_write_back": ("alone in doubt", "I3"),
    "boots_on_own_word": ("boots in doubt", "I7"),
    "adopts_on_own_word": ("alone in doubt", "I3"),
    "clears_names_on_own_word": ("alone in doubt", "I5"),
    "owner_votes_while_serving": ("thawed after takeover", "I7"),
    "voted_owner_serves": ("voted away, late", "I7"),
    "no_abstention": ("witness forgot", "I7"),
    "no_grant_binds": ("heartbeats lost", "I7"),
    "no_prevote": ("heartbeats lost", "L1"),
    "takeover_records_first": ("hopeless takeover", "L1"),
    "new_owner_gets_no_time": ("new owner late", "L1"),
    "alone_times_out": ("alone for long", "L1"),
    "late_arming": ("frozen before arming", "I7"),
    "old_lease_stays_open": ("release told early", "I7"),
    "lease_refused_unseen": ("lease refused", "I7"),
    "soft_lease": ("owner frozen", "I7"),
    "release_not_durable": ("release forgotten", "I7"),
    "release_not_final": ("switchover", "unreachable"),
    "release_before_stop": ("release told early", "I7"),
    "unproven_gate": ("rejoin", "I2"),
    "gate_without_barrier": ("barrier unmet", "I2"),
    "rewind_in_any_mode": ("going alone", "I6"),
    "longer_copy_is_rewound": ("longer standby", "I8"),
    "any_memory_acts": ("reborn", "I3"),
    "any_node_acts": ("unpaired", "I3"),
    "old_disk_serves": ("old disk, forgotten", "I1"),
    "shorter_log_votes": ("old disk, at the witness", "I1"),
    "older_disk_stays": ("old disk, cut", "I1"),
    "older_disk_goes_alone": ("old disk, forgotten", "I1"),
    "force_keeps_history": ("forced older", "L1"),
    "outsider_forces": ("forced outsider", "I3"),
    "any_lineage_takes_over": ("old standby", "I1"),
    "any_length_takes_over": ("old standby", "I1"),
    "release_outlives_loss": ("release outlived", "L1"),
    "stop_releases": ("stopped while protected", "L1"),
    "owner_leaves_fencing_pair": ("fencing, cut", "I3"),
    "fenced_owner_serves": ("fenced owner", "I7"),
    "fenced_owner_forgets": ("fenced owner restarts", "I7"),
    "unanswered_peer_fences": ("fenced peer", "I1"),
    "voter_fences": ("vote, then cut", "I1"),
    "late_answer_counts": ("late answer", "I1"),
    "agents_word_outranks": ("forced while fencing", "I1"),
    "new_memory_lets_fence": ("answered by a new owner", "L1"),
    "new_memory_lets_serve": ("answered by a new peer", "L1"),
    "old_witness_grants": ("old witness", "I7"),
    "lease_later": ("gate without lease", "L1"),
    "kernel_lease_later": ("frozen in the gate", "I7"),
    "files_run_ahead": ("takeover in limbo", "I12"),
}
"""Mutant -> the attack that finds it, and the rule it breaks ("unreachable": it cannot even get
to where the attack begins, as a switchover that is never carried out)."""


def test_every_mutant_is_on_the_list() -> None:
    assert [mutant.name for mutant in MUTANTS] == list(FOUND_BY)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_core_as_it_is_withstands(name: str) -> None:
    assert assault(ATTACKS[name]) == ""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_removed_rule_is_found(mutant: Mutant) -> None:
    attack, rule = FOUND_BY[mutant.name]
    with planted(mutant):
        found = assault(ATTACKS[attack], mutant.planted)
    assert found.partition(":")[0] == rule, mutant.rule
