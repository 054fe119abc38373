"""What getserverinfo, gethainfo, the journal and the configuration tell over the API."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from api_machine import CalmCore, Machine, Served
from click.testing import CliRunner
from live_core import LiveCore, serving

from openmse.cli.main import root
from openmse.ha.events import Commanded, Maintenance
from openmse.ha.state import Node
from openmse.node.runtime.background import Background
from openmse.node.runtime.journal import Journal, files

NOBODY = (1 << 22) + 1
"""A number that Linux gives no process."""
NAME = "00000001.journal.jsonl"


class SeenCore(CalmCore):
    """A health monitor with a process: the one that runs the test, or another."""

    def __init__(self, node: Node, pid: int = 0) -> None:
        super().__init__(node)
        self.pid = pid or os.getpid()

    def facts(self) -> Any:
        """With that process."""
        pids = {"health-monitor": self.pid, "postgres": None}
        return msgspec.structs.replace(super().facts(), pids=pids)


@pytest.fixture
def seen(machine: Machine) -> Iterator[Served]:
    """An API over such a core."""
    with machine.monitor(SeenCore(serving())), machine.serve() as found:
        found.until_up()
        yield found


def _printed(machine: Machine, *words: str) -> Any:
    """What ``mse`` prints as JSON on this machine."""
    done = CliRunner().invoke(root, ["--config", str(machine.config), *words, "--json"])
    assert done.exit_code in (0, 4), done.output
    return msgspec.json.decode(done.stdout)


def _written(machine: Machine, steps: int = 30) -> Path:
    """A journal as the health monitor writes it; its one file."""
    core = LiveCore(serving())
    core.pass_time(steps / 10)
    core.post(Commanded(core.node.now, "c", Maintenance(True)))
    background = Background("journal")
    journal = Journal(machine.state / "journal", background)
    for step in core.steps:
        journal.record(*step)
    journal.flush()
    background.close()
    (path,) = files(machine.state / "journal")
    assert path.name == NAME
    return path


def test_server_info_is_what_getserverinfo_prints(seen: Served) -> None:
    told = seen.ok("GET", "/v1/server-info")
    printed = _printed(seen.machine, "server-info")
    moving = ("now", "used_memory_mb", "allocated_memory_mb", "started")
    for value in (told, printed):
        assert value["monitor"]["used_memory_mb"] > 0
        for key in moving:
            value["monitor"].pop(key)
    assert told == printed
    assert (told["is_running"], told["services_state"]) == (True, "up")
    assert told["config"]["role"] == "primary"


def test_ha_info_is_what_gethainfo_prints(seen: Served) -> None:
    told = seen.ok("GET", "/v1/ha-info")
    assert told == _printed(seen.machine, "ha-info")
    assert (told["is_running"], told["role"], told["state"]) == (True, "primary", "PRIMARY_ALONE")


def test_what_is_told_while_the_health_monitor_is_stopped(machine: Machine) -> None:
    """Nothing is made up, and what was saved last says that it is."""
    with machine.serve() as served:
        info = served.ok("GET", "/v1/server-info")
        assert (info["is_running"], info["monitor"], info["config"]) == (False, None, None)
        told = served.ok("GET", "/v1/ha-info")
        assert told == _printed(machine, "ha-info")
        assert (told["is_running"], told["fields"]) == (False, None)


def test_a_process_that_cannot_be_seen_has_no_memory(machine: Machine) -> None:
    """Null, as everything that cannot be told, and not 0."""
    with machine.monitor(SeenCore(serving(), pid=NOBODY)), machine.serve() as served:
        told = served.ok("GET", "/v1/server-info")["monitor"]
    assert (told["used_memory_mb"], told["allocated_memory_mb"]) == (None, None)
    assert told["max_memory_mb"] > 0


def test_a_journal_is_read_in_pages(machine: Machine) -> None:
    """Every step once, as 'mse ha journal show --json' prints it."""
    path = _written(machine)
    done = CliRunner().invoke(root, ["ha", "journal", "show", str(path), "--json"])
    printed = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    assert len(printed) >= 30
    with machine.serve() as served:
        assert [one["name"] for one in served.ok("GET", "/v1/journal")["files"]] == [NAME]
        found: list[Any] = []
        after, pages, is_more = 0, 0, True
        while is_more:
            part = served.ok("GET", f"/v1/journal/{NAME}?limit=7&after={after}")
            assert 1 <= len(part["steps"]) <= 7
            found += part["steps"]
            after, is_more, pages = part["last_line"], part["is_more"], pages + 1
            assert part["damaged"] == 0
        assert found == printed
        assert pages == -(-len(printed) // 7)
        behind = served.ok("GET", f"/v1/journal/{NAME}?after={after}")
        assert (behind["steps"], behind["is_more"], behind["last_line"]) == ([], False, after)
        loud = served.ok("GET", f"/v1/journal/{NAME}?decisions=true")["steps"]
        assert 0 < len(loud) < len(printed)
        quiet = ("Send", "SetLease", "WantWatchdog")
        assert not [e for one in loud for e in one["effects"] if e["kind"] in quiet]
        _refused_pages(served, path)


def _refused_pages(served: Served, path: Path) -> None:
    for name in ("00000002.journal.jsonl", "..", "%2e%2e%2fgroup.json", "events.jsonl"):
        found = served.ask("GET", f"/v1/journal/{name}")
        assert found.status_code == 404, name
    error = served.refused("GET", "/v1/journal/none", 404, "MSE-API-010")
    assert "lists the files" in error["hint"]
    wrong = "limit=0&after=-1&decisions=perhaps"
    error = served.refused("GET", f"/v1/journal/{NAME}?{wrong}", 422, "MSE-API-015")
    assert sorted(fault["field"] for fault in error["fields"]) == ["after", "decisions", "limit"]
    served.refused("GET", f"/v1/journal/{NAME}?limit=1001", 422, "MSE-API-015")
    served.refused("GET", f"/v1/journal/{NAME}", 401, "MSE-API-002", auth=None)
    with path.open("ab") as file:
        file.write(b"no JSON\n")
    assert served.ok("GET", f"/v1/journal/{NAME}")["damaged"] == 1


def test_a_page_of_the_journal_has_an_end(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where few steps are large."""
    from openmse.api import facts

    _written(machine)
    monkeypatch.setattr(facts, "MAX_PAGE_BYTES", 600)
    with machine.serve() as served:
        part = served.ok("GET", f"/v1/journal/{NAME}?limit=1000")
        assert part["is_more"]
        sizes = [len(msgspec.json.encode(one)) for one in part["steps"]]
        assert sum(sizes[:-1]) <= 600 < sum(sizes)


def test_the_configuration_is_shown_with_its_faults(machine: Machine) -> None:
    """As 'mse config show' and 'check' print it, without a password that an address might have."""
    with machine.serve() as served:
        told = served.ok("GET", "/v1/config")
        assert told["config"] == _printed(machine, "config", "show")
        assert (told["faults"], told["is_as_started"]) == ([], True)
        assert told["management"]["limits"] == {"connections": 32, "streams": 4}
        text = machine.config.read_text()
        etcd = '[witness]\nkind = "etcd"\nendpoints = ["https://root:hunter2@10.0.0.9:2379"]\n'
        machine.config.write_text(text + etcd)
        found = served.ask("GET", "/v1/config")
        assert "hunter2" not in found.text
        assert found.json()["is_as_started"] is False
        machine.config.write_text(text.replace('role = "primary"', 'roll = "primary"'))
        broken = served.ok("GET", "/v1/config")
        assert (broken["config"], broken["is_as_started"]) == (None, False)
        keys = {fault["key"] for fault in broken["faults"]}
        assert keys == {"node.roll", "node.role"}
        assert all(fault["sentence"] for fault in broken["faults"])
        machine.config.unlink()
        (gone,) = served.ok("GET", "/v1/config")["faults"]
        assert "There is no configuration file" in gone["sentence"]
