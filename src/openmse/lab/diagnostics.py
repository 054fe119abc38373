"""What is kept of a laboratory when something went wrong: enough to find out why without it."""

import json
import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from openmse.errors import MseError
from openmse.lab.laboratory import Laboratory, Progress, Wanted
from openmse.lab.topology import Kind
from openmse.lab.workload import Workload

COMMANDS = {
    "status.json": ("mse", "ha", "status", "--json"),
    "doctor.txt": ("mse", "ha", "doctor"),
    "events.txt": ("mse", "ha", "events"),
    "journal.txt": ("mse", "ha", "journal"),
    "processes.txt": ("ps", "-eo", "pid,ppid,stat,etimes,args"),
    "addresses.txt": ("ip", "address"),
    "rules.txt": ("nft", "list", "ruleset"),
}
KEPT = ("/var/lib/openmse", "/var/log/openmse")
LOG_BYTES = 20 * 1024**2


def up_or_explain(name: str, wanted: Wanted, say: Progress, directory: Path) -> Laboratory:
    """Build a laboratory; one that does not come up is removed, its diagnostics are kept.

    Raises: MseError.
    """
    is_there = False
    try:
        Laboratory.open(name)
        is_there = True
    except MseError:
        pass
    try:
        return Laboratory.up(name, replace(wanted, is_kept_on_failure=True), say)
    except BaseException as error:
        if not is_there:
            with suppress(MseError):
                failed = Laboratory.open(name)
                if isinstance(error, MseError):
                    collect(failed, None, directory)
                failed.down()
        raise


def collect(laboratory: Laboratory, load: Workload | None, directory: Path) -> Path:
    """Gather status, doctor, events, journal and logs of all machines; returns ``directory``.

    Never raises for a machine that does not answer: that is the usual case here.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        (directory / "status.json").write_text(json.dumps(laboratory.status(), indent=2))
    except (MseError, OSError, subprocess.SubprocessError) as error:
        (directory / "status.json").write_text(f"no status: {error}\n")
    for machine in laboratory.machines.values():
        if machine.kind is not Kind.CLIENT:
            _collect_machine(laboratory, machine.name, directory / machine.name)
    if load is not None:
        shutil.copytree(load.directory, directory / "load", ignore=_secrets, dirs_exist_ok=True)
    return directory


def _collect_machine(laboratory: Laboratory, machine: str, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    logs = laboratory.places.logs(machine)
    if logs.is_dir():
        shutil.copytree(logs, directory / "boot-logs", dirs_exist_ok=True)
    if not laboratory.has_power(machine):
        (directory / "no-power.txt").write_text("The machine had no power.\n")
        return
    for name, argv in COMMANDS.items():
        (directory / name).write_text(_say(laboratory, machine, argv))
    for folder in KEPT:
        _copy_logs(laboratory.path_in(machine, folder), directory)


def _say(laboratory: Laboratory, machine: str, argv: tuple[str, ...]) -> str:
    try:
        done = laboratory.exec(machine, argv, timeout_s=20)
    except (MseError, OSError, subprocess.SubprocessError) as error:
        return f"{' '.join(argv)}: {error}\n"
    return done.stdout + done.stderr


def _copy_logs(folder: Path, directory: Path) -> None:
    if not folder.is_dir():
        return
    for path in folder.rglob("*"):
        if path.suffix in (".log", ".jsonl") and path.is_file() and not path.is_symlink():
            target = directory / path.relative_to(folder).as_posix().replace("/", "_")
            target.write_bytes(path.read_bytes()[-LOG_BYTES:])


def _secrets(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in ("conninfo", "pg_service.conf")}
