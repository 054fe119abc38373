"""A stop is not held up by clients that connected and said nothing (found under load)."""

import socket
import time

import psycopg
from plain_server import PlainServer

from openmse.node.drivers.postgres.process import end_unborn_sessions


def test_only_children_without_a_session_are_ended() -> None:
    server = PlainServer()
    try:
        server.start()
        with (
            psycopg.connect(server.conninfo) as session,
            socket.create_connection(("127.0.0.1", server.port)) as silent,
        ):
            deadline = time.monotonic() + 10
            while not end_unborn_sessions(server.data, server.pids()[0]):
                assert time.monotonic() < deadline
            silent.settimeout(10)
            assert silent.recv(1) == b""
            assert session.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.remove()
