"""A new machine in place of a lost one, as a pair's page tells it: waited for, come, settled."""

from msgspec.structs import replace

from openmse.console.live.newcomer import Newcomer, newcomer
from openmse.console.live.pairs import pair_of, pair_view, pairs_of
from openmse.console.live.state import EngineLive, Reach
from openmse.console.live.views import engine_view
from openmse.console.nodes.models import (
    Info,
    LogEntry,
    Party,
    Readmission,
    Register,
    Service,
    Snapshot,
    Summary,
)
from openmse.console.store.engines import Engine

OLD = "mse1@10.10.10.11|mse2@10.10.10.12"
NEW = "mse1-2@10.10.10.11|mse2@10.10.10.12"
NOW_S = 1_790_000_000.0
"""2026-09-21 14:13:20 UTC."""
WAIT = Readmission(True, "mse1", "10.10.10.12", "2026-09-21T14:20:00+00:00")
CAME = "mse1-2 at 10.10.10.11 takes the place of mse1, which is no party of this group any more."


def _live(number: int, node: str, key: str, *, is_heard: bool = True) -> EngineLive:
    address = key.partition(f"{node}@")[2].partition("|")[0]
    engine = Engine(
        id=number, name=node, address=address, port=8466, contact="", certificate=b"",
        fingerprint="", token="", node=node, udi="", device_type="", version="1",
        role="secondary" if node == "mse2" else "primary", group_key=key,
        added_at="", added_by="",
    )  # fmt: skip
    reach = Reach.UP if is_heard else Reach.SILENT
    live = EngineLive(engine=engine, reach=reach, heard_at_s=100.0 if is_heard else 1.0)
    live.is_monitor_up = is_heard
    return live


def _owner(peer: str, *, sync: str = "alone") -> EngineLive:
    """mse2, which owns and serves."""
    live = _live(2, "mse2", OLD if peer == "mse1" else NEW)
    live.snapshot = Snapshot(
        node="mse2",
        role="primary",
        sync=sync,
        register=Register(3, 5, "mse2", "ALONE", "mse1"),
        peer=Party(name=peer),
        admits_clients=True,
    )
    return live


def _told(lives: list[EngineLive], engine_id: int = 2) -> Newcomer | None:
    pair = pair_of(lives, engine_id)
    assert pair is not None
    return newcomer(pair_view(pair, 101.0), lives, NOW_S)


def test_the_wait_is_told_as_the_owner_tells_it() -> None:
    owner, lost = _owner("mse1"), _live(1, "mse1", OLD, is_heard=False)
    lives = [lost, owner]
    assert _told(lives) is None
    owner.readmission = WAIT
    told = _told(lives)
    assert told == Newcomer(
        owner="mse2", lost="mse1", recover_from="10.10.10.12", until=WAIT.until, left_s=420.0
    )
    owner.readmission = replace(WAIT, until="soon")
    told = _told(lives)
    assert told is not None
    assert (told.lost, told.left_s) == ("mse1", 0.0)
    owner.readmission, owner.heard_at_s = WAIT, 1.0
    assert _told(lives) is None, "nobody knows what an owner that is not heard does"


def test_who_came_is_told_until_it_is_settled() -> None:
    """On the lost machine's own page, too, which leads to the pair that goes on."""
    owner, lost = _owner("mse1-2"), _live(1, "mse1", OLD, is_heard=False)
    entry = LogEntry("1", "2026-09-21T14:00:00+00:00", "mse2", "readmitted", "", CAME)
    owner.readmitted = entry
    for engine_id in (1, 2):
        told = _told([lost, owner], engine_id)
        assert told is not None
        assert (told.name, told.sentence, told.is_known) == ("mse1-2", CAME, False)
        assert told.old_engine_id == 1, "its entry is in the way of the new machine's"
    told = _told([owner])
    assert told is not None
    assert told.old_engine_id == 0
    new = _live(3, "mse1-2", NEW)
    told = _told([owner, new])
    assert told is not None
    assert told.is_known
    assert owner.snapshot is not None
    owner.snapshot = replace(owner.snapshot, sync="sync")
    assert _told([owner, new]) is None, "in step, and in this console"
    owner.snapshot = replace(owner.snapshot, sync="alone")
    owner.readmitted = replace(entry, at="2026-09-19T14:00:00+00:00")
    assert _told([owner, new]) is None, "a later trouble has another reason"
    owner.readmitted = replace(entry, sentence="Other.")
    assert _told([owner, new]) is None


def test_a_replaced_machine_makes_no_pair_of_its_own() -> None:
    owner, lost = _owner("mse1-2"), _live(1, "mse1", OLD, is_heard=False)
    assert [(pair.id, pair.other_name) for pair in pairs_of([lost, owner])] == [(2, "mse1-2")]
    back = _live(1, "mse1", OLD)
    assert len(pairs_of([back, owner])) == 2, "whoever is heard tells for itself"
    assert [pair.id for pair in pairs_of([lost, _owner("mse1")])] == [1]
    silent = _owner("mse1-2")
    silent.reach = Reach.SILENT
    assert len(pairs_of([lost, silent])) == 2, "nobody is heard who knows better"
    found = pair_of([back, owner], 1)
    assert found is not None
    assert found.other_name == "mse2"


def test_a_new_owner_is_not_called_dormant() -> None:
    """Services are asked for now and then; its picture is newer. What is down stays so."""
    owner = _owner("mse1")
    for told, admits, shown in (
        ("dormant", True, "up"),
        ("up", False, "dormant"),
        ("down", True, "down"),
        ("dormant", None, "dormant"),
    ):
        owner.info = Info(services=(Service(name="platform", service_status=told),))
        owner.summary = Summary(node="mse2", admits_clients=admits)
        assert [s.service_status for s in engine_view(owner, 101.0).services] == [shown]
