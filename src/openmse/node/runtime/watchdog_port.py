"""The watchdog as the core needs it: armed only while owner in SYNC, fed with the lease."""

from openmse.node.config import WatchdogMode, WatchdogSection


class WatchdogPort:
    """Arms, feeds and disarms the machine's watchdog; nothing at all where it is off."""

    def __init__(self, section: WatchdogSection) -> None:
        self._section = section
        self._is_armed = False

    @property
    def state(self) -> str:
        """For people: off, ready or armed."""
        if self._section.mode is WatchdogMode.OFF:
            return "off"
        return "armed" if self._is_armed else "ready"

    def want(self, is_armed: bool) -> None:
        """Arm or disarm."""
        self._is_armed = is_armed

    def feed(self) -> None:
        """Show that this node is alive and rightly serving."""
