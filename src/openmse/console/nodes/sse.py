"""Server-sent events: bytes in, events out. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from openmse.console.errors import NodeUnreachable

EVENT_BYTES_MAX = 512 * 1024
"""A picture has some ten thousand."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event: ``name`` is 'message' where the stream gave none."""

    name: str
    data: str
    id: str = ""


class SseParser:
    """Collects lines until an event is complete; comments and unknown fields are passed over."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []
        self._id = ""
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[SseEvent]:
        """The events that end in this chunk; raises NodeUnreachable where one grows too large."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._size += len(chunk)
        for line in lines:
            event = self._line(line.rstrip(b"\r").decode("utf-8", "replace"))
            if event is not None:
                yield event
        if self._size > EVENT_BYTES_MAX:
            raise NodeUnreachable("An event of the engine's stream is too large.")

    def _line(self, line: str) -> SseEvent | None:
        if not line:
            return self._finish()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        elif field == "id":
            self._id = value
        return None

    def _finish(self) -> SseEvent | None:
        event = None
        if self._data:
            event = SseEvent(self._name or "message", "\n".join(self._data), self._id)
        self._name, self._data, self._size, self._id = "", [], len(self._rest), ""
        return event
