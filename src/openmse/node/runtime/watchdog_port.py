"""The watchdog as the core needs it: armed only while owner in SYNC, fed with the lease."""

from collections.abc import Callable

from openmse.errors import DriverError
from openmse.ha.values import SECOND
from openmse.node.config import WatchdogSection
from openmse.node.drivers import watchdog


class WatchdogPort:
    """Arms, feeds and disarms the machine's watchdog; nothing at all where it is off.

    A failure is reported once and never raised: the layers below (kernel lease, guard, commit
    fence) hold without a watchdog.
    """

    def __init__(self, section: WatchdogSection, on_failure: Callable[[str], None]) -> None:
        """Choose the driver. Raises: ConfigError if one is required and there is none."""
        mode = watchdog.WatchdogMode(section.mode.value)
        self._driver = watchdog.open_watchdog(mode, section.device)
        self._on_failure = on_failure
        self._failure = ""
        self._is_wanted = False
        self._armed_for_ns = 0
        self._lease_ns = 4 * SECOND
        self._is_writing = True
        self._may_disarm = True

    @property
    def state(self) -> str:
        """For people: off, ready, armed or failed."""
        if not self._driver.is_available:
            return "off"
        if self._failure:
            return "failed"
        return "armed" if self._driver.is_armed else "ready"

    def observe(self, *, lease_ns: int, is_writing: bool, may_disarm: bool) -> None:
        """Take note of what matters here, after each step.

        ``lease_ns``: the lease at present settings, which the time-out must not exceed.
        ``is_writing``: whether the last write probe succeeded: without one it is not fed.
        ``may_disarm``: False while clients may still be served in SYNC without being wanted: then
        a stop that hangs ends with the machine's reset.
        """
        self._lease_ns, self._is_writing, self._may_disarm = lease_ns, is_writing, may_disarm
        if self._driver.is_armed and not self._is_wanted and may_disarm:
            self._attempt(self._driver.disarm)

    def want(self, is_armed: bool) -> None:
        """Arm; or disarm, as soon as that is safe."""
        self._is_wanted = is_armed
        if not self._driver.is_available and not self._driver.is_armed:
            return
        if is_armed:
            self._attempt(self._arm)
        elif self._may_disarm:
            self._attempt(self._driver.disarm)

    def feed(self) -> None:
        """A grant has come: show that this node is alive, if it also still takes writes."""
        if not self._is_wanted or not self._is_writing:
            return
        is_current = self._driver.is_armed and self._armed_for_ns == self._lease_ns
        self._attempt(self._driver.feed if is_current else lambda: self.want(True))

    def close(self) -> None:
        """Disarm: this life of the daemon ends in order, and the next one arms it anew."""
        self._may_disarm = True
        self.want(False)

    def _arm(self) -> None:
        self._driver.arm(self._lease_ns / SECOND)
        self._armed_for_ns = self._lease_ns

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except DriverError as error:
            if self._failure != error.sentence:
                self._failure = error.sentence
                self._on_failure(f"{error.sentence} {error.hint}")
            return
        self._failure = ""
