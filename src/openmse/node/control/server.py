"""The daemon's end of the control socket: who may ask, one line at a time, garbage tolerated.

Root may do everything; members of the group ``openmse`` may look. PostgreSQL runs as a member of
that group, and whoever gets hold of it must not be able to move the service, nor to keep root out:
some places are for root alone, and who asks nothing gives way to who has no place.
"""

import asyncio
import contextlib
import grp
import math
import os
import pwd
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from struct import Struct as Format
from typing import NamedTuple, Protocol

from openmse.errors import ControlError, MseError, PrivilegeError, StateError
from openmse.node.control.protocol import (
    MAX_REQUEST_BYTES,
    Reply,
    Request,
    fault_of,
    line,
    raw,
    read_request,
)

GROUP = "openmse"
MAX_CONNECTIONS = 32
ROOT_PLACES = 4
"""Of them: so many are never given to anybody but root."""
IDLE_S = 5.0
"""Who has asked nothing for so long loses the place to a caller for whom there is none."""
BACKLOG = 128
REQUEST_WITHIN_S = 300.0
"""An open connection that asks nothing for so long is closed."""
SEND_WITHIN_S = 10.0
"""A reader that takes nothing for so long is dropped."""

_CREDENTIALS = Format("3i")


class Caller(NamedTuple):
    """Who is at the other end, as the kernel says."""

    pid: int
    uid: int
    may_change: bool
    may_look: bool
    operator: str = ""
    """For whom that program says it asks."""

    @property
    def name(self) -> str:
        """The user's name, for the event log."""
        try:
            user = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            user = f"uid {self.uid}"
        return f"{self.operator} (through {user})" if self.operator else user


Emit = Callable[[object], Awaitable[None]]
"""Sends one event of the answer to the caller."""


class Commands(Protocol):
    """What answers requests; ``handler.Handler`` in production."""

    def is_change(self, command: str) -> bool:
        """Whether the command changes anything; raises ControlError for an unknown one."""

    async def handle(self, request: Request, caller: Caller, emit: Emit) -> object:
        """Do it; the result is sent as JSON. Raises MseError."""


class ControlServer:
    """Listens on ``path`` from ``start`` to ``stop``."""

    def __init__(self, path: Path, commands: Commands) -> None:
        self._path = path
        self._commands = commands
        self._listener: socket.socket | None = None
        self._inode = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._guests: list[_Guest] = []

    async def start(self) -> None:
        """Begin to listen; raises StateError where the socket cannot be had."""
        _make_room(self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            before = os.umask(0o117)
            try:
                listener.bind(str(self._path))
            finally:
                os.umask(before)
            _give_to_group(self._path)
        except OSError as error:
            listener.close()
            raise StateError(
                f"The control socket {self._path} could not be made: {error}.",
                "Check the directory and its permissions ([paths] run_dir).",
            ) from error
        self._inode = self._path.stat().st_ino
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def stop(self) -> None:
        """Stop listening, drop all connections, remove the socket if it is still ours."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was dropped is closed in the loop's next turn
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _accept(self, listener: socket.socket) -> None:
        """Let a caller in. Not asyncio's own server nor ``sock_accept``: ended in the moment of an
        accept, both lose the connection without closing it."""
        try:
            accepted, _ = listener.accept()
        except OSError:  # it went away again, or file descriptors are short: the next one, then
            return
        accepted.setblocking(False)
        loop = asyncio.get_running_loop()
        guest = _Guest(caller_of(accepted), loop.time())
        refusal = self._seat(guest, loop.time())
        task = guest.task = loop.create_task(self._serve(accepted, guest, refusal))
        self._tasks.add(task)

        def forget(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if guest in self._guests:
                self._guests.remove(guest)
            accepted.close()
            if not task.cancelled() and task.exception() is not None:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a control command failed", "exception": task.exception()}
                )

        task.add_done_callback(forget)

    def _seat(self, new: "_Guest", now_s: float) -> ControlError | None:
        """Give a caller a place, an idle one's if need be; or why there is none."""
        others = [guest for guest in self._guests if not guest.caller.may_change]
        if new.caller.may_change:
            rivals, is_free = self._guests, len(self._guests) < MAX_CONNECTIONS
        else:
            rivals, is_free = others, len(others) < MAX_CONNECTIONS - ROOT_PLACES
            is_free = is_free and len(self._guests) < MAX_CONNECTIONS
        if not is_free:
            idle = min(rivals, key=lambda guest: guest.idle_since_s, default=new)
            if idle.idle_since_s > now_s - IDLE_S:
                return _no_place(is_root=new.caller.may_change)
            self._guests.remove(idle)
            idle.give_way()
        self._guests.append(new)
        return None

    async def _serve(
        self, accepted: socket.socket, guest: "_Guest", refusal: ControlError | None
    ) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=accepted, limit=MAX_REQUEST_BYTES)
        connection = _Connection(self._commands, guest, reader, writer)
        try:
            if refusal is not None:
                await connection.reply(Reply(error=fault_of(refusal)))
            else:
                await connection.serve()
            writer.close()
            async with asyncio.timeout(SEND_WITHIN_S):
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.CancelledError):
            if guest.has_given_way:  # it is told with what it asks next
                writer.write(line(Reply(error=fault_of(_gave_way()))))
        finally:  # else the caller is gone, idle, or the daemon ends
            writer.transport.abort()


class _Guest:
    """Who has a place."""

    def __init__(self, caller: Caller, now_s: float) -> None:
        self.caller = caller
        self.idle_since_s = now_s
        """On the loop's clock; infinite while a request is answered."""
        self.has_given_way = False
        self.task: asyncio.Task[None] | None = None

    def give_way(self) -> None:
        """Lose the place. Only for one that is idle: nothing that was asked is broken off."""
        self.has_given_way = True
        if self.task is not None:
            self.task.cancel()


class _Connection:
    """One caller."""

    def __init__(
        self,
        commands: Commands,
        guest: _Guest,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._commands = commands
        self._guest = guest
        self._caller = guest.caller
        self._reader = reader
        self._writer = writer

    async def serve(self) -> None:
        """Answer requests, one after another, until the caller goes away."""
        while True:
            self._guest.idle_since_s = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(REQUEST_WITHIN_S):
                    data = await self._reader.readline()
            except ValueError:  # longer than the limit; what follows cannot be told apart
                await self.reply(Reply(error=fault_of(_too_long())))
                return
            if not data:
                return
            self._guest.idle_since_s = math.inf
            await self._answer(data)

    async def _answer(self, data: bytes) -> None:
        request_id = ""
        try:
            request = read_request(data)
            request_id = request.id
            self._check(request)

            async def emit(event: object) -> None:
                await self.reply(Reply(id=request.id, event=raw(event)))

            caller = self._caller._replace(operator=request.operator)
            result = await self._commands.handle(request, caller, emit)
            await self.reply(Reply(id=request_id, result=raw(result)))
        except MseError as error:
            await self.reply(Reply(id=request_id, error=fault_of(error)))
        except (OSError, TimeoutError):
            raise
        except Exception as error:
            await self.reply(Reply(id=request_id, error=fault_of(_internal(error))))
            raise  # a mistake of ours: the loop's exception handler records it

    def _check(self, request: Request) -> None:
        may = self._caller.may_look
        if self._commands.is_change(request.command):
            may = self._caller.may_change
        if not may:
            raise PrivilegeError(
                f"'{request.command}' was refused to user {self._caller.name}; nothing changed.",
                f"Run it as root; members of the group {GROUP} may look at the status.",
            )

    async def reply(self, reply: Reply) -> None:
        """Send one line; raises OSError or TimeoutError where nobody takes it."""
        self._writer.write(line(reply))
        async with asyncio.timeout(SEND_WITHIN_S):
            await self._writer.drain()


def caller_of(connection: socket.socket) -> Caller:
    """Who is at the other end of a Unix socket, and what that user may do."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    may_change = uid in (0, os.geteuid())
    return Caller(pid, uid, may_change, may_change or _is_member(uid, gid))


def _is_member(uid: int, gid: int) -> bool:
    try:
        wanted = grp.getgrnam(GROUP).gr_gid
        return gid == wanted or wanted in os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return False


def _make_room(path: Path) -> None:
    """Remove the socket of a daemon that is dead; raises StateError if one is alive."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StateError(f"{path} exists and is no socket.", "Remove it, or change run_dir.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise StateError(f"The control socket {path} cannot be probed: {error}.") from error
    raise StateError(
        f"Another daemon answers on {path}, so this one does not start.",
        "Stop the other one first, or give this one a run_dir of its own.",
        code="MSE-STA-020",
    )


def _give_to_group(path: Path) -> None:
    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            os.chown(path, 0, grp.getgrnam(GROUP).gr_gid)
    path.chmod(0o660)


def _no_place(*, is_root: bool) -> ControlError:
    if is_root:
        return ControlError(
            "The daemon answers too many callers already; try again.", code="MSE-CTL-006"
        )
    return ControlError(
        "Other callers hold every place of the daemon that is not kept for root; nothing was done.",
        "Close what they are held with ('mse ha status --watch', say), or try again in a few "
        "seconds. Root is answered meanwhile.",
        code="MSE-CTL-006",
    )


def _gave_way() -> ControlError:
    return ControlError(
        "The daemon closed this connection, on which nothing was asked for a while, since all "
        "places were taken; nothing was done.",
        "Connect again.",
        code="MSE-CTL-006",
    )


def _too_long() -> ControlError:
    return ControlError(
        f"The request is longer than {MAX_REQUEST_BYTES} bytes; nothing was done.",
        code="MSE-CTL-010",
    )


def _internal(error: Exception) -> ControlError:
    return ControlError(
        f"The daemon made a mistake ({type(error).__name__}) while answering.",
        "Please report it with the output of 'mse ha journal' and the daemon's log.",
        code="MSE-CTL-005",
    )
