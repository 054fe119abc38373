"""/dev/watchdog: ioctls for the time-out and feeding, and the magic close.

Source: Documentation/watchdog/watchdog-api.rst, linux/watchdog.h.
"""

import fcntl
import math
import os
import struct
from contextlib import suppress

from openmse.errors import DriverError

_SET_TIMEOUT = 0xC0045706
_KEEP_ALIVE = 0x80045705
_MAGIC_CLOSE = b"V"


class LinuxWatchdog:
    """One watchdog device. Opening it starts its timer, so it is opened when armed.

    If this process dies while armed the device goes on counting: that is its purpose. A restarted
    health monitor that adopts as an owner in SYNC arms it again, and so takes the feeding over.
    """

    def __init__(self, path: str) -> None:
        """Prepare; touches nothing."""
        self._path = path
        self._descriptor: int | None = None
        self._timeout_s = 0

    @property
    def is_available(self) -> bool:
        """Whether the device exists."""
        return os.path.exists(self._path)

    @property
    def is_armed(self) -> bool:
        """Whether its timer runs."""
        return self._descriptor is not None

    def arm(self, timeout_s: float) -> float:
        """Start it, or change its time-out; whole seconds, rounded down, at least one.

        Raises: DriverError if the device cannot be had, or insists on a longer time-out than
        asked for: it would fire only after the lease had ended.
        """
        seconds = max(1, math.floor(timeout_s))
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
                self._timeout_s = 0
            if seconds != self._timeout_s:
                answer = fcntl.ioctl(self._descriptor, _SET_TIMEOUT, struct.pack("@i", seconds))
                self._timeout_s = struct.unpack("@i", answer)[0]
            fcntl.ioctl(self._descriptor, _KEEP_ALIVE, struct.pack("@i", 0))
        except OSError as error:
            with suppress(DriverError):
                self.disarm()
            raise _failed("armed", self._path, error) from error
        if self._timeout_s > seconds:
            granted = self._timeout_s
            self.disarm()
            raise DriverError(
                f"The watchdog {self._path} fires after {granted} s at the earliest, but the lease "
                f"ends after {timeout_s:g} s.",
                "Raise the failover wait, use another watchdog driver, or turn it off.",
                code="MSE-WDG-004",
                is_retryable=False,
            )
        return float(self._timeout_s)

    def feed(self) -> None:
        """Postpone the reset. Raises: DriverError."""
        if self._descriptor is None:
            return
        try:
            fcntl.ioctl(self._descriptor, _KEEP_ALIVE, struct.pack("@i", 0))
        except OSError as error:
            raise _failed("fed", self._path, error) from error

    def disarm(self) -> bool:
        """Stop its timer by the magic close; return whether it could be stopped.

        A driver with "no way out" is kept open instead, so that it can still be fed.
        Raises: DriverError.
        """
        if self._descriptor is None:
            return True
        if self._has_no_way_out():
            return False
        descriptor, self._descriptor = self._descriptor, None
        try:
            os.write(descriptor, _MAGIC_CLOSE)
        except OSError as error:
            raise _failed("stopped", self._path, error) from error
        finally:
            os.close(descriptor)
        return True

    def _has_no_way_out(self) -> bool:
        """What the kernel says of this device; unknown counts as stoppable."""
        assert self._descriptor is not None
        device = os.fstat(self._descriptor).st_rdev
        # /dev/watchdog itself is a "misc" device: an alias of watchdog0.
        name = f"/sys/dev/char/{os.major(device)}:{os.minor(device)}"
        for path in (f"{name}/nowayout", "/sys/class/watchdog/watchdog0/nowayout"):
            try:
                with open(path, encoding="ascii") as file:
                    return file.read().strip() == "1"
            except OSError:
                continue
        return False


def _failed(what: str, path: str, error: OSError) -> DriverError:
    return DriverError(
        f"The watchdog {path} could not be {what}: {error.strerror}.",
        "See whether another program holds it (systemd's RuntimeWatchdogSec does).",
        code="MSE-WDG-003",
    )
