"""Licences as pages show them, rare actions and the pairing matrix: rules without I/O."""

from datetime import date
from typing import Any

import pytest
from msgspec.structs import replace

from openmse.console.errors import Conflict, FormError, NoLicenceFile
from openmse.console.licensing import checked_text
from openmse.console.live.licences import (
    LicenceQuery,
    activation,
    find_rows,
    fleet_licences,
    licence_row,
    removal_of,
    standing,
    trouble_of,
)
from openmse.console.live.pairing import faults_of, require_supported, why_unsupported
from openmse.console.live.pairs import pair_of, pair_view
from openmse.console.live.specials import KINDS, specials
from openmse.console.live.state import EngineLive, Reach
from openmse.console.nodes.licences import (
    MAX_BYTES,
    BrokenFile,
    LicenceFacts,
    Licences,
    Licensed,
    Limit,
    days_left,
)
from openmse.console.nodes.models import Alarm, Info, Machine, Party, Register, Snapshot
from openmse.console.pages.witness import _etcd_of
from openmse.console.store.engines import Engine

DAY = date(2026, 1, 31)
UDI = "AIR-MSE-VA-K9:V01:mse1_1"


def _licence(number: int, kind: str, quantity: int = 0, **more: Any) -> Licensed:
    facts = LicenceFacts(
        id=f"{number:016x}",
        kind=kind,
        type=more.pop("type", "permanent"),
        udi=more.pop("udi", UDI),
        quantity=quantity,
        days=more.pop("days", 0),
        issued=DAY,
        issued_to="A",
        issued_by="B",
    )
    return Licensed(licence=facts, first_installed=DAY, standing="in force", **more)


def _licences(*found: Licensed, **more: Any) -> Licences:
    limit = Limit(
        kind="elements",
        service="CAS",
        title="CAS Elements",
        built_in=100,
        limit=more.pop("limit", 100),
        platform_limit=18_000,
        used=more.pop("used", None),
    )
    return Licences(
        udi=UDI,
        is_activation_needed=True,
        is_activated=more.pop("is_activated", True),
        limits=(limit,),
        licences=found,
        as_of=DAY,
        **more,
    )


def _live(number: int, found: Licences | None, at_s: float = 100.0) -> EngineLive:
    name = f"mse{number}"
    engine = Engine(
        id=number, name=name, address="10.0.0.1", port=8466, contact="", certificate=b"",
        fingerprint="", token="", node=name, udi=UDI, device_type="", version="1",
        role="primary" if number == 1 else "secondary", group_key="mse1@1|mse2@2",
        added_at="", added_by="",
    )  # fmt: skip
    live = EngineLive(engine=engine, reach=Reach.UP, heard_at_s=at_s, is_monitor_up=True)
    live.licences = found
    return live


@pytest.mark.parametrize(
    ("found", "kind", "word", "trouble"),
    [
        (None, "off", "Unknown", ""),
        (_licences(is_licensing_on=False), "off", "Licensing off", ""),
        (replace(_licences(), is_activation_needed=False), "ok", "Not needed", ""),
        (_licences(), "ok", "Activated", ""),
        (_licences(is_activated=False), "off", "Not activated", ""),
        (
            _licences(
                replace(_licence(1, "elements", 5), standing="not activated"), is_activated=False
            ),
            "warn",
            "Not activated",
            "waiting",
        ),
        (_licences(used=100), "ok", "Activated", "full"),
        (
            _licences(broken=(BrokenFile("x", "y"),), is_clock_back=True),
            "ok",
            "Activated",
            "broken",
        ),
        (_licences(is_clock_back=True), "ok", "Activated", "clock"),
        (
            _licences(_licence(1, "elements", 5, type="evaluation", last_day=date(2026, 2, 10))),
            "ok",
            "Activated",
            "ending",
        ),
    ],
)
def test_what_wants_attention_is_named(
    found: Licences | None, kind: str, word: str, trouble: str
) -> None:
    """A newcomer without licences is in no trouble."""
    mark = activation(found)
    assert (mark.kind, mark.word, trouble_of(found)) == (kind, word, trouble)


def test_an_engine_that_is_not_heard_is_unknown() -> None:
    """Its limits are not shown as last known."""
    live = _live(1, _licences())
    now = licence_row(live, 101.0)
    assert (now.activation.word, now.limits[0].limit if now.limits[0] else 0) == ("Activated", 100)
    old = licence_row(live, 110.0)
    assert (old.activation.word, old.limits[0]) == ("Unknown", None)


def test_the_overview_shows_trouble_first() -> None:
    """And finds, filters, and counts."""
    ending = _licence(1, "elements", 5, type="evaluation", last_day=date(2026, 2, 1))
    rows = [
        licence_row(_live(1, _licences()), 101.0),
        licence_row(_live(2, _licences(ending)), 101.0),
        licence_row(_live(3, _licences(is_activated=False)), 101.0),
    ]
    found, count = find_rows(rows, LicenceQuery())
    assert ([row.engine.name for row in found], count) == (["mse2", "mse3", "mse1"], 3)
    assert found[0].next_days == 2
    for show, names in (("attention", ["mse2"]), ("ending", ["mse2"]), ("unactivated", ["mse3"])):
        assert [r.engine.name for r in find_rows(rows, LicenceQuery(show=show))[0]] == names
    assert find_rows(rows, LicenceQuery(text="MSE3"))[1] == 1
    assert len(find_rows(rows, LicenceQuery(page=2, size=2))[0]) == 1
    fleet = fleet_licences(rows)
    assert (fleet.engines, fleet.virtual, fleet.activated, fleet.ending) == (3, 3, 2, 1)


def test_days_left_count_the_day_itself() -> None:
    """And are nothing for what lasts for ever."""
    one = _licence(1, "elements", 5, last_day=DAY)
    assert days_left(one, DAY) == 1
    assert days_left(one, date(2026, 2, 5)) == 0
    assert days_left(_licence(1, "elements", 5), DAY) is None
    assert standing(one, DAY).kind == "warn"
    assert standing(replace(one, standing="expired"), DAY).kind == "off"


def test_removing_tells_what_falls_with_it() -> None:
    """By the engine's own rules: without the activation nothing else of the machine counts."""
    active, more = _licence(1, "activation"), _licence(2, "elements", 2000)
    found = _licences(active, more, limit=2100)
    one = removal_of(found, more)
    assert (one.changes, one.stopped) == ((("CAS Elements", 2100, 100),), 0)
    both = removal_of(found, active)
    assert (both.changes, both.stopped) == ((("CAS Elements", 2100, 100),), 1)
    newer = _licences(_licence(3, "teleporters", 5), more)
    assert not removal_of(newer, more).is_known


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "is empty"), (b"x" * (MAX_BYTES + 1), "16,385 bytes"), (b"\xff", "is not text")],
)
def test_what_can_be_no_licence_is_not_sent(data: bytes, words: str) -> None:
    """Each with its own sentence."""
    with pytest.raises(NoLicenceFile, match=words):
        checked_text(data)
    assert checked_text(b"OpenMSE licence\n") == "OpenMSE licence\n"


def _info(node: str, role: str, kind: str | None, cores: int = 4) -> Info:
    size = Machine(cores=cores, memory_bytes=8 * 10**9, state_disk_bytes=10**11)
    return Info(
        node=node, role=role, version="1", is_monitor_up=True, machine=size, machine_kind=kind,
        is_virtual=None if kind is None else kind.startswith("VA") or kind == "generic",
    )  # fmt: skip


def test_the_matrix_decides_which_machines_pair() -> None:
    """In the guide's words; engines that do not tell what they are count by their size."""
    low, high = _info("a", "primary", "VA-Low"), _info("b", "secondary", "VA-High")
    assert why_unsupported(low, high) == ""
    assert "A VA-Low does not back a VA-High" in why_unsupported(high, low)
    with pytest.raises(Conflict, match="Nothing was changed") as caught:
        require_supported(high, low)
    assert caught.value.code == "MSE-PLT-003"
    old, small = _info("a", "primary", None), _info("b", "secondary", None, cores=2)
    assert "processors" in why_unsupported(old, small)
    assert why_unsupported(high, old) == ""
    assert why_unsupported(Info(), high) == ""
    assert any("VA-High" in fault for fault in faults_of(high, low))


def _snapshot(node: str, **changes: Any) -> Snapshot:
    return replace(
        Snapshot(
            node=node,
            state="PRIMARY_ACTIVE",
            admits_clients=node == "mse1",
            register=Register(
                term=1, epoch=1, owner="mse1", mode="SYNC", voters=("mse1", "mse2", "witness")
            ),
            peer=Party(name="mse2", is_heard=True),
            witness=Party(name="witness", is_heard=True),
        ),
        **changes,
    )


def _why(*snapshots: Snapshot, is_busy: bool = False) -> dict[str, str]:
    lives = []
    for number in (1, 2):
        live = _live(number, None, at_s=100.0 if number <= len(snapshots) else 1.0)
        live.snapshot = snapshots[number - 1] if number <= len(snapshots) else None
        lives.append(live)
    pair = pair_of(lives, 1)
    assert pair is not None
    found = specials(pair_view(pair, 101.0), is_busy=is_busy)
    return {kind: special.why_not for kind, special in found.items()}


def test_rare_actions_say_why_not() -> None:
    """One code for each reason; '' where the engine may be asked."""
    well = _snapshot("mse1")
    follower = _snapshot("mse2")
    assert _why(well, follower) == dict(
        zip(
            KINDS,
            ("none_aside", "none_waits", "has_witness", "peer_heard", "none_awaited", "", ""),
            strict=True,
        )
    )
    assert set(_why(well, follower, is_busy=True).values()) >= {"busy", "none_aside"}
    aside = replace(follower, state="QUARANTINED")
    assert _why(well, aside)["rejoin"] == ""
    assert _why(well)["rejoin"] == "none_heard_aside"
    assert set(_why().values()) == {"unheard", "owner_unheard"}
    two = replace(well, register=replace(well.register, voters=("mse1", "mse2")))  # type: ignore[type-var]
    assert _why(two)["witness_remove"] == "no_witness"
    assert _why(two)["release_protect"] == "nothing_waits"
    waiting = replace(two, alarms=(Alarm("writes_wait", "error", "They wait."),))
    assert _why(waiting)["release_protect"] == ""
    alone = replace(well.register, mode="ALONE")  # type: ignore[type-var]
    lost = replace(well, peer=Party(name="mse2", is_heard=False))
    assert _why(lost)["readmit"] == "not_alone"
    assert _why(replace(lost, register=alone))["readmit"] == ""
    booted = replace(well, state="WAITING", admits_clients=False, register=alone)
    assert _why(booted)["confirm_alone"] == ""
    assert _why(booted)["witness_replace"] == "owner_idle"


def test_an_etcd_witness_is_checked_field_by_field() -> None:
    """Addresses with ports, whole paths."""
    good = {"etcd_endpoints": "https://10.0.0.3:2379, https://10.0.0.4:2379", "etcd_ca_file": "/a"}
    assert _etcd_of(good)["endpoints"] == ["https://10.0.0.3:2379", "https://10.0.0.4:2379"]
    with pytest.raises(FormError) as caught:
        _etcd_of({"etcd_endpoints": "10.0.0.3", "etcd_key_file": "key"})
    assert set(caught.value.fields) == {"etcd_endpoints", "etcd_key_file"}
