"""One engine's management API. A call does one thing and raises NodeRefused or NodeUnreachable."""

import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from openmse.console.errors import NodeUnreachable, NodeUntrusted
from openmse.console.nodes import models
from openmse.console.nodes.sse import SseEvent, SseParser
from openmse.console.nodes.tls import pinned_context, unreachable

ANSWER_WITHIN_S = 10.0
SILENCE_MAX_S = 4.0
"""The stream carries something each second."""


class NodeClient:
    """A connection to one engine, whose certificate is pinned."""

    def __init__(
        self,
        address: str,
        port: int,
        certificate: bytes,
        *,
        name: str,
        token: str = "",
        user: tuple[str, str] | None = None,
    ) -> None:
        """``token`` is the console's own; ``user`` (name, password) is for claiming."""
        self.name = name
        self.address, self.port = address, port
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        host = f"[{address}]" if ":" in address else address
        self._http = httpx.AsyncClient(
            base_url=f"https://{host}:{port}",
            verify=pinned_context(certificate),
            timeout=httpx.Timeout(ANSWER_WITHIN_S, connect=5.0),
            trust_env=False,
            auth=httpx.BasicAuth(*user) if user and not token else None,
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=2),
        )

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()

    async def get(self, path: str, kind: type[Any], **query: str | int) -> Any:
        """Read something."""
        params = {key: value for key, value in query.items() if value != ""}
        return await self._ask("GET", path, kind, params=params)

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, kind: Any = None
    ) -> Any:
        """Change something; the decoded answer, or None without ``kind``."""
        return await self._ask(method, path, kind, json=dict(body) if body is not None else {})

    async def begin(
        self, method: str, path: str, body: Mapping[str, Any], *, key: str, wait_s: float = 0.2
    ) -> models.Operation:
        """Begin an operation; repeating it with the same ``key`` begins none again."""
        params: dict[str, Any] = {"wait_s": wait_s}
        options: dict[str, Any] = {"params": params, "headers": {"Idempotency-Key": key}}
        if method == "DELETE":
            params |= body
        else:
            options["json"] = dict(body)
        operation: models.Operation = await self._ask(method, path, models.Operation, **options)
        return operation

    async def operation(self, operation_id: str) -> models.Operation:
        """How an operation stands."""
        found: models.Operation = await self.get(
            f"/v1/operations/{quote(operation_id, safe='')}", models.Operation
        )
        return found

    async def stream(self, view: str, last_event_id: str = "") -> AsyncIterator[SseEvent | None]:
        """What happens there, without end; None for a sign of life. Raises as calls do."""
        headers = dict(self._headers)
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        timeout = httpx.Timeout(SILENCE_MAX_S, connect=5.0)
        parser = SseParser()
        try:
            async with self._http.stream(
                "GET", "/v1/stream", params={"view": view}, headers=headers, timeout=timeout
            ) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    raise models.refusal(answer.content, answer.status_code, self.name)
                async for chunk in answer.aiter_raw():
                    yield None
                    for event in parser.feed(chunk):
                        yield event
        except httpx.HTTPError as error:
            raise self._translated(error) from error

    async def _ask(self, method: str, path: str, kind: Any, **options: Any) -> Any:
        headers = {**self._headers, **options.pop("headers", {})}
        try:
            answer = await self._http.request(method, path, headers=headers, **options)
        except httpx.HTTPError as error:
            raise self._translated(error) from error
        if answer.status_code >= 400:
            raise models.refusal(answer.content, answer.status_code, self.name)
        return models.read(answer.content, kind, self.name) if kind is not None else None

    def _translated(self, error: httpx.HTTPError) -> NodeUnreachable:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return NodeUntrusted(
                    f"Who answers at {self.address} shows another certificate than the one that "
                    f"was confirmed for {self.name}, so nothing was sent to it.",
                    "If the certificate was renewed there ('mse admin certificate renew'), edit "
                    "the engine and confirm the new fingerprint. Otherwise find out who answers.",
                )
            if isinstance(cause, OSError) and not isinstance(cause, httpx.HTTPError):
                return unreachable(self.address, self.port, cause)
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, httpx.TimeoutException):
            return unreachable(self.address, self.port, TimeoutError())
        return NodeUnreachable(
            f"{self.name} hung up ({self.address} port {self.port}).",
            "Its management process may be restarting; the pair is not affected.",
        )
