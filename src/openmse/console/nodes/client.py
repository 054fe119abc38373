"""One engine's management API. A call does one thing and raises NodeRefused or NodeUnreachable."""

import asyncio
import ssl
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote

import httpx

from openmse.console.errors import NodeUnreachable
from openmse.console.nodes import models
from openmse.console.nodes.connection import (
    ANSWER_BYTES_MAX,
    ANSWER_WITHIN_S,
    Called,
    NodeConnection,
)
from openmse.console.nodes.tls import pinned_context, translated

WHOLE_WITHIN_S = 20.0
"""From the call to the end of the answer: who answers a little now and then need not be an engine,
and while one is added no other one can be."""


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
        self._token = token
        self._user = user
        self._certificate = certificate

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return pinned_context(self._certificate)

    @cached_property
    def _http(self) -> httpx.AsyncClient:
        """Made when it is needed: most engines are only ever listened to."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return httpx.AsyncClient(
            base_url=f"https://{host}:{self.port}",
            verify=self._context,
            timeout=httpx.Timeout(ANSWER_WITHIN_S, connect=5.0),
            trust_env=False,
            auth=httpx.BasicAuth(*self._user) if self._user and not self._token else None,
            headers={"Accept-Encoding": "identity", **self._bearer()},
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=2),
        )

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def connection(self) -> NodeConnection:
        """A connection for the stream, not open yet."""
        called = Called(
            name=self.name,
            address=self.address,
            port=self.port,
            context=self._context,
            token=self._token,
        )
        return NodeConnection(called)

    async def close(self) -> None:
        """Hang up."""
        if "_http" in self.__dict__:
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

    async def _ask(self, method: str, path: str, kind: Any, **options: Any) -> Any:
        try:
            async with (
                asyncio.timeout(WHOLE_WITHIN_S),
                self._http.stream(method, path, **options) as answer,
            ):
                content = await self._whole(answer)
        except TimeoutError as error:
            raise translated(error, self.name, self.address, self.port) from error
        except httpx.HTTPError as error:
            raise self._translated(error) from error
        if answer.status_code >= 400:
            raise models.refusal(content, answer.status_code, self.name)
        return models.read(content, kind, self.name) if kind is not None else None

    async def _whole(self, answer: httpx.Response) -> bytes:
        """The body of an answer, as it comes; raises NodeUnreachable where it is larger than any of
        an engine: who answers need not be one."""
        content = bytearray()
        async for part in answer.aiter_raw():
            content += part
            if len(content) > ANSWER_BYTES_MAX:
                raise NodeUnreachable(f"An answer of {self.name} is too large.")
        return bytes(content)

    def _translated(self, error: httpx.HTTPError) -> NodeUnreachable:
        cause: BaseException | None = error
        deepest: OSError | None = None
        while cause is not None:  # what the kernel said is wrapped in "all attempts failed"
            if isinstance(cause, OSError) and not isinstance(cause, httpx.HTTPError):
                deepest = cause
            cause = cause.__cause__ or cause.__context__
        if deepest is not None:
            return translated(deepest, self.name, self.address, self.port)
        if isinstance(error, httpx.TimeoutException):
            return translated(TimeoutError(), self.name, self.address, self.port)
        return translated(ConnectionResetError(), self.name, self.address, self.port)
