"""Connections of browsers and programs: each says in time what it wants, and nobody takes them all.

uvicorn waits for ever for a request and for the rest of one: a stranger without a password could
hold every connection that the process may have.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_WITHIN_S = 30.0
"""For a whole request, from its first byte; a connection that asks nothing ends, too."""
CONNECTIONS_MAX = 4096
SAME_MAX = 1024
"""From one address: a floor of people behind a router has some hundred."""


class Connection(H11Protocol):
    """A connection that must say what it wants in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        self._timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        if self._is_one_too_many():
            transport.abort()
        else:
            self._expect_the_rest()

    def data_received(self, data: bytes) -> None:
        """Part of a request came: it must be whole in time."""
        super().data_received(data)
        if self._is_whole():
            self._stop_waiting()
        else:
            self._expect_the_rest()

    def on_response_complete(self) -> None:
        """Answered; what was sent together with that request may be a part of another one."""
        super().on_response_complete()
        cycle = self.cycle
        if cycle is not None and cycle.more_body and not cycle.response_complete:
            self._expect_the_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_one_too_many(self) -> bool:
        host = _host_of(self)
        same = sum(1 for one in self.connections if _host_of(one) == host)
        return len(self.connections) > CONNECTIONS_MAX or same > SAME_MAX

    def _is_whole(self) -> bool:
        """Whether a request has come with its body, and is being answered."""
        cycle = self.cycle
        return cycle is not None and not cycle.more_body and not cycle.response_complete

    def _expect_the_rest(self) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(REQUEST_WITHIN_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self._is_whole():
            self.transport.abort()


def _host_of(connection: object) -> str:
    client = getattr(connection, "client", None)
    return client[0] if client else ""
