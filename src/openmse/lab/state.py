"""What a laboratory remembers between commands: one JSON file, replaced atomically, and a lock.

What can be asked of the kernel (which processes run, what a disk is attached to) is not kept here.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from openmse.errors import StateError, UsageError
from openmse.lab.procs import Process
from openmse.lab.topology import Places, Topology


class Pid(msgspec.Struct, frozen=True, array_like=True):
    """A process of the host (see ``procs.Process``)."""

    pid: int
    started: int

    @property
    def process(self) -> Process:
        """As something one can signal and wait for."""
        return Process(self.pid, self.started)


class Block(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Packets that are lost between two machines, one direction."""

    source: str
    target: str
    only: str = ""
    """'' for all, or one of ``switch.ONLY``."""


class Slow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine's slow cable."""

    delay_ms: float
    loss_percent: float
    wire: Pid | None = None
    """The process that delays frames; None where only loss is wanted."""


class Flap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A background process that cuts and heals one connection."""

    machine: str
    other: str
    process: Pid


class State(msgspec.Struct, forbid_unknown_fields=True):
    """All of it. ``inits`` holds the PID 1 of each machine that runs."""

    name: str
    topology: Topology
    is_bare: bool = False
    failover_wait_s: float = 5.0
    is_direct: bool = False
    """The nodes have a cable of their own."""
    is_ready: bool = False
    """Whether ``up`` came to its end."""
    inits: dict[str, Pid] = {}
    dark: list[str] = []
    """Machines without power: the switch passes nothing of theirs."""
    boots: dict[str, int] = {}
    blocks: list[Block] = []
    slow: dict[str, Slow] = {}
    flaps: list[Flap] = []
    venv: str = ""
    package: str = ""
    extra: list[tuple[str, str]] = []
    database: str = ""


def path_of(places: Places) -> Path:
    """Where the state of a laboratory is kept."""
    return places.run / "lab.json"


def load(places: Places) -> State:
    """Read the state.

    Raises: UsageError if there is no such laboratory, StateError if its file is damaged.
    """
    try:
        raw = path_of(places).read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"There is no laboratory named '{places.lab}'.",
            f"Build it: mse lab up --name {places.lab}",
        ) from None
    try:
        return msgspec.json.decode(raw, type=State)
    except msgspec.DecodeError as error:
        raise StateError(
            f"The state file of the laboratory '{places.lab}' is damaged: {error}.",
            f"Remove what is left of it: mse lab down --name {places.lab}",
        ) from error


def save(places: Places, state: State) -> None:
    """Replace the state atomically; it is on disk on return."""
    path = path_of(places)
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(state), indent=1))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextmanager
def locked(places: Places) -> Iterator[None]:
    """Hold the laboratory's lock; commands on one laboratory follow one another.

    Raises: UsageError if there is no such laboratory.
    """
    path = places.run / "lock"
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise UsageError(
                f"There is no laboratory named '{places.lab}'.",
                f"Build it: mse lab up --name {places.lab}",
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_same(descriptor, path):  # `down` may have removed it while we waited
                yield
                return
        finally:
            os.close(descriptor)


@contextmanager
def in_use(places: Places) -> Iterator[None]:
    """Have the laboratory's name for oneself: two who measure would break each other's machines.

    Held by an abstract socket, so that it ends with the process and leaves nothing behind.
    Raises: UsageError if another bench, campaign or demo uses that name.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as lock:
        try:
            lock.bind(f"\0openmse-lab-in-use-{places.lab}")
        except OSError as error:
            raise UsageError(
                f"Another bench or campaign is using the laboratory '{places.lab}'.",
                "Wait for its end, or choose another name (--name).",
            ) from error
        yield


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
