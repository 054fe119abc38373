"""Each invariant says so when it is broken, and is silent when it is not."""

import pytest
from msgspec.structs import replace

from openmse.ha.effects import SetLease, WantDb
from openmse.ha.invariants import (
    Acknowledgement,
    Chosen,
    FileSet,
    Holder,
    Learned,
    Picture,
    Promotion,
    Removal,
    acknowledgement_faults,
    effect_faults,
    file_faults,
    has_service,
    is_healthy_sync,
    learned_faults,
    owner_changes,
    removal_faults,
    violations,
)
from openmse.ha.local import DbRole, DbWanted, Rung
from openmse.ha.node import boot
from openmse.ha.values import (
    FOREVER,
    Ballot,
    Config,
    Instant,
    Lineage,
    Mode,
    Record,
    Settings,
    Voter,
)

VOTERS = (Voter("a", "a0"), Voter("b", "b0"), Voter("w", "w0", True))
FIRST = Lineage(1, 1, "a")


def config(mode: Mode, owner: str = "a", epoch: int = 1, term: int = 1) -> Config:
    return Config(term, epoch, mode, owner, VOTERS, FIRST, Settings())


HEALTHY = Picture(
    chosen=(Chosen(config(Mode.SYNC)),),
    holders=(
        Holder("a", (10, 11, 12), is_answering=True, is_serving=True),
        Holder("b", (10, 11, 12)),
    ),
    acknowledged=((2, 11), (3, 12)),
    streaming=True,
)


def rules(picture: Picture) -> set[str]:
    return {violation.rule for violation in violations(picture)}


def test_a_healthy_pair_breaks_nothing() -> None:
    assert rules(HEALTHY) == set()
    assert is_healthy_sync(HEALTHY)
    assert has_service(HEALTHY)


def with_holder(index: int, **changes: object) -> Picture:
    holders = list(HEALTHY.holders)
    holders[index] = replace(holders[index], **changes)
    return replace(HEALTHY, holders=tuple(holders))


def test_i1_an_acknowledged_write_is_missing_at_the_owner() -> None:
    assert rules(with_holder(0, wal=(10, 11))) == {"I1"}
    assert rules(with_holder(0, wal=(10, 11, 99))) == {"I1"}


@pytest.mark.parametrize("mode", [Mode.SYNC, Mode.PINNED])
def test_i2_an_acknowledged_write_is_missing_at_the_peer(mode: Mode) -> None:
    picture = replace(with_holder(1, wal=(10,)), chosen=(Chosen(config(mode)),))
    assert rules(picture) == {"I2"}


def test_i2_asks_nothing_of_the_peer_in_alone() -> None:
    picture = replace(with_holder(1, wal=()), chosen=(Chosen(config(Mode.ALONE)),))
    assert rules(picture) == set()


def test_a_lost_disk_is_excused_only_while_it_does_not_serve() -> None:
    lost = replace(with_holder(0, wal=(), is_serving=False), disks_lost=("a",))
    assert rules(lost) == set()
    assert rules(replace(with_holder(0, wal=()), disks_lost=("a",))) == {"I1"}


def test_i3_two_configs_of_one_epoch() -> None:
    twins = (Chosen(config(Mode.SYNC)), Chosen(config(Mode.ALONE)))
    assert "I3" in rules(replace(HEALTHY, chosen=twins))


@pytest.mark.parametrize("mode", [Mode.ALONE, Mode.PINNED])
def test_i4_alone_and_pinned_never_lead_to_another_owner(mode: Mode) -> None:
    parent = config(mode)
    taken = Chosen(config(Mode.ALONE, "b", 2), parent)
    assert "I4" in rules(replace(HEALTHY, chosen=(Chosen(parent), taken)))
    for excuse in ({"is_released": True}, {"is_forced": True}):
        picture = replace(HEALTHY, chosen=(Chosen(parent), replace(taken, **excuse)))
        assert "I4" not in rules(picture)


def test_i5_acknowledged_alone_without_a_licence() -> None:
    alone = Acknowledgement("a", (3, 12), is_flushed_by_peer=False, is_licensed=False)
    assert [f.rule for f in acknowledgement_faults(alone)] == ["I5"]
    assert not acknowledgement_faults(replace(alone, is_licensed=True))
    assert not acknowledgement_faults(replace(alone, is_flushed_by_peer=True))


def test_i6_and_i8_what_a_rewind_may_remove() -> None:
    fine = Removal("b", "a", ((4, 40),), config(Mode.ALONE), is_chosen=True)
    assert not removal_faults(fine, HEALTHY.acknowledged)
    for wrong in (
        replace(fine, is_chosen=False),
        replace(fine, config=None),
        replace(fine, config=config(Mode.SYNC)),
        replace(fine, towards="b"),
    ):
        assert [f.rule for f in removal_faults(wrong, ())] == ["I6"]
    lossy = replace(fine, removed=((3, 12),))
    assert [f.rule for f in removal_faults(lossy, HEALTHY.acknowledged)] == ["I8"]


def test_i7_two_answer() -> None:
    assert rules(with_holder(1, is_answering=True)) == {"I7"}
    assert rules(with_holder(1, is_answering=True, is_exempt=True)) == set()


def test_i9_one_lineage_begun_twice() -> None:
    twice = (Promotion("a", FIRST), Promotion("b", FIRST))
    assert rules(replace(HEALTHY, promotions=twice)) == {"I9"}
    assert rules(replace(HEALTHY, promotions=twice[:1])) == set()


@pytest.mark.parametrize(("lost_memory", "rule"), [(False, "I3"), (True, "I10")])
def test_i3_and_i10_what_is_known_was_chosen(lost_memory: bool, rule: str) -> None:
    taken = Learned("w", "SYNC(a)", is_chosen=False, lost_memory=lost_memory)
    assert [f.rule for f in learned_faults(taken)] == [rule]
    assert not learned_faults(replace(taken, is_chosen=True))


def test_i11_a_term_that_nobody_forced() -> None:
    forced = Chosen(config(Mode.ALONE, "b", 2, term=2), config(Mode.SYNC))
    assert "I11" in rules(replace(HEALTHY, chosen=(forced,)))
    assert "I11" not in rules(replace(HEALTHY, chosen=(replace(forced, is_forced=True),)))


def test_i12_files_newer_than_acknowledged() -> None:
    assert [f.rule for f in file_faults(FileSet("b", 5, 4))] == ["I12"]
    assert not file_faults(FileSet("b", 4, 4))


def test_what_is_not_healthy() -> None:
    assert not is_healthy_sync(replace(HEALTHY, streaming=False))
    assert not is_healthy_sync(with_holder(1, is_complete=False))
    assert not is_healthy_sync(with_holder(0, is_serving=False))
    assert not is_healthy_sync(replace(HEALTHY, chosen=(Chosen(config(Mode.PINNED)),)))
    assert not has_service(replace(HEALTHY, chosen=()))


def test_a_pair_without_witness_is_healthy_in_pinned() -> None:
    pinned = replace(config(Mode.PINNED), voters=VOTERS[:2])
    assert is_healthy_sync(replace(HEALTHY, chosen=(Chosen(pinned),)))


def test_l4_counts_changes_of_owner() -> None:
    a, b = config(Mode.SYNC), config(Mode.ALONE, "b", 2)
    back = config(Mode.SYNC, "b", 3)
    assert owner_changes((Chosen(a), Chosen(b, a), Chosen(back, b))) == 1


def wants(mode: Mode, owner: str, effect: SetLease | WantDb) -> list[str]:
    known = config(mode, owner)
    ballot = Ballot(1, 1, "a")
    record = Record("a", "a0", 1, "", ballot, ballot, known, None, ballot, known)
    node = boot(record, now=Instant(1), is_machine_boot=True)
    return [fault.rule for fault in effect_faults(node, (effect,))]


def test_what_a_node_must_never_ask_for() -> None:
    endless = SetLease(FOREVER)
    assert wants(Mode.SYNC, "a", endless) == ["I7"]
    assert wants(Mode.ALONE, "b", endless) == ["I7"]
    assert wants(Mode.PINNED, "a", endless) == []
    lonely = WantDb(DbWanted(role=DbRole.PRIMARY, names=False))
    assert wants(Mode.PINNED, "a", lonely) == ["I5"]
    assert wants(Mode.ALONE, "a", lonely) == []
    rewind = WantDb(DbWanted(role=DbRole.STANDBY, rung=Rung.REWIND))
    assert wants(Mode.SYNC, "b", rewind) == ["I6"]
    assert wants(Mode.ALONE, "b", rewind) == []
