"""The rejoin ladder's rungs (protocol §5.6): follow, rewind, rebuild; what goes is kept aside."""

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from openmse.errors import DatabaseError
from openmse.ha.local import DbRole, Rung
from openmse.ha.values import Lineage
from openmse.node.drivers.postgres.connection import Connection
from openmse.node.drivers.postgres.instance import (
    REWINDING,
    SETTLING,
    SWAPPING,
    DiskFacts,
    Instance,
)
from openmse.node.drivers.postgres.process import wait_no_tools
from openmse.node.drivers.postgres.settings import MIB, peer_conninfo
from openmse.node.drivers.postgres.sidecar import (
    DirectoryRecord,
    fsync_directory,
    new_directory_id,
    write_file,
)
from openmse.node.drivers.postgres.tools import (
    ClusterState,
    ControlData,
    format_lsn,
    parse_lsn,
    parse_percent,
    parse_switch,
    segment_name,
)

SOURCE_DEADLINE_S = 120.0
TAIL_BYTES_MAX = 1024 * MIB
RUNGS = (Rung.STREAM, Rung.REWIND, Rung.REBUILD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The history to follow: the owner's, and where it left the one before."""

    lineage: Lineage
    parent_lineage: Lineage | None
    fork_lsn: int


def is_allowed(needed: Rung, allowed: Rung) -> bool:
    """Whether a rung is within what the core allows."""
    return RUNGS.index(needed) <= RUNGS.index(allowed)


def needed_rung(record: DirectoryRecord, end_lsn: int | None, upstream: Upstream) -> Rung:
    """What it takes to follow ``upstream`` from our history that ends at ``end_lsn``.

    ``end_lsn`` None: the end is not known. Lineages decide, never timeline numbers: two nodes that
    were promoted apart can have given the same number to different histories, and pg_rewind would
    believe it. So a history that is neither the wanted one nor its parent is rebuilt.
    """
    if record.promoting_to is not None and record.promoting_to != upstream.lineage:
        return Rung.REBUILD  # a promotion of unknown fate: our timeline may be a third one
    if record.lineage == upstream.lineage:
        return Rung.STREAM
    if record.lineage != upstream.parent_lineage:
        return Rung.REBUILD
    if end_lsn is not None and end_lsn <= upstream.fork_lsn:
        return Rung.STREAM
    return Rung.REWIND


def parse_wal_end(complaint: str) -> int | None:
    """Where valid WAL ends, from the message with which pg_waldump stops; None if it is another."""
    found = re.search(
        r"error in WAL record at [0-9A-F]+/[0-9A-F]+: .* at ([0-9A-F]+/[0-9A-F]+)", complaint
    )
    return parse_lsn(found[1]) if found else None


async def find_wal_end(instance: Instance, facts: DiskFacts) -> int | None:
    """The end of the WAL of a server that was not stopped cleanly; None if it cannot be told."""
    control = facts.control
    if control is None:
        return None
    if facts.is_clean:
        return facts.end_lsn
    began = await instance.on_disk(lambda: _timeline_began(instance, control))
    result = await instance.run(
        "pg_waldump",
        "--quiet",
        f"--path={instance.settings.data_dir / 'pg_wal'}",
        f"--timeline={control.newest_timeline}",
        f"--start={format_lsn(max(control.redo_lsn, began))}",
        deadline_s=SOURCE_DEADLINE_S,
    )
    end = parse_wal_end(result.last_line)
    return None if end is None else max(end, facts.end_lsn)


def _timeline_began(instance: Instance, control: ControlData) -> int:
    """Where the newest timeline began; 0 for the first. Raises: DatabaseError."""
    name = f"{control.newest_timeline:08X}.history"
    try:
        return parse_switch((instance.settings.data_dir / "pg_wal" / name).read_text())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, LookupError) as error:
        raise DatabaseError(
            f"The history file {name} cannot be read ({error}), so nobody can tell where this "
            "node's own history ends.",
            "Check the disk; a rebuild from the peer replaces the directory.",
            code="MSE-DB-034",
        ) from error


class Rejoin:
    """Rewind or rebuild of one stopped instance. Cancelling leaves the marker in force."""

    def __init__(
        self, instance: Instance, upstream: Upstream, on_progress: Callable[[int], None]
    ) -> None:
        self._instance = instance
        self._settings = instance.settings
        self._upstream = upstream
        self._on_progress = on_progress

    @property
    def _copy_dir(self) -> Path:
        """Where a copy of the peer's data is made."""
        return self._settings.data_dir.with_name(self._settings.data_dir.name + ".new")

    async def rewind(self, facts: DiskFacts) -> bool:
        """Take our history back to where the owner's left it; False if only a rebuild helps.

        Raises: DatabaseError if the peer cannot be reached or is another's; nothing was changed.
        """
        assert facts.record is not None
        await wait_no_tools((self._settings.data_dir, self._copy_dir))
        source = await self._prepare_source()
        if source.system_identifier != facts.record.system_identifier:
            raise DatabaseError(
                "The peer's database belongs to another group of nodes; nothing was changed.",
                "Check the peer's address.",
                code="MSE-DB-030",
            )
        await self._keep_tail(facts)
        instance, settings = self._instance, self._settings
        await instance.on_disk(lambda: instance.sidecar.set_marker(REWINDING))
        result = await instance.run(
            "pg_rewind",
            f"--target-pgdata={settings.data_dir}",
            f"--source-server={self._source('rewind')}",
            f"--config-file={settings.config_file}",
            "--progress",
            deadline_s=settings.rewind_deadline_s,
            on_line=self._take_line,
        )
        self._on_progress(-1)
        if result.status != 0 or "no rewind required" in result.stderr:
            return False
        control = await instance.control_data(settings.data_dir)
        if not _is_rewound(control, source):
            return False
        await instance.on_disk(lambda: self._settle(settings.data_dir))
        await instance.update_record(**self._followed())
        await instance.on_disk(lambda: instance.sidecar.set_marker(SETTLING))
        return True

    async def rebuild(self, facts: DiskFacts) -> bool:
        """Copy the peer's data into a new directory and put it in the place of ours; True.

        Ours stays untouched until the copy is whole, and is kept aside afterwards.
        Raises: DatabaseError.
        """
        instance, settings, copy = self._instance, self._settings, self._copy_dir
        await wait_no_tools((settings.data_dir, copy))
        source = await self._prepare_source()
        if facts.role is not DbRole.DOWN and facts.control is not None:
            await self._keep_tail(facts)
        await instance.on_disk(lambda: self._make_copy_dir(copy))
        self._on_progress(0)
        try:
            result = await instance.run(
                "pg_basebackup",
                f"--pgdata={copy}",
                f"--dbname={self._source('backup')}",
                "--wal-method=stream",
                "--checkpoint=fast",
                "--progress",
                "--no-password",
                deadline_s=settings.backup_deadline_s,
                on_line=self._take_line,
            )
        finally:
            self._on_progress(-1)
        if result.status != 0:
            await instance.on_disk(lambda: shutil.rmtree(copy, ignore_errors=True))
            raise DatabaseError(
                f"The copy of the peer's database failed: {result.last_line}",
                "It is tried again; check the connection to the peer and the free space.",
                code="MSE-DB-031",
            )
        control = await instance.control_data(copy)
        if control.system_identifier != source.system_identifier:
            raise DatabaseError("The copy of the peer's database is not what the peer has.")
        await instance.on_disk(lambda: self._swap(copy, control))
        return True

    def _source(self, purpose: str) -> str:
        direct_first = bool(self._instance.direct_first)
        return peer_conninfo(self._settings, purpose=purpose, direct_first=direct_first)

    async def _prepare_source(self) -> ControlData:
        """A checkpoint on the owner, so that its control file shows its own timeline.

        Right after a promotion it shows the old one, and pg_rewind would find nothing to do.
        """
        connection = await Connection.open(self._source("rejoin"), deadline_s=SOURCE_DEADLINE_S)
        try:
            await connection.query("checkpoint", deadline_s=SOURCE_DEADLINE_S)
            (row,) = await connection.query(
                "select s.system_identifier, c.timeline_id, c.checkpoint_lsn, c.redo_lsn"
                " from pg_control_system() s, pg_control_checkpoint() c",
                deadline_s=SOURCE_DEADLINE_S,
            )
        finally:
            connection.close()
        identifier, timeline, checkpoint_lsn, redo_lsn = (value or "" for value in row)
        return ControlData(
            system_identifier=identifier,
            state=ClusterState.PRODUCTION,
            timeline=int(timeline),
            checkpoint_lsn=parse_lsn(checkpoint_lsn),
            redo_lsn=parse_lsn(redo_lsn),
            min_recovery_lsn=0,
            min_recovery_timeline=0,
            segment_bytes=0,
            has_checksums=True,
        )

    def _take_line(self, line: str) -> None:
        percent = parse_percent(line)
        if percent is not None:
            self._on_progress(percent)

    def _followed(self) -> dict[str, object]:
        upstream = self._upstream
        return {
            "lineage": upstream.lineage,
            "parent_lineage": upstream.parent_lineage,
            "fork_lsn": upstream.fork_lsn,
            "promoting_to": None,
        }

    def _settle(self, data_dir: Path) -> None:
        self._instance.own(data_dir / "postgresql.auto.conf")
        self._instance.set_standby_signal(data_dir, is_standby=True)

    def _make_copy_dir(self, copy: Path) -> None:
        account = self._instance.account
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(mode=0o700)
        if not account.is_self:
            shutil.chown(copy, account.uid, account.gid)

    def _swap(self, copy: Path, control: ControlData) -> None:
        """The marker stands from before the first rename until the new server is consistent."""
        sidecar, data_dir = self._instance.sidecar, self._settings.data_dir
        self._settle(copy)
        sidecar.set_marker(SWAPPING)
        aside = None
        if data_dir.exists():
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
            aside = data_dir.with_name(f"{data_dir.name}.old-{stamp}")
            data_dir.rename(aside)
        copy.rename(data_dir)
        fsync_directory(data_dir.parent)
        upstream = self._upstream
        sidecar.write_record(
            DirectoryRecord(
                directory_id=new_directory_id(),
                system_identifier=control.system_identifier,
                lineage=upstream.lineage,
                parent_lineage=upstream.parent_lineage,
                fork_lsn=upstream.fork_lsn,
            )
        )
        sidecar.set_marker(SETTLING)
        for old in data_dir.parent.glob(f"{data_dir.name}.old-*"):
            if old != aside:
                shutil.rmtree(old, ignore_errors=True)

    # -- the divergent tail ----------------------------------------------------------------

    async def _keep_tail(self, facts: DiskFacts) -> None:
        """Keep the WAL that the rejoin throws away, and what is in it, for a number of days.

        Raises: DatabaseError, so that nothing is thrown away that could not be kept.
        """
        record, control = facts.record, facts.control
        if record is None or control is None or facts.marker:
            return
        if record.lineage == self._upstream.lineage:
            return
        is_child = record.lineage == self._upstream.parent_lineage
        began = await self._instance.on_disk(lambda: _timeline_began(self._instance, control))
        fork = self._upstream.fork_lsn if is_child else max(control.redo_lsn, began)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        target = self._settings.state_dir / "divergent" / stamp
        copied = await self._instance.on_disk(lambda: self._copy_tail(target, control, fork))
        summary = await self._instance.run(
            "pg_waldump",
            "--stats=record",
            f"--path={self._settings.data_dir / 'pg_wal'}",
            f"--timeline={control.newest_timeline}",
            f"--start={format_lsn(fork)}",
            deadline_s=SOURCE_DEADLINE_S,
        )
        description = {
            "lineage": record.lineage,
            "followed": self._upstream.lineage,
            "fork_lsn": format_lsn(fork),
            "known_end_lsn": format_lsn(facts.end_lsn),
            "timeline": control.newest_timeline,
            "segments": copied,
            "records": summary.stdout,
        }
        data = msgspec.json.format(msgspec.json.encode(description))
        await self._instance.on_disk(lambda: write_file(target / "summary.json", data, mode=0o600))

    def _copy_tail(self, target: Path, control: ControlData, fork: int) -> list[str]:
        self._prune_tails(target.parent)
        wal = self._settings.data_dir / "pg_wal"
        prefix = f"{control.newest_timeline:08X}"
        first = segment_name(control.newest_timeline, fork, control.segment_bytes)
        names = sorted(
            path.name
            for path in wal.glob(f"{prefix}*")
            if len(path.name) == len(first) and path.name >= first
        )
        kept = names[: TAIL_BYTES_MAX // control.segment_bytes]
        try:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in kept:
                shutil.copyfile(wal / name, target / name)
        except OSError as error:
            shutil.rmtree(target, ignore_errors=True)
            raise DatabaseError(
                "The part of the write-ahead log that the peer does not have could not be kept "
                f"aside ({error.strerror}), so it is not thrown away either.",
                "Free some space; the rejoin is tried again.",
                code="MSE-DB-032",
            ) from error
        return kept

    def _prune_tails(self, parent: Path) -> None:
        if not parent.is_dir():
            return
        oldest = time.time() - self._settings.keep_divergent_days * 86400
        tails = sorted(parent.iterdir(), reverse=True)
        for index, tail in enumerate(tails):
            if index + 1 >= self._settings.keep_divergent_count or tail.stat().st_mtime < oldest:
                shutil.rmtree(tail, ignore_errors=True)


def _is_rewound(control: ControlData, source: ControlData) -> bool:
    """Whether pg_rewind left what it should: recovery that must reach the owner's timeline."""
    return (
        control.state is ClusterState.ARCHIVE_RECOVERY
        and control.system_identifier == source.system_identifier
        and control.min_recovery_timeline == source.timeline
        and control.min_recovery_lsn >= source.redo_lsn
    )
