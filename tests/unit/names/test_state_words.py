"""The words of protocol §10, for each situation that they are for."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from live_core import LINEAGE, START, VOTERS, config, record
from msgspec.structs import replace

from openmse.ha.local import Address, DbProcess, DbRole, DbView, NetView, Receiver
from openmse.ha.messages import Standing
from openmse.ha.names import Health, Role, State, Sync, names
from openmse.ha.node import boot
from openmse.ha.state import Node, Operation, OperationKind, Party, Poll, Step
from openmse.ha.values import FOREVER, SECOND, Config, Instant, Lineage, Mode

HEARD = Party("x", heard_at=START, first_heard_at=START)
SERVES = DbView(
    process=DbProcess.UP,
    role=DbRole.PRIMARY,
    lineage=LINEAGE,
    end_lsn=100,
    is_complete=True,
    peer_streaming=True,
    peer_flush_lsn=100,
)
FOLLOWS = DbView(
    process=DbProcess.UP,
    role=DbRole.STANDBY,
    lineage=LINEAGE,
    end_lsn=100,
    is_complete=True,
    receiver=Receiver.STREAMING,
)


def node(me: str, known: Config | None, **changes: Any) -> Node:
    """A node that hears everybody, serves if it owns, and follows if it does not."""
    n = boot(record(me, known), now=START, is_machine_boot=False)
    is_owner = known is not None and known.owner == me
    n.db = SERVES if is_owner else FOLLOWS
    n.net = NetView(Address.HELD if is_owner else Address.ABSENT, is_owner)
    n.is_admitted = is_owner
    n.is_halted = False
    n.cutoff_at = n.lease_until = Instant(START + SECOND)
    other = "mse2" if me == "mse1" else "mse1"
    n.peer = replace(HEARD, id=other, standing=Standing(is_streaming=True, is_ready=True))
    n.witness = replace(HEARD, id="witness")
    for name, value in changes.items():
        setattr(n, name, value)
    return n


def operation(kind: OperationKind) -> Operation:
    """Something under way."""
    return Operation(kind, "1", "stop", START, (Step("stop", START),))


SILENT = Party("mse2", heard_at=Instant(START - 60 * SECOND))
HANDING_OVER = replace(HEARD, id="mse1", standing=Standing(is_handing_over=True))
BEHIND = replace(FOLLOWS, receiver=Receiver.WAITING)
TWO = tuple(voter for voter in VOTERS if not voter.is_witness)
TAKEN_BACK = config(
    Mode.SYNC, lineage=Lineage(1, 3, "mse1"), parent_lineage=Lineage(1, 2, "mse2"), fork_lsn=90
)

SITUATIONS: list[tuple[str, Node, State, str]] = [
    ("in step", node("mse1", config(Mode.SYNC)), State.PRIMARY_ACTIVE, "in step"),
    ("in step", node("mse2", config(Mode.SYNC)), State.SECONDARY_ACTIVE, "in step"),
    (
        "the secondary took over",
        node("mse2", config(Mode.ALONE, "mse2")),
        State.FAILOVER_ACTIVE,
        "Set by a test.",
    ),
    (
        "the secondary owns, in step",
        node("mse2", config(Mode.SYNC, "mse2")),
        State.FAILOVER_ACTIVE,
        "",
    ),
    (
        "the old owner is back",
        node("mse1", config(Mode.ALONE, "mse2"), db=BEHIND),
        State.TERMINATED,
        "mse2 owns; this node does not receive",
    ),
    (
        "taking over",
        node(
            "mse2",
            config(Mode.SYNC),
            poll=Poll(1, (1, 3), is_yes=True),
            operation=operation(OperationKind.TAKEOVER),
        ),
        State.FAILOVER_INVOKED,
        "taking over",
    ),
    (
        "asking whether it may take over is not taking over",
        node(
            "mse2",
            config(Mode.SYNC),
            poll=Poll(1, (1, 3)),
            operation=operation(OperationKind.TAKEOVER),
            peer=replace(SILENT, id="mse1"),
        ),
        State.SECONDARY_ALONE,
        "not heard. The witness is being asked",
    ),
    (
        "handing over to the secondary",
        node("mse1", config(Mode.SYNC), operation=operation(OperationKind.HANDOVER)),
        State.FAILOVER_INVOKED,
        "Handing over",
    ),
    (
        "being handed over to",
        node("mse2", config(Mode.SYNC), peer=HANDING_OVER),
        State.FAILOVER_INVOKED,
        "handing over to this one",
    ),
    (
        "handing back",
        node("mse2", config(Mode.SYNC, "mse2"), operation=operation(OperationKind.HANDOVER)),
        State.FAILBACK_ACTIVE,
        "Handing over",
    ),
    (
        "handed back, waiting for the old owner to stream",
        node("mse1", TAKEN_BACK, is_admitted=False),
        State.FAILBACK_COMPLETE,
        "writes wait",
    ),
    (
        "the other one is lost",
        node("mse1", config(Mode.ALONE), peer=SILENT, db=replace(SERVES, peer_streaming=False)),
        State.PRIMARY_ALONE,
        "Set by a test.",
    ),
    (
        "catching up with the primary",
        node("mse2", config(Mode.ALONE)),
        State.SECONDARY_ALONE,
        "mse1 owns; this node follows it",
    ),
    (
        "the node with the newest data is missing",
        node("mse2", config(Mode.ALONE), peer=replace(SILENT, id="mse1")),
        State.WAITING,
        "Waiting for mse1",
    ),
    (
        "the owner was stopped on purpose",
        node(
            "mse2",
            config(Mode.PINNED),
            peer=replace(SILENT, id="mse1", standing=Standing(is_stopping=True)),
        ),
        State.GRACEFUL_SHUTDOWN,
        "mse1 owns and was stopped on purpose",
    ),
    (
        "and is heard again",
        node(
            "mse2",
            config(Mode.SYNC),
            peer=replace(SILENT, id="mse1", heard_at=START, standing=Standing(is_stopping=True)),
        ),
        State.SECONDARY_ACTIVE,
        "in step",
    ),
    (
        "the witness is lost",
        node("mse1", config(Mode.PINNED), witness=replace(SILENT, id="witness")),
        State.PINNED,
        "The witness is lost: there is no automatic takeover",
    ),
    (
        "the witness is back",
        node("mse1", config(Mode.PINNED), lease_until=FOREVER),
        State.PINNED,
        "answered for 10 s",
    ),
    ("no witness", node("mse2", config(Mode.PINNED, voters=TWO)), State.PINNED, "no witness"),
    (
        "being stopped",
        node("mse1", config(Mode.SYNC), is_stopping=True),
        State.GRACEFUL_SHUTDOWN,
        "on purpose",
    ),
    (
        "set aside",
        node("mse2", config(Mode.ALONE), quarantine="The rejoin failed three times."),
        State.QUARANTINED,
        "three times",
    ),
    (
        "no lease",
        node("mse1", config(Mode.SYNC), is_halted=True, is_admitted=False),
        State.WAITING,
        "No voter renews",
    ),
    (
        "booting as owner",
        node(
            "mse1",
            config(Mode.SYNC),
            is_admitted=False,
            db=replace(SERVES, process=DbProcess.STARTING),
        ),
        State.WAITING,
        "PostgreSQL is starting",
    ),
    ("no group", node("mse2", None), State.WAITING, "belongs to no group"),
    ("unpaired", node("mse1", config(voters=VOTERS[:1])), State.PRIMARY_ALONE, "not paired"),
]


@pytest.mark.parametrize(
    ("situation", "n", "state", "words"), SITUATIONS, ids=[entry[0] for entry in SITUATIONS]
)
def test_the_word_and_its_reason(situation: str, n: Node, state: State, words: str) -> None:
    found = names(n)
    assert found.state is state, situation
    assert words in found.reason
    assert found.reason.rstrip().endswith((".", "…", ")"))


def test_every_word_is_used() -> None:
    assert {entry[2] for entry in SITUATIONS} == set(State)


FIELDS = [
    (node("mse1", config(Mode.SYNC)), Role.PRIMARY, Sync.SYNC, Health.OK, "none"),
    (node("mse2", config(Mode.SYNC)), Role.STANDBY, Sync.SYNC, Health.OK, "none"),
    (
        node("mse2", config(Mode.SYNC), db=BEHIND),
        Role.STANDBY,
        Sync.CATCHING_UP,
        Health.DEGRADED,
        "none",
    ),
    (
        node("mse1", config(Mode.ALONE), peer=SILENT, db=replace(SERVES, peer_streaming=False)),
        Role.PRIMARY,
        Sync.ALONE,
        Health.DEGRADED,
        "none",
    ),
    (
        node("mse1", config(Mode.ALONE)),
        Role.PRIMARY,
        Sync.CATCHING_UP,
        Health.DEGRADED,
        "none",
    ),
    (
        node("mse2", config(Mode.ALONE), db=replace(BEHIND, progress_percent=40)),
        Role.STANDBY,
        Sync.CATCHING_UP,
        Health.DEGRADED,
        "rebuild",
    ),
    (
        node("mse1", config(Mode.SYNC), witness=replace(SILENT, id="witness")),
        Role.PRIMARY,
        Sync.SYNC,
        Health.DEGRADED,
        "none",
    ),
    (
        node("mse1", config(Mode.SYNC), net=NetView(Address.CONFLICT)),
        Role.PRIMARY,
        Sync.SYNC,
        Health.FAILED,
        "none",
    ),
    (
        node("mse1", config(Mode.SYNC), operation=operation(OperationKind.HANDOVER)),
        Role.PRIMARY,
        Sync.SYNC,
        Health.OK,
        "handover",
    ),
    (node("mse1", config(Mode.PINNED, voters=TWO)), Role.PRIMARY, Sync.SYNC, Health.OK, "none"),
    (
        node("mse1", config(voters=VOTERS[:1]), db=replace(SERVES, peer_streaming=False)),
        Role.PRIMARY,
        Sync.ALONE,
        Health.OK,
        "none",
    ),
    (node("mse2", None), Role.NONE, Sync.NONE, Health.OK, "none"),
]


@pytest.mark.parametrize(("n", "role", "sync", "health", "operation_name"), FIELDS)
def test_the_four_fields(
    n: Node, role: Role, sync: Sync, *, health: Health, operation_name: str
) -> None:
    found = names(n)
    assert (found.role, found.sync, found.health) == (role, sync, health)
    assert found.operation == operation_name
