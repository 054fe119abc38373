"""Two copies of the group's licences made one: the later change of each licence counts. Pure.

Applied on both nodes in any order and any number of times, both come to hold the same.
"""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from openmse.platform.store import Line


class Row(Struct, frozen=True):
    """One licence as a copy has it; ``text`` is the signed file, empty once removed."""

    text: bytes
    line: Line


Rows = Mapping[str, Row]
"""By licence id."""


def merged(first: Rows, second: Rows) -> dict[str, Row]:
    """What both together know."""
    return {
        identity: _later(first.get(identity), second.get(identity))
        for identity in sorted(first.keys() | second.keys())
    }


def missing(rows: Rows, wanted: Rows) -> dict[str, Row]:
    """What ``rows`` lacks of ``wanted``, or has otherwise."""
    return {identity: row for identity, row in wanted.items() if rows.get(identity) != row}


def _later(one: Row | None, other: Row | None) -> Row:
    if one is None or other is None:
        found = one or other
        assert found is not None
        return found
    later = max(one, other, key=_order)
    first = min(one.line.first_installed, other.line.first_installed)
    return replace(later, line=replace(later.line, first_installed=first))


def _order(row: Row) -> tuple[str, bool, bytes]:
    """Of two changes at one instant a removal counts."""
    return row.line.changed_at, row.line.is_removed, row.text
