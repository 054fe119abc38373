"""A watchdog that resets nothing: it writes down what a real one would have been told.

For the laboratory, where a supervisor plays the hardware, and for tests. Also the one for "off".
"""

import json
import math
import os
import socket
import stat
import time

from openmse.errors import DriverError


class OffWatchdog:
    """No watchdog: everything is accepted and nothing happens."""

    is_available = False
    is_armed = False

    def arm(self, timeout_s: float) -> float:
        """Nothing; the time-out asked for."""
        return timeout_s

    def feed(self) -> None:
        """Nothing."""

    def disarm(self) -> bool:
        """Nothing: it was never armed."""
        return True


class RecordingWatchdog:
    """Sends each call as one JSON line to a datagram socket, or appends it to a file.

    Lines: ``{"at_ns", "pid", "do": "arm"|"feed"|"disarm", "timeout_s"}``; CLOCK_BOOTTIME.
    """

    def __init__(self, path: str) -> None:
        """Prepare; ``path`` must exist when it is armed."""
        self._path = path
        self._timeout_s = 0.0
        self.is_armed = False

    @property
    def is_available(self) -> bool:
        """Whether there is something that takes the record."""
        return os.path.exists(self._path)

    def arm(self, timeout_s: float) -> float:
        """Record it; whole seconds as with a real one. Raises: DriverError."""
        self._timeout_s = float(max(1, math.floor(timeout_s)))
        self._record("arm")
        self.is_armed = True
        return self._timeout_s

    def feed(self) -> None:
        """Record it if armed. Raises: DriverError."""
        if self.is_armed:
            self._record("feed")

    def disarm(self) -> bool:
        """Record it if armed. Raises: DriverError."""
        if self.is_armed:
            self.is_armed = False
            self._record("disarm")
        return True

    def _record(self, what: str) -> None:
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        entry = {"at_ns": now, "pid": os.getpid(), "do": what, "timeout_s": self._timeout_s}
        line = json.dumps(entry).encode() + b"\n"
        try:
            if stat.S_ISSOCK(os.stat(self._path).st_mode):
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                    sender.setblocking(False)
                    sender.sendto(line, self._path)
            else:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
                try:
                    os.write(descriptor, line)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise DriverError(
                f"The watchdog's record {self._path} cannot be written: {error.strerror}.",
                "This stands in for a real watchdog; see who removed it.",
                code="MSE-WDG-003",
            ) from error
