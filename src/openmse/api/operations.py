"""Operations as values: what is under way or was done, kept on disk, and what a step makes of it.

Everything here is blocking or pure; ``runner.py`` performs them.
"""

import re
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from openmse.api.errors import Fault
from openmse.cli.drill import Report
from openmse.errors import StateError
from openmse.node.runtime.event_log import wall_now
from openmse.pki.files import read_file, write_file

KEPT = 200
MAX_STEPS = 200
"""More steps than any operation has; a bound all the same."""
_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")


class OperationKind(StrEnum):
    """What was asked for."""

    SWITCHOVER = "switchover"
    FAILBACK = "failback"
    TAKEOVER = "takeover"
    MAINTENANCE = "maintenance"
    DRILL = "drill"
    REJOIN = "rejoin"
    CONFIRM_ALONE = "confirm_alone"
    RELEASE_PROTECT = "release_protect"
    PAIR = "pair"
    UNPAIR = "unpair"
    READMIT = "readmit"
    READMIT_CANCEL = "readmit_cancel"
    SETTINGS = "settings"
    WITNESS_REPLACE = "witness_replace"
    WITNESS_REMOVE = "witness_remove"
    STOP = "stop"


class OperationState(StrEnum):
    """How far it is."""

    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    """Nothing was changed."""
    FAILED = "failed"
    """It was begun; the error says how things stand."""
    LOST = "lost"
    """What became of it is not known here."""


class Step(Struct, frozen=True):
    """A step that was reached; ``ms`` since the operation began."""

    name: str
    ms: float
    is_done: bool = True
    sentence: str = ""


class Operation(Struct, frozen=True, kw_only=True):
    """One operation, as clients see it."""

    id: str
    kind: OperationKind
    node: str
    state: OperationState
    args: dict[str, Any] = {}
    by: str
    from_address: str
    started_at: str
    ended_at: str | None = None
    elapsed_ms: float = 0.0
    steps: tuple[Step, ...] = ()
    progress_percent: int | None = None
    sentence: str = ""
    error: Fault | None = None
    report: Report | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it here."""
        return self.state is not OperationState.RUNNING


class KeptOperation(Struct, frozen=True):
    """What the file holds: the operation, and the key that makes a repetition safe."""

    operation: Operation
    key: str = ""
    format: int = 1


def new_id(now: datetime | None = None) -> str:
    """An id that sorts by time and cannot be guessed."""
    at = now or datetime.now(UTC)
    return f"{at.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(4)}"


def is_id(text: str) -> bool:
    """Whether ``text`` can be an operation's id: it becomes a file name."""
    return bool(_ID.fullmatch(text))


def with_step(operation: Operation, step: Step) -> Operation:
    """The operation after a step was reached."""
    if operation.is_over or len(operation.steps) >= MAX_STEPS:
        return operation
    elapsed_ms = max(operation.elapsed_ms, step.ms)
    return replace(operation, steps=(*operation.steps, step), elapsed_ms=elapsed_ms)


class OperationStore:
    """Files of operations, one each, the newest ``KEPT``."""

    def __init__(self, directory: Path, kept: int = KEPT) -> None:
        self._directory = directory
        self._kept = kept

    def save(self, kept: KeptOperation) -> None:
        """Write one durably; raises StateError."""
        path = self._directory / f"{kept.operation.id}.json"
        write_file(path, msgspec.json.format(msgspec.json.encode(kept)))

    def load(self) -> list[KeptOperation]:
        """All that are kept, oldest first; files that are none are skipped.

        One that was still running when this process ended is lost: nobody waited for its outcome.
        """
        return [_settled(kept) for kept in self._read()]

    def unsettled(self) -> list[KeptOperation]:
        """Those that still stand as running on disk, as they are to be written: lost."""
        return [_settled(kept) for kept in self._read() if not kept.operation.is_over]

    def _read(self) -> list[KeptOperation]:
        found = []
        for path in sorted(self._directory.glob("*.json")):
            with suppress(StateError, msgspec.MsgspecError, ValueError):
                found.append(msgspec.json.decode(read_file(path), type=KeptOperation))
        return found[-self._kept :]

    def prune(self, ids: set[str]) -> None:
        """Remove the files of operations that are not among ``ids``."""
        for path in self._directory.glob("*.json"):
            if path.stem not in ids:
                with suppress(OSError):
                    path.unlink()


def _settled(kept: KeptOperation) -> KeptOperation:
    operation = kept.operation
    if operation.is_over:
        return kept
    lost = replace(
        operation,
        state=OperationState.LOST,
        ended_at=wall_now(),
        sentence="The management API ended while this was under way; what was begun went on. The "
        "status shows how things stand.",
    )
    return replace(kept, operation=lost)
