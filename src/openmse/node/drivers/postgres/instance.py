"""One instance on disk: what is there, its configuration, creating and starting it."""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec.structs

from openmse.errors import DatabaseError, StateError
from openmse.ha.local import DbRole
from openmse.ha.values import Lineage
from openmse.node.drivers.postgres import settings as rendering
from openmse.node.drivers.postgres.process import Server, wait_no_leftovers
from openmse.node.drivers.postgres.settings import InstanceSettings
from openmse.node.drivers.postgres.sidecar import (
    DirectoryRecord,
    Sidecar,
    explain_disk_error,
    fsync_directory,
    write_file,
)
from openmse.node.drivers.postgres.tools import (
    Account,
    Binaries,
    ClusterState,
    ControlData,
    ToolResult,
    locate_binaries,
    parse_control_data,
    record_end,
    resolve_account,
    run_tool,
    segment_name,
)

T = TypeVar("T")
LOG_BYTES_MAX = 16 * rendering.MIB
CREATING = "creating"
"""Marker: initdb was under way."""
REWINDING = "rewinding"
"""Marker: pg_rewind was under way; only a rebuild helps."""
SWAPPING = "swapping"
"""Marker: a base backup was being put in place; only another one helps."""
SETTLING = "settling"
"""Marker: copied whole, but not yet replayed to a consistent state; may run as a standby."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """What is on the disk while no server runs."""

    role: DbRole = DbRole.DOWN
    """DOWN: there is no data directory."""
    refusal: str = ""
    """Why this data directory is not used; '' if it is ours."""
    marker: str = ""
    control: ControlData | None = None
    record: DirectoryRecord | None = None
    end_lsn: int = 0
    is_clean: bool = False


class Instance:
    """Files, programs and processes of one instance. Holds no policy."""

    def __init__(self, settings: InstanceSettings) -> None:
        self.settings = settings
        self.sidecar = Sidecar(settings.state_dir)
        self._binaries: Binaries | None = None
        self._account: Account | None = None
        self.told_names = False
        """What dynamic.conf says of the names."""
        self.told_receiver = False
        """What dynamic.conf says of receiving WAL."""
        self.direct_first: bool | None = None
        """Whether WAL is to come over the direct connection; None: as the server was told."""
        self.told_direct_first = False
        """What dynamic.conf says of that."""
        self._generation = 0
        # One worker: writes reach the disk in the order they were asked for.
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database-disk")

    @property
    def account(self) -> Account:
        """Who PostgreSQL runs as. Valid after prepare()."""
        assert self._account is not None
        return self._account

    @property
    def binaries(self) -> Binaries:
        """Where PostgreSQL is. Valid after prepare()."""
        assert self._binaries is not None
        return self._binaries

    async def on_disk(self, work: Callable[[], T]) -> T:
        """Run blocking work on the instance's disk thread, in order.

        A cancelled caller does not tear the work in two: it ends first.
        Raises: StateError when the disk refuses.
        """
        task = asyncio.get_running_loop().run_in_executor(self._disk, work)
        try:
            return await asyncio.shield(task)
        except OSError as error:
            sentence = explain_disk_error(error, self.settings.data_dir)
            raise StateError(sentence) from error

    async def prepare(self) -> None:
        """Find programs and account, make the state and socket directories.

        Raises: ConfigError, StateError.
        """
        if self._binaries is None:
            account = resolve_account(self.settings.unix_user)
            binaries = await asyncio.to_thread(locate_binaries, self.settings.bin_dir)
            self._account, self._binaries = account, binaries
        await self.on_disk(self._make_directories)

    def _make_directories(self) -> None:
        settings, account = self.settings, self.account
        try:
            for path in (settings.state_dir, settings.config_dir, settings.data_dir.parent):
                path.mkdir(mode=0o755, parents=True, exist_ok=True)
            settings.socket_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not account.is_self:
                os.chown(settings.socket_dir, account.uid, account.gid)
        except OSError as error:
            raise StateError(
                f"The directories of the database cannot be made ({error})."
            ) from error

    def close(self) -> None:
        """End the disk thread; what was asked of it is done first."""
        self._disk.shutdown(wait=False)

    async def run(
        self, program: str, *arguments: str, deadline_s: float, **options: object
    ) -> ToolResult:
        """One of PostgreSQL's programs, as its user. Raises: DatabaseError."""
        argv = [self.binaries.program(program), *arguments]
        return await run_tool(
            argv,
            account=self.account,
            deadline_s=deadline_s,
            **options,  # type: ignore[arg-type]
        )

    # -- what is there ---------------------------------------------------------------------

    async def inspect(self) -> DiskFacts:
        """Look at the data directory of a stopped server. Raises: StateError, DatabaseError."""
        facts = await self.on_disk(self.look)
        if facts.role is DbRole.DOWN or facts.refusal or facts.marker == SWAPPING:
            return facts
        control = await self.control_data(self.settings.data_dir)
        record = facts.record
        assert record is not None
        if control.system_identifier != record.system_identifier:
            return replace(facts, refusal=self._foreign("belongs to another group of nodes"))
        if record.promoting_to is not None:
            record = await self._settle_promotion(record, control, facts.role)
        end_lsn = await self.on_disk(lambda: self._end_lsn(control))
        is_clean = control.state is ClusterState.SHUT_DOWN
        return replace(facts, control=control, record=record, end_lsn=end_lsn, is_clean=is_clean)

    async def _settle_promotion(
        self, record: DirectoryRecord, control: ControlData, role: DbRole
    ) -> DirectoryRecord:
        """Find out whether a promotion that was asked for happened.

        PostgreSQL writes the new timeline's history file first and removes standby.signal last.
        In between nothing can be told, and the record stays as it is: that needs a rebuild.
        """
        assert record.promoting_to is not None
        if role is DbRole.PRIMARY:
            return await self.update_record(
                **promoted(record, record.promoting_to, record.promoting_fork_lsn)
            )
        newest = control.newest_timeline
        histories = await self.on_disk(
            lambda: [path.stem for path in (self.settings.data_dir / "pg_wal").glob("*.history")]
        )
        if any(int(name, 16) > newest for name in histories):
            return record
        return await self.update_record(promoting_to=None, promoting_fork_lsn=0)

    def look(self) -> DiskFacts:
        """The part of inspect() that needs no program. Blocks on the disk. Raises: StateError."""
        data_dir = self.settings.data_dir
        marker = self.sidecar.read_marker() or ""
        try:
            names = os.listdir(data_dir)
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise StateError(f"{data_dir} cannot be read ({error.strerror}).") from error
        if not names or marker == CREATING:
            return DiskFacts(marker=marker)  # what an interrupted initdb left is nothing yet
        is_standby = "standby.signal" in names
        role = DbRole.STANDBY if is_standby else DbRole.PRIMARY
        record = self.sidecar.read_record()
        refusal = ""
        if marker == SWAPPING:
            pass
        elif "PG_VERSION" not in names:
            refusal = self._foreign("is not a PostgreSQL data directory")
        elif record is None:
            refusal = self._foreign("was not made by this installation")
        else:
            refusal = self._version_refusal()
        return DiskFacts(role=role, marker=marker, record=record, refusal=refusal)

    def _version_refusal(self) -> str:
        made_by = (self.settings.data_dir / "PG_VERSION").read_text().strip()
        if made_by == str(self.binaries.major):
            return ""
        return (
            f"{self.settings.data_dir} was made by PostgreSQL {made_by}, the installed server is "
            f"{self.binaries.major}: it is left untouched. Install the matching server."
        )

    def _foreign(self, why: str) -> str:
        return (
            f"{self.settings.data_dir} {why}, so it is left untouched. "
            "Move it away to let this node be set up, or name another directory."
        )

    async def control_data(self, data_dir: Path) -> ControlData:
        """The control file of a data directory. Raises: DatabaseError."""
        result = await self.run("pg_controldata", "-D", str(data_dir), deadline_s=10)
        if result.status != 0:
            raise DatabaseError(
                f"The control file of {data_dir} cannot be read: {result.last_line}",
                "The data directory may be damaged; a rebuild from the peer replaces it.",
                code="MSE-DB-013",
            )
        return parse_control_data(result.stdout)

    def _end_lsn(self, control: ControlData) -> int:
        """A bound from below, exact after a clean stop."""
        known = max(control.checkpoint_lsn, control.min_recovery_lsn)
        if control.state is not ClusterState.SHUT_DOWN:
            return known
        name = segment_name(control.timeline, control.checkpoint_lsn, control.segment_bytes)
        try:
            with open(self.settings.data_dir / "pg_wal" / name, "rb") as segment:
                segment.seek(control.checkpoint_lsn % control.segment_bytes)
                length = int.from_bytes(segment.read(4), "little")
        except OSError:
            return known
        if not 24 <= length <= 1024:
            return known
        return record_end(control.checkpoint_lsn, length, control.segment_bytes)

    @property
    def is_told_to_receive(self) -> bool:
        """Whether dynamic.conf says that a standby receives WAL, and over the wanted path."""
        return self.told_receiver and self.direct_first in (None, self.told_direct_first)

    def take_told_receiver(self, conninfo: str) -> None:
        """What a server that is adopted was told: its primary_conninfo."""
        self.told_receiver = bool(conninfo)
        is_direct = conninfo == rendering.peer_conninfo(self.settings, direct_first=True)
        self.told_direct_first = is_direct and bool(self.settings.peer_direct_address)

    # -- configuration ---------------------------------------------------------------------

    async def write_dynamic(
        self, *, names: bool | None = None, receiver: bool | None = None
    ) -> int:
        """Rewrite dynamic.conf (None: as it is) and return its generation, which only grows.

        Takes effect by SIGHUP. Raises: StateError.
        """
        self.told_names = self.told_names if names is None else names
        self.told_receiver = self.told_receiver if receiver is None else receiver
        if self.direct_first is not None:
            self.told_direct_first = self.direct_first
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._generation = max(self._generation + 1, boot_ns)
        text = rendering.render_dynamic(
            self.settings,
            names=self.told_names,
            receiver=self.told_receiver,
            generation=str(self._generation),
            direct_first=self.told_direct_first,
        )
        path = self.settings.config_dir / "dynamic.conf"
        generation = self._generation
        await self.on_disk(lambda: write_file(path, text.encode(), durable=False))
        return generation

    async def refresh(self) -> None:
        """Render what does not change by itself anew. Raises: StateError."""
        record = await self.on_disk(self.sidecar.read_record)
        if record is not None:
            directory_id = record.directory_id
            await self.on_disk(lambda: self._write_fixed(directory_id))

    def _write_fixed(self, directory_id: str) -> None:
        settings, directory = self.settings, self.settings.config_dir
        disk = os.statvfs(settings.data_dir)
        users = ("root", self.account.name)
        files = {
            "postgresql.conf": rendering.render_main(settings),
            "openmse.conf": rendering.render_fixed(
                settings,
                major=self.binaries.major,
                directory_id=directory_id,
                disk_bytes=disk.f_blocks * disk.f_frsize,
            ),
            "pg_hba.conf": rendering.render_hba(settings),
            "pg_ident.conf": rendering.render_ident(settings, system_users=users),
        }
        for name, text in files.items():
            write_file(directory / name, text.encode(), durable=False)

    def own(self, path: Path, text: str = "", *, durable: bool = True) -> None:
        """Write a small file that belongs to PostgreSQL's user."""
        owner = None if self.account.is_self else (self.account.uid, self.account.gid)
        write_file(path, text.encode(), mode=0o600, durable=durable, owner=owner)

    def set_standby_signal(self, data_dir: Path, *, is_standby: bool) -> None:
        """Whether the next start is as a standby; durable. Blocks on the disk."""
        path = data_dir / "standby.signal"
        if is_standby and not path.exists():
            self.own(path)
        elif not is_standby and path.exists():
            path.unlink()
            fsync_directory(data_dir)

    # -- the process -----------------------------------------------------------------------

    async def start(self, *, names: bool, receiver: bool) -> Server:
        """Start the server on the data directory as it is.

        What an earlier server left behind is ended first. Readiness is the caller's to await.
        Raises: DatabaseError, StateError.
        """
        data_dir = self.settings.data_dir
        await wait_no_leftovers(data_dir)
        await self.write_dynamic(names=names, receiver=receiver)
        await self.on_disk(self._clear_way)
        argv = [
            self.binaries.program("postgres"),
            "-D",
            str(data_dir),
            "-c",
            f"config_file={self.settings.config_file}",
        ]
        return Server.start(
            argv, account=self.account, log_file=self.settings.log_file, cwd=data_dir
        )

    def _clear_way(self) -> None:
        """Fresh configuration; nothing that a copy of the peer or a crash left in the way."""
        settings = self.settings
        record = self.sidecar.read_record()
        self._make_directories()
        self._write_fixed(record.directory_id if record else "new")
        for name in ("postmaster.pid", "recovery.signal", "promote"):
            (settings.data_dir / name).unlink(missing_ok=True)
        for path in (settings.socket_path, Path(f"{settings.socket_path}.lock")):
            path.unlink(missing_ok=True)
        auto = settings.data_dir / "postgresql.auto.conf"
        if not auto.exists() or auto.stat().st_size:
            self.own(auto, durable=False)
        self.trim_log()

    def trim_log(self) -> None:
        """Keep the server's log bounded: one old part beside the running one."""
        path = self.settings.log_file
        with contextlib.suppress(OSError):
            if path.stat().st_size > LOG_BYTES_MAX:
                shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)  # the server appends, so it goes on at the new end

    def last_complaint(self) -> str:
        """The last FATAL or PANIC line of the server's log, without its prefix; '' if none."""
        with contextlib.suppress(OSError), open(self.settings.log_file, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 16384))
            for line in reversed(log.read().decode(errors="replace").splitlines()):
                for word in ("PANIC:  ", "FATAL:  "):
                    if word in line and "the database system is" not in line:
                        return line.partition(word)[2].strip()
        return ""

    def request_promotion(self) -> None:
        """The file that the postmaster looks for at SIGUSR1. Blocks on the disk."""
        self.own(self.settings.data_dir / "promote", durable=False)

    async def update_record(self, **changes: object) -> DirectoryRecord:
        """Change the record durably. Raises: StateError."""

        def change() -> DirectoryRecord:
            record = self.sidecar.read_record()
            assert record is not None, "a data directory in use has a record"
            record = msgspec.structs.replace(record, **changes)
            self.sidecar.write_record(record)
            return record

        return await self.on_disk(change)


def promoted(record: DirectoryRecord, lineage: Lineage, fork_lsn: int) -> dict[str, object]:
    """The changes to ``record`` once a promotion into ``lineage`` is a fact."""
    if record.lineage == lineage:
        return {"promoting_to": None, "promoting_fork_lsn": 0}
    return {
        "lineage": lineage,
        "parent_lineage": record.lineage,
        "fork_lsn": fork_lsn,
        "promoting_to": None,
        "promoting_fork_lsn": 0,
    }
