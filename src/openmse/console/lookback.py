"""What has been, for pages and the API alike: events by filters, as files, and the timeline."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from openmse.console.errors import FormError
from openmse.console.live.timeline import Bar, Move, bars, timeline
from openmse.console.store.past import Event, EventQuery, Past

SPANS = {"15m": 900, "1h": 3600, "24h": 86400, "7d": 7 * 86400, "30d": 30 * 86400}
"""Seconds, by the names that pages and the API have for them."""
COLUMNS = ("at", "node", "severity", "kind", "sentence", "term", "epoch")
"""Of an event, as files have them."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Beginnings that a spreadsheet may take for a command; a Japanese one the wide ones, too."""
FILE_EVENTS_MAX = 10_000
MOVES_MAX = 50


def since_of(span: str) -> str:
    """The instant at which a span began that ends now; '' for none and for unknown ones."""
    seconds = SPANS.get(span, 0)
    moment = datetime.now(UTC) - timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds") if seconds else ""


def instant_of(name: str, text: str) -> str:
    """An instant as the store has it, which compares instants as text; '' stays ''.

    Raises: FormError with the field's ``name`` where it is no instant of ISO 8601.
    """
    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        sentence = "An instant such as 2026-01-31T03:00:00Z; without a zone it is UTC."
        raise FormError({name: sentence}) from error
    return moment.isoformat(timespec="milliseconds")


def event_row(event: Event) -> dict[str, Any]:
    """An event by its columns."""
    return {name: getattr(event, name) for name in COLUMNS}


def as_json(events: list[Event]) -> str:
    """For programs."""
    rows = [event_row(event) for event in events]
    return json.dumps({"events": rows}, ensure_ascii=False, indent=1)


def as_csv(events: list[Event]) -> str:
    """For spreadsheets."""
    return table(COLUMNS, events)


def table(columns: Sequence[str], rows: Iterable[object]) -> str:
    """Rows as CSV; a cell that a spreadsheet would read as a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        cells = [str(getattr(row, name)) for name in columns]
        writer.writerow([f"'{c}" if c[:1] in FORMULA else c for c in cells])
    return out.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPast:
    """Who owned a pair in a span, what went wrong, and each move with its phases."""

    span: str
    since: str
    until: str
    bars: tuple[Bar, ...]
    """Who owned when, oldest first."""
    faults: tuple[Event, ...]
    """Within the span, oldest first."""
    moves: tuple[Move, ...]
    """The newest ones, newest first, also from before the span."""


def past_of(past: Past, engine_ids: tuple[int, ...], span: str) -> PairPast:
    """The past of a pair, up to now; an unknown ``span`` is the fitting one. Blocking."""
    until = datetime.now(UTC)
    events = past.events(EventQuery(engine_ids=engine_ids, limit=FILE_EVENTS_MAX))
    if span not in SPANS:
        span = fitting_span(events, until)
    since = (until - timedelta(seconds=SPANS[span])).isoformat(timespec="milliseconds")
    end = until.isoformat(timespec="milliseconds")
    found = timeline(events)
    return PairPast(
        span=span,
        since=since,
        until=end,
        bars=bars(found.reigns, since, end),
        faults=tuple(event for event in found.faults if event.at >= since),
        moves=tuple(reversed(found.moves))[:MOVES_MAX],
    )


def fitting_span(events: list[Event], until: datetime) -> str:
    """The shortest span that shows the whole past of a young pair; else a day. Pure."""
    oldest = min((event.at for event in events), default="")
    for name, seconds in sorted(SPANS.items(), key=lambda item: item[1]):
        since = (until - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
        if seconds <= SPANS["24h"] and since <= oldest:
            return name
    return "24h"
