"""What an operator asks of a pair in SYNC, with the product's own commands, while clients write."""

import json
import subprocess
import time
from itertools import takewhile

import pytest
from operating import NODES, OTHER, Site

from openmse.lab.topology import VIRTUAL_IP6
from openmse.lab.workload import wait_for

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]

TOO_SLOW = "has to recover for a while"
"""Why an owner on a busy computer lets the other node have the service after a cold boot."""


def test_settings_change_while_serving(pair: Site) -> None:
    node = OTHER[pair.owner()]  # asked on the standby: forwarded to the owner
    with pair.load():
        for wait in ("5", "2"):
            pair.ok(node, "ha", "settings", "--failover-wait", wait)
            assert f"failover wait     {wait} s" in pair.ok(node, "ha", "settings")
        pair.ok(node, "ha", "settings", "--failover-type", "manual")
        assert "failover type     manual" in pair.ok(node, "ha", "settings")
        pair.ok(node, "ha", "settings", "--failover-type", "automatic")
        assert pair.register()["mode"] == "SYNC"


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (("--failover-wait", "0.5"), "0.5 s; it must lie between 2 s and 120 s"),
        (("--failover-wait", "500"), "500 s; it must lie between 2 s and 120 s"),
        (("--boot-patience", "1"), "longer than the failover wait of 2 s"),
        (("--failback-stable", "-1"), "between 0 s and 86400 s"),
    ],
)
def test_impossible_timings_are_refused_with_numbers(
    pair: Site, options: tuple[str, str], numbers: str
) -> None:
    before = pair.register()
    pair.refused(pair.owner(), "ha", "settings", *options, code=2, match=numbers)
    assert pair.register() == before


def test_at_rest_lost_heartbeats_alone_change_nothing(pair: Site) -> None:
    """Protocol §6: WAL flows and the witness grants. Nobody writes, so that a sign of the other
    node comes once a second only; the failover wait is the shortest."""
    before, owner = pair.register(), pair.owner()
    assert "failover wait     2 s" in pair.ok(owner, "ha", "settings")
    pair.lab.cut(*NODES, "heartbeats")
    try:
        pair.until(lambda: "control_path_broken" in pair.alarms(owner), "it is told")
        assert not wait_for(lambda: pair.register() != before, 6), pair.story()
    finally:
        pair.lab.heal()
    pair.until(lambda: "control_path_broken" not in pair.alarms(owner), "they are heard again")
    assert pair.register() == before


def test_commands_that_find_nothing_to_do_say_so(pair: Site) -> None:
    owner = pair.owner()
    before = pair.register()
    for node in NODES:
        for words, sentence in (
            (("rejoin",), "not set aside"),
            (("confirm-alone",), "does not wait for a confirmation"),
            (("release-protect",), "Nothing waits here"),
        ):
            pair.refused(node, "ha", *words, code=3, match=sentence)
    pair.refused(owner, "ha", "switchover", "--to", owner, code=3, match="owns already")
    pair.refused(owner, "ha", "switchover", "--to", "mse9", code=2, match="no node 'mse9'")
    pair.refused(owner, "ha", "takeover", code=2, match="without --force")
    assert pair.register() == before


def test_maintenance_holds_takeovers_off(pair: Site) -> None:
    owner = pair.owner()
    pair.ok(OTHER[owner], "ha", "maintenance", "on")
    pair.until(lambda: "maintenance" in pair.alarms(OTHER[owner]), "maintenance is shown")
    pair.refused(owner, "ha", "switchover", code=3, match="Maintenance is on")
    assert pair.value("select 1") == "1"
    pair.ok(owner, "ha", "maintenance", "off")
    pair.until_sync()


def test_a_drill_and_its_report(pair: Site) -> None:
    owner = pair.owner()
    with pair.load():
        report = json.loads(pair.ok(owner, "ha", "drill", "--yes", "--json"))
        assert report["result"] == "passed"
    assert pair.owner() == owner
    assert "passed" in pair.ok(owner, "ha", "drill", "--list")


def test_a_drill_that_loses_the_other_node_breaks_off_and_moves_nothing_more(pair: Site) -> None:
    old, new = pair.owner(), OTHER[pair.owner()]
    pair.lab.slow(old, delay_ms=60)  # so that it cannot be in step again before its power is cut
    pair.until_sync()
    drill = pair.lab.popen(
        new,
        ["mse", "ha", "drill", "--yes", "--json", "--settle", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    with drill:
        try:
            assert drill.stderr is not None
            said = [*takewhile(lambda line: f"in step under {new}" not in line, drill.stderr)]
            assert drill.poll() is None, said
            pair.lab.power_off(old)
            out, errors = drill.communicate(timeout=30)
        finally:
            drill.kill()
    assert drill.returncode == 1, out + errors
    assert "MSE-DRL-001" in errors
    report = json.loads(out)
    assert (report["result"], report["owner"]) == ("aborted", old)
    assert [(step["name"], step["is_done"]) for step in report["steps"]] == [
        (f"hand over to {new}", True),
        (f"in step under {new}", False),
    ]
    assert f"broken off at 'in step under {new}'" in report["sentence"]
    assert json.loads(pair.ok(new, "ha", "drill", "--list", "--json"))[-1] == report
    register = pair.register()
    assert (register["owner"], register["mode"]) == (new, "ALONE")
    assert pair.value("select 1") == "1"


def test_a_drill_of_a_pair_out_of_step_moves_nothing(pair: Site) -> None:
    owner = pair.owner()
    pair.ok(owner, "ha", "maintenance", "on")
    before = pair.register()
    pair.refused(owner, "ha", "drill", "--yes", code=3, match="Nothing was moved")
    assert pair.register() == before
    pair.ok(owner, "ha", "maintenance", "off")


def test_the_doctor_finds_a_healthy_pair_well(pair: Site) -> None:
    allowed = {"all_well", "tail_kept", "slow_machine", "slow_network"}  # a busy computer is slow

    found: dict[str, set[str]] = {}

    def is_well() -> bool:
        found.update({node: set(pair.findings(node)) - allowed for node in NODES})
        return not any(found.values())

    pair.until(is_well, lambda: f"both nodes are found well; found: {found}", 20)


def test_the_past_is_told_and_the_journal_is_faithful(pair: Site) -> None:
    owner = pair.owner()
    pair.ok(owner, "ha", "switchover")
    pair.until_sync()
    for node in NODES:
        assert "config_chosen" in pair.events(node)
        replayed = json.loads(pair.ok(node, "ha", "journal", "replay", "--json"))
        assert sum(file["steps"] for file in replayed) > 100
        assert [file["differences"] for file in replayed] == [[] for _ in replayed]
        assert [file["damaged"] for file in replayed] == [0 for _ in replayed]
    assert "switchover_started" in pair.events(owner)


def test_watching_the_status_shows_each_change(pair: Site) -> None:
    owner = pair.owner()
    watcher = pair.lab.popen(
        OTHER[owner],
        ["mse", "ha", "status", "--watch", "--json"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    with watcher:
        try:
            assert watcher.stdout is not None
            assert json.loads(watcher.stdout.readline())["register"]["owner"] == owner
            pair.ok(owner, "ha", "switchover")
            seen = [json.loads(watcher.stdout.readline()) for _ in range(3)]
            deadline = time.monotonic() + 20
            while seen[-1]["register"]["owner"] == owner or seen[-1]["role"] != "primary":
                assert time.monotonic() < deadline
                seen.append(json.loads(watcher.stdout.readline()))
        finally:
            watcher.kill()


# ---------------------------------------------------------------------- planned stops


@pytest.mark.parametrize("which", ["standby", "owner"])
def test_a_planned_stop_stays_and_nobody_takes_over(pair: Site, which: str) -> None:
    owner = pair.owner()
    node = owner if which == "owner" else OTHER[owner]
    assert "has stopped" in pair.ok(node, "node", "stop")
    pair.until_ended(node)
    pair.refused(node, "ha", "status", code=4, match="MSE-CTL-002")
    pair.until(lambda: pair.mode_on(OTHER[node]) == "ALONE", "ALONE is known")
    quiet_until = time.monotonic() + 4.0  # twice the failover wait
    while time.monotonic() < quiet_until:
        assert pair.told(OTHER[node])["register"]["owner"] == owner
        assert pair.lab.pids(node)["health-monitor"] is None
        time.sleep(0.2)
    told = pair.told(OTHER[node])
    alone = "PRIMARY_ALONE" if owner == "mse1" else "FAILOVER_ACTIVE"
    assert told["state"] == (alone if which == "standby" else "GRACEFUL_SHUTDOWN"), told
    pair.start(node)
    pair.until_sync()
    assert pair.owner() == owner


def test_a_planned_stop_with_handover_costs_clients_little(pair: Site) -> None:
    owner = pair.owner()
    with pair.load() as load:
        pair.stop(owner, "--handover")
        pair.until(lambda: load.last_served_by() == OTHER[owner], "the other node serves")
    assert pair.register()["owner"] == OTHER[owner]
    assert pair.lab.pids(owner)["health-monitor"] is None
    pair.start(owner)
    pair.until_sync()


def test_graceful_shutdown_is_shown_while_it_lasts(pair: Site) -> None:
    owner = pair.owner()
    pair.lab.cut(owner, "witness")
    pair.lab.cut(owner, OTHER[owner])  # the register cannot be told: it waits for it
    pair.ok(owner, "node", "stop", "--no-wait")
    pair.until(lambda: pair.told(owner).get("state") in ("GRACEFUL_SHUTDOWN", None), "it is shown")
    pair.until(lambda: pair.lab.pids(owner)["health-monitor"] is None, "it stops all the same", 40)
    pair.until_ended(owner)
    pair.lab.heal()
    pair.start(owner)
    pair.until_sync()


# ---------------------------------------------------------------------- takeovers by hand


def test_failover_type_manual_waits_for_the_operator(pair: Site) -> None:
    owner, term = pair.owner(), pair.register()["term"]
    term = pair.register()["term"]
    pair.ok(owner, "ha", "settings", "--failover-type", "manual")
    with pair.load() as load:
        pair.lab.power_off(owner)
        quiet_until = time.monotonic() + 5.0
        while time.monotonic() < quiet_until:
            assert pair.told(OTHER[owner])["role"] != "primary"
            time.sleep(0.2)
        assert "manual" in pair.told(OTHER[owner])["why_not"]["takeover"]
        pair.ok(OTHER[owner], "ha", "switchover")
        pair.until(lambda: load.last_served_by() == OTHER[owner], "the other node serves")
    assert pair.register()["term"] == term, "nothing was forced"
    pair.lab.power_on(owner)
    pair.until_sync()
    pair.ok(owner, "ha", "settings", "--failover-type", "automatic")


def _served_by_ipv6(at: Site) -> str:
    """Which node answers libpq, with verify-full, at the virtual IPv6 address."""
    question = (
        "select host(inet_server_addr()), split_part(current_setting('cluster_name'), '.', 1)"
    )
    done = at.sql(question, host=VIRTUAL_IP6)
    assert done.returncode == 0, done.stderr + at.story()
    address, node = done.stdout.strip().split("|")
    assert address == VIRTUAL_IP6
    return node


def test_failback_goes_home_and_clients_by_ipv6_follow(home: Site) -> None:
    assert _served_by_ipv6(home) == "mse1"
    home.ok("mse1", "ha", "switchover")
    home.until_owner("mse2")
    assert _served_by_ipv6(home) == "mse2"
    home.until_sync()
    with home.load():
        home.ok("mse2", "ha", "failback")
    assert home.owner() == "mse1"
    assert _served_by_ipv6(home) == "mse1"


def test_a_cold_boot_of_everything(pair: Site) -> None:
    owner = pair.owner()
    given_up = pair.events(owner).count(TOO_SLOW)
    pair.value("create table if not exists cold (n int)")
    pair.value("insert into cold values (42)")
    # The owner last: on a busy computer the others would have the time to take over.
    for name in ("witness", OTHER[owner], owner):
        pair.lab.power_off(name)
    for name in ("witness", OTHER[owner], owner):
        pair.lab.power_on(name)
    pair.until_sync()
    if pair.events(owner).count(TOO_SLOW) == given_up:
        assert pair.owner() == owner, pair.story()
    assert pair.value("select n from cold limit 1") == "42"


def test_a_standby_that_boots_alone_waits_and_says_for_whom(pair: Site) -> None:
    """In SYNC: the witness lives, but the whole site has just booted: the owner goes first."""
    owner = pair.owner()
    for name in (*NODES, "witness"):
        pair.lab.power_off(name)
    pair.lab.power_on(OTHER[owner])
    pair.until(lambda: pair.told(OTHER[owner]).get("register"), "it answers")
    told = pair.told(OTHER[owner])
    assert told["state"] == "WAITING", told
    assert owner in told["reason"]
    assert not told["admits_clients"]


def test_a_standby_whose_owner_went_on_alone_waits_for_the_newest_data(pair: Site) -> None:
    owner = pair.owner()
    other = OTHER[owner]
    pair.lab.power_off(other)
    pair.until(lambda: pair.mode_on(owner) == "ALONE", "the owner goes on alone")
    pair.value("create table if not exists newest (n int)")
    pair.lab.power_off(owner)
    pair.lab.power_on(other)
    pair.until(lambda: "newest data" in pair.told(other).get("reason", ""), "it waits", 20)
    told = pair.told(other)
    assert told["state"] == "WAITING"
    assert told["loss"]["owner"] == owner
    pair.refused(other, "ha", "switchover", code=3, match="takeover --force")
    assert not pair.told(other)["admits_clients"]


def test_a_forced_takeover_and_the_old_owner_back(pair: Site) -> None:
    owner = pair.owner()
    other = OTHER[owner]
    term = pair.register()["term"]
    pair.value("create table if not exists forced (who text)")
    pair.value("truncate forced")
    pair.lab.power_off(other)
    pair.until(lambda: pair.mode_on(owner) == "ALONE", "the owner goes on alone")
    pair.value("insert into forced values ('the old owner alone')")
    pair.lab.power_off(owner)
    pair.lab.power_off("witness")
    pair.lab.power_on(other)
    pair.until(lambda: pair.told(other).get("loss"), "it answers")
    asked = pair.mse(other, "ha", "takeover", "--force", typed="yes\n")
    assert asked.returncode == 2
    assert "Possible loss" in asked.stderr
    assert f"{owner} will serve if it is started" in asked.stderr
    assert not pair.told(other)["admits_clients"]
    pair.ok(other, "ha", "takeover", "--force", typed=f"{other}\n")
    pair.until_owner(other)
    assert pair.value("select count(*) from forced") == "0"
    assert "forced_term" in pair.findings(other), "the old owner has not seen it"
    with pair.load():
        pair.lab.power_on(owner)
        pair.lab.power_on("witness")
        pair.until_sync()
        assert pair.owner() == other
    assert pair.register()["term"] in (term + 3, term + 4)  # each node forces in terms of its own
    kept = pair.run(owner, "find", "/var/lib/openmse/postgres/divergent").stdout
    assert "summary" in kept, kept
    assert "tail_kept" in pair.findings(owner)
    pair.ok(other, "ha", "settings", "--boot-alone", "auto")
    pair.until(lambda: "forced_term" not in pair.alarms(other), "the alarm ends")
