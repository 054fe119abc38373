"""Users, tokens, the console's claim, the audit."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response

from openmse.api.answers import (
    AuditView,
    Claimed,
    ConsoleView,
    JsonResponse,
    NewToken,
    TokensView,
    TokenView,
    UsersView,
    UserView,
    described,
)
from openmse.api.bodies import ClaimBody, Nothing, OwnPasswordBody, TokenBody, UserBody
from openmse.api.context import Context
from openmse.api.errors import NotAllowed
from openmse.api.guards import Administrator, Ctx, Reader, address_of, asked_by
from openmse.api.people import Console, Role, Scope, Secret, new_token
from openmse.api.runner import Asked
from openmse.errors import MseError, UsageError
from openmse.node.runtime.event_log import wall_now

router = APIRouter(prefix="/v1", tags=["people"])
T = TypeVar("T")


async def audited(
    ctx: Context, asked: Asked, action: str, args: dict[str, Any], work: Callable[[], T]
) -> T:
    """Make a small change in a thread, audited before and after. Raises what ``work`` raises."""
    await ctx.runner.record(asked, action, args)
    failure: MseError | None = None
    try:
        return await asyncio.to_thread(work)
    except MseError as error:
        failure = error
        raise
    finally:
        await ctx.runner.record_end(asked, action, args, failure)


@router.post("/console/claim", **described(Claimed))
async def claim(request: Request, ctx: Ctx, who: Administrator, body: ClaimBody) -> JsonResponse:
    """Let a console manage this engine; at most one does."""
    if who.kind == "console" and who.console_id != body.id:
        raise NotAllowed(
            "A console's own token claims for that console only; nothing was changed.",
            "Claim with an administrator's user and password.",
        )
    if body.force and body.confirm != ctx.node.node.name:
        raise UsageError(
            f"'{body.confirm}' was typed to confirm, but this node is '{ctx.node.node.name}'; "
            "nothing was changed.",
            "Type the name of this node to replace the console that manages it.",
        )
    secret = new_token(body.name[:64], Scope.ADMINISTER, str(who), console=body.id)
    wanted = Console(
        id=body.id,
        name=body.name,
        url=body.url,
        claimed_at=wall_now(),
        claimed_by=str(who),
        token=secret.token,
    )
    args = body.model_dump(exclude={"confirm"})
    await audited(
        ctx,
        asked_by(request, who),
        "console_claim",
        args,
        lambda: ctx.people.claim_console(wanted, is_forced=body.force),
    )
    ctx.tell_claim()
    answer = Claimed(console=ConsoleView.of(wanted), token=secret.text, token_id=secret.token.id)
    return JsonResponse(answer)


@router.post("/console/release", status_code=204, response_class=Response)
async def release(
    request: Request, ctx: Ctx, who: Administrator, _body: Nothing | None = None
) -> Response:
    """Let no console manage this engine; ends the console's token."""
    asked = asked_by(request, who)
    await audited(ctx, asked, "console_release", {}, ctx.people.release_console)
    ctx.tell_claim()
    return Response(status_code=204)


@router.get("/users", **described(UsersView))
async def users(ctx: Ctx, _who: Administrator) -> JsonResponse:
    """Who may log in."""
    found = ctx.people.users.read().users
    return JsonResponse(UsersView(tuple(UserView.of(user) for user in found)))


@router.put("/users/{name}", status_code=204, response_class=Response)
async def set_user(
    request: Request, ctx: Ctx, who: Administrator, name: str, body: UserBody
) -> Response:
    """Make a user, or change one's role or password."""
    role = Role(body.role) if body.role is not None else None
    password = body.password.get_secret_value() if body.password is not None else None
    if role is None and password is None:
        raise UsageError("Neither a role nor a password was given; nothing was changed.")
    args = {"name": name[:64], "role": body.role, "is_password_set": password is not None}
    await audited(
        ctx,
        asked_by(request, who),
        "user_set",
        args,
        lambda: ctx.people.set_user(name, role, password),
    )
    return Response(status_code=204)


@router.delete("/users/{name}", status_code=204, response_class=Response)
async def remove_user(request: Request, ctx: Ctx, who: Administrator, name: str) -> Response:
    """Remove a user with the tokens that he made; never the last administrator."""
    asked = asked_by(request, who)
    args = {"name": name[:64]}
    await audited(ctx, asked, "user_remove", args, lambda: ctx.people.remove_user(name))
    return Response(status_code=204)


@router.put("/me/password", status_code=204, response_class=Response)
async def own_password(request: Request, ctx: Ctx, who: Reader, body: OwnPasswordBody) -> Response:
    """A user's own new password."""
    if who.kind != "user":
        raise NotAllowed("Only users have passwords; nothing was changed.")
    address = address_of(request)
    await ctx.authenticator.check_own(who, body.old.get_secret_value(), address)
    args = {"name": who.name, "is_password_set": True}
    await audited(
        ctx,
        asked_by(request, who),
        "user_set",
        args,
        lambda: ctx.people.set_user(who.name, None, body.new.get_secret_value()),
    )
    return Response(status_code=204)


@router.get("/tokens", **described(TokensView))
async def tokens(ctx: Ctx, _who: Administrator) -> JsonResponse:
    """All tokens, the console's own among them; never their text."""
    found = [TokenView.of(token) for token in ctx.people.tokens.read().tokens]
    console = ctx.people.claim.read().console
    if console is not None:
        found.append(TokenView.of(console.token))
    return JsonResponse(TokensView(tuple(found)))


@router.post("/tokens", **described(NewToken, status=201))
async def make_token(
    request: Request, ctx: Ctx, who: Administrator, body: TokenBody
) -> JsonResponse:
    """Make a token; its text is shown this once."""

    def make() -> Secret:
        return ctx.people.make_token(
            body.name, Scope(body.scope), who.as_maker, body.expires_in_days
        )

    asked = asked_by(request, who)
    secret = await audited(ctx, asked, "token_create", body.model_dump(), make)
    token = secret.token
    answer = NewToken(
        token=secret.text,
        id=token.id,
        name=token.name,
        scope=token.scope.value,
        expires_at=token.expires_at,
    )
    return JsonResponse(answer, status_code=201)


@router.delete("/tokens/{token_id}", status_code=204, response_class=Response)
async def revoke_token(request: Request, ctx: Ctx, who: Administrator, token_id: str) -> Response:
    """End a token."""
    asked = asked_by(request, who)
    args = {"id": token_id[:64]}
    await audited(ctx, asked, "token_revoke", args, lambda: ctx.people.revoke_token(token_id))
    return Response(status_code=204)


@router.get("/audit", **described(AuditView))
async def audit(
    ctx: Ctx, _who: Administrator, limit: Annotated[int, Query(ge=1, le=1000)] = 200
) -> JsonResponse:
    """Who changed what, the newest first."""
    async with ctx.reading():
        found = await asyncio.to_thread(ctx.audit.newest, limit)
    return JsonResponse(AuditView(tuple(found)))
