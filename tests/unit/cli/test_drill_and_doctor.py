"""Rehearsals that break off by themselves, and what the doctor finds."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli_machine import CliMachine
from live_core import START, LiveCore, config, record
from msgspec.structs import replace

from openmse.api.metrics import figures
from openmse.cli.doctor import LocalFacts, Severity, findings
from openmse.cli.drill import Report, Script, kept, refusals, rehearse
from openmse.errors import CommandFailed, MseError
from openmse.ha.local import Address, DbProcess, DbRole, DbView, NetView
from openmse.ha.messages import Standing
from openmse.ha.node import boot
from openmse.ha.state import Party
from openmse.ha.values import SECOND, Config, Instant, Mode
from openmse.node.control.alarms import Alarm
from openmse.node.control.commands import Done, SwitchoverArgs
from openmse.node.control.snapshot import Facts, Snapshot, snapshot

GIGABYTE = 10**9
FACTS = LocalFacts(free_bytes=50 * GIGABYTE, total_bytes=100 * GIGABYTE)


def picture(known: Config | None, **facts: Any) -> Snapshot:
    """What mse1 shows while everything is well."""
    node = boot(record("mse1", known), now=START, is_machine_boot=False)
    node.db = DbView(
        process=DbProcess.UP,
        role=DbRole.PRIMARY,
        lineage=known.lineage if known else None,
        end_lsn=100,
        is_complete=True,
        peer_streaming=True,
        peer_flush_lsn=100,
    )
    node.net = NetView(Address.HELD, True)
    node.is_admitted, node.is_halted = True, False
    node.cutoff_at = node.lease_until = Instant(START + SECOND)
    ready = Standing(is_ready=True, is_streaming=True, is_complete=True)
    heard = Party("mse2", heard_at=START, first_heard_at=START, standing=ready)
    node.peer = replace(heard, is_link_up=True)
    if known is not None and any(voter.is_witness for voter in known.voters):
        node.witness = replace(heard, id="witness", standing=Standing())
    return snapshot(node, replace(LiveCore(node).facts(), **facts))


WELL = picture(config(Mode.SYNC))


class Site:
    """A pair as a rehearsal sees it; ``script`` answers each switchover."""

    def __init__(self, script: list[MseError | None], settles: bool = True) -> None:
        self.owner = "mse1"
        self.asked: list[str] = []
        self._script = script
        self._settles = settles

    def call(
        self, command: str, args: msgspec.Struct | None = None, *, type: object, within_s: float
    ) -> object:
        """Answer as the daemon would."""
        if command == "status":
            if self.owner == "mse1":
                return WELL
            mode = Mode.SYNC if self._settles else Mode.ALONE
            assert WELL.register is not None
            register = replace(WELL.register, owner=self.owner, mode=mode.value)
            return replace(WELL, register=register, role="standby")
        assert isinstance(args, SwitchoverArgs)
        self.asked.append(args.to)
        error = self._script.pop(0)
        if error is not None:
            raise error
        self.owner = args.to
        return Done(f"{args.to} owns.", 200.0)


def run(site: Site, settle_s: float = 5.0) -> Report:
    """A rehearsal without an audience."""
    return rehearse(site, Script(settle_s=settle_s), lambda _: None)


def test_a_rehearsal_goes_there_and_back() -> None:
    site = Site([None, None])
    report = run(site)
    assert (report.result, site.asked, site.owner) == ("passed", ["mse2", "mse1"], "mse1")
    assert [step.is_done for step in report.steps] == [True] * 4
    assert "mse1 to mse2" in report.sentence


def test_a_switchover_that_fails_ends_it() -> None:
    site = Site([CommandFailed("The switchover could not be completed.")])
    report = run(site)
    assert (report.result, site.asked, site.owner) == ("aborted", ["mse2"], "mse1")
    assert "The switchover could not be completed." in report.sentence
    assert "The owner is mse1" in report.sentence


def test_a_pair_that_does_not_settle_is_not_moved_back() -> None:
    site = Site([None], settles=False)
    report = run(site, settle_s=0.3)
    assert (report.result, site.asked, site.owner) == ("aborted", ["mse2"], "mse2")
    assert "The pair is not in step." in report.sentence
    assert "The owner is mse2" in report.sentence


UNFIT = [
    (picture(None), "not paired"),
    (picture(config(Mode.ALONE)), "not in step"),
    (replace(WELL, health="degraded"), "health"),
    (replace(WELL, operation="handover"), "under way"),
    (replace(WELL, database=replace(WELL.database, lag_bytes=10**9)), "bytes behind"),
    (replace(WELL, why_not=replace(WELL.why_not, switchover="No.")), "No."),
]


@pytest.mark.parametrize(("seen", "words"), UNFIT)
def test_the_pre_checks_refuse(seen: Snapshot, words: str) -> None:
    assert words in " ".join(refusals(seen))


def test_nothing_moves_when_refused() -> None:
    class Unpaired(Site):
        def call(self, command: str, *args: Any, **kwargs: Any) -> object:
            assert command == "status"
            return picture(None)

    report = run(Unpaired([]))
    assert (report.result, report.steps) == ("refused", ())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="a rehearsal writes its report as root")
def test_reports_are_kept_and_listed(running: CliMachine, tmp_path: Path) -> None:
    ran = running.run("ha", "drill", "--yes")
    assert ran.code == 3
    (report,) = kept(running.state / "drills")
    assert report.result == "refused"
    (running.state / "drills" / "note.json").write_text("{}")
    assert running.run("ha", "drill", "--list").out.count("\n") == 1
    assert "refused" in running.run("ha", "drill", "--list", "--json").out


def codes(seen: Snapshot | None, facts: LocalFacts = FACTS) -> list[str]:
    """The codes of what is found."""
    found = findings(seen, facts)
    assert all(finding.action or finding.severity is Severity.INFO for finding in found)
    return [finding.code for finding in found]


def test_a_healthy_pair_has_no_findings() -> None:
    assert codes(WELL) == ["all_well"]


def party(**changes: Any) -> Any:
    """The other node with changes."""
    assert WELL.peer is not None
    return replace(WELL.peer, **changes)


FOUND = [
    (None, replace(FACTS, daemon_fault="It does not answer.", daemon_hint="Start it."), "daemon"),
    (WELL, replace(FACTS, config_fault="Line 3."), "config"),
    (WELL, replace(FACTS, has_state_dir=False), "not_prepared"),
    (WELL, replace(FACTS, free_bytes=10**6), "disk_low"),
    (picture(None), FACTS, "unpaired"),
    (picture(config(Mode.SYNC, voters=config().voters[:2])), FACTS, "no_witness"),
    (picture(config(Mode.ALONE)), FACTS, "alone"),
    (replace(WELL, alarms=(Alarm("odd", "error", "Odd.", "Mend."),)), FACTS, "odd"),
    (replace(WELL, peer=party(software="0.0.1")), FACTS, "versions_differ"),
    (replace(WELL, peer=party(round_trip_ms=400.0)), FACTS, "slow_network"),
    (replace(WELL, loop_lag_ms=80.0), FACTS, "slow_machine"),
    (replace(WELL, events_dropped=3), FACTS, "events_dropped"),
    (replace(WELL, certificate_days_left=10), FACTS, "certificate_expires"),
    (picture(config(Mode.SYNC), certificate_days_left=-3), FACTS, "certificate_ended"),
    (replace(WELL, why_not=replace(WELL.why_not, switchover="No.")), FACTS, "no_switchover"),
]


@pytest.mark.parametrize(("seen", "facts", "code"), FOUND, ids=[entry[2] for entry in FOUND])
def test_each_finding(seen: Snapshot | None, facts: LocalFacts, code: str) -> None:
    assert any(found.startswith(code) for found in codes(seen, facts))
    assert "all_well" not in codes(seen, facts)


def test_an_ended_certificate_is_no_unknown_one() -> None:
    """Found as an error, told as a number; nothing is told where nothing is known."""
    ended = picture(config(Mode.SYNC), certificate_days_left=-1)
    (found,) = findings(ended, FACTS)
    assert (found.severity, found.code) == (Severity.ERROR, "certificate_ended")
    assert "timedatectl" in found.action
    assert exposed(ended)["openmse_certificate_days_left"] == -1
    assert b"certificate_days_left" not in msgspec.json.encode(WELL)
    assert "openmse_certificate_days_left" not in exposed(WELL)


def exposed(seen: Snapshot) -> dict[str, float]:
    """What Prometheus is told of the figures."""
    return {family.name: family.samples[0].value for family in figures(seen)}


def test_the_most_pressing_comes_first() -> None:
    facts = replace(FACTS, config_fault="Line 3.")
    found = findings(replace(WELL, events_dropped=3), facts)
    assert [finding.severity for finding in found] == [Severity.ERROR, Severity.WARNING]


def test_devices_that_the_file_names(machine: CliMachine) -> None:
    agent = '[fencing]\nagent = "/no/such/agent"\n'
    watchdog = '[watchdog]\nmode = "required"\ndevice = "/no/such/device"\n'
    machine.write(extra=agent + watchdog, node='interface = "nosuch0"')
    ran = machine.run("ha", "doctor")
    assert ran.code == 4
    for code in ("no_watchdog", "agent_unusable", "no_interface", "daemon_down", "not_prepared"):
        assert f"error   {code}: " in ran.out


def test_facts_have_sensible_defaults() -> None:
    assert Facts(made_at="", configured_role="primary", address="").pids == {}
