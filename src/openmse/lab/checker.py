"""Judges a run: was anything acknowledged lost, shown and lost, or written twice?

Pure: takes what the clients noted (their ledgers) and the rows the final owner has.
Invariants I1 and I8 of the protocol: every acknowledged write is in the final owner; what was
never answered may be there or not; what was refused must not be there; no row is there twice; the
server's own count of a later acknowledged write is the higher one; and a row that any read
through the virtual IP showed is still there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from openmse.lab.ledger import (
    Acknowledged,
    Connected,
    Entry,
    Refused,
    Seen,
    Unknown,
)

NAMED = 10
"""How many rows a sentence names before it only counts."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the final owner has it."""

    id: int
    serial: int


@dataclass(slots=True)
class Account:
    """What one client noted, sorted by kind."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    connected: list[Connected] = field(default_factory=list)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Account":
        """Sort a ledger's entries."""
        account = cls()
        for entry in entries:
            match entry:
                case Acknowledged():
                    account.acknowledged.append(entry)
                case Unknown():
                    account.unknown.append(entry)
                case Refused():
                    account.refused.append(entry)
                case Seen():
                    account.seen.append(entry)
                case Connected():
                    account.connected.append(entry)
        return account

    @property
    def acknowledged_at(self) -> list[int]:
        """The instants of the acknowledgements, in order."""
        return [entry.at for entry in self.acknowledged]

    @property
    def warnings(self) -> int:
        """How many commits returned with a warning."""
        return sum(entry.is_warning for entry in self.unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result; ``violations`` are sentences, none of them means that all is well."""

    acknowledged: int
    unknown: int
    unknown_found: int
    refused: int
    warnings: int
    lost: tuple[int, ...]
    vanished: tuple[int, ...]
    """Rows that a read had shown and that are gone."""
    violations: tuple[str, ...]


def judge(writer: Account, rows: Sequence[Row], reader: Account | None = None) -> Verdict:
    """Compare what the clients noted with the rows of the final owner."""
    counts = Counter(row.id for row in rows)
    lost = tuple(e.id for e in writer.acknowledged if e.id not in counts)
    shown = {number for entry in (reader.seen if reader else ()) for number in entry.ids}
    vanished = tuple(sorted(shown - counts.keys()))
    violations = [
        *_say(lost, "was acknowledged and is not in the final owner"),
        *_say(vanished, "was read through the virtual IP and is gone"),
        *_say([i for i, n in counts.items() if n > 1], "is there more than once"),
        *_say([e.id for e in writer.refused if e.id in counts], "was refused and is there"),
        *_say(_strangers(writer, counts), "is there and was never sent"),
        *_say(_out_of_order(writer.acknowledged), "got a lower number than a write before it"),
        *_say(_renumbered(writer.acknowledged, rows), "has another number than was acknowledged"),
    ]
    return Verdict(
        acknowledged=len(writer.acknowledged),
        unknown=len(writer.unknown),
        unknown_found=sum(entry.id in counts for entry in writer.unknown),
        refused=len(writer.refused),
        warnings=writer.warnings,
        lost=lost,
        vanished=vanished,
        violations=tuple(violations),
    )


def _strangers(writer: Account, counts: Mapping[int, int]) -> list[int]:
    sent = {e.id for e in writer.acknowledged}
    sent |= {e.id for e in writer.unknown} | {e.id for e in writer.refused}
    return sorted(counts.keys() - sent)


def _out_of_order(acknowledged: Sequence[Acknowledged]) -> list[int]:
    pairs = pairwise(acknowledged)
    return [later.id for earlier, later in pairs if later.serial <= earlier.serial]


def _renumbered(acknowledged: Sequence[Acknowledged], rows: Sequence[Row]) -> list[int]:
    serials = {row.id: row.serial for row in rows}
    return [e.id for e in acknowledged if serials.get(e.id, e.serial) != e.serial]


def _say(numbers: Sequence[int], what: str) -> list[str]:
    if not numbers:
        return []
    named = ", ".join(str(number) for number in numbers[:NAMED])
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return [f"{len(numbers)} row(s) each of which {what}: {named}{more}."]
