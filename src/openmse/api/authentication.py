"""From the header ``Authorization`` to a principal, or to a refusal that gives nothing away."""

import asyncio
import base64
import binascii
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

from openmse.api.errors import ClaimLost, GuessesExhausted, NotAuthenticated, TooMuchAtOnce
from openmse.api.guesses import Guesses
from openmse.api.people import (
    Console,
    People,
    Scope,
    Token,
    User,
    is_expired,
    is_password,
    is_token,
    owner_of,
    token_id_of,
)
from openmse.node.runtime.event_log import wall_now

MAX_HEADER = 1024
MAX_WAITING = 8
"""Passwords that wait to be checked; one is checked at a time."""
REMEMBERED_S = 300.0
MAX_REMEMBERED = 64


class Principal(Struct, frozen=True, kw_only=True):
    """Who asks. ``kind``: user, token or console."""

    kind: str
    name: str
    scope: Scope
    token_id: str | None = None
    console_id: str = ""
    since: str = ""
    """For a user: the state of the account that let him in."""
    owner: str = ""
    """For a token: the user behind it, if one is."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def as_maker(self) -> str:
        """As a token that it makes has it: with the user who is behind it (``owner_of``)."""
        return f"user {self.owner} ({self})" if self.owner else str(self)


class Authenticator:
    """Checks credentials against the files of ``people``."""

    def __init__(self, people: People) -> None:
        self._people = people
        self.guesses = Guesses()
        self.on_refusal: Callable[[str, str, float], None] | None = None
        """Told of each wait that wrong guesses have earned: address, user or '', seconds."""
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._pepper = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()

    async def principal(self, header: str, address: str) -> Principal:
        """Who asks; raises NotAuthenticated, GuessesExhausted, ClaimLost or TooMuchAtOnce."""
        kind, _, value = header.strip().partition(" ")
        if not value or len(header) > MAX_HEADER:
            raise _nobody()
        if kind.lower() == "bearer":
            return self._bearer(value.strip(), address)
        if kind.lower() == "basic":
            user, password = _basic(value.strip())
            self._refuse_if_exhausted(address, user)
            return await self._basic_user(user, password, address)
        raise _nobody()

    def is_valid(self, principal: Principal) -> bool:
        """Whether what let it in still would: for streams, which outlive a request."""
        if principal.kind == "user":
            user = self._people.users.read().get(principal.name)
            return user is not None and user.changed_at == principal.since
        token = self._token(principal.token_id or "")
        return (
            token is not None
            and not is_expired(token, wall_now())
            and self._scope_of(token) is not None
        )

    # -- tokens -----------------------------------------------------------------------------

    def _bearer(self, text: str, address: str) -> Principal:
        token_id = token_id_of(text)
        token = self._token(token_id) if token_id else None
        scope = self._scope_of(token) if token is not None else None
        if token is not None and scope is not None and is_token(token, text, wall_now()):
            # Nobody guesses 256 bits: to keep a right one out would help only whoever wants to cut
            # a console off by guessing beside it; and it says nothing of who guesses passwords.
            return _of_token(token, scope)
        self._tell_if_replaced(token_id, text)
        self._refuse_if_exhausted(address, "")
        self._count_wrong(address, "")
        raise NotAuthenticated(
            "The token is not valid: it is wrong, has ended, or was revoked.",
            "An administrator makes a new one; a console claims the engine again.",
        )

    def _token(self, token_id: str) -> Token | None:
        console = self._people.claim.read().console
        if console is not None and console.token.id == token_id:
            return console.token
        return self._people.tokens.read().get(token_id)

    def _scope_of(self, token: Token) -> Scope | None:
        """How far it reaches: never further than its owner may now; None where he is gone."""
        owner = owner_of(token)
        if not owner:
            return token.scope
        user = self._people.users.read().get(owner)
        if user is None:
            return None
        return token.scope if user.role.scope.reaches(token.scope) else user.role.scope

    def _tell_if_replaced(self, token_id: str, text: str) -> None:
        claim = self._people.claim.read()
        for old in claim.replaced:
            if old.token.id == token_id and is_token(old.token, text, wall_now()):
                raise ClaimLost(_replaced_by(claim.console))

    # -- users ------------------------------------------------------------------------------

    async def _basic_user(self, name: str, password: str, address: str) -> Principal:
        user = self._people.users.read().get(name)
        is_right = self._is_remembered(user, password)
        if not is_right:
            is_right = await self._check(user, password)
            # Others may have been counted while this one waited for its turn.
            self._refuse_if_exhausted(address, name)
        if user is None or not is_right:
            self._count_wrong(address, name)
            raise NotAuthenticated(
                "The user name or the password is wrong.",
                "'mse admin password' on the node makes a user or sets a new password.",
            )
        self.guesses.right(address, name)
        return Principal(kind="user", name=name, scope=user.role.scope, since=user.changed_at)

    async def check_own(self, principal: Principal, password: str, address: str) -> None:
        """Whether a user knows his own password; raises as ``principal`` does."""
        self._refuse_if_exhausted(address, principal.name)
        await self._basic_user(principal.name, password, address)

    async def _check(self, user: User | None, password: str) -> bool:
        if self._waiting >= MAX_WAITING:
            raise TooMuchAtOnce("Too many passwords wait to be checked.", "Try again in a second.")
        self._waiting += 1
        try:
            async with self._turn:
                is_right = await asyncio.to_thread(is_password, user, password)
        finally:
            self._waiting -= 1
        if is_right and user is not None:
            self._remember(user, password)
        return is_right

    def _mark(self, user: User, password: str) -> bytes:
        text = f"{user.name}\0{user.hash}\0{password}".encode()
        return hmac.digest(self._pepper, text, "sha256")

    def _is_remembered(self, user: User | None, password: str) -> bool:
        """Whether this password was right a short while ago: argon2 is meant to be slow."""
        if user is None:
            return False
        until_s = self._remembered.get(self._mark(user, password), 0.0)
        return until_s > time.monotonic()

    def _remember(self, user: User, password: str) -> None:
        while len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        self._remembered[self._mark(user, password)] = time.monotonic() + REMEMBERED_S

    # -- guesses ----------------------------------------------------------------------------

    def _refuse_if_exhausted(self, address: str, user: str) -> None:
        left_s = self.guesses.refused_s(address, user, time.monotonic())
        if left_s > 0:
            raise GuessesExhausted(
                "Too many wrong passwords were tried; for a while all are refused, the right one "
                "too."
                if user
                else "Too many wrong tokens were tried; for a while only a right one is answered.",
                f"Wait {max(1, round(left_s))} s. 'mse' on the node works meanwhile.",
                retry_after_s=left_s,
            )

    def _count_wrong(self, address: str, user: str) -> None:
        wait_s = self.guesses.wrong(address, user, time.monotonic())
        if wait_s > 0 and self.on_refusal is not None:
            self.on_refusal(address, user, wait_s)


def _of_token(token: Token, scope: Scope) -> Principal:
    return Principal(
        kind="console" if token.console else "token",
        name=token.name,
        scope=scope,
        token_id=token.id,
        console_id=token.console,
        owner=owner_of(token),
    )


def _replaced_by(console: Console | None) -> str:
    if console is None:
        return "This engine was claimed by another console, which has released it since."
    where = f" ({console.url})" if console.url else ""
    return (
        f"This engine is managed by another console now: '{console.name}'{where}, since "
        f"{console.claimed_at}, claimed by {console.claimed_by}."
    )


def _basic(value: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _nobody() from error
    name, colon, password = text.partition(":")
    if not colon:
        raise _nobody()
    return name, password


def _nobody() -> NotAuthenticated:
    return NotAuthenticated(
        "This needs credentials: a user with a password (Basic), or a token (Bearer).",
        "'mse admin password' or 'mse admin token create' on the node makes them.",
    )
