"""How many wrong guesses are forgiven: growing waits for an address and for a user. Pure.

Only this process's memory keeps them: who can restart it is root already. The memory is bounded;
when it is full the entry that matters least makes room.
"""

import ipaddress
from collections import OrderedDict
from typing import NamedTuple

ADDRESS_FREE = 5
ADDRESS_MAX_S = 900.0
USER_FREE = 20
USER_MAX_S = 60.0
"""Short, or anybody could keep an administrator out; long enough that guessing is hopeless."""
FIRST_S = 1.0
FORGET_AFTER_S = 3600.0
MAX_ENTRIES = 1024


class _Entry(NamedTuple):
    wrong: int
    refused_until_s: float
    last_s: float


def wait_s(wrong: int, free: int, max_s: float) -> float:
    """The wait after so many wrong guesses in a row: nothing, then 1 s, 2 s, 4 s …"""
    if wrong < free:
        return 0.0
    return min(FIRST_S * 2.0 ** min(wrong - free, 32), max_s)


def address_key(address: str) -> str:
    """What counts as one place: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def _place(address: str, user: str) -> tuple[str, str]:
    """Tokens (``user`` '') are counted apart: a program whose token has ended goes on asking, and
    must not keep out who comes from the same address with a password to give it another."""
    return ("address" if user else "token", address_key(address))


class Guesses:
    """The memory of wrong guesses, for a user's password or (``user`` '') a token.

    ``now_s``: seconds of a clock that never goes back.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def refused_s(self, address: str, user: str, now_s: float) -> float:
        """How long guesses from there, or for this user, are still refused; 0 if they are not."""
        keys = (_place(address, user), ("user", user))
        until_s = [self._entries[key].refused_until_s for key in keys if key in self._entries]
        return max([until - now_s for until in until_s] + [0.0])

    def wrong(self, address: str, user: str, now_s: float) -> float:
        """A guess was wrong; the wait that begins with it (0 while it is forgiven)."""
        waits = [self._count(_place(address, user), ADDRESS_FREE, ADDRESS_MAX_S, now_s)]
        if user:
            waits.append(self._count(("user", user), USER_FREE, USER_MAX_S, now_s))
        return max(waits)

    def right(self, address: str, user: str) -> None:
        """A guess was right: what went wrong there before is forgotten."""
        self._entries.pop(_place(address, user), None)
        self._entries.pop(("user", user), None)

    def _count(self, key: tuple[str, str], free: int, max_s: float, now_s: float) -> float:
        entry = self._entries.pop(key, _Entry(0, 0.0, now_s))
        wrong = 1 if now_s - entry.last_s > FORGET_AFTER_S else entry.wrong + 1
        wait = wait_s(wrong, free, max_s)
        self._make_room(now_s)
        self._entries[key] = _Entry(wrong, now_s + wait, now_s)
        return wait

    def _make_room(self, now_s: float) -> None:
        if len(self._entries) < self._max_entries:
            return
        open_now = [k for k, entry in self._entries.items() if entry.refused_until_s <= now_s]
        victim = open_now[0] if open_now else next(iter(self._entries))
        del self._entries[victim]
