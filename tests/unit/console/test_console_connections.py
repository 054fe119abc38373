"""Connections that ask nothing, or half of something, end; a slow answer is waited for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from openmse.console import connections
from openmse.console.connections import Connection

WITHIN_S = 0.3


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """Takes the whole body, and then its time if the path says so."""
    with contextlib.suppress(ClientDisconnect):
        body = await Request(scope, receive).body()
        if scope["path"] == "/slow":
            await asyncio.sleep(3 * WITHIN_S)
        await PlainTextResponse(f"{len(body)} bytes")(scope, receive, send)


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Of a server that waits for a moment only."""
    monkeypatch.setattr(connections, "REQUEST_WITHIN_S", WITHIN_S)
    monkeypatch.setattr(connections, "SAME_MAX", 3)
    config = uvicorn.Config(_app, http=Connection, ws="none", lifespan="off", log_config=None)
    config.load()
    loop, state = asyncio.get_running_loop(), ServerState()

    def connection() -> Connection:
        return Connection(config=config, server_state=state, app_state={}, _loop=loop)

    server = await loop.create_server(connection, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for one in tuple(state.connections):
        one.transport.abort()
    await server.wait_closed()
    await asyncio.gather(*state.tasks, return_exceptions=True)


async def _exchange(port: int, data: bytes) -> bytes:
    """Send it, and read until the other side ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                return await reader.read()
            return b""
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
    ],
)
async def test_what_is_not_whole_in_time_is_ended(port: int, half: bytes) -> None:
    """Without an answer: a stranger holds no connection."""
    assert await _exchange(port, half) == b""


async def test_half_a_request_behind_a_whole_one_is_ended(port: int) -> None:
    """The first one is answered."""
    whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    half = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"
    answer = await _exchange(port, whole + half)
    assert answer.endswith(b"0 bytes")
    assert answer.count(b"HTTP/1.1") == 1


async def test_a_slow_answer_is_waited_for(port: int) -> None:
    """Such as a stream, which lasts as long as its page."""
    asked = b"POST /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab"
    assert (await _exchange(port, asked)).endswith(b"2 bytes")


async def test_one_address_gets_so_many_connections(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is ended at once; those before it are served."""
    monkeypatch.setattr(connections, "REQUEST_WITHIN_S", 60.0)
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    assert await _exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    reader, writer = held[0]
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(20):
        assert (await reader.read()).endswith(b"0 bytes")
    for _, each in held:
        each.transport.abort()
