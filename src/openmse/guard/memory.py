"""What a guard leaves for its successor: the last feeds, in a file on a file system in memory.

Without it a guard that is killed together with a freezing health monitor would have forgotten the
deadline. Never written to a disk, which may hang: a guard must not wait for one.
"""

import json
import os
from contextlib import suppress

from openmse.guard.feed import Feed, from_fields

_NAME = "guard.json"
_IN_MEMORY = ("tmpfs", "ramfs")
_SAVE_EVERY_NS = 200_000_000
"""Feeds that differ in nothing but their deadline are kept this often: a deadline that is a little
old errs on the safe side, and a guard at rest costs nothing."""


def is_in_memory(path: str) -> bool:
    """Whether ``path`` is on a file system that never waits for a disk."""
    best, kind = "", ""
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        for line in file:
            _device, mounted_on, type_name = line.split(" ", 3)[:3]
            prefix = mounted_on.rstrip("/") + "/"
            if (os.path.realpath(path) + "/").startswith(prefix) and len(prefix) >= len(best):
                best, kind = prefix, type_name
    return kind in _IN_MEMORY


class Memory:
    """The file; a failure to write or read it is never an error of the guard."""

    def __init__(self, run_dir: str) -> None:
        self._path = os.path.join(run_dir, _NAME)
        self.is_kept = is_in_memory(run_dir)
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            self._boot = file.read().strip()
        self._saved: list[Feed] = []
        self._saved_at = 0

    def note(self, feeds: dict[str, Feed], restarts: int, now: int) -> None:
        """Keep what has come, if it is worth it yet."""
        timeless = [feed._replace(deadline_ns=None) for feed in feeds.values()]
        if timeless != self._saved or now >= self._saved_at + _SAVE_EVERY_NS:
            self._saved, self._saved_at = timeless, now
            self.save(feeds, restarts)

    def save(self, feeds: dict[str, Feed], restarts: int) -> None:
        """Replace what is kept."""
        if not self.is_kept:
            return
        text = json.dumps(
            {
                "boot": self._boot,
                "restarts": restarts,
                "feeds": [f._asdict() for f in feeds.values()],
            }
        )
        with suppress(OSError):
            with open(self._path + ".new", "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(self._path + ".new", self._path)

    def load(self) -> tuple[dict[str, Feed], int]:
        """(feeds by group, restarts so far); empty if there is nothing of this boot."""
        try:
            with open(self._path, encoding="utf-8") as file:
                kept = json.load(file)
            if kept["boot"] != self._boot:
                return {}, 0
            feeds = [feed for fields in kept["feeds"] if (feed := from_fields(fields)) is not None]
            return {feed.group: feed for feed in feeds}, int(kept["restarts"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}, 0
