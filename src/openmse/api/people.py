"""Users with passwords, tokens with scopes, and the console that manages this engine: on disk.

Passwords are kept as argon2id hashes; tokens carry 256 random bits, so a plain SHA-256 of them is
enough. The three files are shared with ``mse admin`` (store.py).
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from msgspec import Struct
from msgspec.structs import replace

from openmse.api.errors import ClaimedByAnother, LastAdministrator, NotFound, TooMuchAtOnce
from openmse.api.store import JsonFile, ManagementPlaces
from openmse.errors import UsageError
from openmse.node.runtime.event_log import wall_now

MAX_USERS = 100
MAX_TOKENS = 200
MAX_REPLACED = 32
MIN_PASSWORD = 8
MAX_PASSWORD = 256
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.@-]{0,62}[A-Za-z0-9])?")
CONSOLE_ID = re.compile(r"[A-Za-z0-9_.-]{8,64}")

_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""OWASP, Password Storage Cheat Sheet: argon2id with 19 MiB, two passes, one lane. A machine that
must not be late with its heartbeats gives no more to a stranger's guess."""


class Scope(StrEnum):
    """How far credentials reach; each holds the ones before it."""

    READ = "read"
    OPERATE = "operate"
    ADMINISTER = "administer"

    def reaches(self, wanted: "Scope") -> bool:
        """Whether this is enough where ``wanted`` is needed."""
        order = list(Scope)
        return order.index(self) >= order.index(wanted)


class Role(StrEnum):
    """What a user is; each stands for a scope."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"

    @property
    def scope(self) -> Scope:
        """What users of this role may do."""
        return {
            Role.VIEWER: Scope.READ,
            Role.OPERATOR: Scope.OPERATE,
            Role.ADMINISTRATOR: Scope.ADMINISTER,
        }[self]


class User(Struct, frozen=True, kw_only=True):
    """Somebody with a password."""

    name: str
    role: Role
    hash: str
    changed_at: str

    def __repr__(self) -> str:
        return f"User({self.name!r}, {self.role.value})"


class Users(Struct, frozen=True):
    """The file of users."""

    users: tuple[User, ...] = ()
    format: int = 1

    def get(self, name: str) -> User | None:
        """The user of that name."""
        return next((user for user in self.users if user.name == name), None)


class Token(Struct, frozen=True, kw_only=True):
    """A token, of which only the hash is known. ``console``: the id of the console it is for."""

    id: str
    name: str
    scope: Scope
    hash: str
    created_at: str
    created_by: str
    expires_at: str | None = None
    console: str = ""

    def __repr__(self) -> str:
        return f"Token({self.id!r}, {self.scope.value})"


class Tokens(Struct, frozen=True):
    """The file of tokens."""

    tokens: tuple[Token, ...] = ()
    format: int = 1

    def get(self, token_id: str) -> Token | None:
        """The token of that id."""
        return next((token for token in self.tokens if token.id == token_id), None)


class Console(Struct, frozen=True, kw_only=True):
    """A console that manages, or managed, this engine."""

    id: str
    name: str
    url: str
    claimed_at: str
    claimed_by: str
    token: Token


class Claim(Struct, frozen=True):
    """The file of the claim; ``replaced``: earlier consoles, the newest first, to be told so."""

    console: Console | None = None
    replaced: tuple[Console, ...] = ()
    format: int = 1


class Secret(Struct, frozen=True):
    """A new token: what is kept of it, and what is shown once."""

    token: Token
    text: str

    def __repr__(self) -> str:
        return f"Secret({self.token!r})"


class People:
    """The three files, with every rule that holds for them."""

    def __init__(self, places: ManagementPlaces) -> None:
        self.users = JsonFile(places.users, Users(), places.lock)
        self.tokens = JsonFile(places.tokens, Tokens(), places.lock)
        self.claim = JsonFile(places.claim, Claim(), places.lock)

    # -- users ------------------------------------------------------------------------------

    def set_user(self, name: str, role: Role | None, password: str | None) -> str:
        """Make a user, or change one; a sentence. Raises UsageError or LastAdministrator."""
        if not NAME.fullmatch(name):
            raise UsageError(
                "A user's name has 1 to 64 letters, digits, '_', '.', '@' or '-' and begins and "
                "ends with a letter or a digit; nothing was changed."
            )
        hashed = hash_password(password) if password is not None else None

        def edit(users: Users) -> tuple[Users, str]:
            found = users.get(name)
            if found is None and (hashed is None or role is None):
                raise UsageError(
                    f"There is no user '{name}' yet, so both a role and a password are needed; "
                    "nothing was changed."
                )
            if found is None and len(users.users) >= MAX_USERS:
                raise TooMuchAtOnce(f"There are {MAX_USERS} users already; nothing was changed.")
            user = User(
                name=name,
                role=role or (found.role if found else Role.VIEWER),
                hash=hashed or (found.hash if found else ""),
                changed_at=wall_now(),
            )
            others = tuple(one for one in users.users if one.name != name)
            if found is not None and found.role is Role.ADMINISTRATOR:
                _keep_one_administrator((*others, user), name)
            verb = "is changed" if found is not None else "is made"
            sentence = f"User {name} {verb} ({user.role.value})."
            return replace(users, users=_sorted((*others, user))), sentence

        return self.users.change(edit)

    def remove_user(self, name: str) -> int:
        """Remove a user with the tokens that he made; how many those were. Raises NotFound or
        LastAdministrator."""

        def edit(users: Users) -> tuple[Users, None]:
            if users.get(name) is None:
                raise NotFound(f"There is no user '{name}'; nothing was changed.")
            others = tuple(one for one in users.users if one.name != name)
            _keep_one_administrator(others, name)
            return replace(users, users=others), None

        def edit_tokens(tokens: Tokens) -> tuple[Tokens, int]:
            others = tuple(one for one in tokens.tokens if owner_of(one) != name)
            return replace(tokens, tokens=others), len(tokens.tokens) - len(others)

        self.users.change(edit)  # from here on they are worth nothing (Authenticator)
        return self.tokens.change(edit_tokens)

    # -- tokens -----------------------------------------------------------------------------

    def make_token(self, name: str, scope: Scope, by: str, expires_in_days: int | None) -> Secret:
        """Make a token; its text is told this once. Raises UsageError or TooMuchAtOnce."""
        secret = new_token(name, scope, by, expires_in_days=expires_in_days)

        def edit(tokens: Tokens) -> tuple[Tokens, None]:
            kept = tuple(one for one in tokens.tokens if not is_expired(one, wall_now()))
            if len(kept) >= MAX_TOKENS:
                raise TooMuchAtOnce(
                    f"There are {MAX_TOKENS} tokens already; nothing was changed.",
                    "Revoke those that are not used any more.",
                )
            return replace(tokens, tokens=(*kept, secret.token)), None

        self.tokens.change(edit)
        return secret

    def revoke_token(self, token_id: str) -> None:
        """End a token; raises NotFound."""

        def edit(tokens: Tokens) -> tuple[Tokens, None]:
            if tokens.get(token_id) is None:
                raise NotFound(
                    f"There is no token '{token_id}'; nothing was changed.",
                    "A console's own token ends with its claim ('mse admin console release').",
                )
            rest = tuple(one for one in tokens.tokens if one.id != token_id)
            return replace(tokens, tokens=rest), None

        self.tokens.change(edit)

    # -- the console ------------------------------------------------------------------------

    def claim_console(self, wanted: Console, *, is_forced: bool) -> None:
        """Let a console manage this engine, durably; raises ClaimedByAnother.

        Its earlier token, if it has one, ends; so does a replaced console's.
        """

        def edit(claim: Claim) -> tuple[Claim, None]:
            before = claim.console
            if before is not None and before.id != wanted.id and not is_forced:
                where = before.url or "no address given"
                raise ClaimedByAnother(
                    f"This engine is managed by the console '{before.name}' ({where}) since "
                    f"{before.claimed_at}; nothing was changed.",
                    "Release it there first. If that console is gone for good, claim by force "
                    "(it is told so).",
                )
            replaced = [one for one in claim.replaced if one.id != wanted.id]
            if before is not None and before.id != wanted.id:
                replaced.insert(0, before)
            return Claim(wanted, tuple(replaced[:MAX_REPLACED])), None

        self.claim.change(edit)

    def release_console(self) -> Console | None:
        """Let no console manage this engine; the one that did, None if none did."""

        def edit(claim: Claim) -> tuple[Claim, Console | None]:
            return replace(claim, console=None), claim.console

        return self.claim.change(edit)


def hash_password(password: str) -> str:
    """What is kept of a password; raises UsageError where it is unfit. Takes about 30 ms."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD or not password.isprintable():
        raise UsageError(
            f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} printable characters; nothing was "
            "changed."
        )
    return _hasher.hash(password)


_NOBODY = _hasher.hash(secrets.token_hex(16))


def is_password(user: User | None, password: str) -> bool:
    """Whether it is this user's; takes as long for a user that does not exist."""
    try:
        return _hasher.verify(user.hash if user is not None else _NOBODY, password)
    except (Argon2Error, InvalidHashError):
        return False


def new_token(
    name: str, scope: Scope, by: str, *, expires_in_days: int | None = None, console: str = ""
) -> Secret:
    """A token of 256 random bits, not kept yet."""
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    text = f"mse_{token_id}_{secret}"
    expires_at = None
    if expires_in_days is not None:
        end = datetime.now(UTC) + timedelta(days=expires_in_days)
        expires_at = end.isoformat(timespec="milliseconds")
    token = Token(
        id=token_id,
        name=name,
        scope=scope,
        hash=_digest(text),
        created_at=wall_now(),
        created_by=by,
        expires_at=expires_at,
        console=console,
    )
    return Secret(token, text)


def owner_of(token: Token) -> str:
    """The user who made it, or who had the token that made it; '' where none did: root, or a
    console, whose token is the engine's relation to that console. Pure."""
    match = None if token.console else re.match(r"user (\S+)", token.created_by)
    return match[1] if match else ""


def token_id_of(text: str) -> str:
    """The id within a token's text; '' where it is no token of ours."""
    match = re.fullmatch(r"mse_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", text)
    return match[1] if match else ""


def is_token(token: Token, text: str, now: str) -> bool:
    """Whether ``text`` is this token and it has not ended; ``now``: ISO instant in UTC."""
    return hmac.compare_digest(token.hash, _digest(text)) and not is_expired(token, now)


def is_expired(token: Token, now: str) -> bool:
    """Whether the token has ended."""
    return token.expires_at is not None and token.expires_at <= now


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _keep_one_administrator(left: tuple[User, ...], name: str) -> None:
    if not any(user.role is Role.ADMINISTRATOR for user in left):
        raise LastAdministrator(
            f"{name} is the last administrator; nothing was changed.",
            "Make another one first; or use 'mse admin' on the node.",
        )


def _sorted(users: tuple[User, ...]) -> tuple[User, ...]:
    key: Callable[[User], str] = lambda user: user.name  # noqa: E731
    return tuple(sorted(users, key=key))
