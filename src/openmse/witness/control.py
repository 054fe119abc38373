"""What ``mse witness`` asks of the running process, over its control socket."""

from typing import Any

import msgspec
from msgspec import Struct

from openmse.errors import ControlError
from openmse.ha.values import SECOND
from openmse.node.control.protocol import Request
from openmse.node.control.server import Caller, Emit
from openmse.node.runtime.clock import now
from openmse.witness.server import WitnessServer

SLOW_DISK_NS = 1 * SECOND
"""A write that takes longer is told."""


class ForgetArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """Of the command ``forget``."""

    group: str


class NodeRow(Struct, frozen=True):
    """A node of a group. ``heard_s``: seconds since it was last heard; None if never."""

    name: str
    heard_s: float | None
    is_linked: bool


class GroupRow(Struct, frozen=True):
    """A group as people want to see it. ``trouble``: a sentence, or ''."""

    group: str
    is_served: bool
    trouble: str
    owner: str | None = None
    mode: str | None = None
    term: int | None = None
    epoch: int | None = None
    incarnation: str = ""
    boot: int = 0
    bound_to: str | None = None
    """The owner whose lease binds this vote now."""
    bound_s: float = 0.0
    abstains_s: float = 0.0
    """For how long it votes for no change of owner, after its restart."""
    nodes: tuple[NodeRow, ...] = ()


class GroupsAnswer(Struct, frozen=True):
    """Of the command ``groups``. ``addresses``: where it really listens."""

    witness: str
    addresses: dict[str, tuple[str, int]]
    groups: tuple[GroupRow, ...]
    rejected_datagrams: dict[str, int]


class WitnessCommands:
    """Answers the control socket."""

    def __init__(
        self, name: str, server: WitnessServer, addresses: dict[str, tuple[str, int]]
    ) -> None:
        self._name = name
        self._server = server
        self._addresses = addresses

    def is_change(self, command: str) -> bool:
        """Whether the command changes anything."""
        if command not in ("groups", "forget"):
            raise ControlError(f"The witness knows no command '{command}'.", code="MSE-CTL-012")
        return command == "forget"

    async def handle(self, request: Request, caller: Caller, emit: Emit) -> Any:
        """Do it. Raises MseError."""
        if request.command == "groups":
            rows = tuple(row_of(self._server, name) for name in self._server.names)
            rejected = dict(self._server.udp.rejected)
            return GroupsAnswer(self._name, self._addresses, rows, rejected)
        try:
            args = msgspec.json.decode(request.args, type=ForgetArgs)
        except msgspec.MsgspecError as error:
            raise ControlError(f"'forget' needs a group: {error}.") from error
        await self._server.forget(args.group)
        return {"sentence": f"Group {args.group} is forgotten; its record and keys are removed."}


def row_of(server: WitnessServer, group: str) -> GroupRow:
    """A group as it is now."""
    trouble, voter = server.trouble(group), server.voter(group)
    sentence = trouble.sentence if trouble else ""
    if voter is None:
        return GroupRow(group, False, sentence)
    if not sentence and voter.writing_ns > SLOW_DISK_NS:
        sentence = (
            f"The disk has not finished a write for {voter.writing_ns / SECOND:.1f} s; this group "
            "is not answered meanwhile."
        )
    at, state = now(), voter.state
    record, bond = state.record, state.bond
    known = record.known
    is_bound = bond.until > at
    heard = voter.last_heard
    return GroupRow(
        group,
        True,
        sentence,
        owner=known.owner if known else None,
        mode=known.mode if known else None,
        term=known.term if known else None,
        epoch=known.epoch if known else None,
        incarnation=record.incarnation,
        boot=record.boot,
        bound_to=bond.owner if is_bound else None,
        bound_s=max(0.0, (bond.until - at) / SECOND),
        abstains_s=max(0.0, (bond.abstains_until - at) / SECOND),
        nodes=tuple(
            NodeRow(
                name,
                round((at - heard[name]) / SECOND, 3) if name in heard else None,
                server.mesh.is_up(group, name),
            )
            for name in server.nodes(group)
        ),
    )
