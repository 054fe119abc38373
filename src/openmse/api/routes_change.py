"""Everything that moves or changes the pair: each becomes an operation."""

import asyncio
import ipaddress
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from msgspec.structs import replace

from openmse.api.answers import JsonResponse, described
from openmse.api.bodies import (
    DrillBody,
    MaintenanceBody,
    Nothing,
    PairBody,
    PairingPasswordBody,
    ReadmitBody,
    SettingsBody,
    StopBody,
    SwitchoverBody,
    TakeoverBody,
    UnpairBody,
    WitnessBody,
)
from openmse.api.context import Context
from openmse.api.guards import Administrator, Ctx, Key, Operator, asked_by
from openmse.api.monitor import in_thread
from openmse.api.operations import Operation, OperationKind, OperationState
from openmse.api.readmission import look
from openmse.api.runner import Asked, Outcome, Reporter, Work
from openmse.cli.drill import Report, Script, rehearse
from openmse.errors import CommandRefused, MseError, UsageError
from openmse.node.config import NodeConfig, Role
from openmse.node.control.client import ControlClient
from openmse.node.control.commands import (
    MaintenanceArgs,
    PairArgs,
    Progress,
    ReadmitArgs,
    StopArgs,
    SwitchoverArgs,
    TakeoverArgs,
    UnpairArgs,
    WitnessArgs,
)
from openmse.pki.files import write_file
from openmse.pki.password import PairingStore
from openmse.platform import candidate
from openmse.platform.candidate import this_machine

router = APIRouter(prefix="/v1", tags=["changing"])

Wait = Annotated[float, Query(alias="wait_s", ge=0, le=60, allow_inf_nan=False)]
_ANSWER = described(Operation, also="It is over: done or failed.")
_ANSWER["responses"][202] = {
    "description": "It is under way; Location names it.",
    "content": _ANSWER["responses"][200]["content"],
}


class Ask:
    """The parts of a request that every change has."""

    def __init__(self, request: Request, ctx: Ctx, wait_s: Wait = 1.0, key: Key = "") -> None:
        self.request = request
        self.ctx = ctx
        self.wait_s = wait_s
        self.key = key

    def by(self, who: Any) -> Asked:
        """With the principal that the route has let in."""
        return asked_by(self.request, who, self.key)


Asking = Annotated[Ask, Depends(Ask)]


async def _answer(
    ask: Ask, kind: OperationKind, args: dict[str, Any], asked: Asked, work: Work
) -> Response:
    """Begin the operation, wait as long as asked, and tell how it stands."""
    runner = ask.ctx.runner
    operation_id = await runner.begin(kind, args, asked, work)
    operation = await runner.wait_over(operation_id, ask.wait_s)
    location = {"Location": f"/v1/operations/{operation_id}"}
    if operation.state is OperationState.REFUSED and operation.error is not None:
        body = {"error": operation.error}
        return JsonResponse(body, status_code=operation.error.status, headers=location)
    status = 200 if operation.is_over else 202
    return JsonResponse(operation, status_code=status, headers=location)


def _command(ctx: Context, command: str, args: msgspec.Struct | None = None) -> Work:
    """The work of an operation that the health monitor does alone."""

    async def work(reporter: Reporter) -> Outcome:
        def on_step(progress: Progress) -> None:
            reporter.step(progress.step, progress.ms)

        done = await ctx.monitor.perform(command, args, on_step, operator=reporter.by)
        return Outcome(done.sentence)

    return work


def _confirm(node: NodeConfig, typed: str) -> None:
    if typed != node.node.name:
        raise UsageError(
            f"'{typed}' was typed to confirm, but this node is '{node.node.name}'; nothing was "
            "changed.",
            "Type the name of this node.",
        )


@router.post("/ha/switchover", **_ANSWER)
async def switchover(ask: Asking, who: Operator, body: SwitchoverBody) -> Response:
    """Hand the service over, without loss; can be asked on either node."""
    work = _command(ask.ctx, "switchover", SwitchoverArgs(body.to))
    return await _answer(ask, OperationKind.SWITCHOVER, body.model_dump(), ask.by(who), work)


@router.post("/ha/failback", **_ANSWER)
async def failback(ask: Asking, who: Operator, _body: Nothing | None = None) -> Response:
    """Hand the service back to the configured primary, without loss."""
    return await _answer(
        ask, OperationKind.FAILBACK, {}, ask.by(who), _command(ask.ctx, "failback")
    )


@router.post("/ha/maintenance", **_ANSWER)
async def maintenance(ask: Asking, who: Operator, body: MaintenanceBody) -> Response:
    """While on, the owner serves alone and nobody takes over."""
    work = _command(ask.ctx, "maintenance", MaintenanceArgs(body.is_on))
    return await _answer(ask, OperationKind.MAINTENANCE, body.model_dump(), ask.by(who), work)


@router.post("/ha/rejoin", **_ANSWER)
async def rejoin(ask: Asking, who: Operator, _body: Nothing | None = None) -> Response:
    """Leave the quarantine and try the rejoin again."""
    return await _answer(ask, OperationKind.REJOIN, {}, ask.by(who), _command(ask.ctx, "rejoin"))


@router.post("/ha/confirm-alone", **_ANSWER)
async def confirm_alone(ask: Asking, who: Operator, _body: Nothing | None = None) -> Response:
    """Serve although nobody else answered when this node booted (boot_alone = ask)."""
    work = _command(ask.ctx, "confirm_alone")
    return await _answer(ask, OperationKind.CONFIRM_ALONE, {}, ask.by(who), work)


@router.post("/ha/release-protect", **_ANSWER)
async def release_protect(ask: Asking, who: Operator, _body: Nothing | None = None) -> Response:
    """In protect mode: let writes go on without the other node."""
    work = _command(ask.ctx, "release_protect")
    return await _answer(ask, OperationKind.RELEASE_PROTECT, {}, ask.by(who), work)


@router.post("/ha/drill", **_ANSWER)
async def drill(ask: Asking, who: Operator, body: DrillBody) -> Response:
    """A rehearsed switchover and the way back, with a report that is kept."""
    work = _drill(ask.ctx, Script(settle_s=body.settle_s))
    return await _answer(ask, OperationKind.DRILL, body.model_dump(), ask.by(who), work)


def _drill(ctx: Context, script: Script) -> Work:
    async def work(reporter: Reporter) -> Outcome:
        loop = asyncio.get_running_loop()

        def say(text: str) -> None:
            loop.call_soon_threadsafe(reporter.step, text.removesuffix(" …"))

        def run(client: ControlClient) -> Report:
            report = rehearse(client, script, say)
            directory = ctx.node.places.drills
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f") + ".json"
            data = msgspec.json.format(msgspec.json.encode(report))
            write_file(directory / name, data, mode=0o640)
            return report

        report = await ctx.monitor.with_client(run, "drill", operator=reporter.by)
        if report.result == "refused":
            raise CommandRefused(report.sentence, "Mend that first: GET /v1/doctor.")
        state = OperationState.DONE if report.result == "passed" else OperationState.FAILED
        return Outcome(report.sentence, state, report)

    return work


@router.post("/ha/takeover", **_ANSWER)
async def takeover(ask: Asking, who: Administrator, body: TakeoverBody) -> Response:
    """Make this node the owner although the other cannot be asked; may lose data.

    GET shows what would be lost; ``confirm`` is this node's name as a person typed it.
    """
    _confirm(ask.ctx.node, body.confirm)
    work = _command(ask.ctx, "takeover", TakeoverArgs(body.confirm))
    return await _answer(ask, OperationKind.TAKEOVER, body.model_dump(), ask.by(who), work)


@router.post("/ha/pair", **_ANSWER)
async def pair(ask: Asking, who: Administrator, body: PairBody) -> Response:
    """Make a pair of this primary and a secondary, and enrol a witness if one is named."""
    node = ask.ctx.node
    if node.node.role is not Role.PRIMARY:
        raise UsageError(
            f"This node is configured as the {node.node.role.value}; nothing was changed.",
            "Pair from the primary.",
        )
    peer = _ip(body.peer, "peer")
    if peer in (node.node.host, node.node.host6):
        raise UsageError("The peer's address is this node's own; nothing was changed.")
    witness = _witness(body.witness) if body.witness is not None else None
    args = PairArgs(peer, body.password.get_secret_value(), body.pairing_port, witness)
    work = _pair(ask.ctx, args, body.management_port)
    return await _answer(ask, OperationKind.PAIR, _shown(body.model_dump()), ask.by(who), work)


def _pair(ctx: Context, args: PairArgs, management_port: int) -> Work:
    """Ask the secondary what machine it is, and refuse it before anything is changed."""
    pairing = _command(ctx, "pair", args)

    def compare() -> str:
        here = this_machine(ctx.node_path, ctx.node.places.state_dir)
        is_direct = bool(ctx.node.node.direct_host)
        return candidate.compare(here, args.peer, management_port, is_direct=is_direct)

    async def work(reporter: Reporter) -> Outcome:
        unknown = await in_thread(compare, "candidate")
        outcome = await pairing(reporter)
        return replace(outcome, sentence=f"{outcome.sentence} {unknown}".strip())

    return work


@router.post("/ha/readmit", **_ANSWER)
async def readmit(ask: Asking, who: Administrator, body: ReadmitBody) -> Response:
    """Wait for a new machine in place of the other node, which is lost for good."""
    _confirm(ask.ctx.node, body.confirm)
    args = ReadmitArgs(body.password.get_secret_value(), body.valid_for_s)
    shown = {"valid_for_s": body.valid_for_s}
    work = _command(ask.ctx, "readmit", args)
    return await _answer(ask, OperationKind.READMIT, shown, ask.by(who), work)


@router.delete("/ha/readmit", **_ANSWER)
async def cancel_readmission(ask: Asking, who: Administrator) -> Response:
    """Wait no longer: the password is void and the port closed at once."""
    ctx = ask.ctx
    ending = _command(ctx, "readmit_cancel")

    async def work(reporter: Reporter) -> Outcome:
        outcome = await ending(reporter)
        ctx.hub.on_readmission(await in_thread(lambda: look(ctx.node), "readmission"))
        return outcome

    return await _answer(ask, OperationKind.READMIT_CANCEL, {}, ask.by(who), work)


@router.post("/ha/unpair", **_ANSWER)
async def unpair(ask: Asking, who: Administrator, body: UnpairBody) -> Response:
    """Dissolve the pair: the owner goes on unpaired, the other node forgets the group."""
    _confirm(ask.ctx.node, body.confirm)
    work = _command(ask.ctx, "unpair", UnpairArgs(body.without_peer))
    return await _answer(ask, OperationKind.UNPAIR, body.model_dump(), ask.by(who), work)


@router.patch("/ha/settings", **_ANSWER)
async def set_settings(ask: Asking, who: Administrator, body: SettingsBody) -> Response:
    """Change the group's settings: only those that are given."""
    work = _command(ask.ctx, "set_settings", body.args())
    args = body.model_dump(exclude_none=True)
    return await _answer(ask, OperationKind.SETTINGS, args, ask.by(who), work)


@router.put("/ha/witness", **_ANSWER)
async def replace_witness(ask: Asking, who: Administrator, body: WitnessBody) -> Response:
    """Enrol another witness and give it the vote of the present one, or of none."""
    work = _command(ask.ctx, "replace_witness", _witness(body))
    shown = _shown(body.model_dump())
    return await _answer(ask, OperationKind.WITNESS_REPLACE, shown, ask.by(who), work)


@router.delete("/ha/witness", **_ANSWER)
async def remove_witness(
    ask: Asking, who: Administrator, confirm: Annotated[str, Query(max_length=63)]
) -> Response:
    """Go on without a third vote: the owner is pinned, there is no automatic takeover."""
    _confirm(ask.ctx.node, confirm)
    work = _command(ask.ctx, "remove_witness")
    return await _answer(ask, OperationKind.WITNESS_REMOVE, {}, ask.by(who), work)


@router.post("/node/stop", **_ANSWER)
async def stop(ask: Asking, who: Administrator, body: StopBody) -> Response:
    """Stop this node on purpose, PostgreSQL included; nobody takes over unless asked to.

    It stays stopped until its service is started again, or the machine is.
    """
    _confirm(ask.ctx.node, body.confirm)
    work = _command(ask.ctx, "stop", StopArgs(body.handover))
    return await _answer(ask, OperationKind.STOP, body.model_dump(), ask.by(who), work)


@router.put("/node/pairing-password", status_code=204, response_class=Response)
async def pairing_password(
    request: Request, ctx: Ctx, who: Administrator, body: PairingPasswordBody
) -> Response:
    """On a secondary that is not paired: wait for its primary with this password."""
    node = ctx.node
    if node.node.role is not Role.SECONDARY:
        raise UsageError(
            "This node is configured as the primary; only a secondary waits with a password. "
            "Nothing was changed."
        )
    if node.places.group.exists():
        raise CommandRefused(
            "This node is paired already; nothing was changed.", "Dissolve the pair first."
        )
    store = PairingStore(node.places.pairing_password)
    asked = asked_by(request, who)
    await ctx.runner.record(asked, "pairing_password", {})
    failure: MseError | None = None
    try:
        await asyncio.to_thread(store.set_password, body.password.get_secret_value())
    except MseError as error:
        failure = error
        raise
    finally:
        await ctx.runner.record_end(asked, "pairing_password", {}, failure)
    return Response(status_code=204)


def _witness(body: WitnessBody) -> WitnessArgs:
    """A witness as the health monitor takes it; raises UsageError."""
    if body.kind == "etcd":
        if not body.endpoints:
            raise UsageError("An etcd witness needs endpoints; nothing was changed.")
    else:
        _ip(body.address, "address of the witness")
        if not body.password.get_secret_value():
            raise UsageError("A witness is enrolled with its password; nothing was changed.")
    return body.args()


def _ip(text: str, what: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise UsageError(
            f"'{text}' ({what}) is not an IP address; nothing was changed.",
            "Write the machine's own address, without a prefix.",
        ) from error


def _shown(args: dict[str, Any]) -> dict[str, Any]:
    """The arguments without secrets."""
    return {
        key: _shown(value) if isinstance(value, dict) else value
        for key, value in args.items()
        if key != "password"
    }
