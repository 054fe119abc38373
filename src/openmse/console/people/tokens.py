"""Tokens of programs: listed, made and ended; pages and the API use the same functions. Blocking.

A token's scope is a role: it may what that role may, and never more than its owner at that moment.
A token may make others and end them, within its own scope and for no longer than itself.
"""

from dataclasses import dataclass

from fastapi import Request

from openmse.console.context import Console
from openmse.console.errors import FormError, NotFound
from openmse.console.people.roles import Principal, Role
from openmse.console.people.secrets import TOKEN_PREFIX, new_secret
from openmse.console.people.users import role_of
from openmse.console.store.people import Token
from openmse.console.store.store import now

DAYS_MAX = 3650
NAME_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWish:
    """A token as it is asked for; ``days`` as typed, '' for no end."""

    name: str
    role: str
    days: str


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was made; only this has the secret."""

    token: Token
    secret: str


def own_tokens(console: Console, principal: Principal) -> list[Token]:
    """The tokens of whoever asks, the newest first."""
    return [token for token in console.people.tokens() if token.user_id == principal.user_id]


def make_token(
    console: Console, request: Request, principal: Principal, wish: TokenWish
) -> NewToken:
    """Make and note it; raises FormError, and then nothing has changed."""
    role, name = role_of({"role": wish.role}), wish.name.strip()[:NAME_MAX]
    if not name or not name.isprintable():
        raise FormError({"name": "A name tells later what the token is for."})
    if not principal.may(role):
        raise FormError({"role": "Not more than your own role."})
    ends_at = _end_of(wish.days)
    if principal.ends_at and (not ends_at or ends_at > principal.ends_at):
        raise FormError({"days": "A token makes none that lasts longer than itself."})
    secret = new_secret(TOKEN_PREFIX)
    token_id = console.people.add_token(secret, name, role, principal.user_id, ends_at)
    console.note(request, principal, "add token", target=name, detail=role.value)
    (made,) = (token for token in console.people.tokens() if token.id == token_id)
    return NewToken(made, secret)


def end_token(console: Console, request: Request, principal: Principal, token_id: int) -> Token:
    """End a token, one's own or anybody's for administrators; raises NotFound."""
    found = next((token for token in console.people.tokens() if token.id == token_id), None)
    if found is None or not _may_end(principal, found):
        raise NotFound("There is no such token of yours.")
    console.people.remove_token(token_id)
    console.note(request, principal, "remove token", target=found.name)
    return found


def _may_end(principal: Principal, token: Token) -> bool:
    """A person always ends what is theirs; a token nothing that reaches further than it does."""
    is_own = token.user_id == principal.user_id
    reaches = principal.kind == "user" or principal.may(token.role)
    return (is_own and reaches) or principal.may(Role.ADMINISTRATOR)


def _end_of(days: str) -> str:
    """When a token ends, '' for never; raises FormError."""
    if not days:
        return ""
    if not (days.isdecimal() and len(days) <= 4 and 0 < int(days) <= DAYS_MAX):
        raise FormError({"days": "1 to 3650, or empty for no end."})
    return now(int(days) * 86400)
