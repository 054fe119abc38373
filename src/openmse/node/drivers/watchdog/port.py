"""The watchdog port, and the choice of a driver. When to arm and feed is the core's business."""

import os
import stat
from enum import StrEnum
from typing import Protocol

from openmse.errors import ConfigError, DriverError
from openmse.node.drivers.watchdog.linux import LinuxWatchdog
from openmse.node.drivers.watchdog.recording import OffWatchdog, RecordingWatchdog

DEFAULT_PATH = "/dev/watchdog"


class WatchdogMode(StrEnum):
    """Whether the machine's watchdog is used."""

    OFF = "off"
    AUTO = "auto"
    """Used where there is one."""
    REQUIRED = "required"
    """A node without a working watchdog does not become owner in SYNC."""


class Watchdog(Protocol):
    """Resets the machine if armed and not fed. Armed only while owner in SYNC (protocol §4.4)."""

    @property
    def is_available(self) -> bool:
        """Whether arming can have an effect."""

    @property
    def is_armed(self) -> bool:
        """Whether the machine will be reset unless fed. May stay True after ``disarm``: a driver
        built with "no way out" cannot be stopped, and has to be fed for ever."""

    def arm(self, timeout_s: float) -> float:
        """Start, or change the time-out; return the one now in force (s), never a longer one.

        Raises: DriverError.
        """

    def feed(self) -> None:
        """Postpone the reset by the time-out. Nothing happens unless armed. Raises: DriverError."""

    def disarm(self) -> bool:
        """Stop it; return whether it is stopped. Raises: DriverError."""


def open_watchdog(mode: WatchdogMode, path: str = DEFAULT_PATH) -> Watchdog:
    """The driver for ``mode`` and what is at ``path``; opens and arms nothing.

    A character device is a real watchdog; a socket or a regular file records what would be done
    (laboratory and tests). Raises: ConfigError if one is required and there is none.
    """
    if mode is WatchdogMode.OFF:
        return OffWatchdog()
    try:
        kind = os.stat(path).st_mode
    except OSError as error:
        if mode is WatchdogMode.AUTO:
            return OffWatchdog()
        raise ConfigError(
            f"The watchdog is required, but {path} cannot be used: {error.strerror}.",
            "Load the driver of the machine's watchdog, or softdog, or set it to auto or off.",
            code="MSE-WDG-001",
        ) from error
    if stat.S_ISCHR(kind):
        return LinuxWatchdog(path)
    if stat.S_ISSOCK(kind) or stat.S_ISREG(kind):
        return RecordingWatchdog(path)
    raise DriverError(
        f"{path} is neither a watchdog device nor a file that records one.",
        "Set the watchdog's path to /dev/watchdog, or turn it off.",
        code="MSE-WDG-002",
        is_retryable=False,
    )
