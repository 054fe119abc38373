"""Watchdog: hardware (or softdog) that resets the machine when nobody feeds it any more."""

from openmse.node.drivers.watchdog.linux import LinuxWatchdog
from openmse.node.drivers.watchdog.port import Watchdog, WatchdogMode, open_watchdog
from openmse.node.drivers.watchdog.recording import OffWatchdog, RecordingWatchdog

__all__ = [
    "LinuxWatchdog",
    "OffWatchdog",
    "RecordingWatchdog",
    "Watchdog",
    "WatchdogMode",
    "open_watchdog",
]
