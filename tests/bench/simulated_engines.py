"""Many engines in one process: TLS, HTTP/1.1 and the stream of the management API, no core behind.

``simulated_engines.py COUNT DIRECTORY [busy]`` prints one line of JSON (``ports``, ``certificate``)
and serves until it is killed. Engine 2n is a primary, engine 2n+1 its secondary. What each says,
and how often, is the management API's own: a beat each second, a summary when something changed and
at the latest each ten (docs/management-api.md). ``busy``: a changed summary each second instead,
which no engine does for long.
"""

import asyncio
import json
import os
import random
import ssl
import sys
from datetime import date

import msgspec

from openmse.api.hub import SUMMARY_EVERY_S, LicencesTold, MonitorTold, message
from openmse.api.stream import BEAT, BEAT_S, RETRY_MS
from openmse.api.summary import Summary
from openmse.console.certificate import files
from openmse.console.settings import ConsoleSettings, PathsPart
from openmse.platform.evaluation import COUNTED

NICENESS = 10
"""Engines are other machines; here they share the processor, and give way to what is measured."""
TODAY = date(2026, 1, 31)
LIMITS = tuple(
    {"kind": row.kind.value, "title": row.title, "limit": row.built_in, "built_in": row.built_in}
    for row in COUNTED
)
ANSWERS = {b"/v1/licences": msgspec.json.encode({"limits": LIMITS, "as_of": TODAY})}
"""What is the same for all of them."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s\r\n"


def name_of(number: int) -> str:
    """An engine's node name."""
    return f"node{number:04}"


def address_of(number: int) -> str:
    """Its health monitor address."""
    return f"10.1.{number // 250}.{number % 250 + 1}"


def info(number: int) -> bytes:
    """Who the engine is."""
    return msgspec.json.encode(
        {
            "product": "OpenMSE",
            "node": name_of(number),
            "version": "0.1.0",
            "role": "secondary" if number % 2 else "primary",
            "udi": f"OPENMSE-VA:V01:{name_of(number)}",
            "device_type": "Virtual appliance",
            "health_monitor_address": address_of(number),
            "virtual_ips": ["10.0.0.1/24"],
            "is_monitor_up": True,
            "services": [{"name": "context_aware", "title": "Context Aware Service",
                          "admin_status": "enabled", "service_status": "up"}],
        }
    )  # fmt: skip


def summary(number: int, *, is_changed: bool) -> bytes:
    """The small picture as the API encodes it; ``is_changed``: in more than measurements."""
    owner = number - number % 2
    epoch = random.randrange(1000) if is_changed else 1
    picture = Summary(
        node=name_of(number),
        is_monitor_up=True,
        made_at="2026-01-31T03:00:00.000+00:00",
        version="0.1.0",
        configured_role="secondary" if number % 2 else "primary",
        state="SECONDARY_ACTIVE" if number % 2 else "PRIMARY_ACTIVE",
        reason="The pair is in step; either node may own next.",
        role="standby" if number % 2 else "primary",
        sync="sync",
        health="ok",
        operation="none",
        owner=name_of(owner),
        mode="SYNC",
        term=1,
        epoch=epoch,
        peer=name_of(number ^ 1),
        is_peer_heard=True,
        witness="witness",
        is_witness_heard=True,
        round_trip_ms=round(random.uniform(0.3, 0.6), 3),
        lag_bytes=0,
        virtual_ips=("10.0.0.1/24",),
        peer_address=address_of(number ^ 1),
        admits_clients=number % 2 == 0,
        alarms=(),
        console_id="console-bench",
    )
    return message("summary", msgspec.json.encode(picture))


class Engine(asyncio.Protocol):
    """One connection to one engine."""

    def __init__(self, number: int, *, is_busy: bool) -> None:
        self._number = number
        self._every_s = BEAT_S if is_busy else SUMMARY_EVERY_S
        self._is_busy = is_busy
        self._received = b""
        self._beats: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody calls."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone: nothing more is said."""
        if self._beats is not None:
            self._beats.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole; requests have no bodies."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].split(b"?")[0]
            if path == b"/v1/stream":
                self._begin_stream()
                return
            body = ANSWERS.get(path, b'{"events":[],"is_more":false}')
            body = info(self._number) if path == b"/v1/info" else body
            length = b"Content-Length: %d\r\n" % len(body)
            self._transport.write(HEAD % (b"application/json", length) + body)

    def _begin_stream(self) -> None:
        self._transport.write(HEAD % (b"text/event-stream", b"Transfer-Encoding: chunked\r\n"))
        self._say(f"retry: {RETRY_MS}\n\n".encode())
        self._say(message("monitor", msgspec.json.encode(MonitorTold(True))))
        self._say(message("licences", msgspec.json.encode(LicencesTold("m1", TODAY))))
        self._say(summary(self._number, is_changed=False))
        # Engines were not started in the same moment: their tens of seconds end at other times.
        self._beat(random.uniform(0.0, self._every_s))

    def _beat(self, left_s: float) -> None:
        if self._transport.is_closing():
            return
        if left_s <= 0:
            self._say(summary(self._number, is_changed=self._is_busy))
            left_s += self._every_s
        self._say(BEAT)
        loop = asyncio.get_running_loop()
        self._beats = loop.call_later(BEAT_S, self._beat, left_s - BEAT_S)

    def _say(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))


async def main(count: int, directory: str, *, is_busy: bool) -> None:
    """Serve ``count`` engines on ports of their own; tell them in a line."""
    os.nice(NICENESS)
    cert, key = files(ConsoleSettings(paths=PathsPart(state_dir=directory)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    loop = asyncio.get_running_loop()
    ports = []
    for number in range(count):
        server = await loop.create_server(
            lambda n=number: Engine(n, is_busy=is_busy),  # type: ignore[misc]
            "127.0.0.1", 0, ssl=context,
        )  # fmt: skip
        ports.append(server.sockets[0].getsockname()[1])
    print(json.dumps({"ports": ports, "certificate": str(cert)}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], is_busy="busy" in sys.argv[3:]))
