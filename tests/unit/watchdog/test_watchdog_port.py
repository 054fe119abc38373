"""When the machine's watchdog is armed, fed and disarmed, against a driver that records it."""

import json
from pathlib import Path

import pytest

from openmse.errors import ConfigError
from openmse.ha.values import SECOND
from openmse.node.config import WatchdogMode, WatchdogSection
from openmse.node.runtime.watchdog_port import WatchdogPort


class Bench:
    def __init__(self, path: Path) -> None:
        self.record = path / "record"
        self.record.touch()
        self.failures: list[str] = []
        section = WatchdogSection(mode=WatchdogMode.AUTO, device=str(self.record))
        self.port = WatchdogPort(section, self.failures.append)
        self.observe()

    def observe(
        self, lease_ns: int = 4 * SECOND, is_writing: bool = True, may_disarm: bool = False
    ) -> None:
        self.port.observe(lease_ns=lease_ns, is_writing=is_writing, may_disarm=may_disarm)

    def done(self) -> list[str]:
        """What was recorded since the last call."""
        lines = [json.loads(line) for line in self.record.read_text().splitlines()]
        self.record.write_text("")
        return [
            f"arm {line['timeout_s']:g}" if line["do"] == "arm" else line["do"] for line in lines
        ]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_it_is_fed_with_each_grant_while_wanted(bench: Bench) -> None:
    bench.port.feed()
    assert bench.done() == []
    assert bench.port.state == "ready"
    bench.port.want(True)
    bench.port.feed()
    assert bench.done() == ["arm 4", "feed"]
    assert bench.port.state == "armed"


def test_without_a_successful_write_it_is_not_fed(bench: Bench) -> None:
    bench.port.want(True)
    bench.observe(is_writing=False)
    bench.done()
    bench.port.feed()
    assert bench.done() == []
    bench.observe(is_writing=True)
    bench.port.feed()
    assert bench.done() == ["feed"]


def test_another_lease_changes_the_time_out_with_the_next_grant(bench: Bench) -> None:
    bench.port.want(True)
    bench.done()
    bench.observe(lease_ns=1_750_000_000)
    bench.port.feed()
    bench.port.feed()
    assert bench.done() == ["arm 1", "feed"]


def test_it_is_not_disarmed_before_clients_are_gone(bench: Bench) -> None:
    bench.port.want(True)
    bench.port.want(False)
    bench.port.feed()
    assert bench.done() == ["arm 4"], "neither disarmed nor fed: a hanging stop ends in a reset"
    bench.observe(may_disarm=True)
    assert bench.done() == ["disarm"]
    bench.observe(may_disarm=True)
    assert bench.done() == []


def test_the_end_of_a_life_in_order_disarms(bench: Bench) -> None:
    bench.port.want(True)
    bench.port.close()
    assert bench.done() == ["arm 4", "disarm"]


def test_a_failure_is_told_once_until_it_works_again(bench: Bench) -> None:
    bench.port.want(True)
    bench.record.rename(bench.record.with_name("away"))
    bench.record.mkdir()
    for _ in range(3):
        bench.port.feed()
    assert len(bench.failures) == 1
    assert "cannot be written" in bench.failures[0]
    assert bench.port.state == "failed"
    bench.record.rmdir()
    bench.record.with_name("away").rename(bench.record)
    bench.port.feed()
    assert bench.port.state == "armed"


def test_required_and_missing_is_refused_and_off_is_off(tmp_path: Path) -> None:
    missing = str(tmp_path / "watchdog")
    section = WatchdogSection(mode=WatchdogMode.REQUIRED, device=missing)
    with pytest.raises(ConfigError, match="required"):
        WatchdogPort(section, print)
    port = WatchdogPort(WatchdogSection(device=missing), print)
    port.want(True)
    port.feed()
    port.close()
    assert port.state == "off"
