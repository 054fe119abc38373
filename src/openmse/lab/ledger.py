"""What a client of the laboratory saw, one JSON object per line, appended as it happens.

The ledger is the only witness of what was acknowledged, so each line is handed to the kernel
before the client goes on. Units: instants are integer CLOCK_BOOTTIME nanoseconds of the host, the
same for every machine of a laboratory.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct


class Started(Struct, frozen=True, tag="started"):
    """The client began; ``connect_ms`` is what one undisturbed connection took."""

    at: int
    client: str
    connect_ms: float = 0.0


class Connected(Struct, frozen=True, tag="connected"):
    """A connection is there; it took ``took_ms`` since the one before was given up."""

    at: int
    took_ms: float


class Lost(Struct, frozen=True, tag="lost"):
    """A connection was given up."""

    at: int
    why: str


class Acknowledged(Struct, frozen=True, tag="ack"):
    """COMMIT returned without a warning. ``serial`` is the server's own count, ``by`` its name."""

    id: int
    sent: int
    at: int
    serial: int
    by: str


class Unknown(Struct, frozen=True, tag="unknown"):
    """Sent, and not answered in time, or answered with a warning: it may be there or not."""

    id: int
    sent: int
    at: int
    why: str
    is_warning: bool = False


class Refused(Struct, frozen=True, tag="refused"):
    """The server answered with an error: it must not be there."""

    id: int
    sent: int
    at: int
    why: str


class Seen(Struct, frozen=True, tag="seen"):
    """A read through the virtual IP showed these rows for the first time."""

    at: int
    ids: list[int]
    by: str


class Ended(Struct, frozen=True, tag="ended"):
    """The client stopped when told to, so the ledger is whole."""

    at: int


Entry = Started | Connected | Lost | Acknowledged | Unknown | Refused | Seen | Ended

_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
_encoder = msgspec.json.Encoder()


def now_ns() -> int:
    """CLOCK_BOOTTIME in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Ledger:
    """Appends entries to a file; unbuffered, so that a killed client leaves what it knew."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def add(self, entry: Entry) -> None:
        """Append one entry. Raises: OSError."""
        os.write(self._file, _encoder.encode(entry) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: Path) -> Iterator[Entry]:
    """The entries of a ledger in order; an unfinished last line is left out.

    Raises: msgspec.DecodeError for a line that is whole but no entry.
    """
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield _decoder.decode(line)
