"""The server process: started by us or adopted, watched through a pidfd, never through pg_ctl."""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from openmse.errors import DatabaseError
from openmse.node.drivers.postgres.tools import Account, clean_environment

READY_STATES = ("ready", "standby")
"""What line 8 of postmaster.pid says when connections are accepted (PostgreSQL, pidfile.h)."""
STATUS_LINE = 7
WRITING_TOOLS = ("initdb", "pg_basebackup", "pg_rewind")
"""Programs that write into a data directory and outlive a health monitor that is killed."""


def server_processes(data_dir: Path) -> list[int]:
    """Processes of the server on ``data_dir``: all of them have it as working directory.

    That includes backends that outlived their postmaster, whose parent is no help any more. The
    directory itself is compared, not its name, which another mount namespace may use too.
    """
    try:
        wanted = os.stat(data_dir)
    except OSError:
        return []
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if not os.path.samestat(os.stat(f"/proc/{name}/cwd"), wanted):
                continue
            program = os.path.basename(os.readlink(f"/proc/{name}/exe"))
        except OSError:
            continue
        if program.removesuffix(" (deleted)") == "postgres":
            found.append(int(name))
    return found


def start_ticks(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 if it is gone.

    Source: proc(5), field 22 of stat, counted after the name, which may hold spaces.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])


def read_pid_file(data_dir: Path) -> tuple[int, str]:
    """(pid, state word) of postmaster.pid; (0, '') if there is none or it is being written."""
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
        state = lines[STATUS_LINE].strip() if len(lines) > STATUS_LINE else ""
        return int(lines[0]), state
    except (OSError, ValueError, IndexError):
        return 0, ""


class Server:
    """One running postmaster. Its pidfd becomes readable the moment it dies."""

    def __init__(self, pid: int, pidfd: int, popen: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self.is_adopted = popen is None
        self.identity = f"{pid}:{start_ticks(pid)}"
        """Names this process among all of this boot."""
        self._pidfd = pidfd
        self._popen = popen
        self._is_watched = False

    @classmethod
    def start(cls, argv: list[str], *, account: Account, log_file: Path, cwd: Path) -> Self:
        """Start a postmaster in a session of its own; its output goes to the end of the log.

        Raises: DatabaseError.
        """
        try:
            with open(log_file, "ab") as log:
                popen = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=clean_environment(),
                    cwd=cwd,
                    umask=0o077,
                    start_new_session=True,
                    **account.switch,  # type: ignore[call-overload]
                )
        except OSError as error:
            raise DatabaseError(f"PostgreSQL could not be started ({error}).") from error
        return cls(popen.pid, os.pidfd_open(popen.pid), popen)

    @classmethod
    def adopt(cls, data_dir: Path) -> Self | None:
        """The postmaster that runs on ``data_dir`` already, or None.

        postmaster.pid may be left over and its pid taken by another: so the process must be a
        postgres with this working directory, looked at again after the pidfd is held.
        """
        pid, _ = read_pid_file(data_dir)
        if pid <= 0 or pid not in server_processes(data_dir):
            return None
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        if pid not in server_processes(data_dir):
            os.close(pidfd)
            return None
        return cls(pid, pidfd, None)

    @property
    def is_alive(self) -> bool:
        """Whether the postmaster lives. A zombie does not."""
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return not poller.poll(0)

    def watch(self, on_death: Callable[[], None]) -> None:
        """Call ``on_death`` once, from the event loop, when the postmaster is gone."""

        def notice() -> None:
            self._unwatch()
            if self._popen is not None:
                self._popen.poll()
            on_death()

        asyncio.get_running_loop().add_reader(self._pidfd, notice)
        self._is_watched = True

    def signal(self, number: signal.Signals) -> None:
        """Signal the postmaster; nothing happens if it is gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    async def wait_dead(self, deadline_s: float) -> bool:
        """Whether the postmaster ended within the deadline. Not beside watch()."""
        loop = asyncio.get_running_loop()
        dead: asyncio.Future[None] = loop.create_future()

        def notice() -> None:
            if not dead.done():
                dead.set_result(None)

        loop.add_reader(self._pidfd, notice)
        try:
            async with asyncio.timeout(deadline_s):
                await dead
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._pidfd)
        if self._popen is not None:
            self._popen.poll()
        return True

    def release(self) -> None:
        """Forget the process and leave it as it is."""
        self._unwatch()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._popen is not None and self._popen.poll() is None:
            # Popen warns about children left running; here that is the purpose.
            self._popen.returncode = 0

    def _unwatch(self) -> None:
        if self._is_watched:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            self._is_watched = False


def end_unborn_sessions(data_dir: Path, postmaster: int) -> int:
    """SIGTERM every child that has not got so far as to name itself; how many there were.

    A client that connects while the server stops becomes a child that only waits to say no. If
    its client is kept out meanwhile (the gate drops its packets), it waits for
    authentication_timeout, and the postmaster, which does not signal such children, waits for it:
    the stop takes a minute. They have no session, so ending them costs nothing.
    Source: postmaster.c, SignalSomeChildren and PM_WAIT_DEAD_END; the title is set after the
    startup packet.
    """
    ended = 0
    for pid in server_processes(data_dir):
        if pid == postmaster:
            continue
        with contextlib.suppress(OSError):
            if not Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"postgres:"):
                os.kill(pid, signal.SIGTERM)
                ended += 1
    return ended


class ExitWatch:
    """Notices the end of one process that is not our child."""

    def __init__(self, on_exit: Callable[[], None]) -> None:
        self._on_exit = on_exit
        self._pid = 0
        self._pidfd = -1

    def watch(self, pid: int) -> None:
        """Watch ``pid`` and no other; 0 for none."""
        if pid == self._pid:
            return
        self.close()
        if pid <= 0:
            return
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            return  # gone already: the next observation shows it
        self._pid = pid
        asyncio.get_running_loop().add_reader(self._pidfd, self._notice)

    def close(self) -> None:
        """Watch nothing."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
        self._pid, self._pidfd = 0, -1

    def _notice(self) -> None:
        self.close()
        self._on_exit()


def kill_all(data_dir: Path) -> int:
    """SIGKILL whatever is left of a server; how many there were."""
    pids = server_processes(data_dir)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


async def wait_no_leftovers(data_dir: Path, *, deadline_s: float = 5.0) -> None:
    """Kill what a dead postmaster left behind and wait until its shared memory is free.

    Crash recovery makes this safe: they could acknowledge nothing that is not in WAL.
    Raises: DatabaseError if one does not die (it hangs in the disk).
    """
    try:
        async with asyncio.timeout(deadline_s):
            while kill_all(data_dir):
                await asyncio.sleep(0.002)
    except TimeoutError:
        pids = ", ".join(str(pid) for pid in server_processes(data_dir))
        raise DatabaseError(
            f"Processes of the stopped PostgreSQL server do not die (pid {pids}).",
            "They probably hang in a disk that does not answer; check it, or power-cycle.",
            code="MSE-DB-020",
        ) from None


async def wait_no_tools(directories: Sequence[Path], *, deadline_s: float = 5.0) -> None:
    """Kill what a dead health monitor left at work on one of ``directories``, and wait for it.

    They write by path, so they would go on in whatever takes the directory's place.
    Raises: DatabaseError if one does not die (it hangs in the disk).
    """
    try:
        async with asyncio.timeout(deadline_s):
            while tools := _writing_tools(directories):
                for pid in tools:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(0.002)
    except TimeoutError:
        pids = ", ".join(str(pid) for pid in _writing_tools(directories))
        raise DatabaseError(
            f"What an earlier health monitor left at work on the data directory does not die "
            f"(pid {pids}).",
            "It probably hangs in a disk that does not answer; check it, or power-cycle.",
            code="MSE-DB-020",
        ) from None


def _writing_tools(directories: Sequence[Path]) -> list[int]:
    """Living ones: a zombie has no program any more."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            program = os.path.basename(os.readlink(f"/proc/{name}/exe"))
            if program.removesuffix(" (deleted)") not in WRITING_TOOLS:
                continue
            words = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        targets = {word.rpartition("=")[2] for word in words}
        for directory in (d for d in directories if str(d) in targets):
            if _is_same(directory.parent, f"/proc/{name}/root{directory.parent}"):
                found.append(int(name))
    return found


def _is_same(ours: Path, theirs: str) -> bool:
    """Whether two names mean one directory: another mount namespace may use ours, too."""
    try:
        return os.path.samefile(ours, theirs)
    except OSError:
        return False
