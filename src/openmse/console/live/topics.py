"""The topics that pages follow, and how each is rendered; pages begin with the same cells."""

import json
import time
from collections.abc import Callable, Mapping

from openmse.console.live.actions import Actions
from openmse.console.live.fleet import Fleet
from openmse.console.live.pairs import Pair, PairView, pair_of, pair_view
from openmse.console.live.views import EngineView, engine_view
from openmse.console.rendering import Templates


class Topics:
    """Renderers for the hub, and for the pages."""

    def __init__(self, templates: Templates, fleet: Fleet, actions: Actions) -> None:
        self._templates = templates
        self._fleet = fleet
        self._actions = actions
        self._rows: dict[tuple[int, str], tuple[EngineView, Mapping[str, str]]] = {}

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
        for engine_id in ids.split("-"):
            if engine_id.isdigit():
                cells |= self.row(int(engine_id), language)
        return cells

    def row(self, engine_id: int, language: str) -> Mapping[str, str]:
        """Cells of one row; rendered again only when it shows something else."""
        view = engine_view(self._fleet.get(engine_id), time.monotonic())
        key = (engine_id, language)
        kept = self._rows.get(key)
        if kept is not None and _same_row(kept[0], view):
            return kept[1]
        cells = self._prefixed(f"e{engine_id}", "cells/row.html", language, {"v": view})
        self._rows[key] = (view, cells)
        return cells

    def engine(self, engine_id: str, language: str) -> Mapping[str, str]:
        """Cells of an engine's own page."""
        live = self._fleet.get(int(engine_id))
        values = {"v": engine_view(live, time.monotonic()), "live": live}
        return self._prefixed("engine", "cells/engine.html", language, values)

    def pair(self, engine_id: str, language: str) -> Mapping[str, str]:
        """Cells of a pair's status page."""
        pair = pair_of(self._fleet.all(), int(engine_id))
        if pair is None:
            return {}
        self._watch(pair)
        view = pair_view(pair, time.monotonic())
        running = self._actions.running_of(pair.engine_ids)
        values = {"p": view, "pair": pair, "running": running}
        return self._prefixed("pair", "cells/pair.html", language, values)

    def pairs(self, _argument: str, language: str) -> Mapping[str, str]:
        """Cells of the overview of pairs."""
        from openmse.console.live.pairs import pairs_of

        cells: dict[str, str] = {}
        for pair in pairs_of(self._fleet.all()):
            values = {"p": pair_view(pair, time.monotonic())}
            cells |= self._prefixed(f"p{pair.id}", "cells/pair_row.html", language, values)
        return cells

    def chart(self, engine_id: str, _language: str) -> Mapping[str, str]:
        """The newest point of a pair's charts."""
        pair = pair_of(self._fleet.all(), int(engine_id))
        samples = chart_points(pair, time.monotonic()) if pair else []
        if not samples:
            return {}
        at, trip, lag = samples[-1]
        return {"json": json.dumps({"at": at, "trip": trip, "lag": lag})}

    def action(self, action_id: str, language: str) -> Mapping[str, str]:
        """Cells of a long action's page."""
        action = self._actions.get(action_id)
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


def chart_points(pair: Pair, now_s: float) -> list[tuple[int, float | None, int | None]]:
    """The points of a pair's charts: as the owner measured them, else the first engine heard."""
    view = pair_view(pair, now_s)
    live = pair.of_node(view.owner) or next(
        (one for one in pair.lives if one.is_fresh(now_s)), pair.first
    )
    return [(s.at_ms, s.round_trip_ms, s.lag_bytes) for s in live.samples]


def _same_row(a: EngineView, b: EngineView) -> bool:
    """Whether two views look the same in the list; ages count by the second where shown."""
    if not (a.is_fresh and b.is_fresh) and int(a.age_s) != int(b.age_s):
        return False
    return all(getattr(a, name) == getattr(b, name) for name in _SHOWN)


_SHOWN = ("engine", "reach", "is_fresh", "error", "state", "peer", "address", "version",
          "services", "is_owner")  # fmt: skip
