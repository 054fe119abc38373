"""What is not as it should be on a node, in sentences with the next action. Pure."""

from collections.abc import Iterator

from msgspec import Struct

from openmse.documents import document
from openmse.ha import facts, fencing
from openmse.ha.draft import is_owner
from openmse.ha.local import Address
from openmse.ha.names import is_heard, is_standby_following
from openmse.ha.state import Node
from openmse.ha.values import BootAlone, Config, Mode, peer_of, witness_of


class Alarm(Struct, frozen=True):
    """One thing that wants attention; ``kind`` is stable snake_case."""

    kind: str
    severity: str
    """warning or error."""
    sentence: str
    action: str = ""


def alarms_of(n: Node) -> tuple[Alarm, ...]:
    """All alarms that the core's state amounts to."""
    found = list(_local(n))
    if n.config is not None and peer_of(n.config, n.me):
        found.extend(_group(n, n.config))
    return tuple(found)


def _local(n: Node) -> Iterator[Alarm]:
    if n.quarantine:
        yield Alarm(
            "quarantined",
            "error",
            f"This node is set aside: {n.quarantine}",
            "Mend the cause, then 'mse ha rejoin'.",
        )
    if not n.db.is_healthy:
        yield Alarm(
            "database_failed",
            "error",
            n.db.failure or "PostgreSQL on this node does not work.",
            "Look at PostgreSQL's log and the disk; the daemon goes on trying.",
        )
    if n.net.address is Address.CONFLICT:
        yield Alarm(
            "address_conflict",
            "error",
            f"Another machine ({n.net.conflict_with or 'unknown'}) answers for the virtual IP, so "
            "this node does not take it.",
            "Find the machine with that link-layer address and remove the address from it.",
        )
    if n.net.address is Address.HELD and n.net.conflict_with:
        yield Alarm(
            "address_contested",
            "warning",
            f"Another machine ({n.net.conflict_with}) claims the virtual IP, which this node holds "
            "and announces against it; clients may reach the wrong one meanwhile.",
            "Find the machine with that link-layer address and remove the address from it.",
        )
    if is_owner(n) and n.is_halted:
        yield Alarm(
            "lease_lost",
            "error",
            "This node owns but no voter renews its lease, so it has stopped serving.",
            "Mend the network to the other node or to the witness.",
        )


def _group(n: Node, config: Config) -> Iterator[Alarm]:
    peer = peer_of(config, n.me)
    yield from _unheard(n, config, peer)
    if config.mode is Mode.ALONE and not config.settings.maintenance:
        yield Alarm(
            "alone",
            "warning",
            f"{config.owner} acknowledges writes alone: there is no second copy of them.",
            f"Bring {_other(config)} back; it rejoins by itself.",
        )
    elif config.mode is not Mode.ALONE and not is_standby_following(n):
        yield Alarm(
            "not_streaming",
            "warning",
            "The standby does not receive the owner's WAL at this moment.",
            "It tries by itself; if this lasts, look at PostgreSQL's log on the standby.",
        )
    yield from _waiting(n, peer)
    if config.settings.maintenance:
        yield Alarm(
            "maintenance",
            "warning",
            "Maintenance is on: nobody takes over.",
            "'mse ha maintenance off' when the work is done.",
        )
    has_seen_it = n.peer.version[0] >= config.term
    if config.settings.boot_alone is BootAlone.ASK and config.term > 1 and not has_seen_it:
        yield Alarm(
            "forced_term",
            "warning",
            f"A forced takeover happened (term {config.term}): the old owner would serve if it is "
            "started without seeing this node.",
            "Keep the old machine off or isolated until it can see this one; then set "
            "'mse ha settings --boot-alone auto'.",
        )


def _unheard(n: Node, config: Config, peer: str) -> Iterator[Alarm]:
    """Who is missing, of the other node and the witness."""
    is_stopped = n.peer.standing.is_stopping
    if not is_heard(n, n.peer) and is_stopped:
        yield Alarm("peer_lost", "warning", f"{peer} was stopped on purpose.", "Start it again.")
    elif not is_heard(n, n.peer):
        control = is_owner(n) and n.db.peer_streaming
        yield Alarm(
            "control_path_broken" if control else "peer_lost",
            "warning" if control else "error",
            f"The health monitor of {peer} is not heard"
            + (", although its replication still flows." if control else "."),
            f"Check {peer} and the network to it, UDP heartbeats included ({document('ports')}).",
        )
    witness = witness_of(config)
    if witness and not is_heard(n, n.witness):
        yield Alarm(
            "witness_lost",
            "warning",
            f"The witness ({witness}) is not heard; without it there is no automatic takeover.",
            "Start it again, or 'mse ha witness replace'.",
        )


def certificate_alarms(days_left: int | None) -> Iterator[Alarm]:
    """A certificate that has ended; ``days_left`` is negative then, None where not known."""
    if days_left is not None and days_left < 0:
        yield Alarm(
            "certificate_ended",
            "error",
            f"A certificate of this node ended within the past {-days_left} day(s): PostgreSQL's "
            "new connections fail, those of clients and those of the standby.",
            "Correct this machine's clock if it is wrong ('timedatectl'). If it is right, 'mse ha "
            "events' says why the certificate was not renewed (renewal_failed): mend that; it is "
            "tried again every hour.",
        )


def _waiting(n: Node, peer: str) -> Iterator[Alarm]:
    """Writes that nobody lets go on without the other node (protocol §8)."""
    if not facts.is_peer_lost(n) or not (facts.is_protected(n) or fencing.is_in_force(n)):
        return
    until = "the fencing agent has confirmed that it is off"
    if facts.is_protected(n):
        until = "an operator releases them ('mse ha release-protect')"
    yield Alarm(
        "writes_wait",
        "error",
        f"Writes wait for {peer}, which is lost, until it is back or {until}.",
        f"Bring {peer} back; if it is lost for good, 'mse ha takeover --force' on this node.",
    )


def _other(config: Config) -> str:
    return peer_of(config, config.owner) or "the other node"
