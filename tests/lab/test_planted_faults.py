"""Trust in the checker: a loss and a double presence that are really caused are really found.

On a real pair. The loss: a client that does not wait for the peer (``synchronous_commit=local``)
goes on writing to an owner that is cut off from the other voters. The double presence: an owner
whose programs are frozen and whose kernel lease was removed by hand.
"""

import os
import subprocess
import time

import pytest
from operating import Site

from openmse.lab import client, judgement
from openmse.lab.campaign_faults import mend
from openmse.lab.exercises import isolate_owner_from_voters
from openmse.lab.laboratory import Laboratory
from openmse.lab.ledger import now_ns
from openmse.lab.presence_rules import double_presences
from openmse.lab.stage import Stage
from openmse.lab.workload import READER, WRITER, Workload

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="a laboratory needs root"),
]
WAIT_S = 2.0


@pytest.fixture
def laboratory(pair: Site) -> Laboratory:
    """That of the shared pair, in SYNC."""
    return pair.lab


def _stage(laboratory: Laboratory, extra: str = "") -> Stage:
    conninfo = client.dsn(laboratory.places)
    assert conninfo is not None
    load = Workload(laboratory, f"{conninfo}{extra}", f"planted{time.monotonic_ns()}")
    stage = Stage(laboratory, load, WAIT_S)
    load.create_table()
    load.start_presence()
    load.start(WRITER, READER)
    stage.until_served(now_ns())
    stage.until_sync()
    return stage


def _remove_lease(laboratory: Laboratory, machine: str) -> None:
    """Flush the machine's packet filter from outside: its own programs are frozen."""
    network = f"--net={laboratory.places.netns(machine)}"
    subprocess.run(["nsenter", network, "nft", "flush", "ruleset"], check=True, timeout=20)


def test_a_loss_is_found(laboratory: Laboratory) -> None:
    stage = _stage(laboratory, " options='-c synchronous_commit=local'")
    try:
        isolate_owner_from_voters(stage)
        found = judgement.finish(stage)
    finally:
        stage.load.stop()
        mend(laboratory)
    assert found.verdict.lost
    assert any("acknowledged and is not" in sentence for sentence in found.violations)


def test_a_double_presence_is_found(laboratory: Laboratory) -> None:
    stage = _stage(laboratory)
    try:
        owner = stage.owner()
        laboratory.cut(owner)  # or its peer would hear it answer, and not take the address
        laboratory.freeze(owner, "all")
        _remove_lease(laboratory, owner)
        stage.until_served(now_ns(), by=stage.other(owner))
        stage.until(lambda: bool(double_presences(stage.load.signs())), 20, "both to be seen")
        doubles = double_presences(stage.load.signs())
        laboratory.power_off(owner)  # what was taken from its kernel is back with the next boot
    finally:
        mend(laboratory)
        stage.load.stop()
    assert doubles
    assert {proof.first.node for proof in doubles} | {p.intruder.node for p in doubles} == {
        "mse1",
        "mse2",
    }
