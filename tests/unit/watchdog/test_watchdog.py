"""The watchdog's drivers: the choice, the record, and what a device that is none answers."""

import json
import os
import pty
import socket
from pathlib import Path

import pytest

from openmse.errors import ConfigError, DriverError
from openmse.node.drivers.watchdog import (
    LinuxWatchdog,
    OffWatchdog,
    RecordingWatchdog,
    WatchdogMode,
    open_watchdog,
)


def test_the_mode_and_what_is_there_choose_the_driver(tmp_path: Path) -> None:
    record = tmp_path / "record"
    assert isinstance(open_watchdog(WatchdogMode.OFF, "/dev/null"), OffWatchdog)
    assert isinstance(open_watchdog(WatchdogMode.AUTO, str(record)), OffWatchdog)
    with pytest.raises(ConfigError, match="required"):
        open_watchdog(WatchdogMode.REQUIRED, str(record))
    record.touch()
    assert isinstance(open_watchdog(WatchdogMode.REQUIRED, str(record)), RecordingWatchdog)
    assert isinstance(open_watchdog(WatchdogMode.REQUIRED, "/dev/null"), LinuxWatchdog)
    with pytest.raises(DriverError, match="neither"):
        open_watchdog(WatchdogMode.AUTO, str(tmp_path))


def test_the_record_in_a_file_shows_every_call(tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.touch()
    watchdog = open_watchdog(WatchdogMode.AUTO, str(record))
    watchdog.feed()
    assert record.read_text() == "", "not fed before it is armed"
    assert watchdog.arm(4.9) == 4.0
    assert watchdog.is_armed
    watchdog.feed()
    assert watchdog.disarm() is True
    watchdog.disarm()
    entries = [json.loads(line) for line in record.read_text().splitlines()]
    assert [entry["do"] for entry in entries] == ["arm", "feed", "disarm"]
    assert entries[0]["timeout_s"] == 4.0
    assert entries[0]["pid"] == os.getpid()
    assert entries[0]["at_ns"] <= entries[1]["at_ns"] <= entries[2]["at_ns"]


def test_the_record_over_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hardware:
        hardware.bind(str(path))
        hardware.settimeout(1)
        watchdog = open_watchdog(WatchdogMode.REQUIRED, str(path))
        watchdog.arm(0.2)
        assert json.loads(hardware.recv(1000)) | {"at_ns": 0} == {
            "at_ns": 0,
            "pid": os.getpid(),
            "do": "arm",
            "timeout_s": 1.0,
        }
    path.unlink()
    with pytest.raises(DriverError, match="cannot be written"):
        watchdog.feed()


def test_a_device_that_is_no_watchdog_is_said_and_left() -> None:
    controller, terminal = pty.openpty()
    try:
        watchdog = LinuxWatchdog(os.ttyname(terminal))
        assert watchdog.is_available
        with pytest.raises(DriverError, match="could not be armed"):
            watchdog.arm(4)
        assert not watchdog.is_armed
        watchdog.feed()
        assert watchdog.disarm() is True
    finally:
        os.close(controller)
        os.close(terminal)
    absent = LinuxWatchdog("/dev/nonexistent-watchdog")
    assert not absent.is_available
    with pytest.raises(DriverError, match="could not be armed"):
        absent.arm(4)


def test_off_accepts_everything() -> None:
    watchdog = OffWatchdog()
    assert watchdog.arm(3.5) == 3.5
    watchdog.feed()
    assert watchdog.disarm() is True
    assert not watchdog.is_armed
