"""Installing, removing and counting: what an engine allows by its licences, on which day."""

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest
from licensing import (
    BASE,
    DAY,
    OTHER,
    PHYSICAL,
    STRANGER,
    VIRTUAL,
    Deployment,
    activation,
    evaluation,
    extension,
    licence,
)

from openmse.platform.engine import Engine
from openmse.platform.errors import LicenceRefused, LicenceSignatureError, LicenceStoreError
from openmse.platform.evaluation import COUNTED, Standing
from openmse.platform.licence import Kind, Licence
from openmse.platform.machines import Machine, MachineKind

LOW = Machine(MachineKind.VA_LOW, True)


def limit(engine: Engine, kind: Kind = Kind.ELEMENTS) -> int:
    return next(row.limit for row in engine.limits().limits if row.kind is kind)


def standings(engine: Engine) -> dict[str, Standing]:
    return {view.licence.id[-2:]: view.standing for view in engine.limits().licences}


def later(days: int) -> date:
    return DAY + timedelta(days=days)


def test_without_any_licence_the_built_in_limits_work(deployment: Deployment) -> None:
    engine = deployment.engine(VIRTUAL, machine=LOW)
    found = engine.limits()
    assert {row.title: row.limit for row in found.limits} == {
        "CAS Elements": 100,
        "wIPS Monitor Mode APs": 10,
        "wIPS Local Mode APs": 10,
        "Service Advertisement Clicks": 1000,
    }
    assert {row.type for row in found.limits} == {"built-in"}
    assert {row.platform_limit for row in found.limits} == {2000}
    assert (found.is_activation_needed, found.is_activated) == (True, False)


def test_permanent_licences_add_to_the_built_in(deployment: Deployment) -> None:
    engine = deployment.engine()
    engine.install(deployment.sign(licence(1)))
    engine.install(deployment.sign(licence(2, quantity=1000)))
    engine.install(deployment.sign(licence(3, kind=Kind.WIPS_LOCAL, quantity=5)))
    assert limit(engine) == 1600
    assert limit(engine, Kind.WIPS_LOCAL) == 15
    assert limit(engine, Kind.WIPS_MONITOR) == 10
    engine.remove(f"{3:016x}")
    assert limit(engine, Kind.WIPS_LOCAL) == 10


def test_the_platform_limit_is_never_passed(deployment: Deployment) -> None:
    engine = deployment.engine()
    engine.install(deployment.sign(licence(1, quantity=100_000)))
    assert limit(engine) == 18_000
    smaller = deployment.engine(peers={"mse2": OTHER})  # the peer's machine is a VA-Low
    assert limit(smaller) == 2_000


def test_an_evaluation_ends_and_does_not_begin_anew(deployment: Deployment) -> None:
    trial = deployment.sign(evaluation(1, days=60))
    deployment.engine().install(trial)
    assert limit(deployment.engine(today=later(59))) == 600
    ended = deployment.engine(today=later(60))
    assert (limit(ended), standings(ended)) == (100, {"01": Standing.EXPIRED})
    deployment.engine(today=later(30)).remove(f"{1:016x}")
    deployment.engine(today=later(40)).install(trial)
    assert limit(deployment.engine(today=later(59))) == 600
    assert limit(deployment.engine(today=later(60))) == 100
    deployment.engine(today=later(61)).remove(f"{1:016x}")
    with pytest.raises(LicenceRefused, match="ended on 2026-03-31"):
        deployment.engine(today=later(61)).install(trial)


def test_an_extension_adds_its_days(deployment: Deployment) -> None:
    trial = evaluation(1, days=60)
    more = deployment.sign(extension(2, trial, days=30))
    with pytest.raises(LicenceRefused, match="which is not installed"):
        deployment.engine().install(more)
    deployment.engine().install(deployment.sign(trial))
    deployment.engine(today=later(70)).install(more)  # also after the end
    assert limit(deployment.engine(today=later(89))) == 600
    assert limit(deployment.engine(today=later(90))) == 100
    assert set(standings(deployment.engine(today=later(90))).values()) == {Standing.EXPIRED}
    deployment.engine(today=later(89)).remove(f"{1:016x}")
    assert standings(deployment.engine(today=later(89))) == {"02": Standing.WITHOUT_BASE}


@pytest.mark.parametrize(
    "wrong",
    [
        extension(2, evaluation(1), kind=Kind.CLICKS),
        extension(2, evaluation(1), udi=OTHER),
        extension(2, licence(3)),
    ],
)
def test_an_extension_of_something_else(deployment: Deployment, wrong: Licence) -> None:
    engine = deployment.engine(peers={"mse2": OTHER})
    engine.install(deployment.sign(evaluation(1)))
    engine.install(deployment.sign(licence(3)))
    with pytest.raises(LicenceRefused, match="which is not installed"):
        engine.install(deployment.sign(wrong))


def test_a_clock_that_is_set_back_lengthens_nothing(deployment: Deployment) -> None:
    deployment.engine().install(deployment.sign(evaluation(1, days=60)))
    deployment.engine(today=later(60)).remember_today()
    back = deployment.engine(today=later(10))
    assert limit(back) == 100
    found = back.limits()
    assert (found.is_clock_back, found.as_of) == (True, later(60))
    assert not deployment.engine(today=later(59)).limits().is_clock_back
    back.remember_today()
    assert back.store.latest_seen() == later(60)


def test_an_evaluation_that_is_installed_with_a_clock_in_the_past(deployment: Deployment) -> None:
    """The day it was issued counts at the earliest, so that a dead clock costs nobody a day."""
    early = deployment.engine(today=DAY - timedelta(days=1))
    early.install(deployment.sign(evaluation(1, days=60)))
    assert limit(deployment.engine(today=later(59))) == 600
    with pytest.raises(LicenceRefused, match="but this machine's date is 2001-01-01") as error:
        deployment.engine(today=date(2001, 1, 1), name="fresh").install(deployment.sign(BASE))
    assert "clock" in error.value.hint


def test_a_virtual_appliance_is_activated_first(deployment: Deployment) -> None:
    mine = licence(1, udi=VIRTUAL)
    engine = deployment.engine(VIRTUAL, machine=LOW)
    with pytest.raises(LicenceRefused, match="not activated"):
        engine.install(deployment.sign(mine))
    engine.install(deployment.sign(activation(2, VIRTUAL)))
    engine.install(deployment.sign(mine))
    assert limit(engine) == 600
    assert engine.limits().is_activated
    engine.remove(f"{2:016x}")
    assert (limit(engine), standings(engine)) == (100, {"01": Standing.NOT_ACTIVATED})
    assert not engine.limits().is_activated


def test_limits_survive_a_failover(deployment: Deployment) -> None:
    """The secondary has the primary's licences: the same limits, also if it is not activated."""
    primary = deployment.engine(VIRTUAL, machine=LOW)
    primary.install(deployment.sign(activation(1, VIRTUAL)))
    primary.install(deployment.sign(licence(2, udi=VIRTUAL)))
    secondary = deployment.engine(OTHER, machine=LOW, peers={"mse1": VIRTUAL})
    assert limit(secondary) == limit(primary) == 600
    assert (primary.limits().is_activated, secondary.limits().is_activated) == (True, False)
    stranger = deployment.engine(OTHER, machine=LOW)  # unpaired
    assert limit(stranger) == 100
    assert set(standings(stranger).values()) == {Standing.OTHER_ENGINE}


def test_licensing_can_be_switched_off(deployment: Deployment) -> None:
    engine = deployment.engine(VIRTUAL, machine=LOW, is_on=False)
    found = engine.limits()
    assert {row.limit for row in found.limits} == {2000}
    assert (found.is_licensing_on, found.is_activation_needed) == (False, False)
    assert found.is_activated
    engine.install(deployment.sign(licence(1, udi=VIRTUAL)))  # kept for when it is on again


# ------------------------------------------------------------------------------ refusals


def is_unchanged(engine: Engine, data: bytes, match: str) -> None:
    """The file is refused for this reason, and the store has what it had."""
    before = sorted((p.name, p.read_bytes()) for p in engine.store.directory.glob("*"))
    with pytest.raises((LicenceRefused, LicenceSignatureError), match=match) as error:
        engine.install(data)
    assert error.value.exit_code == 3
    assert "othing was changed" in error.value.sentence
    assert sorted((p.name, p.read_bytes()) for p in engine.store.directory.glob("*")) == before


def test_what_is_refused_changes_nothing(deployment: Deployment, tmp_path: Path) -> None:
    engine = deployment.engine()
    engine.install(deployment.sign(BASE))
    sign = deployment.sign
    is_unchanged(engine, sign(BASE), "installed already")
    is_unchanged(engine, sign(licence(2, udi=STRANGER)), "bound to engine")
    is_unchanged(engine, sign(licence(3, issued=later(2))), "issued on")
    changed = sign(licence(4)).replace(b"Quantity: 500", b"Quantity: 501")
    is_unchanged(engine, changed, "not genuine")
    is_unchanged(engine, Deployment(tmp_path).sign(licence(5)), "does not trust")
    engine.install(sign(licence(6, issued=later(1))))  # clocks differ by a day at most


def test_a_licence_for_another_type_of_engine(deployment: Deployment) -> None:
    """Told apart from another engine of the same type; a physical one needs no activation."""
    engine, sign = deployment.engine(), deployment.sign
    is_unchanged(engine, sign(licence(1, udi=VIRTUAL)), "type AIR-MSE-VA-K9")
    is_unchanged(engine, sign(licence(2, udi=STRANGER)), "bound to engine")
    is_unchanged(engine, sign(activation(3, PHYSICAL)), "needs no activation")


def test_who_installed_a_licence_is_kept(deployment: Deployment) -> None:
    """As it was told, cut to what a list shows; a removal says who, too."""
    engine = deployment.engine()
    engine.install(deployment.sign(licence(1)), "anna (console Osaka)" + "x" * 200)
    (view,) = engine.limits().licences
    assert view.installed_by.startswith("anna (console Osaka)x")
    assert len(view.installed_by) == 120
    assert view.installed_at.startswith("20")
    engine.remove(view.licence.id, "ben")
    assert engine.held().ledger.lines[view.licence.id].by == "ben"


def test_removing_what_is_not_there(deployment: Deployment) -> None:
    engine = deployment.engine()
    for number in (0xA1, 0xA2):
        engine.install(deployment.sign(licence(number)))
    for wrong in ("", "ff", "0000"):
        with pytest.raises(LicenceRefused, match="nothing was changed"):
            engine.remove(wrong)
    assert limit(engine) == 1100


def test_a_file_that_was_tampered_with_does_not_count_and_is_shown(deployment: Deployment) -> None:
    engine = deployment.engine()
    engine.install(deployment.sign(BASE))
    path = next(engine.store.directory.glob("*.licence"))
    path.write_bytes(path.read_bytes().replace(b"Quantity: 500", b"Quantity: 900"))
    limits, broken = engine.look()
    assert (limits.licences, limit(engine)) == ((), 100)
    assert [one.file for one in broken] == [path.name]
    assert "not genuine" in broken[0].sentence
    engine.install(deployment.sign(BASE))  # mends it
    assert limit(engine) == 600
    path.rename(path.with_name("other.licence"))
    assert "not the one it is named for" in engine.look()[1][0].sentence


def test_a_licence_that_was_only_copied_into_the_store(deployment: Deployment) -> None:
    """An evaluation without a line in the ledger counts from the day it was issued."""
    engine = deployment.engine(today=later(70))
    engine.store.directory.mkdir()
    trial = evaluation(1, days=60)
    (engine.store.directory / f"{trial.id}.licence").write_bytes(deployment.sign(trial))
    assert limit(engine) == 100


def test_a_damaged_ledger_is_said(deployment: Deployment) -> None:
    engine = deployment.engine()
    engine.install(deployment.sign(BASE))
    ledger = engine.store.directory / "ledger.json"
    for text in ("{", '{"format": 9}', '{"lines": 3}'):
        ledger.write_text(text)
        with pytest.raises(LicenceStoreError, match=r"ledger\.json cannot be read"):
            engine.limits()


FILL = """
import sys
from datetime import date
from pathlib import Path
from licensing import Deployment, licence
from openmse.errors import StateError
base = Path(sys.argv[1])
made = Deployment(base)
made.engine().install(made.sign(licence(1)))
before = {p.name: p.read_bytes() for p in (base / "licences").iterdir()}
try:
    (base / "ballast").write_bytes(bytes(1 << 20))
except OSError:
    pass
for change in (
    lambda: made.engine().install(made.sign(licence(2))),
    lambda: made.engine().remove(f"{1:016x}"),
    lambda: made.engine(today=date(2026, 3, 1)).remember_today(),
):
    try:
        change()
    except StateError as error:
        print(error.code, error.sentence, error.hint)
after = {p.name: p.read_bytes() for p in (base / "licences").iterdir()}
print("same", before == after, made.engine().limits().limits[0].limit)
"""


@pytest.mark.root
def test_a_full_disk_leaves_what_was(tmp_path: Path) -> None:
    import os
    import shutil

    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root to mount")
    program = tmp_path.with_name("fill.py")
    program.write_text(FILL)
    script = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" "$3" "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", tmp_path, sys.executable, program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("MSE-LIC-005") == 3
    assert "No space left on device" in done.stdout
    assert "same True 600" in done.stdout


def test_every_counted_kind_has_its_row() -> None:
    assert {row.kind for row in COUNTED} == set(Kind) - {Kind.ACTIVATION}
    assert {row.service for row in COUNTED} == {"CAS", "wIPS", "MSAP"}
