"""What breaks on a machine that goes on living: disks, processes, addresses, files."""

import os
import statistics
import time
from functools import partial
from pathlib import Path

import pytest
from operating import OTHER, Site

from openmse.lab import presence_rules
from openmse.lab.programs import PYTHON
from openmse.lab.workload import Workload

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(240)]

DATA = "/var/lib/openmse/postgres/data"
BACK_MS_MAX = 250
"""No address may be away for longer, also while the computer does other things."""


# ---------------------------------------------------------------------- disks


def test_a_full_disk_moves_the_service_and_room_brings_the_node_back(pair: Site) -> None:
    owner = pair.owner()
    other = OTHER[owner]
    with pair.load() as load:
        pair.lab.fill_disk(owner)
        try:
            # what is allocated ahead (WAL segments) still takes writes for a while
            pair.until(lambda: load.last_served_by() == other, f"{other} serves", 60)
            assert any(code in pair.findings(owner) for code in ("disk_low", "database_failed"))
        finally:
            pair.lab.free_disk(owner)
        pair.until_sync()
        assert pair.owner() == other


def _break_file_system(pair: Site, machine: str) -> None:
    """Let the kernel find an error in the machine's file system, and make it read-only for it."""
    remount = ("mount", "-o", "remount,errors=remount-ro", "/var")
    assert pair.run(machine, *remount).returncode == 0
    number = os.stat(pair.lab.path_in(machine, "/var")).st_dev
    name = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
    trigger = Path("/sys/fs/ext4", name, "trigger_fs_error")
    if not trigger.exists():
        pytest.skip("this kernel's ext4 cannot be made to fail")
    trigger.write_text("1")


def test_a_read_only_file_system_moves_the_service(pair: Site) -> None:
    owner = pair.owner()
    other = OTHER[owner]
    with pair.load() as load:
        _break_file_system(pair, owner)
        took = pair.until(lambda: load.last_served_by() == other, f"{other} serves", 30)
        assert took < 10
    pair.lab.power_off(owner)
    pair.lab.power_on(owner)  # as after a repair
    pair.until_sync()


# ---------------------------------------------------------------------- processes


def _resumed_after(at: Site, load: Workload, instant: int) -> float:
    return at.until(lambda: load.acknowledged_since(instant) > 20, "writes go on", 20)


def _is_adopted_anew(at: Site, node: str, before: int | None) -> bool:
    monitor = at.lab.pids(node)["health-monitor"]
    return monitor not in (None, before) and bool(at.told(node).get("admits_clients"))


def test_a_database_that_keeps_dying_costs_little_each_time(pair: Site) -> None:
    """Restarted on the spot or given up to the other node, whichever is quicker."""
    victims = set()
    with pair.load() as load:
        for _ in range(4):
            owner = pair.owner()
            victims.add(owner)
            assert _resumed_after(pair, load, pair.lab.kill(owner, "postgres")) < 5, pair.story()
            pair.until(lambda: pair.told(pair.owner()).get("admits_clients"), "clients are let in")
    for node in victims:
        pair.restart(node)  # what is left of its budget of restarts
    pair.until_sync()


def test_a_crashed_backend_costs_little(pair: Site) -> None:
    owner = pair.owner()
    with pair.load() as load:
        victim = "ps -eo pid,args | awk '/[p]ostgres: .*10.10.10.20/ {print $1; exit}'"
        kill = f"kill -9 $({victim})"
        began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        assert pair.run(owner, "sh", "-c", kill).returncode == 0
        took = pair.until(lambda: load.acknowledged_since(began) > 200, "writes go on", 20)
        assert took < 6, "a second of which is 200 writes"


def test_a_health_monitor_killed_again_and_again_costs_nothing(pair: Site) -> None:
    owner = pair.owner()
    with pair.load() as load:
        postgres = pair.lab.pids(owner)["postgres"]
        for _ in range(4):
            before = pair.lab.pids(owner)["health-monitor"]
            pair.lab.kill(owner, "health-monitor")
            wait = partial(_is_adopted_anew, pair, owner, before)
            pair.until(wait, "the guard has restarted it")
        assert pair.lab.pids(owner)["postgres"] == postgres, "it is adopted each time"
        assert load.last_served_by() == owner
    assert pair.owner() == owner


def test_guard_and_health_monitor_killed_together(pair: Site) -> None:
    owner = pair.owner()
    with pair.load() as load:
        postgres = pair.lab.pids(owner)["postgres"]
        pair.lab.kill(owner, "guard")
        pair.lab.kill(owner, "health-monitor")
        pair.until(lambda: pair.told(owner).get("admits_clients"), "it is all back")
        assert pair.lab.pids(owner)["guard"]
        assert pair.lab.pids(owner)["postgres"] == postgres
        assert load.last_served_by() == owner


def _age_s(pair: Site, node: str) -> float:
    """How long the health monitor of ``node`` has run: a restarted voter abstains for the largest
    wait that it ever granted (protocol §3), 5 s here."""
    pid = pair.lab.pids(node)["health-monitor"]
    if not pid:
        return 0.0
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("wait", ["2", "5"])
def test_a_frozen_health_monitor_ends_in_a_takeover(pair: Site, wait: str) -> None:
    owner = pair.owner()
    other = OTHER[owner]
    pair.ok(owner, "ha", "settings", "--failover-wait", wait)
    with pair.load() as load:
        load.start_presence()
        pair.until(lambda: _age_s(pair, other) > 6.0, "it no longer abstains for its restart")
        pair.lab.freeze(owner, "health-monitor")
        took = pair.until(lambda: load.last_served_by() == other, f"{other} serves", 30)
        assert took < float(wait) + 3
        pair.until_sync()
        assert pair.owner() == other
        signs = load.signs()
        assert {sign.node for sign in signs} == {owner, other}
        assert presence_rules.double_presences(signs) == []
    pair.ok(other, "ha", "settings", "--failover-wait", "2")


# ---------------------------------------------------------------------- files


def test_a_truncated_register_keeps_the_node_out_until_it_is_put_right(pair: Site) -> None:
    standby = OTHER[pair.owner()]
    pair.stop(standby)
    pair.run(standby, "truncate", "-s", "40", "/var/lib/openmse/register")
    with pair.load():
        pair.start(standby)
        log = pair.lab.places.logs(standby) / "guard.log"
        pair.until(lambda: "/register is damaged" in log.read_text(), "it is told")
        said = [line for line in log.read_text().splitlines() if "/register is damaged" in line]
        assert "neither votes nor serves" in said[0]
        assert not pair.told(standby)
        assert "Move /var/lib/openmse/register" in pair.findings(standby)["register_damaged"]
        # the documented way back: without its memory it is no voter until it is re-admitted
        pair.run(standby, "sh", "-c", "rm /var/lib/openmse/register /var/lib/openmse/register.*")
        pair.until_sync()


def test_a_data_directory_that_is_not_ours_is_refused(pair: Site) -> None:
    standby = OTHER[pair.owner()]
    pair.stop(standby)
    pair.run(standby, "sh", "-c", f"mv {DATA} {DATA}.mine; mkdir {DATA}; echo 1 > {DATA}/precious")
    with pair.load():
        pair.start(standby)
        pair.until(
            lambda: (
                "database_failed" in pair.alarms(standby) or "quarantined" in pair.alarms(standby)
            ),
            "it is told",
        )
        assert pair.run(standby, "cat", f"{DATA}/precious").stdout == "1\n"
        pair.stop(standby)
        pair.run(standby, "sh", "-c", f"rm -r {DATA}; mv {DATA}.mine {DATA}")
        pair.start(standby)
        pair.until_sync()


# ---------------------------------------------------------------------- addresses


def test_an_address_taken_away_is_back_at_once(pair: Site) -> None:
    owner = pair.owner()
    script = """
import subprocess, time
def has():
    shown = subprocess.run(["ip", "-4", "address", "show", "dev", "eth0"], capture_output=True)
    return b"10.10.10.10/" in shown.stdout
assert has()
began = time.monotonic()
subprocess.run(["ip", "address", "del", "10.10.10.10/32", "dev", "eth0"], check=True)
while not has():
    assert time.monotonic() < began + 5
print((time.monotonic() - began) * 1000)
"""
    took_ms = []
    for _ in range(7):
        done = pair.run(owner, PYTHON, "-c", script)
        assert done.returncode == 0, done.stderr
        took_ms.append(float(done.stdout))
    print(f"back within ms: {took_ms}")
    assert statistics.median(took_ms) < 100, "of which the starts of two programs are part"
    assert max(took_ms) < BACK_MS_MAX, took_ms
    assert pair.value("select 1") == "1"


def _lease_tables(pair: Site, machine: str) -> str:
    """The kernel lease's tables with their rules; '' while there are none."""
    shown = pair.run(machine, "nft", "list", "ruleset")
    assert shown.returncode == 0, shown.stderr
    return shown.stdout if "table inet openmse_" in shown.stdout else ""


def test_a_flushed_ruleset_is_put_back_and_holds(pair: Site) -> None:
    """As a firewall's restart does it. The lease must stand again, before it is needed."""
    owner = pair.owner()
    other = OTHER[owner]
    epoch = pair.register()["epoch"]
    assert _lease_tables(pair, owner)
    with pair.load() as load:
        load.start_presence()
        assert pair.run(owner, "nft", "flush", "ruleset").returncode == 0
        pair.until(lambda: _lease_tables(pair, owner), "the kernel lease stands again", 3)
        assert pair.register()["epoch"] == epoch
        assert load.last_served_by() == owner
        pair.until(lambda: _age_s(pair, other) > 6.0, "it no longer abstains for its restart")
        pair.lab.freeze(owner, "health-monitor")
        pair.until(lambda: load.last_served_by() == other, f"{other} serves", 30)
        pair.until_sync()
        assert presence_rules.double_presences(load.signs()) == []


def test_a_foreign_machine_with_the_virtual_ip(pair: Site) -> None:
    owner = pair.owner()
    other = OTHER[owner]
    add = ("ip", "address", "add", "10.10.10.10/32", "dev", "eth0")
    pair.lab.power_off(owner)
    assert pair.run("witness", *add).returncode == 0  # before the address is taken
    pair.until(lambda: pair.told(other).get("role") == "primary", f"{other} owns")
    pair.until(lambda: "address_conflict" in pair.alarms(other), "the conflict is told")
    told = pair.told(other)
    assert told["address"] == "conflict"
    assert not told["admits_clients"]
    assert "address_conflict" in pair.findings(other)
    assert (
        pair.run("witness", "ip", "address", "del", "10.10.10.10/32", "dev", "eth0").returncode == 0
    )
    pair.until_owner(other, 10)
    pair.lab.power_on(owner)
    pair.until_sync()
