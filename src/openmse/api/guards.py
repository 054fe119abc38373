"""What stands before every route: who asks, how far that reaches, and the rules for web pages."""

from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Header, Request

from openmse.api.authentication import Principal
from openmse.api.context import Context
from openmse.api.errors import ForeignPage, NotAllowed, NotAuthenticated
from openmse.api.people import Scope
from openmse.api.runner import Asked
from openmse.errors import UsageError

_KEY_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def context(request: Request) -> Context:
    """The process that serves this request."""
    found = request.app.state.context
    assert isinstance(found, Context)
    return found


Ctx = Annotated[Context, Depends(context)]


def address_of(request: Request) -> str:
    """Where the request comes from."""
    return request.client.host if request.client is not None else "unknown"


def needs(scope: Scope) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the principal, if it reaches this far."""

    async def principal(request: Request, ctx: Ctx) -> Principal:
        _refuse_foreign_page(request)
        header = request.headers.get("authorization", "")
        if not header:
            raise NotAuthenticated(
                "This needs credentials: a user with a password (Basic), or a token (Bearer).",
                "'mse admin password' or 'mse admin token create' on the node makes them.",
            )
        found = await ctx.authenticator.principal(header, address_of(request))
        if not found.scope.reaches(scope):
            raise NotAllowed(
                f"This needs the scope '{scope.value}'; {found} has '{found.scope.value}'. "
                "Nothing was changed.",
                "Ask an administrator.",
            )
        return found

    return principal


Reader = Annotated[Principal, Depends(needs(Scope.READ))]
Operator = Annotated[Principal, Depends(needs(Scope.OPERATE))]
Administrator = Annotated[Principal, Depends(needs(Scope.ADMINISTER))]


def _refuse_foreign_page(request: Request) -> None:
    """Browsers keep passwords for a site and send them along with whatever a page asks for."""
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin", "")
    host = request.headers.get("host", "")
    is_foreign = origin not in ("", "null") and urlsplit(origin).netloc != host
    if site not in ("none", "same-origin") or is_foreign or origin == "null":
        raise ForeignPage(
            "A web page of another site made the browser ask this; nothing was changed.",
            "Programs send neither Origin nor Sec-Fetch-Site.",
        )


def asked_by(request: Request, principal: Principal, key: str = "") -> Asked:
    """Who asks for a change, with the key of its repetition; raises UsageError."""
    if len(key) > 64 or not set(key) <= _KEY_LETTERS:
        raise UsageError(
            "The Idempotency-Key has 1 to 64 letters, digits, '-', '_' or '.'; nothing was changed."
        )
    return Asked(principal=principal, address=address_of(request), key=key)


Key = Annotated[str, Header(alias="Idempotency-Key", max_length=200)]
