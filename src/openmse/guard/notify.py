"""Tells systemd that the guard lives, where the unit asks for it (``WatchdogSec=``).

The protocol is sd_notify(3): a datagram to the socket in ``NOTIFY_SOCKET``. Who watches the watcher
must not be able to hold it up: the socket never blocks, and what cannot be sent is not sent.
"""

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress

_BEAT = b"WATCHDOG=1"
NEVER = 2**62


class Notifier:
    """Sends a beat each third of the time after which systemd would act; without systemd, none."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Take the addresses out of ``environment``: what the guard starts is not watched."""
        address = environment.pop("NOTIFY_SOCKET", "")
        limit_us = environment.pop("WATCHDOG_USEC", "")
        watched = environment.pop("WATCHDOG_PID", str(os.getpid()))
        is_asked = limit_us.isdecimal() and int(limit_us) > 0 and watched == str(os.getpid())
        self._socket: socket.socket | None = None
        self._every_ns = 0
        self.due_at = NEVER
        """When to call ``beat`` next (the clock of its ``now``, ns)."""
        if is_asked and address[:1] in ("/", "@"):
            self._address = "\0" + address[1:] if address[0] == "@" else address
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)
            self._every_ns = int(limit_us) * 1000 // 3
            self.due_at = 0

    def beat(self, now: int) -> None:
        """Send one if it is due."""
        if self._socket is None or now < self.due_at:
            return
        self.due_at = now + self._every_ns
        with suppress(OSError):
            self._socket.sendto(_BEAT, self._address)
