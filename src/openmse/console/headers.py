"""Security headers on every answer; nothing of a page may come from elsewhere."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openmse.console.errors import TooLarge

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "manifest-src 'self'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "strict-transport-security": "max-age=31536000",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
BODY_BYTES_MAX = 1 << 20
"""More than any form of ours; a licence is 16 KiB at most."""
PATH_MAX = 2048
"""Longer than any path that leads somewhere."""
DRAIN_BYTES_MAX = 64 << 20
"""So much of a body that is too large is still read, so that the browser gets to its answer."""


class SecurityHeaders:
    """Adds the headers; pages are not kept by caches, since the next person could see them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if len(scope["path"]) > PATH_MAX:  # no number in it is too long to be read as one, then
            scope = {**scope, "path": scope["path"][:PATH_MAX]}
        is_static = scope["path"].startswith("/static/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [(k, v) for k, v in message["headers"]]
                names = {k.lower() for k, _ in given}
                extra = dict(HEADERS)
                extra["cache-control"] = (
                    "public, max-age=31536000, immutable" if is_static else "no-store"
                )
                given += [
                    (name.encode(), value.encode())
                    for name, value in extra.items()
                    if name.encode() not in names
                ]
                message["headers"] = given
            await send(message)

        await self._app(scope, _bounded(receive), send_with_headers)


def _bounded(receive: Receive) -> Receive:
    """Reads a body as far as it may reach; raises TooLarge beyond."""
    seen = 0

    async def receive_some() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen <= BODY_BYTES_MAX:
            return message
        while message.get("more_body") and seen <= DRAIN_BYTES_MAX:
            message = await receive()
            seen += len(message.get("body", b""))
        raise TooLarge(
            "More than 1 MiB was sent, which is more than any form of this console needs; nothing "
            "was changed.",
            "Look whether it is the right file: a licence is 16 KiB at most.",
        )

    return receive_some
