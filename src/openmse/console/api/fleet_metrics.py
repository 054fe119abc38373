"""``/metrics``: the fleet for Prometheus, under the role viewer (a token, say)."""

import time
from collections.abc import Iterable

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from openmse.console.api.described import SECURITY
from openmse.console.context import Console, console_of
from openmse.console.live.pairs import pair_view, pairs_of
from openmse.console.live.views import engine_view
from openmse.console.people.access import Viewer

router = APIRouter(tags=["metrics"], dependencies=SECURITY)
HEALTHS = ("ok", "warn", "bad", "running", "off")


@router.get("/metrics")
async def metrics(request: Request, _principal: Viewer) -> Response:
    """Engines and pairs as this console sees them; what is unknown has no sample."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(console_of(request)))
    return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")


class FleetCollector(Collector):
    """Reads the living picture once."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: names do not depend on what is there."""
        return []

    def collect(self) -> Iterable[Metric]:
        """All families."""
        now_s = time.monotonic()
        lives = self._console.fleet.all()
        up = GaugeMetricFamily(
            "openmse_console_engine_up",
            "Whether the engine is heard (1) or not (0).",
            labels=["engine"],
        )
        age = GaugeMetricFamily(
            "openmse_console_engine_age_seconds", "Age of what is known.", labels=["engine"]
        )
        for live in lives:
            view = engine_view(live, now_s)
            up.add_metric([live.engine.name], 1.0 if view.is_fresh else 0.0)
            if view.age_s >= 0:
                age.add_metric([live.engine.name], view.age_s)
        yield from (up, age)
        yield from self._pairs(now_s)
        streams = GaugeMetricFamily("openmse_console_streams", "Open live pages.")
        streams.add_metric([], float(self._console.hub.streams))
        yield streams

    def _pairs(self, now_s: float) -> Iterable[Metric]:
        health = GaugeMetricFamily(
            "openmse_console_pair_health", "1 for the present health.", labels=["pair", "health"]
        )
        trip = GaugeMetricFamily(
            "openmse_console_pair_round_trip_seconds", "Mean heartbeat response.", labels=["pair"]
        )
        lag = GaugeMetricFamily(
            "openmse_console_pair_lag_bytes",
            "Write-ahead log not on the standby yet.",
            labels=["pair"],
        )
        owner = GaugeMetricFamily(
            "openmse_console_pair_owner", "1 for the node that owns.", labels=["pair", "node"]
        )
        for pair in pairs_of(self._console.fleet.all()):
            view = pair_view(pair, now_s)
            for kind in HEALTHS:
                health.add_metric([pair.name, kind], 1.0 if view.summary.kind == kind else 0.0)
            if view.round_trip_ms >= 0:
                trip.add_metric([pair.name], view.round_trip_ms / 1000)
            if view.lag_bytes >= 0:
                lag.add_metric([pair.name], float(view.lag_bytes))
            if view.owner:
                owner.add_metric([pair.name, view.owner], 1.0)
        yield from (health, trip, lag, owner)
