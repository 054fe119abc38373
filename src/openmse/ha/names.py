"""The words that people read (protocol §10): one state word with its reason, and four fields.

Pure functions over a node's state; nothing is decided here. The word names the node's part in the
group's story, the fields (role, sync, health, operation) say what is so right now.
"""

from enum import StrEnum

from msgspec import Struct

from openmse.ha import facts
from openmse.ha.draft import is_owner, needs_lease, since, timing_of
from openmse.ha.local import Address, DbProcess, Receiver
from openmse.ha.state import Node, OperationKind, Party
from openmse.ha.values import SECOND, Config, Mode, is_fencing_pair, peer_of, witness_of


class State(StrEnum):
    """The one word."""

    PRIMARY_ACTIVE = "PRIMARY_ACTIVE"
    SECONDARY_ACTIVE = "SECONDARY_ACTIVE"
    FAILOVER_INVOKED = "FAILOVER_INVOKED"
    FAILOVER_ACTIVE = "FAILOVER_ACTIVE"
    TERMINATED = "TERMINATED"
    FAILBACK_ACTIVE = "FAILBACK_ACTIVE"
    FAILBACK_COMPLETE = "FAILBACK_COMPLETE"
    SECONDARY_ALONE = "SECONDARY_ALONE"
    GRACEFUL_SHUTDOWN = "GRACEFUL_SHUTDOWN"
    PRIMARY_ALONE = "PRIMARY_ALONE"
    PINNED = "PINNED"
    WAITING = "WAITING"
    QUARANTINED = "QUARANTINED"


class Role(StrEnum):
    """Who owns, as this node knows it; not what the configuration file calls it."""

    PRIMARY = "primary"
    STANDBY = "standby"
    NONE = "none"
    """It knows of no config yet."""


class Sync(StrEnum):
    """Whether the other node has what is acknowledged."""

    SYNC = "sync"
    CATCHING_UP = "catching_up"
    ALONE = "alone"
    NONE = "none"


class Health(StrEnum):
    """Green, yellow, red."""

    OK = "ok"
    DEGRADED = "degraded"
    """It works, but one more failure would be felt."""
    FAILED = "failed"


class Names(Struct, frozen=True):
    """Everything §10 asks for."""

    state: State
    reason: str
    role: Role
    sync: Sync
    health: Health
    operation: str
    """``none`` or what is under way: handover, takeover, release, stop, rebuild."""
    progress_percent: int = -1


def names(n: Node) -> Names:
    """The words for one node."""
    state, reason = _state(n)
    return Names(
        state=state,
        reason=reason,
        role=role(n),
        sync=sync(n),
        health=health(n),
        operation=_operation(n),
        progress_percent=n.db.progress_percent,
    )


def role(n: Node) -> Role:
    """Owner or not, by the newest config known chosen."""
    if n.config is None:
        return Role.NONE
    return Role.PRIMARY if is_owner(n) else Role.STANDBY


def is_heard(n: Node, party: Party) -> bool:
    """Whether another voter was heard lately: within three heartbeats, or a second."""
    return since(n.now, party.heard_at) <= max(3 * timing_of(n.config).beat_ns, SECOND)


def is_configured_primary(n: Node, config: Config) -> bool:
    """Whether this node is the group's primary by configuration."""
    return (config.primary or config.owner) == n.me


def is_standby_following(n: Node) -> bool:
    """Whether the node that does not own receives the owner's WAL, seen from either side."""
    if is_owner(n):
        return n.db.peer_streaming
    return n.db.receiver is Receiver.STREAMING


def sync(n: Node) -> Sync:
    """Where the second copy stands."""
    config = n.config
    if config is None:
        return Sync.NONE
    follows = is_standby_following(n)
    if config.mode is not Mode.ALONE:
        return Sync.SYNC if follows else Sync.CATCHING_UP
    if follows or n.db.progress_percent >= 0 or n.peer.standing.progress_percent >= 0:
        return Sync.CATCHING_UP
    return Sync.ALONE if is_owner(n) else Sync.NONE


def health(n: Node) -> Health:
    """The worst of what is known."""
    config = n.config
    if not n.db.is_healthy or n.quarantine or n.net.address is Address.CONFLICT:
        return Health.FAILED
    if config is None:
        return Health.OK
    if is_owner(n) and n.is_halted:
        return Health.FAILED
    if not peer_of(config, n.me):
        return Health.OK  # unpaired: nothing more was promised
    is_witness_missing = bool(witness_of(config)) and not is_heard(n, n.witness)
    is_whole = is_heard(n, n.peer) and not is_witness_missing and sync(n) is Sync.SYNC
    return Health.OK if is_whole else Health.DEGRADED


def _operation(n: Node) -> str:
    if n.operation is not None and not _is_only_asking(n):
        return n.operation.kind.value
    return "rebuild" if n.db.progress_percent >= 0 else "none"


def _state(n: Node) -> tuple[State, str]:
    config = n.config
    if n.quarantine:
        return State.QUARANTINED, n.quarantine
    if n.is_stopping or (n.operation and n.operation.kind is OperationKind.STOP):
        return State.GRACEFUL_SHUTDOWN, "This node is being stopped on purpose."
    if config is None:
        return State.WAITING, _why_unpaired(n)
    moving = _moving(n, config)
    if moving is not None:
        return moving
    return _owner_state(n, config) if is_owner(n) else _peer_state(n, config)


def _why_unpaired(n: Node) -> str:
    if n.record.value is not None:
        return "What became of the last change is being read from a quorum."
    return "This node belongs to no group yet; pair it from the primary ('mse ha pair')."


def _moving(n: Node, config: Config) -> tuple[State, str] | None:
    """The words while an ownership moves; None while none does."""
    operation = n.operation
    if operation is not None and operation.kind in (OperationKind.HANDOVER, OperationKind.RELEASE):
        is_back = not is_configured_primary(n, config)
        word = State.FAILBACK_ACTIVE if is_back else State.FAILOVER_INVOKED
        return word, f"Handing over to the other node: {operation.step}."
    if not is_owner(n) and n.peer.standing.is_handing_over and is_heard(n, n.peer):
        is_back = is_configured_primary(n, config)
        word = State.FAILBACK_ACTIVE if is_back else State.FAILOVER_INVOKED
        return word, "The other node is handing over to this one."
    if operation is not None and not _is_only_asking(n):
        return State.FAILOVER_INVOKED, "This node is taking over."
    return None


def _is_only_asking(n: Node) -> bool:
    """Whether a takeover has not begun: the witness is still being asked, perhaps for ever."""
    is_takeover = n.operation is not None and n.operation.kind is OperationKind.TAKEOVER
    return is_takeover and not is_owner(n) and (n.poll is None or not n.poll.is_yes)


def _owner_state(n: Node, config: Config) -> tuple[State, str]:
    is_primary = is_configured_primary(n, config)
    if n.is_halted:
        return State.WAITING, "No voter renews this node's lease, so it must not serve."
    if not n.is_admitted:
        return _not_admitted(n, config)
    if config.mode is Mode.PINNED:
        return State.PINNED, _why_pinned(n, config)
    if not is_primary:
        return State.FAILOVER_ACTIVE, config.reason or "The secondary owns and serves."
    if config.mode is Mode.SYNC:
        return State.PRIMARY_ACTIVE, "The pair is in step; either node may own next."
    if not peer_of(config, n.me):
        return State.PRIMARY_ALONE, "This node is not paired."
    return State.PRIMARY_ALONE, config.reason or "The other node does not hold everything."


def _not_admitted(n: Node, config: Config) -> tuple[State, str]:
    began_here = (config.lineage.term, config.lineage.epoch) == config.version
    if config.mode is not Mode.ALONE and began_here and config.parent_lineage is not None:
        word = (
            State.FAILBACK_COMPLETE if is_configured_primary(n, config) else State.FAILOVER_ACTIVE
        )
        return word, "This node owns; writes wait until the other node streams from it."
    if needs_lease(n) and n.cutoff_at <= n.now:
        return State.WAITING, "This node owns, and waits for a voter to grant its lease."
    if not n.alone_confirmed:
        return State.WAITING, "This node owns; it serves once the others know of nothing newer."
    if not n.db.is_healthy:
        return State.WAITING, n.db.failure or "PostgreSQL does not work on this node."
    if n.db.process is not DbProcess.UP:
        return State.WAITING, "This node owns; PostgreSQL is starting."
    return State.WAITING, "This node owns; clients wait until the data is proven complete."


def _why_pinned(n: Node, config: Config) -> str:
    if not witness_of(config):
        if is_fencing_pair(config):
            return (
                "The pair has no witness: a node goes on alone only once the fencing agent has "
                "confirmed that the other one is off."
            )
        return "The pair has no witness: there is no automatic takeover."
    if is_heard(n, n.witness):
        return "The witness was lost; once it has answered for 10 s, takeovers are automatic again."
    return "The witness is lost: there is no automatic takeover until it is back."


def _peer_state(n: Node, config: Config) -> tuple[State, str]:
    is_heard_owner = is_heard(n, n.peer)
    if not is_heard_owner and n.peer.standing.is_stopping:
        return State.GRACEFUL_SHUTDOWN, (
            f"{config.owner} owns and was stopped on purpose, so nobody takes over; start it "
            "again, or see what 'mse ha takeover --force' here would lose."
        )
    if config.mode is Mode.ALONE and not is_heard_owner:
        return State.WAITING, (
            f"Waiting for {config.owner}, the node that has the newest data; 'mse ha takeover "
            "--force' shows what going on without it would lose."
        )
    if config.mode is Mode.PINNED and not is_heard_owner:
        return State.WAITING, (
            f"{config.owner} owns, but is not heard, and nobody takes over by itself: it owns as "
            "PINNED. 'mse ha takeover --force' shows what going on without it would lose."
        )
    if config.mode is Mode.SYNC and not n.peer.heard_at:
        return State.WAITING, (
            f"Waiting for {config.owner}, which owns and has not been heard since this node's "
            f"health monitor started. {_why_no_takeover(n)}"
        )
    if config.mode is Mode.PINNED:
        return State.PINNED, _why_pinned(n, config)
    if is_configured_primary(n, config):
        return State.TERMINATED, f"{config.owner} owns; this node {_following(n)}."
    if config.mode is Mode.SYNC and is_standby_following(n) and is_heard_owner:
        return State.SECONDARY_ACTIVE, "The pair is in step; either node may own next."
    if not is_heard_owner:
        return State.SECONDARY_ALONE, (
            f"{config.owner} owns, but is not heard. {_why_no_takeover(n)}"
        )
    return State.SECONDARY_ALONE, f"{config.owner} owns; this node {_following(n)}."


def _why_no_takeover(n: Node) -> str:
    return facts.why_no_takeover(n) or "The witness is being asked for its vote."


def _following(n: Node) -> str:
    if n.db.failure:
        return f"does not follow it: {n.db.failure}"
    if n.db.progress_percent >= 0:
        return f"is being rebuilt from it ({n.db.progress_percent} %)"
    if n.db.receiver is Receiver.STREAMING:
        return "follows it"
    return f"does not receive from it yet (PostgreSQL is {n.db.process.value})"
