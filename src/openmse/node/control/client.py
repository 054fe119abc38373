"""The command line's end of the control socket: blocking, light to import."""

import itertools
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from msgspec import Struct

from openmse.errors import ControlError, DaemonDownError, PrivilegeError
from openmse.node.control.protocol import (
    MAX_REPLY_BYTES,
    Reply,
    Request,
    error_of,
    line,
    raw,
    read_reply,
)

T = TypeVar("T")
DEADLINE_S = 10.0


class ControlClient:
    """A connection to this machine's daemon."""

    def __init__(self, path: Path, *, operator: str = "") -> None:
        """``operator``: for whom a program asks that serves many people.

        Raises DaemonDownError where nothing answers, PrivilegeError where not let in.
        """
        self._operator = operator
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(DEADLINE_S)
        self._buffer = bytearray()
        self._ids = itertools.count(1)
        try:
            self._socket.connect(str(path))
        except PermissionError as error:
            self._socket.close()
            raise PrivilegeError(
                f"This user may not use the control socket {path}; nothing was changed.",
                "Run the command as root; members of the group openmse may look at the status.",
            ) from error
        except OSError as error:
            self._socket.close()
            raise DaemonDownError(
                f"The daemon of this machine does not answer on {path} ({error.strerror}).",
                "Start it ('msed start'), or name its file with --config; "
                "'mse ha doctor' says more.",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; an operation that was started goes on."""
        self._socket.close()

    def call(
        self,
        command: str,
        args: Struct | None = None,
        *,
        type: type[T] | Any = Any,
        within_s: float = DEADLINE_S,
    ) -> T:
        """Ask and wait for the result; events on the way are dropped. Raises MseError."""
        for reply in self.stream(command, args, within_s=within_s):
            if reply.result is not None:
                result: T = decode(reply.result, type)
                return result
        raise ControlError("The daemon ended the answer without a result.")

    def stream(
        self, command: str, args: Struct | None = None, *, within_s: float = DEADLINE_S
    ) -> Iterator[Reply]:
        """Ask, and yield each event and finally the result; errors are raised as MseError.

        ``within_s``: seconds that may pass between two lines of the answer.
        """
        request = Request(
            command, id=str(next(self._ids)), args=raw(args or {}), operator=self._operator
        )
        try:
            self._socket.settimeout(DEADLINE_S)
            self._socket.sendall(line(request))
        except (BrokenPipeError, ConnectionResetError):
            pass  # a daemon that hangs up at once has said why: it is read below
        except OSError as error:
            raise _lost(error) from error
        while True:
            reply = read_reply(self._line(within_s))
            if reply.error is not None:
                raise error_of(reply.error)
            if reply.id == request.id:
                yield reply
                if reply.is_last:
                    return

    def _line(self, within_s: float) -> bytes:
        deadline = time.monotonic() + within_s
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_REPLY_BYTES:
                raise ControlError("The daemon's answer is too long to be one.")
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self._socket.recv(65_536)
            except TimeoutError as error:
                raise ControlError(
                    f"The daemon has not answered within {within_s:g} s.",
                    "What was asked may still be under way: look with 'mse ha status'.",
                    code="MSE-CTL-003",
                ) from error
            except OSError as error:
                raise _lost(error) from error
            if not data:
                raise _lost(None)
            self._buffer += data
        data, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return data


def decode(data: msgspec.Raw, type: type[T] | Any) -> T:
    """A result or event as a value; raises ControlError where it is of another shape."""
    try:
        value: T = msgspec.json.decode(data, type=type)
    except msgspec.MsgspecError as error:
        raise ControlError(
            f"The daemon's answer has another shape than expected: {error}.",
            "Use the 'mse' command that was installed together with the daemon.",
        ) from error
    return value


def _lost(error: OSError | None) -> ControlError:
    why = f" ({error.strerror})" if error is not None and error.strerror else ""
    return ControlError(
        f"The daemon closed the connection before it answered{why}.",
        "It may have restarted: look with 'mse ha status' before you repeat the command.",
        code="MSE-CTL-004",
    )
