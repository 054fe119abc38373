"""``/api/v1`` for people: oneself, tokens, users, and the audit."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from openmse.console.api.described import ERRORS, FILE_ERRORS, SECURITY, CsvResponse, Strict
from openmse.console.context import console_of
from openmse.console.errors import FormError, RoleTooLow
from openmse.console.lookback import table
from openmse.console.people.access import Administrator, Viewer
from openmse.console.people.login import change_own_password
from openmse.console.people.roles import Role
from openmse.console.people.tokens import TokenWish, end_token, make_token, own_tokens
from openmse.console.people.users import add_user, change_user
from openmse.console.store.audit import AuditEntry, AuditQuery
from openmse.console.store.people import Token
from openmse.console.store.store import now

router = APIRouter(prefix="/api/v1", tags=["people"], responses=ERRORS, dependencies=SECURITY)
AUDIT_COLUMNS = ("id", "at", "who", "role", "address", "action", "target", "outcome", "detail")
AUDIT_MAX = 5000


class MeOut(BaseModel):
    """Whoever asks."""

    name: str
    kind: str = Field(description="user or token")
    user: str = Field(description="the user, also behind a token")
    role: str = Field(description="what holds now: a token's never exceeds its owner's")
    ends_at: str | None = Field(description="of a token; null for no end")


class PasswordIn(Strict):
    """One's own new password."""

    old_password: str
    password: str


class TokenIn(Strict):
    """A token for a program. Its scope is a role, not above one's own."""

    name: str = Field(description="what it is for")
    role: str = Field(description="viewer, operator or administrator")
    days: int | None = Field(90, description="1 to 3650; null for no end")


class TokenOut(BaseModel):
    """A token; its value is told once, when it is made."""

    id: int
    name: str
    role: str
    owner: str
    created_at: str
    ends_at: str | None
    used_at: str | None


class NewTokenOut(TokenOut):
    """A token that was made just now."""

    token: str = Field(description="the value; it is told only now")


class TokensOut(BaseModel):
    """Tokens, the newest first."""

    tokens: list[TokenOut]


class UserIn(Strict):
    """A new user."""

    name: str
    password: str
    role: str


class UserChange(Strict):
    """What is to be another; what is left out stays."""

    role: str | None = None
    password: str | None = None
    is_disabled: bool | None = None


class UserOut(BaseModel):
    """A user; no hash ever leaves the store."""

    name: str
    role: str
    is_disabled: bool
    created_at: str
    seen_at: str | None


class UsersOut(BaseModel):
    """Everybody who may log in, by name."""

    users: list[UserOut]


class NewUserOut(BaseModel):
    """A user who was added."""

    name: str
    role: str


class AuditFilter(BaseModel):
    """Which entries; what is left out means any."""

    who: str = ""
    action: str = ""
    text: str = Field("", description="a part of who, target or detail")
    before: int = Field(0, description="an id; for paging")
    limit: int = Field(100, description="5000 at most")


class AuditFileFilter(AuditFilter):
    """The same for a file."""

    limit: int = Field(AUDIT_MAX, description="5000 at most")


class AuditOut(BaseModel):
    """One entry."""

    id: int
    at: str
    who: str
    role: str
    address: str
    action: str
    target: str
    outcome: str = Field(description="begun, done, refused, failed or lost")
    detail: str


class AuditsOut(BaseModel):
    """Entries, newest first."""

    entries: list[AuditOut]


@router.get("/me")
async def me(_request: Request, principal: Viewer) -> MeOut:
    """Who asks, and how far that reaches."""
    return MeOut(
        name=principal.name,
        kind=principal.kind,
        user=principal.user_name,
        role=principal.role.value,
        ends_at=principal.ends_at or None,
    )


@router.put("/me/password", status_code=204)
async def change_password(request: Request, principal: Viewer, body: PasswordIn) -> Response:
    """One's own new password; all sessions end, tokens go on."""
    console, form = console_of(request), body.model_dump()
    await asyncio.to_thread(change_own_password, console, request, principal, form)
    return Response(status_code=204)


@router.get("/tokens")
async def tokens(request: Request, principal: Viewer, everybody: bool = False) -> TokensOut:
    """One's own tokens; with ``everybody`` all there are, for administrators."""
    console = console_of(request)
    if everybody and not principal.may(Role.ADMINISTRATOR):
        raise RoleTooLow(
            f"The tokens of others need the role administrator; {principal.name} is "
            f"{principal.role.value}.",
            "Leave out 'everybody' for your own.",
        )
    if everybody:
        found = await asyncio.to_thread(console.people.tokens)
    else:
        found = await asyncio.to_thread(own_tokens, console, principal)
    return TokensOut(tokens=[_token_out(token) for token in found])


@router.post("/tokens", status_code=201)
async def add_token(request: Request, principal: Viewer, body: TokenIn) -> NewTokenOut:
    """Make a token; its value is in this answer only. A token makes none that reaches further or
    lasts longer than itself."""
    days = "" if body.days is None else str(body.days)
    wish = TokenWish(name=body.name, role=body.role, days=days)
    console = console_of(request)
    made = await asyncio.to_thread(make_token, console, request, principal, wish)
    return NewTokenOut(**_token_out(made.token).model_dump(), token=made.secret)


@router.delete("/tokens/{token_id}", status_code=204)
async def remove_token(request: Request, principal: Viewer, token_id: int) -> Response:
    """End a token at once: one's own, or anybody's for administrators."""
    await asyncio.to_thread(end_token, console_of(request), request, principal, token_id)
    return Response(status_code=204)


@router.get("/users")
async def users(request: Request, _principal: Administrator) -> UsersOut:
    """Everybody who may log in."""
    found = await asyncio.to_thread(console_of(request).people.all)
    rows = [
        UserOut(
            name=user.name,
            role=user.role.value,
            is_disabled=user.is_disabled,
            created_at=user.created_at,
            seen_at=user.seen_at or None,
        )
        for user in found
    ]
    return UsersOut(users=rows)


@router.post("/users", status_code=201)
async def new_user(request: Request, principal: Administrator, body: UserIn) -> NewUserOut:
    """A new user."""
    role = await add_user(console_of(request), request, principal, body.model_dump())
    return NewUserOut(name=body.name, role=role.value)


@router.patch("/users/{name}", status_code=204)
async def edit_user(
    request: Request, principal: Administrator, name: str, body: UserChange
) -> Response:
    """Another role, another password, or shut out (and let in again)."""
    form = {"role": body.role or "", "password": body.password or ""}
    if body.is_disabled is not None:
        form["disable"] = "yes" if body.is_disabled else "no"
    if not any(form.values()):
        raise FormError({}, "Nothing was given that could be changed.")
    await change_user(console_of(request), request, principal, name, form)
    return Response(status_code=204)


@router.delete("/users/{name}", status_code=204)
async def remove_user(request: Request, principal: Administrator, name: str) -> Response:
    """Remove a user with all tokens; never the last administrator."""
    await change_user(console_of(request), request, principal, name, {"remove": name})
    return Response(status_code=204)


@router.get("/audit")
async def audit(
    request: Request, _principal: Administrator, given: Annotated[AuditFilter, Query()]
) -> AuditsOut:
    """Who did what, newest first."""
    entries = await _entries(request, given)
    rows = [{name: getattr(entry, name) for name in AUDIT_COLUMNS} for entry in entries]
    return AuditsOut(entries=[AuditOut(**row) for row in rows])


@router.get("/audit.csv", response_class=CsvResponse, responses=FILE_ERRORS)
async def audit_file(
    request: Request, _principal: Administrator, given: Annotated[AuditFileFilter, Query()]
) -> Response:
    """The same as a file for spreadsheets."""
    entries = await _entries(request, given)
    return CsvResponse.named(f"audit-{now()[:10]}.csv", table(AUDIT_COLUMNS, entries))


async def _entries(request: Request, given: AuditFilter) -> list[AuditEntry]:
    wanted = AuditQuery(
        who=given.who[:80],
        action=given.action[:64],
        text=given.text[:100],
        before=max(given.before, 0),
        limit=given.limit,
    )
    return await asyncio.to_thread(console_of(request).audit.find, wanted)


def _token_out(token: Token) -> TokenOut:
    return TokenOut(
        id=token.id,
        name=token.name,
        role=token.role.value,
        owner=token.owner,
        created_at=token.created_at,
        ends_at=token.expires_at or None,
        used_at=token.used_at or None,
    )
