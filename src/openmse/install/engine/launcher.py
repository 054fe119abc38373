"""Who starts and stops daemons on this machine: systemd, or we ourselves where it does not run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from openmse.guard.processes import Process
from openmse.install.engine import keeper
from openmse.install.engine.parts import LOG_DIRECTORY, Part
from openmse.install.errors import ManagerFailed, NotPrepared, StartFailed, StopFailed

SYSTEMD_MARK = Path("/run/systemd/system")
"""There while systemd is the init of this machine; source: sd_booted(3)."""
_LOOK_AGAIN_S = 0.05
_KEEPER_WITHIN_S = 10.0
_LOG_BYTES = 65_536
_SYSTEMCTL_WITHIN_S = 240.0
"""Longer than any TimeoutStopSec of ours."""


class Launcher(Protocol):
    """Starts, stops and knows daemons; a daemon that runs need not be ready."""

    def pid(self, part: Part) -> int:
        """The daemon's process, 0 if it does not run."""

    def start(self, part: Part) -> None:
        """Start it; returns when it is a process. Raises StartFailed, ManagerFailed."""

    def stop(self, part: Part, within_s: float) -> None:
        """Stop it and whatever would start it again. Raises StopFailed, ManagerFailed."""

    def log_tail(self, part: Part, lines: int) -> list[str]:
        """Its last words since it was started here, as far as they can be read."""

    def log_hint(self, part: Part) -> str:
        """Where a person reads more of them."""


def launcher(run_dir: Path, environment: Mapping[str, str]) -> Launcher:
    """The one for this machine."""
    if SYSTEMD_MARK.is_dir():
        return SystemdLauncher()
    return OwnLauncher(run_dir / "keepers", environment)


class SystemdLauncher:
    """Through ``systemctl``: the units say how."""

    def __init__(self) -> None:
        self._started_at: dict[str, float] = {}

    def pid(self, part: Part) -> int:
        """The unit's main process."""
        if self._show(part, "ActiveState") not in ("active", "reloading", "deactivating"):
            return 0
        text = self._show(part, "MainPID")
        return int(text) if text.isdigit() else 0

    def start(self, part: Part) -> None:
        """``systemctl start``; raises NotPrepared where there is no such unit."""
        if self._show(part, "LoadState") != "loaded":
            raise NotPrepared(
                f"systemd has no unit {part.unit}, so {part.title} was not started.",
                "'mse install' writes the units.",
            )
        self._started_at[part.name] = time.time()
        self._run("start", part)

    def stop(self, part: Part, within_s: float) -> None:
        """``systemctl stop``; a unit that is not there has nothing to stop."""
        if self._show(part, "LoadState") == "loaded":
            self._run("stop", part)

    def log_tail(self, part: Part, lines: int) -> list[str]:
        """From the journal."""
        since = self._started_at.get(part.name, time.time())
        command = ["journalctl", "-u", part.unit, "-o", "cat", "-q", "--no-pager"]
        command += ["--since", f"@{since:.0f}", "-n", str(lines)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return []
        return done.stdout.splitlines()

    def log_hint(self, part: Part) -> str:
        """The journal."""
        return f"'journalctl -u {part.unit}' says more."

    def _show(self, part: Part, what: str) -> str:
        return self._systemctl("show", "-p", what, "--value", part.unit).stdout.strip()

    def _run(self, verb: str, part: Part) -> None:
        done = self._systemctl(verb, part.unit)
        if done.returncode:
            words = done.stderr.strip().splitlines()
            raise ManagerFailed(
                f"systemd did not {verb} {part.unit} ({part.title}): "
                f"{words[0] if words else f'exit status {done.returncode}'}",
                f"'systemctl status {part.unit}' and 'journalctl -u {part.unit}' say more.",
            )

    def _systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["systemctl", "--no-ask-password", *arguments],
                capture_output=True,
                text=True,
                timeout=_SYSTEMCTL_WITHIN_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ManagerFailed(
                f"systemctl did not come to an end: {error}.",
                "'systemctl list-jobs' shows what systemd is busy with.",
            ) from error


class OwnLauncher:
    """Each daemon below a keeper of its own; identities are numbers with start times."""

    def __init__(
        self, directory: Path, environment: Mapping[str, str], logs: Path = LOG_DIRECTORY
    ) -> None:
        self._directory = directory
        self._environment = dict(environment)
        self._logs = logs
        self._offsets: dict[str, int] = {}

    def pid(self, part: Part) -> int:
        """The daemon itself, whether or not its keeper lives."""
        process = self._daemon(part)
        if process is None:
            return 0
        process.close()
        return process.pid

    def start(self, part: Part) -> None:
        """Start a keeper in a session of its own; returns when it has its lock."""
        log = self._logs / part.log
        try:
            self._logs.mkdir(mode=0o750, parents=True, exist_ok=True)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StartFailed(
                f"{part.title} was not started: its log {log} cannot be written "
                f"({error.strerror}).",
                "Make room on the disk or mend its rights.",
            ) from error
        self._offsets[part.name] = os.fstat(output).st_size
        try:
            process = subprocess.Popen(
                self._command(part, log),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=self._environment,
                umask=0o022,
                start_new_session=True,
            )
        finally:
            os.close(output)
        self._wait_kept(part, process)

    def stop(self, part: Part, within_s: float) -> None:
        """SIGTERM through the keeper, then to whatever is left; never SIGKILL to the daemon."""
        found = [process for process in (self._keeper(part), self._daemon(part)) if process]
        if not found:
            return
        try:
            found[0].send(signal.SIGTERM)
            deadline = time.monotonic() + within_s
            while not all(process.is_gone() for process in found):
                if time.monotonic() > deadline:
                    raise StopFailed(
                        f"{part.title} did not stop within {within_s:.0f} s; it goes on trying.",
                        self.log_hint(part),
                    )
                time.sleep(_LOOK_AGAIN_S)
        finally:
            for process in found:
                process.close()

    def log_tail(self, part: Part, lines: int) -> list[str]:
        """What was added to its log file since it was started."""
        try:
            with open(self._logs / part.log, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                begin = self._offsets.get(part.name, size)
                file.seek(max(0, size - _LOG_BYTES, begin if begin <= size else 0))
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        return text.splitlines()[-lines:]

    def log_hint(self, part: Part) -> str:
        """The file."""
        return f"{self._logs / part.log} says more."

    def _command(self, part: Part, log: Path) -> list[str]:
        command = [sys.executable, "-m", "openmse.install.engine.keeper"]
        command += [part.name, str(self._directory), str(log)]
        if part.stopped_mark:
            command += ["--stopped-mark", part.stopped_mark]
        return [*command, "--", *part.command]

    def _keeper(self, part: Part) -> Process | None:
        return keeper.find(keeper.keeper_file(str(self._directory), part.name))

    def _daemon(self, part: Part) -> Process | None:
        return keeper.find(keeper.daemon_file(str(self._directory), part.name))

    def _wait_kept(self, part: Part, process: "subprocess.Popen[bytes]") -> None:
        """Until the keeper is at work; it is left running, so its exit is nobody's to collect."""
        deadline = time.monotonic() + _KEEPER_WITHIN_S
        while process.poll() is None and time.monotonic() < deadline:
            daemon = self._daemon(part)
            if daemon is not None:
                daemon.close()
                process.returncode = 0  # Popen warns about children left running: that is the plan
                return
            time.sleep(_LOOK_AGAIN_S)
        if process.poll() is None:
            process.terminate()
            process.wait()
        raise StartFailed(
            f"{part.title} was not started: its keeper ended with {process.returncode}.",
            self.log_hint(part),
        )
