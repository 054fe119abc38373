"""Events, messages and effects in a few words, for traces that people read."""

from msgspec import Struct
from msgspec.structs import asdict

from openmse.ha import effects as fx
from openmse.ha import events as ev
from openmse.ha import messages as msg
from openmse.ha.invariants import describe
from openmse.ha.local import DbView, DbWanted, NetView, NetWanted
from openmse.ha.values import FOREVER, Ballot, Config, Lineage, Record


def ballot(one: Ballot) -> str:
    """``1.7b``: term 1, round 7, by b."""
    return f"{one.term}.{one.round}{one.voter}"


def config(one: Config | None) -> str:
    """``SYNC(a) 1.3``, or a dash."""
    if one is None:
        return "-"
    new = "".join(
        f" {v.incarnation}" for v in one.voters if v.incarnation not in (f"{v.id}-0", v.id)
    )
    return describe(one) + (f" [{new.strip()}]" if new else "")


def lineage(one: Lineage | None) -> str:
    """``1.3b``: begun by that config."""
    return f"{one.term}.{one.epoch}{one.owner}" if one else "-"


def record(one: Record) -> str:
    """A voter's record."""
    parent = f" after {config(one.parent)}" if one.parent else ""
    text = (
        f"promised {ballot(one.promised)}, accepted {ballot(one.accepted)} {config(one.value)}"
        f"{parent}, chosen {ballot(one.chosen)} {config(one.known)}"
    )
    if one.released:
        text += f", released {one.released.term}.{one.released.epoch}"
    return text


def message(one: msg.Message) -> str:
    """A message, without its stamp."""
    kind = type(one).__name__
    match one:
        case msg.Beat():
            wish = " wants a grant" if one.wants_grant else ""
            free = " released" if one.released else ""
            return f"Beat {one.term}.{one.epoch}{wish}{free}"
        case msg.BeatAck():
            answer = "granted" if one.is_granted else one.refusal.value
            return f"BeatAck {one.term}.{one.epoch} {answer}"
        case msg.Promise():
            return (
                f"Promise {ballot(one.ballot)}: accepted {ballot(one.accepted)} "
                f"{config(one.value)} after {config(one.parent)}, chosen {ballot(one.chosen)}"
            )
        case msg.Accept():
            return f"Accept {ballot(one.ballot)} {config(one.value)} after {config(one.parent)}"
        case msg.Learn():
            return f"Learn {ballot(one.ballot)} {config(one.value)}"
        case msg.Refused():
            return f"Refused {ballot(one.ballot)}: {one.refusal.value}"
        case msg.Prepare() | msg.Accepted():
            return f"{kind} {ballot(one.ballot)}"
        case msg.PreVoteAnswer():
            return f"PreVoteAnswer {'yes' if one.is_yes else one.refusal.value}"
        case _:
            return kind


def wanted(one: DbWanted) -> str:
    """A database level: what differs from the default."""
    return _different(one, DbWanted())


def view(one: DbView) -> str:
    """A database view: what differs from the default."""
    return _different(one, DbView(), ("peer_signed_at", "failure"))


def _different(one: Struct, default: Struct, hidden: tuple[str, ...] = ()) -> str:
    usual = asdict(default)
    parts = []
    for name, value in asdict(one).items():
        if name in hidden or value == usual[name]:
            continue
        shown = lineage(value) if isinstance(value, Lineage) else getattr(value, "value", value)
        parts.append(f"{name}={shown}")
    return " ".join(parts) or "nothing"


def effect(one: fx.Effect) -> str:
    """An effect."""
    match one:
        case fx.Persist():
            return f"persist {record(one.record)}"
        case fx.Send():
            return f"to {one.to}: {message(one.message)}"
        case fx.SetLease():
            until = "forever" if one.until >= FOREVER else str(one.until // 1_000_000)
            return f"lease {until}"
        case fx.WantDb():
            return f"database wanted: {wanted(one.wanted)}"
        case fx.WantNet():
            return f"address wanted: {_different(one.wanted, NetWanted())}"
        case fx.Note():
            return f"note {one.kind}: {one.sentence}"
        case _:
            return str(one)


def event(one: ev.Event) -> str:
    """An event."""
    match one:
        case ev.Received():
            return f"{message(one.message)} from {one.message.stamp.id}"
        case ev.DbObserved():
            return f"database seen: {view(one.view)}"
        case ev.NetObserved():
            return f"address seen: {_different(one.view, NetView())}"
        case ev.LinkChanged():
            state = "up" if one.is_up else "reset" if one.was_reset else "down"
            return f"link to {one.party} {state}"
        case _:
            return type(one).__name__
