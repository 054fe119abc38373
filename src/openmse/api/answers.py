"""The bodies of answers that are no other module's values, and how all are sent and described."""

from typing import Any

import msgspec
from fastapi import Response
from msgspec import Struct

from openmse.api.audit import AuditEntry
from openmse.api.operations import Operation
from openmse.api.people import Console, Token, User
from openmse.cli.doctor import Finding
from openmse.cli.drill import Report

_encoder = msgspec.json.Encoder()


class Hello(Struct, frozen=True, kw_only=True):
    """What anybody may know."""

    product: str
    api: int
    fingerprint: str


class Me(Struct, frozen=True, kw_only=True):
    """Who asks."""

    kind: str
    name: str
    scope: str
    token_id: str | None


class ReadmissionView(Struct, frozen=True, kw_only=True):
    """Whether the owner waits for a new machine; all is empty where it does not."""

    is_waiting: bool = False
    lost: str = ""
    """The node whose place the new machine takes."""
    recover_from: str = ""
    """The address for ``mse setup --recover-from`` on the new machine."""
    until: str = ""
    """ISO 8601, UTC."""


class Findings(Struct, frozen=True, kw_only=True):
    """What the doctor found, the most pressing first."""

    worst: str
    findings: tuple[Finding, ...]


class JournalFile(Struct, frozen=True, kw_only=True):
    """One file of the decision journal."""

    name: str
    size_bytes: int
    changed_at: str


class JournalView(Struct, frozen=True, kw_only=True):
    """The decision journal; ``is_flushed``: the health monitor has just written all of it."""

    is_flushed: bool
    files: tuple[JournalFile, ...]


class Drills(Struct, frozen=True):
    """Reports of rehearsals, newest first."""

    drills: tuple[Report, ...]


class Operations(Struct, frozen=True):
    """Operations, newest first."""

    operations: tuple[Operation, ...]
    key: str = ""
    """The Idempotency-Key that was asked for: only what this caller began with it is told."""


class ConsoleView(Struct, frozen=True, kw_only=True):
    """A console that manages this engine."""

    id: str
    name: str
    url: str
    claimed_at: str
    claimed_by: str

    @classmethod
    def of(cls, console: Console) -> "ConsoleView":
        """Without its token."""
        return cls(
            id=console.id,
            name=console.name,
            url=console.url,
            claimed_at=console.claimed_at,
            claimed_by=console.claimed_by,
        )


class ClaimView(Struct, frozen=True, kw_only=True):
    """Who manages this engine; in the stream ``is_you`` is always false."""

    console: ConsoleView | None
    is_you: bool


class Claimed(Struct, frozen=True, kw_only=True):
    """The answer to a claim; the token is shown this once."""

    console: ConsoleView
    token: str
    token_id: str


class UserView(Struct, frozen=True, kw_only=True):
    """A user without what is kept of the password."""

    name: str
    role: str
    changed_at: str

    @classmethod
    def of(cls, user: User) -> "UserView":
        """Without the hash."""
        return cls(name=user.name, role=user.role.value, changed_at=user.changed_at)


class UsersView(Struct, frozen=True):
    """All users."""

    users: tuple[UserView, ...]


class TokenView(Struct, frozen=True, kw_only=True):
    """A token without what is kept of it."""

    id: str
    name: str
    scope: str
    created_at: str
    created_by: str
    expires_at: str | None
    is_console: bool

    @classmethod
    def of(cls, token: Token) -> "TokenView":
        """Without the hash."""
        return cls(
            id=token.id,
            name=token.name,
            scope=token.scope.value,
            created_at=token.created_at,
            created_by=token.created_by,
            expires_at=token.expires_at,
            is_console=bool(token.console),
        )


class TokensView(Struct, frozen=True):
    """All tokens that have not been revoked."""

    tokens: tuple[TokenView, ...]


class NewToken(Struct, frozen=True, kw_only=True):
    """A token that was made; ``token`` is shown this once."""

    token: str
    id: str
    name: str
    scope: str
    expires_at: str | None


class AuditView(Struct, frozen=True):
    """Who changed what, newest first."""

    entries: tuple[AuditEntry, ...]


class JsonResponse(Response):
    """A msgspec value, or JSON bytes, as the body."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The value as JSON; bytes are JSON already."""
        return content if isinstance(content, bytes) else _encoder.encode(content)


def described(kind: type[Struct], status: int = 200, also: str = "") -> dict[str, Any]:
    """Arguments of a route that tell OpenAPI what it answers."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    words = (kind.__doc__ or "").strip().splitlines()[0]
    content = {"application/json": {"schema": schema}}
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": also or words, "content": content}
    }
    return {"response_class": JsonResponse, "responses": responses}
