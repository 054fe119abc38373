"""Wrong guesses: after a few, a name or an address has to wait. Pure; time is passed in."""

from collections import OrderedDict
from dataclasses import dataclass

KEPT_MAX = 10_000
"""So many names and addresses are remembered; the longest unseen is forgotten first."""


@dataclass(slots=True)
class _Tries:
    count: int = 0
    last_s: float = 0.0


class Lockout:
    """Counts wrong guesses for each key (``user:anna``, ``from:10.0.0.7``)."""

    def __init__(self, tries_max: int, wait_s: float) -> None:
        self._tries_max = tries_max
        self._wait_s = wait_s
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def wait_s(self, key: str, now_s: float) -> float:
        """How long this key has to wait yet; 0.0 if it may try."""
        tries = self._tries.get(key)
        if tries is None or tries.count < self._tries_max:
            return 0.0
        return max(0.0, tries.last_s + self._wait_s - now_s)

    def wrong(self, key: str, now_s: float) -> None:
        """A guess was wrong."""
        tries = self._tries.pop(key, _Tries())
        if now_s - tries.last_s >= self._wait_s:
            tries = _Tries()
        tries.count += 1
        tries.last_s = now_s
        self._tries[key] = tries
        while len(self._tries) > KEPT_MAX:
            self._tries.popitem(last=False)

    def right(self, key: str) -> None:
        """A guess was right: the count begins anew."""
        self._tries.pop(key, None)
