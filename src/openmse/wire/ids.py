"""The form that the names of groups and parties may have, on every wire and in every file name.

Knows nothing of who is known: only what could be a name at all.
"""

import re

from openmse.errors import PeerError

MAX_ID_LENGTH = 63
"""Characters; short enough for a DNS label and for the fixed part of a datagram."""

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)


def is_id(text: str) -> bool:
    """Whether ``text`` may name a group or a party: 1 to 63 of A-Z a-z 0-9 ``_ . -``."""
    return _ID.fullmatch(text) is not None


def require_id(text: str, what: str) -> str:
    """``text`` itself; raises PeerError, naming ``what``, where it cannot be a name."""
    if not is_id(text):
        raise PeerError(
            f"The {what} is not a name: 1 to {MAX_ID_LENGTH} letters, digits, '_', '.' or '-', "
            "beginning and ending with a letter or a digit."
        )
    return text
