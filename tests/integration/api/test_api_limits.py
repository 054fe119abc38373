"""Requests that are none, too large, too slow, too many: answered, bounded, and survived."""

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from api_machine import ADMIN, Served, basic, until

from openmse.api import edge, server

HEAD = f"Host: x\r\nAuthorization: {basic(*ADMIN)}\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def connected(served: Served) -> Iterator[ssl.SSLSocket]:
    """A raw TLS connection."""
    plain = socket.create_connection(("127.0.0.1", served.port), timeout=10)
    with served.tls().wrap_socket(plain) as connection:
        yield connection


def exchange(served: Served, data: bytes) -> bytes:
    """Send bytes, read until the other end closes."""
    with connected(served) as connection:
        connection.sendall(data)
        return drained(connection)


def drained(connection: ssl.SSLSocket) -> bytes:
    """Everything until the other end closes."""
    received = b""
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        while part := connection.recv(65_536):
            received += part
    return received


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n\r\n",
        b"\x00\xff" * 200 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_garbage_is_refused_and_the_next_is_served(shared: Served, garbage: bytes) -> None:
    answer = exchange(shared, garbage)
    assert answer.startswith(b"HTTP/1.1 400"), answer[:200]
    assert shared.ok("GET", "/v1/me")["name"] == "admin"


@pytest.mark.parametrize("size", [17_000, 40_000, 600_000])
def test_a_head_that_is_too_large(shared: Served, size: int) -> None:
    answer = b""
    with connected(shared) as connection, contextlib.suppress(ConnectionError, ssl.SSLError):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * size + b"\r\n\r\n")
        answer = drained(connection)
    may_break_off = size > 300_000  # more than one reading takes: closed while we still send
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413", *[b""] * may_break_off)
    assert shared.ok("GET", "/v1/me")["name"] == "admin"


def test_what_is_no_tls_is_closed(shared: Served) -> None:
    with socket.create_connection(("127.0.0.1", shared.port), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert not plain.recv(65_536).startswith(b"HTTP")
    assert shared.ok("GET", "/v1/me")["name"] == "admin"


def test_old_tls_is_refused(shared: Served) -> None:
    context = shared.tls()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:@SECLEVEL=0")
    plain = socket.create_connection(("127.0.0.1", shared.port), timeout=10)
    with plain, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain)


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "MSE-API-001"),
        (b"\xff\xfe", "application/json", 400, "MSE-API-001"),
        (b"[" * 20_000, "application/json", 400, "MSE-API-001"),
        (b"[]", "application/json", 422, "MSE-API-015"),
        (b"5", "application/json", 422, "MSE-API-015"),
        (b'{"is_on": NaN}', "application/json", 422, "MSE-API-015"),
        (b"is_on=true", "application/x-www-form-urlencoded", 415, "MSE-API-012"),
        (b"{}", "text/plain", 415, "MSE-API-012"),
        (b'{"is_on": true, "x": "' + b"y" * 70_000 + b'"}', "application/json", 413, "MSE-API-014"),
    ],
)
def test_bodies_that_are_none(
    shared: Served, body: bytes, kind: str, status: int, code: str
) -> None:
    headers = {"Content-Type": kind}
    path = "/v1/ha/maintenance"
    shared.refused("POST", path, status, code, content=body, headers=headers)
    assert shared.ok("GET", "/v1/ha/settings")["is_maintenance"] is False


def test_a_body_without_an_announced_length_is_bounded(shared: Served) -> None:
    part = f"{edge.MAX_BODY_BYTES + 1:x}\r\n".encode() + b"x" * (edge.MAX_BODY_BYTES + 1) + b"\r\n"
    request = f"POST /v1/ha/failback HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n"
    answer = exchange(shared, request.encode() + part)
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_come(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BODY_WITHIN_S", 0.2)
    request = f"POST /v1/ha/failback HTTP/1.1\r\n{HEAD}Content-Length: 10\r\n\r\n{{"
    answer = exchange(shared, request.encode())
    assert answer.startswith(b"HTTP/1.1 408")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "MSE-API-013"


@pytest.mark.parametrize("begin", [b"", b"GET /v1/me HTTP/1.1\r\nHost"])
def test_a_head_that_does_not_come(
    shared: Served, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(server, "REQUEST_WITHIN_S", 1.0)
    assert exchange(shared, begin) == b""


def test_a_second_head_that_does_not_come(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_WITHIN_S", 1.0)
    with connected(shared) as connection:
        connection.sendall(f"GET /v1/hello HTTP/1.1\r\n{HEAD}\r\n".encode())
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /v1/hel")
        rest = drained(connection)
    assert b"HTTP/1.1" not in rest


def test_connections_of_one_address_are_bounded(served: Served) -> None:
    """Half of the 32 of the configuration, so that one client cannot keep others out."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connected(served)) for _ in range(16)]
        with connected(served) as one_more:
            assert drained(one_more) == b""
        opened[0].sendall(f"GET /v1/me HTTP/1.1\r\n{HEAD}\r\n".encode())
        assert opened[0].recv(65_536).startswith(b"HTTP/1.1 200")
    assert served.server is not None
    until(lambda: not served.server.server_state.connections, "all are closed")
    assert served.ok("GET", "/v1/me")["name"] == "admin"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "MSE-API-010"),
        ("GET", "/v1/", 404, "MSE-API-010"),
        ("GET", "/docs", 404, "MSE-API-010"),
        ("GET", "/v1/../../etc/passwd", 404, "MSE-API-010"),
        ("DELETE", "/v1/status", 405, "MSE-API-011"),
        ("OPTIONS", "/v1/status", 405, "MSE-API-011"),
    ],
)
def test_paths_and_methods_that_are_none(
    shared: Served, method: str, path: str, status: int, code: str
) -> None:
    shared.refused(method, path, status, code)


def test_answers_do_not_wait_for_acknowledgements(shared: Served) -> None:
    """Nagle's algorithm costs 40 ms for each answer on a connection that is kept."""
    assert shared.server is not None
    found = shared.server.server_state.connections
    with connected(shared) as connection:
        name = connection.getsockname()

        def ours() -> list[Any]:  # those of tests before are perhaps just being closed
            return [one for one in list(found) if one.client == name]

        until(ours, "the server knows of it")
        sock = ours()[0].transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
