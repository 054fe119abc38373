"""Wrong guesses: after a few, a name or an address has to wait. Pure; time is passed in.

A name waits everywhere but at places where its owner was let in before: or anybody who knows the
name could keep its owner out, with a few guesses every quarter of an hour.
"""

import ipaddress
import threading
from collections import OrderedDict
from dataclasses import dataclass

KEPT_MAX = 10_000
"""So many names and addresses are remembered; the longest unseen is forgotten first."""
NAME_MAX = 64
"""No user's name is longer, so no more of one is remembered."""


def name_key(name: str) -> str:
    """What guesses for a user are counted under."""
    return f"user:{name.lower()[:NAME_MAX]}"


def place_key(address: str) -> str:
    """What guesses from somewhere are counted under: an IPv4 address, or the /64 of an IPv6 one,
    of which a single machine has every address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return f"from:{address[:NAME_MAX]}"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return f"from:{found.ipv4_mapped}"
        return f"from:{ipaddress.ip_network((found, 64), strict=False)}"
    return f"from:{found}"


def here_key(name: str, place: str) -> str:
    """What guesses for a user from somewhere are counted under; both are keys."""
    return f"here:{name} {place}"


@dataclass(slots=True)
class _Tries:
    count: int = 0
    last_s: float = 0.0
    is_told: bool = False


class Lockout:
    """Counts wrong guesses for each key (``user:anna``, ``from:10.0.0.7``); safe in threads."""

    def __init__(self, tries_max: int, wait_s: float) -> None:
        self._tries_max = tries_max
        self._wait_s = wait_s
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, key: str, now_s: float) -> float:
        """How long this key has to wait yet; 0.0 if it may try."""
        with self._lock:
            tries = self._tries.get(key)
            if tries is None or tries.count < self._tries_max:
                return 0.0
            return max(0.0, tries.last_s + self._wait_s - now_s)

    def wrong(self, key: str, now_s: float) -> None:
        """A guess was wrong."""
        with self._lock:
            tries = self._tries.pop(key, _Tries())
            if now_s - tries.last_s >= self._wait_s:
                tries = _Tries()
            tries.count += 1
            tries.last_s = now_s
            self._tries[key] = tries
            while len(self._tries) > KEPT_MAX:
                self._tries.popitem(last=False)

    def is_news(self, key: str) -> bool:
        """Whether this wait has not been told of yet: true once for each."""
        with self._lock:
            tries = self._tries.get(key)
            if tries is None or tries.is_told:
                return False
            tries.is_told = True
            return True

    def right(self, key: str) -> None:
        """A guess was right: the count begins anew."""
        with self._lock:
            self._tries.pop(key, None)

    def pardon(self, name: str) -> None:
        """Nobody waits any more for guesses at this name (a key): neither it, nor the places where
        somebody guessed. An administrator has seen to it."""
        with self._lock:
            self._tries.pop(name, None)
            beginning = here_key(name, "")
            for key in [key for key in self._tries if key.startswith(beginning)]:
                self._tries.pop(key)
                self._tries.pop(key.removeprefix(beginning), None)

    def know(self, name: str, place: str) -> None:
        """The owner of a name was let in at a place (keys of both)."""
        with self._lock:
            self._known.pop((name, place), None)
            self._known[name, place] = None
            while len(self._known) > KEPT_MAX:
                self._known.popitem(last=False)

    def is_known(self, name: str, place: str) -> bool:
        """Whether the owner of a name was let in at a place before."""
        with self._lock:
            return (name, place) in self._known
