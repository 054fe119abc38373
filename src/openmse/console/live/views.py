"""From the living picture to what pages show: marks, words, figures with their age. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from openmse.console.live.state import EngineLive, Reach
from openmse.console.nodes.models import Alarm, Service, Summary
from openmse.console.store.engines import Engine

OK, WARN, BAD, OFF, RUNNING = "ok", "warn", "bad", "off", "running"
RANK = {BAD: 0, WARN: 1, RUNNING: 2, OFF: 3, OK: 4}

REACH_WORDS = {
    Reach.UNKNOWN: (OFF, "Unknown"),
    Reach.UP: (OK, "Reachable"),
    Reach.SILENT: (BAD, "Unreachable"),
    Reach.UNTRUSTED: (BAD, "Other certificate"),
    Reach.TAKEN: (BAD, "Not managed here"),
}
SHOWN_MAX = 50
"""Alarms, and services, of one engine: more than any has, so that no page grows without end."""
HEALTH_MARKS = {"ok": OK, "degraded": WARN, "failed": BAD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A shape, a word and a colour: ``kind`` is ok, warn, bad, off or running."""

    kind: str
    word: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineView:
    """One engine as lists and pages show it."""

    engine: Engine
    reach: Mark
    age_s: float
    """-1.0: never heard."""
    is_fresh: bool
    since_s: float
    """For how long the reachability has been what it is."""
    error: str
    hint: str
    monitor: Mark
    state: Mark
    reason: str
    owner: str
    is_owner: bool
    peer: str
    peer_address: str
    address: str
    """As the list shows it: the virtual IP once paired, before that the monitor's."""
    version: str
    services: tuple[Service, ...]
    alarms: tuple[Alarm, ...]
    rank: int
    """Lower is more pressing."""

    @property
    def id(self) -> int:
        """The engine's."""
        return self.engine.id

    @property
    def alarm(self) -> str:
        """The kind of the most pressing alarm; '' where there is none."""
        return most_pressing(self.alarms)

    @property
    def is_paired(self) -> bool:
        """By what is known now, or was last."""
        return bool(self.peer)


def _services(live: EngineLive) -> tuple[Service, ...]:
    """As the engine told them; whether the platform is up or dormant is newer in its picture."""
    told = live.info.services if live.info else ()
    admits = live.summary.admits_clients if live.summary else None
    if admits is None:
        return told
    now = "up" if admits else "dormant"
    return tuple(
        replace(one, service_status=now)
        if one.name == "platform" and one.service_status in ("up", "dormant")
        else one
        for one in told
    )


def most_pressing(alarms: Iterable[Alarm]) -> str:
    """The kind of the first error, else of the first warning; '' where there is neither."""
    ranked = sorted(alarms, key=lambda alarm: alarm.severity != "error")
    return ranked[0].kind if ranked else ""


def engine_view(live: EngineLive, now_s: float) -> EngineView:
    """The view of one engine at this moment."""
    engine = live.engine
    kind, word = REACH_WORDS[live.reach]
    is_fresh = live.is_fresh(now_s)
    if live.reach is Reach.UP and not is_fresh:
        kind, word = BAD, "Unreachable"
    summary = live.fresh_summary(now_s)
    monitor, state = _monitor(live, is_fresh), _state(summary, is_fresh=is_fresh)
    peer, peer_address = _peer(live)
    virtual = _virtual_ips(live)
    return EngineView(
        engine=engine,
        reach=Mark(kind=kind, word=word),
        age_s=live.age_s(now_s),
        is_fresh=is_fresh,
        since_s=max(0.0, now_s - live.since_s),
        error=live.error.sentence if live.error and not is_fresh else _monitor_error(live),
        hint=live.error.hint if live.error and not is_fresh else "",
        monitor=monitor,
        state=state,
        reason=(summary.reason or "") if summary else "",
        owner=(summary.owner or "") if summary else "",
        is_owner=bool(summary and summary.owner and summary.owner == summary.node),
        peer=peer,
        peer_address=peer_address,
        address=virtual if peer and virtual else engine.address,
        version=(live.info.version if live.info else "") or engine.version,
        services=_services(live)[:SHOWN_MAX] if is_fresh else (),
        alarms=(summary.alarms or ())[:SHOWN_MAX] if summary else (),
        rank=min(RANK[kind], RANK[monitor.kind], RANK[state.kind]),
    )


def _monitor(live: EngineLive, is_fresh: bool) -> Mark:
    if not is_fresh:
        return Mark(kind=OFF, word="Unknown")
    return Mark(kind=OK, word="Running") if live.is_monitor_up else Mark(kind=BAD, word="Down")


def _monitor_error(live: EngineLive) -> str:
    error = live.summary.error if live.summary else None
    return error.sentence if error else ""


def _state(summary: Summary | None, *, is_fresh: bool) -> Mark:
    if summary is None:
        return Mark(kind=BAD if is_fresh else OFF, word="Monitor down" if is_fresh else "Unknown")
    if summary.operation not in (None, "", "none"):
        return Mark(kind=RUNNING, word=summary.state or "")
    kind = HEALTH_MARKS.get(summary.health or "", OFF)
    return Mark(kind=kind, word=summary.state or "Unknown")


def _peer(live: EngineLive) -> tuple[str, str]:
    """Name and address of the other node; from the store while this one is silent."""
    summary = live.summary
    if summary is not None and summary.is_monitor_up:
        return summary.peer or "", summary.peer_address or ""
    if not live.engine.group_key:
        return "", ""
    for part in live.engine.group_key.split("|"):
        name, _, address = part.partition("@")
        if name != live.engine.node:
            return name, address
    return "", ""


def _virtual_ips(live: EngineLive) -> str:
    found = (live.summary.virtual_ips if live.summary else None) or (
        live.info.virtual_ips if live.info else ()
    )
    return ", ".join(address.partition("/")[0] for address in found)


SORT_KEYS = {
    "trouble": lambda v: (v.rank, v.engine.name.lower()),
    "name": lambda v: v.engine.name.lower(),
    "type": lambda v: (v.engine.device_type, v.engine.role, v.engine.name.lower()),
    "address": lambda v: tuple(part.zfill(4) for part in v.address.replace(":", ".").split(".")),
    "version": lambda v: (v.version, v.engine.name.lower()),
    "reach": lambda v: (RANK[v.reach.kind], v.engine.name.lower()),
    "state": lambda v: (RANK[v.state.kind], v.state.word, v.engine.name.lower()),
    "secondary": lambda v: (not v.peer, v.peer, v.engine.name.lower()),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What a list shows, as its URL says it."""

    text: str = ""
    show: str = ""
    """'' for all, trouble, unpaired, primary or secondary."""
    sort: str = "trouble"
    is_descending: bool = False
    page: int = 1
    size: int = 50


def find(views: list[EngineView], wanted: ListQuery) -> tuple[list[EngineView], int]:
    """The rows of one page, and how many there are on all pages."""
    needle = wanted.text.strip().lower()
    found = [view for view in views if _matches(view, needle, wanted.show)]
    found.sort(key=SORT_KEYS.get(wanted.sort, SORT_KEYS["trouble"]), reverse=wanted.is_descending)
    start = (max(1, wanted.page) - 1) * wanted.size
    return found[start : start + wanted.size], len(found)


def _matches(view: EngineView, needle: str, show: str) -> bool:
    if show == "trouble" and view.rank > 1:
        return False
    if show == "unpaired" and view.peer:
        return False
    if show in ("primary", "secondary") and (view.engine.role == "secondary") != (
        show == "secondary"
    ):
        return False
    words = (
        view.engine.name,
        view.engine.node,
        view.engine.address,
        view.address,
        view.engine.udi,
        view.version,
        view.peer,
        view.engine.contact,
    )
    return not needle or any(needle in word.lower() for word in words)
