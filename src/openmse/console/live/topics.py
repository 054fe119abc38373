"""The topics that pages follow, and how each is rendered; pages begin with the same cells."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from openmse.console.errors import NotFound
from openmse.console.live.actions import Actions
from openmse.console.live.fleet import Fleet, newest
from openmse.console.live.newcomer import newcomer
from openmse.console.live.overview import Ranked, rank_of
from openmse.console.live.pairs import Pair, PairView, pair_of, pair_view, pairs_of
from openmse.console.live.specials import specials
from openmse.console.live.state import EngineLive
from openmse.console.live.views import EngineView, engine_view
from openmse.console.rendering import Templates
from openmse.console.store.past import Action, Event

KEPT_MAX = 8192
"""Rendered rows that are kept, in all languages together."""
DIGITS_MAX = 18
ROWS_MAX = 100


class Topics:
    """Renderers for the hub, and for the pages."""

    def __init__(self, templates: Templates, fleet: Fleet, actions: Actions) -> None:
        self._templates = templates
        self._fleet = fleet
        self._actions = actions
        self._views: dict[int, tuple[object, EngineView]] = {}
        self._ranks: dict[int, tuple[object, int]] = {}
        self._rows: dict[tuple[str, int, str], _Kept] = {}

    def renderers(self) -> Mapping[str, Callable[[str, str], Mapping[str, str]]]:
        """By kind of topic."""
        return {
            "rows": self.rows,
            "engine": self.engine,
            "pair": self.pair,
            "pairs": self.pairs,
            "chart": self.chart,
            "action": self.action,
        }

    def rows(self, ids: str, language: str) -> Mapping[str, str]:
        """Cells of the engines list: ``1-5-9``."""
        cells: dict[str, str] = {}
        for engine_id in _numbers(ids):
            cells |= self.row(engine_id, language)
        return cells

    def view(self, live: EngineLive, now_s: float) -> EngineView:
        """The view of an engine for lists; made again only when something of it has changed. Its
        ages are as old as a second."""
        stamp = live.stamp(now_s)
        kept = self._views.get(live.engine.id)
        if kept is None or kept[0] != stamp:
            if len(self._views) > KEPT_MAX:
                self._views.clear()  # of engines that are long deleted, too
            kept = self._views[live.engine.id] = (stamp, engine_view(live, now_s))
        return kept[1]

    def row(self, engine_id: int, language: str) -> Mapping[str, str]:
        """Cells of one row; rendered again only when it shows something else."""
        now_s = time.monotonic()
        live = self._fleet.get(engine_id)

        def look() -> tuple[object, Callable[[], Mapping[str, str]]]:
            view = self.view(live, now_s)
            shown = (*(getattr(view, name) for name in _SHOWN), _age(view.is_fresh, view.age_s))
            return shown, lambda: self._prefixed(
                f"e{engine_id}", "cells/row.html", language, {"v": view}
            )

        return self._kept(("row", engine_id, language), live.stamp(now_s), look)

    def pair_row(self, pair: Pair, language: str) -> Mapping[str, str]:
        """Cells of one pair in the overview; the same."""
        now_s = time.monotonic()

        def look() -> tuple[object, Callable[[], Mapping[str, str]]]:
            view = pair_view(pair, now_s)
            shown = (
                *(getattr(view, name) for name in _PAIR_SHOWN),
                _age(view.is_fresh, view.age_s),
            )
            return shown, lambda: self._prefixed(
                f"p{pair.id}", "cells/pair_row.html", language, {"p": view}
            )

        stamps = tuple(live.stamp(now_s) for live in pair.lives)
        return self._kept(("pair", pair.id, language), stamps, look)

    def ranked(self) -> list[Ranked]:
        """Every pair with how pressing it is, which is looked at again only when something of it
        has changed."""
        now_s, found = time.monotonic(), []
        if len(self._ranks) > KEPT_MAX:
            self._ranks.clear()  # of pairs that are long gone, too
        for pair in pairs_of(self._fleet.all()):
            stamp = tuple(live.stamp(now_s) for live in pair.lives)
            kept = self._ranks.get(pair.id)
            if kept is None or kept[0] != stamp:
                kept = self._ranks[pair.id] = (stamp, rank_of(pair_view(pair, now_s)))
            found.append(Ranked(pair, kept[1]))
        return found

    def _kept(
        self,
        key: tuple[str, int, str],
        stamp: object,
        look: Callable[[], tuple[object, Callable[[], Mapping[str, str]]]],
    ) -> Mapping[str, str]:
        """The cells that are kept while ``stamp``, or else what is shown, stays as it was."""
        kept = self._rows.get(key)
        if kept is not None and kept.stamp == stamp:
            return kept.cells
        shown, render = look()
        cells = kept.cells if kept is not None and kept.shown == shown else render()
        if len(self._rows) > KEPT_MAX:
            self._rows.clear()
        self._rows[key] = _Kept(stamp, shown, cells)
        return cells

    def engine(self, engine_id: str, language: str) -> Mapping[str, str]:
        """Cells of an engine's own page."""
        live = self._fleet.get(_number(engine_id))
        pair = pair_of(self._fleet.all(), live.engine.id)
        values = {"v": engine_view(live, time.monotonic()), "live": live, "pair": pair}
        return self._prefixed("engine", "cells/engine.html", language, values)

    def pair(self, engine_id: str, language: str) -> Mapping[str, str]:
        """Cells of a pair's status page."""
        pair = pair_of(self._fleet.all(), _number(engine_id))
        if pair is None:
            return {}
        self._watch(pair)
        view = pair_view(pair, time.monotonic())
        running = self._actions.running_of(pair.engine_ids)
        values = {
            "p": view,
            "pair": pair,
            "running": running,
            "rare": specials(view, is_busy=running is not None),
            "events": latest_events(pair),
            "newcomer": newcomer(view, self._fleet.all(), time.time()),
        }
        cells = self._prefixed("pair", "cells/pair.html", language, values)
        if any(live.latest is None for live in pair.lives):
            del cells["pair-events"]  # not read yet: a page that shows some keeps them
        return cells

    def pairs(self, ids: str, language: str) -> Mapping[str, str]:
        """Cells of the overview of pairs: ``1-5-9``."""
        wanted = set(_numbers(ids))
        cells: dict[str, str] = {}
        for pair in pairs_of(self._fleet.all()):
            if pair.id in wanted:
                cells |= self.pair_row(pair, language)
        return cells

    def chart(self, engine_id: str, _language: str) -> Mapping[str, str]:
        """The newest point of a pair's charts."""
        pair = pair_of(self._fleet.all(), _number(engine_id))
        samples = chart_points(pair, time.monotonic()) if pair else []
        if not samples:
            return {}
        at, trip, lag = samples[-1]
        return {"json": json.dumps({"at": at, "trip": trip, "lag": lag})}

    def action(self, action_id: str, language: str) -> Mapping[str, str]:
        """Cells of a long action's page."""
        return self.action_cells(self._actions.at_hand(action_id), language)

    def action_cells(self, action: Action, language: str) -> Mapping[str, str]:
        """The same of an action that was read already."""
        return self._prefixed("action", "cells/action.html", language, {"a": action})

    def pair_of(self, engine_id: int) -> tuple[Pair, PairView] | None:
        """A pair with its view, for pages."""
        pair = pair_of(self._fleet.all(), engine_id)
        if pair is None:
            return None
        self._watch(pair)
        return pair, pair_view(pair, time.monotonic())

    def _watch(self, pair: Pair) -> None:
        for engine_id in pair.engine_ids:
            self._fleet.watch(engine_id)

    def _prefixed(
        self, prefix: str, template: str, language: str, values: Mapping[str, object]
    ) -> dict[str, str]:
        cells = self._templates.cells(template, language, values)
        return {f"{prefix}-{name}": html for name, html in cells.items()}


def _number(text: str) -> int:
    """The id in a topic, which is a browser's word; raises NotFound where it can be none."""
    if not text.isdecimal() or len(text) > DIGITS_MAX or text != str(int(text)):
        raise NotFound("There is no such engine in this console.")
    return int(text)


def _numbers(text: str) -> list[int]:
    """The ids in a topic of a list; raises NotFound also where they are more than a page has."""
    parts = text.split("-")
    if len(parts) > ROWS_MAX:
        raise NotFound("There is no such engine in this console.")
    return [_number(part) for part in parts]


def latest_events(pair: Pair) -> list[Event]:
    """The newest of both engines, newest first. Pure."""
    return newest([event for live in pair.lives for event in live.latest or ()])


def chart_points(pair: Pair, now_s: float) -> list[tuple[int, float | None, int | None]]:
    """The points of a pair's charts: as the owner measured them, else the first engine heard."""
    view = pair_view(pair, now_s)
    live = pair.of_node(view.owner) or next(
        (one for one in pair.lives if one.is_fresh(now_s)), pair.first
    )
    return [(s.at_ms, s.round_trip_ms, s.lag_bytes) for s in live.samples]


@dataclass(slots=True)
class _Kept:
    """Cells as they were rendered last, and of what."""

    stamp: object
    shown: object
    cells: Mapping[str, str]


def _age(is_fresh: bool, age_s: float) -> int:
    """Ages count by the second, where they are shown."""
    return -1 if is_fresh else int(age_s)


_SHOWN = ("engine", "reach", "is_fresh", "error", "state", "peer", "address", "version",
          "services", "is_owner", "alarm")  # fmt: skip
_PAIR_SHOWN = ("owner", "summary", "heartbeats", "replication", "progress_percent",
               "witness", "round_trip_ms", "is_fresh", "alarm")  # fmt: skip
