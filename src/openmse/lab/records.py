"""Results that outlive a run: appended one JSON line at a time, resumed on the same code only.

Pure but for the file. A result belongs to a version of the code; those of another version stay in
the file and are not counted.
"""

import hashlib
import os
import platform
from pathlib import Path
from typing import TypeVar

import msgspec

import openmse

T = TypeVar("T", bound=msgspec.Struct)
MEASURED = (
    *("ha/", "wire/", "node/", "witness/", "pki/", "guard/", "lab/"),
    *("errors.py", "sockets.py"),
)
"""What runs on the machines that are measured, and what measures them."""
NOT_MEASURED = ("lab/report", "lab/demo", "lab/exploration", "lab/bench_table")
"""Parts of it that cannot change a result."""


def code_version() -> str:
    """Twelve hexadecimal digits that name the measured sources, committed or not."""
    root = Path(openmse.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.startswith(MEASURED) and not name.startswith(NOT_MEASURED):
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def host() -> str:
    """The machine in words: processor, cores, memory, kernel."""
    model = _field("/proc/cpuinfo", "model name") or platform.machine()
    kib = int((_field("/proc/meminfo", "MemTotal") or "0").split()[0])
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {kib / 1024**2:.0f} GiB, Linux {platform.release()}"


def _field(path: str, name: str) -> str:
    with open(path) as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


def append(path: Path, result: msgspec.Struct) -> None:
    """Add one result; it is on disk on return."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(result) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def load(path: Path, kind: type[T]) -> list[T]:
    """All results in a file; none if there is no file; an unfinished last line is left out."""
    if not path.exists():
        return []
    decoder = msgspec.json.Decoder(kind)
    return [decoder.decode(line) for line in path.read_bytes().split(b"\n")[:-1] if line]
