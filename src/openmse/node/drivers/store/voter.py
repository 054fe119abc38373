"""Opening a voter's memory at the start of its process: incarnation and boot number."""

import fcntl
import os
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec import Struct

from openmse.errors import StateError
from openmse.ha.values import Record
from openmse.node.drivers.store.machine import Machine
from openmse.node.drivers.store.record import RecordStore


class Start(StrEnum):
    """How the memory was found."""

    FIRST = "first"
    """There was none: a new incarnation."""
    RESUMED = "resumed"
    OTHER_MACHINE = "other_machine"
    """The disk is a copy, or moved: a new incarnation, which does not vote until re-admitted."""


class Opened(Struct):
    """An open memory; holds the lock on it until ``close``, or the end of the process."""

    store: RecordStore
    record: Record
    start: Start
    changed: tuple[str, ...]
    """Which of the machine's names differ, for OTHER_MACHINE."""
    lock: int

    def close(self) -> None:
        """Let another process open it."""
        os.close(self.lock)


def open_voter(path: Path, me: str, *, machine: Machine | None = None) -> Opened:
    """The record of voter ``me``, with its boot number raised and durable.

    The boot number counts starts of the process, not of the machine: each forgets its grants.
    Raises StateError, with nothing changed, where the state is damaged, is another voter's, is
    held by a running process, or cannot be written.
    """
    now = Machine.read() if machine is None else machine
    lock = _lock(path)
    try:
        store = RecordStore(path, now)
        stored = store.load()
        if stored is None:
            record, start = Record(me, _new_incarnation(), 1), Start.FIRST
            changed: tuple[str, ...] = ()
        else:
            record, start, changed = _started(path, me, stored.record, now, stored.machine)
            store.machine = now.merged(stored.machine)
        store.save(record)
    except BaseException:
        os.close(lock)
        raise
    return Opened(store, record, start, changed, lock)


def reincarnated(opened: Opened) -> Record:
    """The memory under a new incarnation, durable: others remember more than it holds (§2.6).

    What it knows stays as a hint of where to look; its promises count for nothing until the
    owner re-admits it. Raises StateError.
    """
    record = msgspec.structs.replace(
        opened.record, incarnation=_new_incarnation(), boot=1, run=_new_incarnation()
    )
    opened.store.save(record)
    return record


def emptied(opened: Opened) -> Record:
    """An empty memory under a new incarnation, durable: this voter left its group. Raises
    StateError."""
    record = Record(opened.record.me, _new_incarnation(), 1)
    opened.store.save(record)
    return record


def _started(
    path: Path, me: str, record: Record, now: Machine, before: Machine
) -> tuple[Record, Start, tuple[str, ...]]:
    if record.me != me:
        raise StateError(
            f"The durable state {path} belongs to {record.me!r}, but this machine is {me!r}.",
            "Set the node's name back, or unpair it under its old name first.",
            code="MSE-STA-006",
        )
    changed = now.changed_from(before)
    if changed:
        # What it accepted is still true, and kept; that it speaks for the voter of that name
        # is not: two machines may hold this disk now.
        fresh = msgspec.structs.replace(
            record, incarnation=_new_incarnation(), boot=1, run=_new_incarnation()
        )
        return fresh, Start.OTHER_MACHINE, changed
    started = msgspec.structs.replace(record, boot=record.boot + 1, run=_new_incarnation())
    return started, Start.RESUMED, ()


def _new_incarnation() -> str:
    return os.urandom(8).hex()


def _lock(path: Path) -> int:
    """Two processes with one memory would each believe to be the voter."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(
            f"The durable state {path} cannot be locked: {error.strerror}.",
            "Check that its directory exists and that the disk is not full or read-only.",
            code="MSE-STA-003",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StateError(
            f"The durable state {path} is in use by another process.",
            "Only one health monitor or witness may run on it; end the other one first.",
            code="MSE-STA-007",
        ) from error
    return lock
