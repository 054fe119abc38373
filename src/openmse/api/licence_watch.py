"""Licences while nobody asks: both nodes of a pair hold the same, and readers hear of changes.

The periodic task of ADR 50: what was installed on one node reaches the files of the other before a
failover needs it, whether or not anybody ever runs ``mse license sync``.
"""

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from openmse.api import licences
from openmse.api.context import Context
from openmse.api.hub import LicencesTold
from openmse.api.monitor import in_thread
from openmse.errors import MseError
from openmse.node.control.snapshot import Snapshot
from openmse.platform import settings
from openmse.platform.exchange import right

LOOK_EVERY_S = 2.0
SHARE_EVERY_S = 20.0
"""How long a licence may be on one node alone while both are well."""
AGAIN_AFTER_S = 5.0
"""After an exchange that failed, as while the database changes hands."""
_LOG = logging.getLogger("openmse.api")
_KEPT = ("platform.json", "platform-peers.json")


class LicenceWatch:
    """Looks at the files every other second; exchanges with the other node now and then."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._due_at_s = 0.0
        self._shared_as: tuple[object, ...] = ()
        self._told = ""
        """What the last exchange failed with, so that the log has each reason once."""

    async def run(self) -> None:
        """Until cancelled."""
        ctx = self._ctx
        while True:
            told = await in_thread(lambda: mark(ctx.node_path, ctx.node.places.state_dir), "mark")
            ctx.hub.on_licences(told)
            standing = _standing(ctx.hub.snapshot)
            if self._is_due(standing, told.mark):
                self._shared_as = (standing, told.mark)
                is_done = await self._share()
                self._due_at_s = time.monotonic() + (SHARE_EVERY_S if is_done else AGAIN_AFTER_S)
            await asyncio.sleep(LOOK_EVERY_S)

    def _is_due(self, standing: tuple[object, ...], files: str) -> bool:
        """Now and then, and at once when who owns or what is installed here has changed."""
        if not standing:
            return False
        return time.monotonic() >= self._due_at_s or self._shared_as != (standing, files)

    async def _share(self) -> bool:
        """Exchange; whether that was possible."""
        try:
            done = await in_thread(lambda: licences.exchange(self._ctx), "exchange")
        except MseError as error:  # tried again; 'mse license sync' tells it to who asks
            if error.sentence != self._told:
                _LOG.warning("licences: %s", error.sentence)
            self._told = error.sentence
            return False
        self._told = ""
        if done.taken or done.given:
            _LOG.info("licences: %d taken, %d given: %s", done.taken, done.given, done.sentence)
        return True


def _standing(picture: Snapshot | None) -> tuple[object, ...]:
    """What an exchange depends on; () where there is nobody to exchange with. Pure."""
    if picture is None or picture.register is None or picture.peer is None:
        return ()
    return (picture.register.owner, right(picture), picture.sync)


def mark(config: Path, state_dir: Path) -> LicencesTold:
    """Another mark whenever a file that decides about licences is another; never an error."""
    digest = hashlib.sha256()
    for path, found in _files(config, state_dir):
        facts = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
        digest.update(f"{path} {facts}\n".encode("utf-8", "surrogateescape"))
    return LicencesTold(digest.hexdigest()[:16], datetime.now(UTC).date())


def _files(config: Path, state_dir: Path) -> Iterator[tuple[str, os.stat_result]]:
    single = [settings.path_beside(config), *(state_dir / name for name in _KEPT)]
    folders = (state_dir / "licences", settings.keys_beside(config))
    for path in (*single, *(path for folder in folders for path in _within(folder))):
        try:
            yield str(path), path.stat()
        except OSError:
            continue  # gone meanwhile, or not there at all


def _within(folder: Path) -> list[Path]:
    """Its files but for those that are being written."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
