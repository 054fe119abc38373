"""When a certificate is to be renewed. Pure; instants are seconds of the calendar clock."""

from typing import NamedTuple

DAY_S = 86_400
LEAF_LIFETIME_S = 365 * DAY_S
AUTHORITY_LIFETIME_S = 20 * 365 * DAY_S


class Due(NamedTuple):
    """Whether to renew now, and what to tell people."""

    is_due: bool
    is_expired: bool
    remaining_s: float


def renewal_due(not_after_s: float, now_s: float, lifetime_s: float = LEAF_LIFETIME_S) -> Due:
    """Due once two thirds of the lifetime are over.

    Counted from the end: certificates are valid from long before they were made, so that a
    clock that is behind does not break them.
    """
    remaining_s = not_after_s - now_s
    return Due(remaining_s <= lifetime_s / 3, remaining_s <= 0, remaining_s)
