"""What counts as started, by the node's own picture of itself."""

import sys
from pathlib import Path

from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from live_core import LiveCore, config, record, serving

from openmse.ha.local import Address, DbProcess, DbRole, DbView, NetView
from openmse.ha.node import boot
from openmse.ha.values import SECOND, Instant, Mode
from openmse.install.engine import readiness, status
from openmse.install.engine.look import View
from openmse.install.engine.readiness import Stage
from openmse.node.control.snapshot import Snapshot, snapshot


def _owner() -> Snapshot:
    core = LiveCore(serving())
    core.pass_time(1)
    return snapshot(core.node, core.facts())


def _standby() -> Snapshot:
    known = config(Mode.SYNC, owner="mse2")
    db = DbView(process=DbProcess.UP, role=DbRole.STANDBY, lineage=known.lineage, is_complete=True)
    node = boot(
        record("mse1", known),
        now=Instant(1000 * SECOND),
        is_machine_boot=False,
        db=db,
        net=NetView(Address.ABSENT, False),
    )
    return snapshot(node, LiveCore(node).facts())


def test_an_owner_serves_when_clients_reach_it() -> None:
    s = _owner()
    assert (readiness.database(s), readiness.services(s)) == (Stage.READY, Stage.READY)
    assert readiness.is_settled(s)
    for other in (
        replace(s, address=Address.PROBING),
        replace(s, admits_clients=False),
        replace(s, database=replace(s.database, process=DbProcess.STARTING)),
        replace(s, database=replace(s.database, role=DbRole.STANDBY)),
        replace(s, database=replace(s.database, failure="The disk is full.")),
    ):
        assert readiness.services(other) is Stage.WAITING
        assert readiness.waits_for(other)
    assert readiness.waits_for(replace(s, address=Address.PROBING)) == "the virtual IP is probing"


def test_a_standby_is_ready_and_dormant() -> None:
    s = _standby()
    assert (readiness.database(s), readiness.services(s)) == (Stage.DORMANT, Stage.DORMANT)
    assert readiness.is_settled(s)


def test_a_secondary_before_its_pairing_has_nothing_to_wait_for() -> None:
    s = _owner()
    down = replace(s.database, process=DbProcess.DOWN, role="none")
    unpaired = replace(s, register=None, database=down, admits_clients=False)
    assert readiness.database(unpaired) is Stage.NONE
    assert readiness.is_settled(unpaired)


def test_the_status_says_what_lacks_and_so_does_its_exit_code() -> None:
    whole = View(monitor=7, guard=6, admin=5, snapshot=_owner())
    told = status.of(whole, has_admin=True)
    assert status.exit_code(told) == 0
    assert status.lines(told)[:4] == [
        "Health Monitor is running (pid 7)",
        "Admin process is running (pid 5)",
        "Database is up",
        "MSE services are up",
    ]
    standby = status.of(View(monitor=7, guard=6, admin=0, snapshot=_standby()), has_admin=False)
    assert status.exit_code(standby) == 0
    assert "MSE services are up and in DORMANT mode" in status.lines(standby)

    lacking = [
        (View(monitor=0, guard=0, admin=5, snapshot=None), 4, "Health Monitor is not running"),
        (View(monitor=7, guard=0, admin=5, snapshot=_owner()), 1, "Nothing guards it"),
        (View(monitor=7, guard=6, admin=0, snapshot=_owner()), 1, "Admin process is not running"),
        (View(monitor=7, guard=6, admin=5, snapshot=None), 1, "It does not answer"),
    ]
    for view, code, words in lacking:
        told = status.of(view, has_admin=True)
        assert status.exit_code(told) == code
        assert words in "\n".join(status.lines(told))
