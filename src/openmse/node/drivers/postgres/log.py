"""What the server's log says that no view shows."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

CANCELLED_WAIT = re.compile("canceling (?:the )?wait for synchronous replication")
"""The server's words when a commit stops waiting without the peer (protocol §5.4); without "the"
when a user cancelled it, with it when the session ends (PostgreSQL, syncrep.c)."""
WAL_IS_GONE = (
    "has already been removed",
    "is not in this server's history",
    "database system identifier differs between the primary and standby",
    "before current recovery point",
)
"""A standby's words when only a rebuild helps. The third: its data directory is of another group,
whose histories may have had the same names. The last: it has replayed more than the history that it
is to follow shares with it, and would ask in vain for ever."""
CHUNK_BYTES_MAX = 1024 * 1024


@dataclass(slots=True)
class LogWatch:
    """Reads a log as it grows. Blocks on the disk."""

    path: Path
    offset: int = 0
    cancelled_waits: int = 0
    """Commits that returned with a warning instead of the peer's confirmation."""
    is_wal_gone: bool = False
    """The peer no longer has the WAL that this standby needs."""

    def begin(self) -> None:
        """Forget what an earlier server wrote; the count of cancelled waits is kept."""
        try:
            self.offset = os.stat(self.path).st_size
        except OSError:
            self.offset = 0
        self.is_wal_gone = False

    def read(self) -> None:
        """Take in what was added since the last time."""
        try:
            size = os.stat(self.path).st_size
            if size < self.offset:
                self.offset = 0  # trimmed
            if size == self.offset:
                return
            with open(self.path, "rb") as log:
                log.seek(max(self.offset, size - CHUNK_BYTES_MAX))
                text = log.read(CHUNK_BYTES_MAX).decode(errors="replace")
        except OSError:
            return
        self.offset = size
        self.cancelled_waits += len(CANCELLED_WAIT.findall(text))
        self.is_wal_gone = self.is_wal_gone or any(words in text for words in WAL_IS_GONE)
