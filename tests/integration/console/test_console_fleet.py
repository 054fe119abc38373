"""More engines than are followed in full, and what can go wrong with one connection."""

import asyncio
import re
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from live_pair import until
from stage import ConsoleProcess

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from console_fleet import engines, follower, heard, know

from openmse.console.certificate import files
from openmse.console.errors import NodeRefused, NodeUnreachable, NodeUntrusted
from openmse.console.live.fleet import FULL_VIEW_UP_TO
from openmse.console.nodes import client as client_module
from openmse.console.nodes import connection as module
from openmse.console.nodes.client import NodeClient
from openmse.console.nodes.connection import Called, NodeConnection
from openmse.console.nodes.tls import pinned_context
from openmse.console.settings import ConsoleSettings, PathsPart

COUNT = FULL_VIEW_UP_TO + 20


@pytest.mark.timeout(120)
def test_many_engines_are_shown_by_their_summaries(root: Path) -> None:
    """The list, the overview (by pages) and the metrics; two pages are followed meanwhile."""
    console = ConsoleProcess(root / "fleet")
    with engines(COUNT, root / "engines", "quiet") as told, closing(console.socket):
        know(console, told)
        console.start()
        try:
            console.make_administrator()
            with console.logged_in() as client:
                until(lambda: heard(client) == COUNT, "all are heard", 60)
                listed = client.get("/engines?sort=name").text
                assert listed.count('class="card-name"') == 50
                assert "PRIMARY_ACTIVE" in listed
                overview = client.get("/pairs").text
                assert overview.count("<strong>node0000</strong>") == 1
                assert 'sse-swap="pairs:' in overview
                facts = re.compile(
                    r"node0003</strong><span class=.sub.><span class=.mono.>127\.0\.0\.1</span>"
                    r" · Virtual appliance · \d.*node0003</strong></a><span class=.sub.>Virtual",
                    re.DOTALL,
                )
                one = "/pairs?text=node0003"
                until(lambda: facts.search(client.get(one).text), "both machines' facts", 30)
                assert "No pair matches." in client.get("/pairs?show=trouble").text
                found = client.get("/api/v1/pairs?text=node0003").json()["pairs"]
                assert [pair["name"] for pair in found] == ["node0002 + node0003"]
                metrics = client.get("/metrics").text
                assert f'pair_owner{{node="node{COUNT - 2:04}"' in metrics
                with follower(client, "/engines"), follower(client, "/pairs"):
                    assert heard(client) == COUNT
            console.stop()
            assert "Traceback" not in console.text()
        finally:
            if not console.process_ended():
                console.kill()


@dataclass
class Stage:
    """A server that does with each connection what a test wants."""

    der: bytes
    port: int

    def call(self, der: bytes = b"") -> NodeConnection:
        """A connection to it, not open yet."""
        context = pinned_context(der or self.der)
        return NodeConnection(
            Called(name="mse1", address="127.0.0.1", port=self.port, context=context, token="t")
        )


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def stage(tmp_path: Path, serve: Serve) -> AsyncIterator[Stage]:
    """TLS with a certificate of its own."""
    cert, key = files(ConsoleSettings(paths=PathsPart(state_dir=str(tmp_path / "server"))))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0, ssl=context)
    try:
        der = ssl.PEM_cert_to_DER_cert(cert.read_text())
        yield Stage(der, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


async def _stream(stage: Stage) -> tuple[NodeConnection, list[str]]:
    connection = stage.call()
    await connection.open()
    over, told = asyncio.Event(), list[str]()
    connection.follow(
        "/v1/stream?last_event_id=c1",
        lambda event: told.append(event.data if event else "beat"),
        over.set,
    )
    async with asyncio.timeout(10):
        await over.wait()
    return connection, told


async def test_questions_then_the_stream_in_any_pieces(tmp_path: Path) -> None:
    """One connection carries them all; the last event's id goes with the request."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        body = b"event: a\ndata: 1\n\n: beat\n\n"
        answer = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"%x\r\n%b\r\n8\r\n: beat\n\n\r\n0\r\n\r\n" % (len(body), body)
        )
        for at in range(0, len(answer), 7):
            writer.write(answer[at : at + 7])
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    async with stage(tmp_path, serve) as there:
        connection = there.call()
        await connection.open()
        assert await connection.get("/v1/info") == b"{}"
        over, told = asyncio.Event(), list[str]()
        connection.follow(
            "/v1/stream?last_event_id=c1",
            lambda event: told.append(event.data if event else "beat"),
            over.set,
        )
        async with asyncio.timeout(10):
            await over.wait()
    assert "1" in told
    assert "beat" in told
    assert b"authorization: bearer t" in asked[1].lower()
    assert b"last_event_id=c1" in asked[1]
    with pytest.raises(NodeUnreachable, match="ended the stream"):
        connection.raise_error()


async def test_another_certificate_gets_nothing(tmp_path: Path) -> None:
    """Not even the request."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1))

    other = files(ConsoleSettings(paths=PathsPart(state_dir=str(tmp_path / "other"))))[0]
    async with stage(tmp_path, serve) as there:
        with pytest.raises(NodeUntrusted):
            await there.call(ssl.PEM_cert_to_DER_cert(other.read_text())).open()
    assert asked in ([], [b""])


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (b"SSH-2.0-x\r\n\r\n", NodeUnreachable, "no HTTP"),
        (
            b"HTTP/1.1 403 No\r\nContent-Length: 79\r\n\r\n"
            b'{"error":{"status":403,"code":"MSE-API-005","sentence":"Taken.","hint":"Ask."}}',
            NodeRefused,
            "Taken",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", NodeUnreachable, "hung up"),
    ],
)
async def test_what_is_no_stream_is_told(
    tmp_path: Path, answer: bytes, error: type[Exception], words: str
) -> None:
    """Gibberish, a refusal in the engine's words, an end in the midst of it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with stage(tmp_path, serve) as there:
        connection, _ = await _stream(there)
    with pytest.raises(error, match=words):
        connection.raise_error()


async def test_silence_ends_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is gone says nothing, not even that."""
    monkeypatch.setattr(module, "SILENCE_MAX_S", 1.5)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n: beat\n\n\r\n")
        await reader.read()

    async with stage(tmp_path, serve) as there:
        connection, told = await _stream(there)
    assert told == ["beat"]
    with pytest.raises(NodeUnreachable, match="does not answer"):
        connection.raise_error()


async def test_an_answer_without_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of whoever answers at an address that is only being looked at."""
    monkeypatch.setattr(client_module, "ANSWER_BYTES_MAX", 100_000)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"accept-encoding: identity" in head.lower(), "nothing that grows when unpacked"
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
            await writer.drain()

    async with stage(tmp_path, serve) as at:
        client = NodeClient("127.0.0.1", at.port, at.der, name="mse1")
        try:
            with pytest.raises(NodeUnreachable, match="too large"):
                async with asyncio.timeout(10):
                    await client.get("/v1/hello", dict)
        finally:
            await client.close()


async def test_an_answer_that_comes_by_drops_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part in time, but never the last one: while an engine is added, others wait for it."""
    monkeypatch.setattr(client_module, "WHOLE_WITHIN_S", 0.5)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with stage(tmp_path, serve) as at:
        client = NodeClient("127.0.0.1", at.port, at.der, name="mse1")
        try:
            with pytest.raises(NodeUnreachable, match="does not answer"):
                async with asyncio.timeout(10):
                    await client.get("/v1/hello", dict)
        finally:
            await client.close()


async def test_who_hangs_up_after_an_answer_has_hung_up(tmp_path: Path) -> None:
    """As an engine's management process does that is being stopped: it is called again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        await reader.read()

    async with stage(tmp_path, serve) as at:
        connection = at.call()
        await connection.open()
        assert await connection.get("/v1/info") == b"{}"
        with pytest.raises(NodeUnreachable, match="hung up"):
            await connection.get("/v1/events")
        connection.close()
