"""The stream of server-sent events: one response that lasts, with a beat each second."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Header, Query, Response
from starlette.types import Receive, Scope, Send

from openmse.api.authentication import Principal
from openmse.api.context import Context
from openmse.api.events import MAX_LIMIT, EventPage, is_cursor, page
from openmse.api.events import Query as EventQuery
from openmse.api.guards import Ctx
from openmse.api.guards import Reader as ReaderPrincipal
from openmse.api.hub import Reader, Reason, message
from openmse.api.monitor import in_thread
from openmse.api.operations import OperationState
from openmse.documents import document
from openmse.errors import MseError
from openmse.node.runtime import event_log

BEAT_S = 1.0
BEAT = b": beat\n\n"
RETRY_MS = 2000
SEND_WITHIN_S = 10.0
"""A connection that takes nothing for so long is dropped."""

router = APIRouter(prefix="/v1", tags=["reading"])

_DESCRIPTION = {
    200: {
        "description": f"Server-sent events: {document('management-api')}, The stream.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get("/stream", response_class=Response, responses=_DESCRIPTION)  # type: ignore[arg-type]
async def stream(
    ctx: Ctx,
    who: ReaderPrincipal,
    *,
    view: Literal["full", "summary"] = "full",
    last_event_id: Annotated[str, Query(max_length=40)] = "",
    last_event_header: Annotated[str, Header(alias="Last-Event-ID", max_length=40)] = "",
) -> Response:
    """What happens on this node, as it happens."""
    running = ctx.runner.newest(OperationState.RUNNING.value)
    reader = ctx.hub.join(view, running, is_console=who.kind == "console")
    return StreamResponse(ctx, who, reader, last_event_header or last_event_id)


class StreamResponse(Response):
    """Sends a reader's messages until the client, the credentials or the process are gone."""

    media_type = "text/event-stream"

    def __init__(self, ctx: Context, who: Principal, reader: Reader, last_event_id: str) -> None:
        super().__init__(media_type=self.media_type)
        del self.headers["content-length"]
        self.headers["x-accel-buffering"] = "no"
        self._ctx = ctx
        self._who = who
        self._reader = reader
        self._last_event_id = last_event_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The whole life of the stream."""
        gone = asyncio.create_task(_wait_gone(receive))
        try:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            async for data in self._messages():
                if gone.done():
                    return
                body = {"type": "http.response.body", "body": data, "more_body": True}
                async with asyncio.timeout(SEND_WITHIN_S):
                    await send(body)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            scope.get("state", {}).get("abort", lambda: None)()
            await asyncio.sleep(0)  # the connection's end is noticed in the loop's next turn
        finally:
            gone.cancel()
            self._ctx.hub.leave(self._reader)

    async def _messages(self) -> AsyncIterator[bytes]:
        reader, seen = self._reader, set[str]()
        yield f"retry: {RETRY_MS}\n\n".encode()
        if self._last_event_id:
            page_of_old = await self._missed()
            seen = {event.cursor for event in page_of_old.events}
            if page_of_old.is_more or not is_cursor(self._last_event_id):
                reason = "More was missed than is sent again; the log has the rest."
                yield message("gap", msgspec.json.encode(Reason(reason)))
            for event in page_of_old.events:
                yield message("event", msgspec.json.encode(event), event.cursor)
        beat_at = 0.0
        while not reader.bye:
            waiting = [data for cursor, data in reader.take() if cursor not in seen or not cursor]
            if waiting:
                yield b"".join(waiting)
            if time.monotonic() - beat_at >= BEAT_S:
                beat_at = time.monotonic()
                self._check()
                yield BEAT
            await reader.wait(max(0.01, beat_at + BEAT_S - time.monotonic()))
        for _, data in reader.take():
            yield data
        yield message("bye", msgspec.json.encode(Reason(reader.bye)))

    async def _missed(self) -> EventPage:
        """What was written after the last one that this reader has."""
        if not is_cursor(self._last_event_id):
            return EventPage((), False)
        query = EventQuery(after=self._last_event_id, limit=MAX_LIMIT)
        path = self._ctx.node.places.events
        try:
            async with self._ctx.reading():
                return await in_thread(lambda: page(event_log.read(path), query), "log")
        except MseError:
            return EventPage((), True)

    def _check(self) -> None:
        """End the stream when what let this reader in has been taken away."""
        try:
            is_valid = self._ctx.authenticator.is_valid(self._who)
            if not is_valid:
                self._ctx.tell_claim()  # a console that was replaced hears by whom before the end
        except MseError:
            return  # the files cannot be read just now: nobody new is let in, nobody thrown out
        if not is_valid:
            self._reader.end(
                "The credentials of this stream are no longer valid: the token was revoked or "
                "replaced, or the user was changed."
            )


async def _wait_gone(receive: Receive) -> None:
    while True:
        found = await receive()
        if found["type"] == "http.disconnect":
            return
