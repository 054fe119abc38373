"""The overview of pairs: trouble first, found by what is typed, a secondary's pairs together."""

from dataclasses import replace

from msgspec.structs import replace as with_parts

from openmse.console.live.overview import Ranked, find_pairs, rank_of
from openmse.console.live.pairs import pair_view, pairs_of
from openmse.console.live.state import EngineLive, Reach
from openmse.console.live.views import BAD, OK, RANK, WARN, ListQuery
from openmse.console.nodes.models import Party, Register, Snapshot, Summary
from openmse.console.store.engines import Engine

NOW_S = 101.0


def _live(number: int, name: str, role: str, key: str) -> EngineLive:
    """An engine of a pair that is well."""
    engine = Engine(
        id=number, name=name, address=f"10.0.0.{number}", port=8466, contact="night desk",
        certificate=b"", fingerprint="", token="", node=name, udi=f"UDI-{number}",
        device_type="VA high", version="1.2", role=role, group_key=key, added_at="", added_by="",
    )  # fmt: skip
    live = EngineLive(engine=engine, reach=Reach.UP, heard_at_s=100.0, is_monitor_up=True)
    owner, peer = (part.partition("@")[0] for part in key.split("|"))
    live.summary = Summary(
        node=name, is_monitor_up=True, health="ok", state="ACTIVE", virtual_ips=("10.1.1.9/24",)
    )
    live.snapshot = Snapshot(
        node=name,
        sync="sync",
        register=Register(1, 1, owner, "SYNC", owner),
        peer=Party(name=peer if name == owner else owner, is_heard=True),
        witness=Party(name="witness", is_heard=True),
    )
    return live


def _pair(number: int, primary: str, secondary: str) -> list[EngineLive]:
    key = f"{primary}@10.0.0.{number}|{secondary}@10.0.0.{number + 1}"
    return [
        _live(number, primary, "primary", key),
        _live(number + 1, secondary, "secondary", key),
    ]


def _ranked(lives: list[EngineLive]) -> list[Ranked]:
    return [Ranked(pair, rank_of(pair_view(pair, NOW_S))) for pair in pairs_of(lives)]


def _names(lives: list[EngineLive], **query: str) -> list[str]:
    return [one.pair.name for one in find_pairs(_ranked(lives), ListQuery(**query))]  # type: ignore[arg-type]


def test_whatever_is_amiss_makes_it_pressing() -> None:
    """A part that is not heard, also by one machine alone; replication; a machine without word."""
    lives = _pair(1, "mse1", "mse2")
    (well,) = _ranked(lives)
    assert (well.rank, well.is_trouble) == (RANK[OK], False)
    owner = lives[0].snapshot
    assert owner is not None
    witness = with_parts(owner, witness=Party(name="witness", is_heard=False))
    for snapshot, kind in (
        (with_parts(owner, peer=Party(name="mse2", is_heard=False)), BAD),
        (with_parts(owner, sync="alone"), BAD),
        (witness, WARN),
    ):
        lives[0].snapshot = snapshot
        (one,) = _ranked(lives)
        assert (one.rank, one.is_trouble) == (RANK[kind], True)
    lives[0].snapshot = owner
    lives[1].reach = Reach.SILENT
    (one,) = _ranked(lives)
    assert (one.rank, one.is_trouble) == (RANK[BAD], True)


def test_trouble_comes_first_and_a_secondary_s_pairs_stand_together() -> None:
    """Of one that backs two primaries the worse pair decides where both stand."""
    lives = [
        *_pair(1, "a1", "a2"),
        *_pair(3, "m1", "z"),
        *_pair(5, "n1", "z"),
        *_pair(7, "b1", "b2"),
    ]
    assert _names(lives) == ["a1 + a2", "b1 + b2", "m1 + z", "n1 + z"]
    lives[4].reach = Reach.SILENT  # n1
    assert _names(lives) == ["n1 + z", "m1 + z", "a1 + a2", "b1 + b2"]
    assert _names(lives, show="trouble") == ["n1 + z"]


def test_it_is_found_by_what_a_person_types() -> None:
    """Names, addresses (the virtual one, too), UDI, version; of either machine."""
    lives = [*_pair(1, "mse1", "mse2"), *_pair(3, "north", "south")]
    lives[2].summary = None
    lives[3].engine = replace(lives[3].engine, version="1.3")
    assert _names(lives, text=" SOUTH ") == ["north + south"]
    assert _names(lives, text="1.3") == ["north + south"]
    assert _names(lives, text="udi-2") == ["mse1 + mse2"]
    assert _names(lives, text="10.0.0.4") == ["north + south"]
    assert len(_names(lives, text="10.1.1.9")) == 2, "the other machine tells it, too"
    assert len(_names(lives, text="va HIGH")) == 2
    assert _names(lives, text="nowhere") == []
    alone = lives[:1]
    assert _names(alone, text="mse2") == ["mse1 + mse2"], "also of one that is not in this console"
    (one,) = _ranked(alone)
    assert (one.secondary, one.secondary_name) == (None, "mse2")
    assert one.primary is not None
