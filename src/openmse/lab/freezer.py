"""Control groups of machines: to freeze all of one at the same instant.

Uses the unified hierarchy where it is mounted, else version 1's freezer. Where neither can be
written (some containers), a machine has no control group and freezing falls back to SIGSTOP.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Freezer:
    """The control group of one machine; ``path`` is None where there is none."""

    path: Path | None
    is_unified: bool = True

    @classmethod
    def of(cls, name: str, *, create: bool = False) -> "Freezer":
        """The group called ``name``, made on demand."""
        for mount, is_unified in hierarchies():
            path = mount / name
            if create:
                with contextlib.suppress(OSError):
                    path.mkdir(exist_ok=True)
            if os.access(path / _control_file(is_unified), os.W_OK):
                return cls(path, is_unified)
        return cls(None)

    @property
    def members_file(self) -> str:
        """The file by which a process joins; '' where there is none."""
        return str(self.path / "cgroup.procs") if self.path else ""

    def freeze(self) -> None:
        """Ask that every process of the group stops."""
        self._write("1" if self.is_unified else "FROZEN")

    def thaw(self) -> None:
        """Let them go on."""
        self._write("0" if self.is_unified else "THAWED")

    def is_frozen(self) -> bool:
        """Whether every process of the group has stopped."""
        if self.path is None:
            return False
        if self.is_unified:
            return "frozen 1" in (self.path / "cgroup.events").read_text()
        return (self.path / "freezer.state").read_text().strip() == "FROZEN"

    def remove(self) -> None:
        """Remove the empty group, with those that something on the machine has made below it."""
        if self.path is None:
            return
        for folder, _, _ in os.walk(self.path, topdown=False):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(folder)

    def _write(self, word: str) -> None:
        if self.path is not None:
            (self.path / _control_file(self.is_unified)).write_text(word)


def _control_file(is_unified: bool) -> str:
    return "cgroup.freeze" if is_unified else "freezer.state"


def hierarchies() -> list[tuple[Path, bool]]:
    """(mount point, unified?) of what can freeze, best first."""
    found = []
    with open("/proc/self/mounts") as file:
        for line in file:
            _, target, kind, options, *_ = line.split()
            if kind == "cgroup2":
                found.append((Path(target), True))
            elif kind == "cgroup" and "freezer" in options.split(","):
                found.append((Path(target), False))
    return sorted(found, key=lambda entry: not entry[1])
