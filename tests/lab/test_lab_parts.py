"""Parts of the laboratory by themselves."""

import importlib.util
import os
import subprocess
import time
from pathlib import Path

import pytest

from openmse.errors import DriverError, StateError
from openmse.lab import freezer, procs, requirements, software, state
from openmse.lab.state import Block, Slow, State
from openmse.lab.switch import render
from openmse.lab.topology import Places, Topology, machines_of


def test_a_tree_that_others_may_not_read_is_copied(tmp_path: Path) -> None:
    closed, copy = tmp_path / "closed", tmp_path / "copy"
    (closed / "bin").mkdir(parents=True)
    (closed / "bin/tool").write_text("x")
    (closed / "bin/tool").chmod(0o700)
    (closed / "data").write_text("y")
    (closed / "data").chmod(0o600)
    (closed / "link").symlink_to("data")
    closed.chmod(0o700)
    assert software.readable(closed, copy) == copy
    assert (copy / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (copy / "data").stat().st_mode & 0o777 == 0o644
    assert (copy / "link").is_symlink()
    assert (closed / "data").stat().st_mode & 0o777 == 0o600
    assert software.readable(copy, tmp_path / "unused") == copy
    assert not (tmp_path / "unused").exists()


def test_what_machines_run_is_compiled_ahead(tmp_path: Path) -> None:
    """Wholly, and from these very sources: machines may not write what is missing."""
    package = software.prepare(tmp_path).package
    sources = [path for path in package.rglob("*.py") if path.is_file()]
    assert len(sources) > 300
    for source in sources:
        head = Path(importlib.util.cache_from_source(str(source))).read_bytes()[:16]
        noted = tuple(int.from_bytes(head[at : at + 4], "little") for at in (8, 12))
        assert noted == (int(source.stat().st_mtime), source.stat().st_size), source


@pytest.mark.root
@pytest.mark.parametrize("is_unified", [True, False])
def test_freezer(is_unified: bool) -> None:
    mounts = [mount for mount, unified in freezer.hierarchies() if unified == is_unified]
    if os.geteuid() or not mounts:
        pytest.skip("no such control groups here")
    path = mounts[0] / f"openmse-test-{os.getpid()}"
    path.mkdir()
    group = freezer.Freezer(path, is_unified)
    source = (
        "import sys, time\n"
        f"open({group.members_file!r}, 'w').write('0')\n"
        "print('in', flush=True)\n"
        "sys.stdin.readline()\nprint('said', flush=True)"
    )
    process = subprocess.Popen(
        ["python3", "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        assert not group.is_frozen()
        group.freeze()
        deadline = time.monotonic() + 10
        while not group.is_frozen():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.stdin.write("\n")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        group.thaw()
        assert process.communicate(timeout=10)[0] == "said\n"
        (path / "made" / "by systemd").mkdir(parents=True)
    finally:
        group.thaw()
        process.kill()
        process.wait()
        group.remove()
    assert not path.exists()


def test_process_is_not_confused_with_a_later_one() -> None:
    child = subprocess.Popen(["sleep", "100"])
    process = procs.Process.of(child.pid)
    assert process is not None
    assert process.is_alive()
    assert not procs.Process(child.pid, process.started + 1).signal(9)
    assert not procs.Process(child.pid, process.started + 1).is_alive()
    assert process.kill_and_wait(10)
    assert not process.is_alive(), "a zombie is not alive"
    assert child.wait() == -9
    assert procs.Process.of(child.pid) is None


def test_state_survives_and_damage_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openmse.lab.topology.RUN_ROOT", tmp_path)
    places = Places.of("one")
    places.run.mkdir()
    kept = State(
        name="one",
        topology=Topology.PAIR,
        blocks=[Block("mse1", "mse2", "heartbeats")],
        slow={"mse1": Slow(5, 0.5)},
    )
    state.save(places, kept)
    assert state.load(places) == kept
    state.path_of(places).write_text("{")
    with pytest.raises(StateError, match="damaged"):
        state.load(places)


def test_rules_name_each_port_with_and_without_a_wire() -> None:
    batch = render(["mse1"], [Block("a", "b"), Block("b", "a", "heartbeats")], {})
    assert 'add element bridge lab dark { "mse1", "w-mse1" }' in batch
    assert '"a" . "b", "a" . "w-b", "w-a" . "b", "w-a" . "w-b"' in batch
    assert "add element bridge lab no_replication" not in batch
    assert "flush set bridge lab no_replication" in batch


def test_addresses_are_the_guides_and_names_fit_an_interface() -> None:
    machines = machines_of(Topology.PAIR)
    assert {name: machine.address for name, machine in machines.items()} == {
        "mse1": "10.10.10.11",
        "mse2": "10.10.10.12",
        "witness": "10.10.10.13",
        "client": "10.10.10.20",
    }
    assert len({machine.mac for machine in machines.values()}) == 4
    assert machines["mse1"].mac == "02:00:0a:0a:0a:0b"
    assert all(len(machine.wire) <= 15 for machine in machines.values())


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(requirements, "_PROGRAMS", {"no-such-program": "e2fsprogs"})
    monkeypatch.setattr(requirements, "LIBRARY", "libnosuch.so.1")
    monkeypatch.setattr(requirements, "check_root", lambda: None)
    with pytest.raises(DriverError, match="not installed: e2fsprogs nftables") as caught:
        requirements.check(str(tmp_path))
    assert caught.value.hint == "Install them: apt install e2fsprogs nftables"
