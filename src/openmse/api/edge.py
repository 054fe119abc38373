"""What meets a request before any route: limits of size and time, and headers for every answer."""

import asyncio
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openmse.api.errors import (
    ApiError,
    ErrorBody,
    RequestTooLarge,
    RequestTooSlow,
    WrongMediaType,
    fault_of,
)

MAX_BODY_BYTES = 64 * 1024
BODY_WITHIN_S = 10.0
HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class Edge:
    """Wraps the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message.get("headers", ())}
                added = [(name, value) for name, value in HEADERS if name not in known]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        try:
            body = await _body(scope, receive)
        except ApiError as error:
            await _refuse(error, guarded)
            return
        if body is not None:
            await self._app(scope, _replay(body, receive), guarded)


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body, bounded in size and time; None where the client has gone."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise _too_large()
                if not message.get("more_body", False):
                    break
    except TimeoutError as error:
        raise RequestTooSlow(
            f"The request did not arrive within {BODY_WITHIN_S:.0f} s; nothing was changed.",
            "Send it at once.",
        ) from error
    if body and _media_type(headers) != b"application/json":
        raise WrongMediaType(
            "The body is not declared as JSON; nothing was changed.",
            "Send 'Content-Type: application/json'.",
        )
    return bytes(body)


def _media_type(headers: dict[bytes, bytes]) -> bytes:
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once, then whatever the connection has to tell."""
    is_given = False

    async def again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(error: ApiError, send: Send) -> None:
    data = msgspec.json.encode(ErrorBody(fault_of(error)))
    headers: list[tuple[bytes, Any]] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
        (b"connection", b"close"),  # what is left of the request is not read
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": data, "more_body": False})


def _too_large() -> RequestTooLarge:
    return RequestTooLarge(
        f"The request is larger than {MAX_BODY_BYTES // 1024} KiB; nothing was changed.",
        "No request of this API is as large.",
    )
