"""Pairs: which engines belong together, who owns, and the guide's status fields. Pure."""

from dataclasses import dataclass

from openmse.console.live.state import EngineLive, Reach
from openmse.console.live.views import (
    BAD,
    OFF,
    OK,
    RUNNING,
    WARN,
    EngineView,
    Mark,
    engine_view,
    most_pressing,
)
from openmse.console.nodes.models import Database, Party, Register, Snapshot, WhyNot


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two engines of one group; ``second`` is None where this console does not know the other."""

    first: EngineLive
    """The configured primary, where it is known here."""
    second: EngineLive | None
    other_name: str
    other_address: str

    @property
    def id(self) -> int:
        """What its pages are addressed by."""
        return self.first.engine.id

    @property
    def lives(self) -> tuple[EngineLive, ...]:
        """The engines that this console knows."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def engine_ids(self) -> tuple[int, ...]:
        """Their ids."""
        return tuple(live.engine.id for live in self.lives)

    @property
    def name(self) -> str:
        """For headings."""
        other = self.second.engine.name if self.second else self.other_name
        return f"{self.first.engine.name} + {other}"

    def of_node(self, node: str) -> EngineLive | None:
        """The engine whose node has this name."""
        return next((live for live in self.lives if live.engine.node == node), None)


def pairs_of(lives: list[EngineLive]) -> list[Pair]:
    """All pairs, by name."""
    groups: dict[str, list[EngineLive]] = {}
    replaced = _replaced(lives)
    for live in lives:
        if live.engine.group_key and live.engine.id not in replaced:
            groups.setdefault(live.engine.group_key, []).append(live)
    pairs = [_pair(key, members) for key, members in groups.items()]
    return sorted(pairs, key=lambda pair: pair.name.lower())


def pair_of(lives: list[EngineLive], engine_id: int) -> Pair | None:
    """The pair that an engine belongs to; of a lost one the pair that goes on without it."""
    mine = next((live for live in lives if live.engine.id == engine_id), None)
    key = mine.engine.group_key if mine is not None else ""
    if mine is None or not key:
        return None
    if mine.reach is not Reach.UP:
        key = _replaced(lives).get(engine_id, key)
    pair = _pair(key, [live for live in lives if live.engine.group_key == key])
    is_replaced = key != mine.engine.group_key
    return pair if is_replaced or engine_id in pair.engine_ids else None


def _replaced(lives: list[EngineLive]) -> dict[int, str]:
    """Engines whose place in their pair another machine has: their ids, and that pair's key.

    Such an engine is not heard, and the other one of its pair, which is, has another peer.
    """
    heard = {
        part: live.engine.group_key
        for live in lives
        if live.reach is Reach.UP
        for part in live.engine.group_key.split("|")
        if part.partition("@")[0] == live.engine.node
    }
    found: dict[int, str] = {}
    for live in lives:
        key = live.engine.group_key
        if key and live.reach is not Reach.UP:
            for part in key.split("|"):
                if heard.get(part, key) != key:
                    found[live.engine.id] = heard[part]
    return found


def _pair(key: str, members: list[EngineLive]) -> Pair:
    members = sorted(members, key=lambda live: (not live.engine.is_primary, live.engine.id))[:2]
    known = {live.engine.node for live in members}
    others = [part.partition("@") for part in key.split("|")]
    name, address = next(((n, a) for n, _, a in others if n not in known), ("", ""))
    second = members[1] if len(members) > 1 else None
    return Pair(first=members[0], second=second, other_name=name, other_address=address)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairView:
    """What the pair's pages show at this moment."""

    pair: Pair
    machines: tuple[EngineView, ...]
    register: Register | None
    """The newest that a node which is heard knows; None if none is."""
    owner: str
    """'' for unknown."""
    summary: Mark
    sentence: str
    """Why it is as it is."""
    heartbeats: Mark
    replication: Mark
    progress_percent: int
    round_trip_ms: float
    lag_bytes: int
    witness: Mark
    witness_name: str
    witness_deaf: tuple[str, ...]
    """Nodes that are heard here and do not hear it."""
    owner_snapshot: Snapshot | None
    standby_snapshot: Snapshot | None
    why_not: WhyNot
    is_maintenance: bool
    is_fresh: bool
    age_s: float

    @property
    def alarm(self) -> str:
        """The kind of the most pressing alarm of both machines; '' where there is none."""
        return most_pressing(alarm for machine in self.machines for alarm in machine.alarms)

    @property
    def owner_is_primary(self) -> bool:
        """Whether the configured primary owns."""
        return self.register is not None and self.register.owner == self.register.primary


def pair_view(pair: Pair, now_s: float) -> PairView:
    """The view of a pair; what is not heard now is unknown, never as last known."""
    machines = tuple(engine_view(live, now_s) for live in pair.lives)
    snapshots = [s for live in pair.lives if (s := picture_of(live, now_s)) is not None]
    registers = [s.register for s in snapshots if s.register is not None]
    register = max(registers, key=lambda r: (r.term, r.epoch), default=None)
    owner = register.owner if register else ""
    owning = next((s for s in snapshots if s.node == owner), None)
    standby = next((s for s in snapshots if s.node != owner), None) if register else None
    speaker = owning or standby
    trip, lag = _figures(speaker)
    replication, progress = _replication(owning, standby, register)
    witness = _witness(owning, standby)
    summary, sentence = _summary(speaker, owning, machines)
    return PairView(
        pair=pair,
        machines=machines,
        register=register,
        owner=owner,
        summary=summary,
        sentence=sentence,
        heartbeats=_heartbeats(speaker),
        replication=replication,
        progress_percent=progress,
        round_trip_ms=trip,
        lag_bytes=lag,
        witness=witness.mark,
        witness_name=witness.name,
        witness_deaf=witness.deaf,
        owner_snapshot=owning,
        standby_snapshot=standby,
        why_not=_why_not(owning, standby, owner),
        is_maintenance=_is_maintenance(speaker),
        is_fresh=bool(snapshots),
        age_s=min((age for v in machines if (age := v.age_s) >= 0), default=-1.0),
    )


_NOT_YET = "The full picture of this pair has not come yet; it takes a second."


def picture_of(live: EngineLive, now_s: float) -> Snapshot | None:
    """The full picture of an engine, or as much as its summary tells, which lists do with; None
    while it is not heard."""
    snapshot = live.fresh_snapshot(now_s)
    if snapshot is not None:
        return snapshot
    s = live.fresh_summary(now_s)
    if s is None:
        return None
    is_primary = s.configured_role != "secondary"
    register = Register(
        term=s.term or 0,
        epoch=s.epoch or 0,
        owner=s.owner or "",
        mode=s.mode or "",
        primary=s.node if is_primary else s.peer or "",
    )
    trip = -1.0 if s.round_trip_ms is None else s.round_trip_ms
    return Snapshot(
        made_at=s.made_at or "",
        node=s.node,
        configured_role=s.configured_role or "",
        state=s.state or "",
        reason=s.reason or "",
        role=s.role or "",
        sync=s.sync or "",
        health=s.health or "",
        operation=s.operation or "",
        progress_percent=-1 if s.progress_percent is None else s.progress_percent,
        register=register if s.owner else None,
        peer=Party(s.peer, bool(s.is_peer_heard), round_trip_ms=trip) if s.peer else None,
        witness=Party(s.witness, bool(s.is_witness_heard)) if s.witness else None,
        database=Database(lag_bytes=-1 if s.lag_bytes is None else s.lag_bytes),
        admits_clients=bool(s.admits_clients),
        virtual_ips=s.virtual_ips or (),
        peer_address=s.peer_address or "",
        why_not=WhyNot(_NOT_YET, _NOT_YET, _NOT_YET),
        alarms=s.alarms or (),
        version=s.version or "",
    )


def _figures(speaker: Snapshot | None) -> tuple[float, int]:
    if speaker is None:
        return -1.0, -1
    peer = speaker.peer
    trip = peer.round_trip_ms if peer is not None and peer.is_heard else -1.0
    return trip, speaker.database.lag_bytes if speaker.database else -1


def _heartbeats(speaker: Snapshot | None) -> Mark:
    if speaker is None or speaker.peer is None:
        return Mark(kind=OFF, word="Unknown")
    return Mark(kind=OK, word="Up") if speaker.peer.is_heard else Mark(kind=BAD, word="Down")


def _replication(
    owning: Snapshot | None, standby: Snapshot | None, register: Register | None
) -> tuple[Mark, int]:
    """Setting up, Up or Down, and the measured percent of a copy under way (-1: none)."""
    speaker = owning or standby
    if speaker is None or register is None:
        return Mark(kind=OFF, word="Unknown"), -1
    percents = [s.progress_percent for s in (owning, standby) if s is not None]
    if speaker.peer is not None:
        percents.append(speaker.peer.progress_percent)
    progress = max((p for p in percents if p >= 0), default=-1)
    sync = speaker.sync
    if sync == "sync":
        return Mark(kind=OK, word="Up"), -1
    if sync == "catching_up" or progress >= 0:
        return Mark(kind=RUNNING, word="Setting up"), progress
    return Mark(kind=BAD, word="Down"), -1


@dataclass(frozen=True, slots=True)
class _Witness:
    """The third vote: who does not hear it matters as much as who does."""

    mark: Mark
    name: str = ""
    deaf: tuple[str, ...] = ()


def _witness(owning: Snapshot | None, standby: Snapshot | None) -> _Witness:
    heard = [s for s in (owning, standby) if s is not None]
    if not heard:
        return _Witness(Mark(kind=OFF, word="Unknown"))
    witness = voting_witness(heard[0])
    if witness is None:
        return _Witness(Mark(kind=WARN, word="None"))
    words = [(s.node, voting_witness(s)) for s in heard]
    deaf = tuple(node for node, party in words if party is not None and not party.is_heard)
    if not deaf:
        return _Witness(Mark(kind=OK, word="Heard"), witness.name)
    word = "Silent" if len(deaf) == len(heard) else "Heard by one"
    return _Witness(Mark(kind=WARN, word=word), witness.name, deaf)


def voting_witness(snapshot: Snapshot) -> Party | None:
    """The third vote; None also for a witness that was one once."""
    witness, register = snapshot.witness, snapshot.register
    is_former = witness and register and register.voters and witness.name not in register.voters
    return None if is_former else witness


def _summary(
    speaker: Snapshot | None, owning: Snapshot | None, machines: tuple[EngineView, ...]
) -> tuple[Mark, str]:
    if speaker is None:
        return Mark(kind=OFF, word="Unknown"), next((v.error for v in machines if v.error), "")
    view = next((v for v in machines if v.engine.node == speaker.node), machines[0])
    if owning is None:
        return Mark(kind=BAD, word=speaker.state), speaker.reason
    return view.state, speaker.reason


def _why_not(owning: Snapshot | None, standby: Snapshot | None, owner: str) -> WhyNot:
    silent = (
        f"{owner or 'The owner'} is not heard by this console at this moment."
        if owner
        else "It is not known at this moment who owns."
    )
    asked = owning or standby
    return WhyNot(
        switchover=asked.why_not.switchover if asked else silent,
        failback=asked.why_not.failback if asked else silent,
        takeover=_why_no_force(owning, standby),
        sync=owning.why_not.sync if owning else "",
    )


def _why_no_force(owning: Snapshot | None, standby: Snapshot | None) -> str:
    """Why a takeover by force is not offered; '' where it is the only way on.

    ``why_not.takeover`` of a node is another question: why it does not take over by itself.
    """
    if standby is None:
        return "The standby is not heard by this console."
    if owning is not None and owning.admits_clients:
        return f"{owning.node} is heard and serves; a switchover loses nothing."
    return ""


def _is_maintenance(speaker: Snapshot | None) -> bool:
    return speaker is not None and any(a.kind == "maintenance" for a in speaker.alarms)
