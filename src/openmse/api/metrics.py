"""The node's figures for Prometheus: rendered from the newest picture, no state of its own."""

from collections.abc import Iterator
from enum import StrEnum

from fastapi import APIRouter, Response
from msgspec import UNSET
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from openmse import __version__
from openmse.api.context import Context
from openmse.api.guards import Ctx, Reader
from openmse.api.operations import OperationState
from openmse.ha.names import Health, State, Sync
from openmse.node.control.snapshot import PartyView, Snapshot

router = APIRouter(tags=["reading"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(ctx: Ctx, _who: Reader) -> Response:
    """The node's figures for Prometheus. Works with the health monitor down."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(ctx))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Figures(Collector):
    """Everything at one moment."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def collect(self) -> Iterator[Metric]:
        """The families; only ``openmse_up`` and what is this process's own while it is down."""
        snapshot = self._ctx.hub.snapshot
        yield _one("openmse_up", "Whether the health monitor answers.", snapshot is not None)
        yield InfoMetricFamily(
            "openmse",
            "Who this node is.",
            {
                "node": self._ctx.node.node.name,
                "configured_role": self._ctx.node.node.role.value,
                "version": __version__,
            },
        )
        running = len(self._ctx.runner.newest(OperationState.RUNNING.value))
        yield _one("openmse_operations_running", "Operations of the API under way.", running)
        yield _one("openmse_streams", "Readers of the stream.", self._ctx.hub.readers)
        if snapshot is not None:
            yield from _words(snapshot)
            yield from _register(snapshot)
            yield from figures(snapshot)
            yield from _parties(snapshot)


def _one(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, float(value))


def _words(s: Snapshot) -> Iterator[Metric]:
    """Words as one series each, 1 for the one that holds: so that rules can count them."""
    rows: tuple[tuple[str, str, str, type[StrEnum]], ...] = (
        ("openmse_state", "The state word of this node.", s.state, State),
        ("openmse_sync", "Where the second copy stands.", s.sync, Sync),
        ("openmse_health", "The health of this node.", s.health, Health),
    )
    for name, told, now, words in rows:
        family = GaugeMetricFamily(name, told, labels=["value"])
        for word in words:
            family.add_metric([word.value], float(word == now))
        yield family
    alarms = GaugeMetricFamily("openmse_alarm", "Alarms that stand.", labels=["kind", "severity"])
    for kind, severity in sorted({(alarm.kind, alarm.severity) for alarm in s.alarms}):
        alarms.add_metric([kind, severity], 1.0)
    yield alarms


def _register(s: Snapshot) -> Iterator[Metric]:
    yield _one("openmse_owner", "Whether this node owns.", s.role == "primary")
    yield _one("openmse_admits_clients", "Whether clients are let in here.", s.admits_clients)
    if s.register is not None:
        yield _one("openmse_term", "The term of the register.", s.register.term)
        yield _one("openmse_epoch", "The epoch of the register.", s.register.epoch)
        is_on = s.register.settings.maintenance
        yield _one("openmse_maintenance", "Whether maintenance is on.", is_on)


def figures(s: Snapshot) -> Iterator[Metric]:
    """What the picture has of numbers; one that is not known is left out."""
    yield _one("openmse_database_healthy", "Whether PostgreSQL works.", s.database.is_healthy)
    if s.database.lag_bytes >= 0:
        words = "How far the standby's copy is behind, in bytes of WAL."
        yield _one("openmse_replication_lag_bytes", words, s.database.lag_bytes)
    if s.lease.remaining_ms >= 0:
        words = "What is left of the owner's lease, in seconds."
        yield _one("openmse_lease_remaining_seconds", words, s.lease.remaining_ms / 1000)
    if s.certificate_days_left is not UNSET:
        words = "Days until a certificate of this node ends; negative once it has."
        yield _one("openmse_certificate_days_left", words, s.certificate_days_left)
    yield _one("openmse_uptime_seconds", "Of the health monitor.", s.uptime_s)
    yield _one("openmse_loop_lag_seconds", "The health monitor kept waiting.", s.loop_lag_ms / 1000)
    yield _one("openmse_events_dropped", "Events that could not be written.", s.events_dropped)


def _parties(s: Snapshot) -> Iterator[Metric]:
    heard = GaugeMetricFamily("openmse_heard", "Whether a party is heard.", labels=["party"])
    trip = GaugeMetricFamily(
        "openmse_round_trip_seconds", "The round trip of heartbeats.", labels=["party"]
    )
    parties: tuple[tuple[str, PartyView | None], ...] = (("peer", s.peer), ("witness", s.witness))
    for name, party in parties:
        if party is None:
            continue
        heard.add_metric([name], float(party.is_heard))
        if party.round_trip_ms >= 0:
            trip.add_metric([name], party.round_trip_ms / 1000)
    yield heard
    yield trip
