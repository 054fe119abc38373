"""What goes over the control socket: one JSON object per line, versioned and bounded. Pure.

A request is ``{"v", "id", "command", "args"}``; it is answered by any number of lines with
``event`` and then exactly one with ``result`` or ``error``, all of the same ``id``.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from openmse.errors import CommandRefused, ControlError, MseError, UsageError

VERSION = 1
MAX_REQUEST_BYTES = 64 * 1024
MAX_OPERATOR = 128
MAX_REPLY_BYTES = 4 * 1024 * 1024
"""A snapshot is about 10 kB; a page of events may be larger."""


class Request(Struct, frozen=True):
    """Something asked of the daemon; ``args`` is decoded by the command's own type."""

    command: str
    v: int = VERSION
    id: str = ""
    args: Raw = Raw(b"{}")
    operator: str = ""
    """For whom a program asks that serves many people; goes into the event log, with the user whom
    the kernel names."""

    def __post_init__(self) -> None:
        if len(self.operator) > MAX_OPERATOR or not self.operator.isprintable():
            raise ValueError(f"operator: at most {MAX_OPERATOR} printable characters")


class Fault(Struct, frozen=True):
    """An ``MseError`` on its way to the other end."""

    code: str
    sentence: str
    hint: str = ""
    exit_code: int = 1


class Reply(Struct, frozen=True, omit_defaults=True):
    """One line of an answer: exactly one of ``event``, ``result`` and ``error`` is present."""

    id: str = ""
    event: Raw | None = None
    result: Raw | None = None
    error: Fault | None = None
    v: int = VERSION

    @property
    def is_last(self) -> bool:
        """Whether nothing follows for this request."""
        return self.event is None


class _Line(Struct, frozen=True):
    """A reply as it arrives: msgspec reads ``Raw | None`` as null only."""

    id: str = ""
    event: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Fault | None = None
    v: int = VERSION


_requests = msgspec.json.Decoder(Request)
_replies = msgspec.json.Decoder(_Line)
_encoder = msgspec.json.Encoder()


def line(value: Struct) -> bytes:
    """A request or a reply as a line."""
    return _encoder.encode(value) + b"\n"


def raw(value: Any) -> Raw:
    """A value as JSON that is put into a line as it is."""
    return Raw(_encoder.encode(value))


def read_request(data: bytes) -> Request:
    """The request in a line; raises ControlError on anything that is none."""
    try:
        request = _requests.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ControlError(
            "The line is not a request, so nothing was done.",
            'Send one JSON object per line: {"v": 1, "id": "1", "command": "status"}.',
            code="MSE-CTL-010",
        ) from error
    if request.v != VERSION:
        raise ControlError(
            f"The request has version {request.v}; this daemon understands version {VERSION}.",
            "Use the 'mse' command that was installed together with the daemon.",
            code="MSE-CTL-011",
        )
    return request


def read_reply(data: bytes) -> Reply:
    """The reply in a line; raises ControlError on anything that is none."""
    try:
        arrived = _replies.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ControlError(
            "The daemon's answer cannot be understood.",
            "Check that 'mse' and the daemon are of the same version; restart the daemon after "
            "an upgrade.",
        ) from error
    reply = Reply(
        arrived.id,
        None if arrived.event is UNSET else arrived.event,
        None if arrived.result is UNSET else arrived.result,
        arrived.error,
        arrived.v,
    )
    if sum(part is not None for part in (reply.event, reply.result, reply.error)) != 1:
        raise ControlError("The daemon's answer is neither a result nor an error.")
    return reply


def fault_of(error: MseError) -> Fault:
    """An error on its way out."""
    return Fault(error.code, error.sentence, error.hint, error.exit_code)


def error_of(fault: Fault) -> MseError:
    """The error on the other side; its class follows the exit code, its code is kept."""
    kinds: dict[int, type[MseError]] = {2: UsageError, 3: CommandRefused}
    kind = kinds.get(fault.exit_code, ControlError)
    return kind(fault.sentence, fault.hint, code=fault.code)
