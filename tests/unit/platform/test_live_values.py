"""Where the live values come from: processes, the clock's zone, the node's level."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from openmse.platform.status import clock, database, processes
from openmse.platform.status.server_info import java_date


def test_a_family_of_processes() -> None:
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 6: 5}
    assert processes.family([2], parents) == {2, 3, 4}
    assert processes.family([3, 5], parents) == {3, 4, 5, 6}
    assert processes.family([], parents) == set()


def test_fields_of_proc() -> None:
    text = "Name:\tpostgres\nVmData:\t  12 kB\nPss:      3 kB\nThreads:\t1\nBad: x kB\n"
    assert processes.kib_fields(text) == {"VmData": 12 * 1024, "Pss": 3 * 1024}


def test_memory_and_age_of_a_real_process() -> None:
    size = 32 << 20
    program = f"b = bytearray({size}); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        known = processes.parents()
        assert known[child.pid] == os.getpid()
        assert child.pid in processes.family([os.getpid()], known)
        found = processes.memory([child.pid])
        age_s = processes.age_s(child.pid)
        child.communicate("\n")
    assert found is not None
    assert size < found.used < 4 * size
    assert found.allocated > size
    assert age_s is not None
    assert 0 <= age_s < 60
    assert processes.memory([child.pid]) == processes.Memory(0, 0)  # it has ended
    assert processes.guard_of(os.getpid(), known) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give capabilities away")
def test_memory_as_the_management_api_may_see_it() -> None:
    """Without SYS_PTRACE, which its unit does not have, it is nearly what root sees."""
    setpriv = shutil.which("setpriv")
    assert setpriv is not None  # of util-linux, which is essential
    program = (
        "import sys; from openmse.platform.status import processes as p\n"
        "found = p.memory([int(sys.argv[1])]); print(found.used, found.allocated)\n"
    )
    less = [setpriv, "--bounding-set=-all,+dac_override", sys.executable, "-c", program]
    block = bytearray(64 << 20)
    done = subprocess.run([*less, str(os.getpid())], check=True, capture_output=True, text=True)
    whole = processes.memory([os.getpid()])
    assert whole is not None
    used, allocated = map(int, done.stdout.split())
    assert len(block) < used < 1.5 * whole.used
    assert used > 0.8 * whole.used
    assert allocated > len(block)


@pytest.mark.parametrize(
    ("zone", "month", "shown", "minutes"),
    [
        ("Europe/Brussels", 1, "Sat Jan 31 04:00:00 CET 2026", 60),
        ("Europe/Brussels", 7, "Fri Jul 31 05:00:00 CEST 2026", 120),
        ("America/New_York", 1, "Fri Jan 30 22:00:00 EST 2026", -300),
        ("Asia/Kolkata", 1, "Sat Jan 31 08:30:00 IST 2026", 330),
        ("UTC", 1, "Sat Jan 31 03:00:00 UTC 2026", 0),
        ("No/Where", 1, "Sat Jan 31 03:00:00 UTC 2026", 0),
    ],
)
def test_instants_in_a_zone(zone: str, month: int, shown: str, minutes: int) -> None:
    moment = clock.moment(datetime(2026, month, 31, 3, 0, tzinfo=UTC), zone)
    assert java_date(moment) == shown
    assert clock.offset_min(moment) == minutes


def test_the_zone_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert clock.zone_name() == "Asia/Tokyo"
    monkeypatch.setenv("TZ", ":/usr/share/zoneinfo/Asia/Tokyo")
    assert clock.zone_name() == "Asia/Tokyo"
    monkeypatch.setenv("TZ", "nonsense")
    assert clock.zone(clock.zone_name()) is not None


def test_without_a_server_there_are_no_facts(tmp_path: Path) -> None:
    assert database.read(tmp_path, 5432) is None
    (tmp_path / ".s.PGSQL.5432").touch()
    assert database.read(tmp_path, 5432) is None
