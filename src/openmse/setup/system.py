"""The acts that are no file: systemd units, the kernel's host name, the clock, passwords.

``System`` is the port; ``MachineSystem`` the real one, ``ImageSystem`` that of a root directory
in which nothing runs: it says what it leaves undone.
"""

import datetime
import os
import shutil
import socket
import subprocess
import sys
import time
import zoneinfo
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, assert_never

from openmse.node.config import Places
from openmse.pki.password import PairingStore
from openmse.setup.directories import directories, prepare
from openmse.setup.errors import StepError
from openmse.setup.files import Undo
from openmse.setup.plan import (
    Act,
    Disable,
    Enable,
    Prepare,
    Rename,
    SetClock,
    SetPassword,
    act_text,
)

Say = Callable[[str], None]
COMMAND_WITHIN_S = 90.0


class System(Protocol):
    """What setup asks of the running machine."""

    def is_done(self, act: Act) -> bool:
        """Whether nothing would change by it."""

    def perform(self, act: Act, say: Say) -> Undo:
        """Do it, and return what takes it back. Raises StepError, and then nothing is changed."""

    def reread(self, unit: str) -> str:
        """Have a unit that runs read its files anew; why it did not, as a sentence, or ''."""


def nothing_to_undo() -> None:
    """For acts that leave nothing behind."""


class ImageSystem:
    """A root directory: files are written, everything else is left to the machine itself."""

    def __init__(self, root: Path, places: Places) -> None:
        self._root = root
        self._places = places

    def is_done(self, act: Act) -> bool:
        """Only directories can be looked at."""
        return isinstance(act, Prepare) and _has_directories(self._places)

    def perform(self, act: Act, say: Say) -> Undo:
        """Directories and the pairing password are files; the rest is said not to be done."""
        if isinstance(act, Prepare):
            return _prepare(self._places)
        if isinstance(act, SetPassword) and act.whose == "pairing":
            return _pairing_password(self._places, act.secret)
        say(f"  Not done below {self._root}, where nothing runs: {act_text(act)}.")
        return nothing_to_undo

    def reread(self, unit: str) -> str:
        """Nothing runs here."""
        return ""


class MachineSystem:
    """This machine. ``config``: the product's file, for the commands that are called."""

    def __init__(self, places: Places, config: str) -> None:
        self._places = places
        self._config = config

    def is_done(self, act: Act) -> bool:
        """Whether nothing would change by it."""
        match act:
            case Enable(unit):
                return has_systemd() and _is_enabled(unit)
            case Disable(unit):
                return has_systemd() and not _is_enabled(unit) and not _is_active(unit)
            case Rename(name):
                return socket.gethostname() == name
            case Prepare():
                return _has_directories(self._places)
            case SetPassword() | SetClock():
                return False
            case _:
                assert_never(act)

    def perform(self, act: Act, say: Say) -> Undo:
        """Do it, and return what takes it back. Raises StepError."""
        match act:
            case Enable(unit) | Disable(unit):
                return _switch_unit(unit, is_on=isinstance(act, Enable), say=say)
            case Rename(name):
                return _rename(name)
            case Prepare():
                return _prepare(self._places)
            case SetPassword("pairing", secret):
                return _pairing_password(self._places, secret)
            case SetPassword(_, secret):
                return _management_password(self._config, secret)
            case SetClock(text, zone):
                return _set_clock(text, zone)
            case _:
                assert_never(act)

    def reread(self, unit: str) -> str:
        """``systemctl try-restart``; the files are right already, so a failure undoes nothing."""
        if not has_systemd():
            return ""
        try:
            _systemctl("try-restart", unit)
        except StepError as error:
            return f"{unit} still works by its old files: {error.sentence}"
        return ""


def has_systemd() -> bool:
    """Whether systemd runs here (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def _run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_WITHIN_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepError(
            f"The command '{' '.join(command)}' could not be run: {error}.",
            "Mend that, then run setup again.",
        ) from error


def _systemctl(*arguments: str) -> None:
    done = _run("systemctl", *arguments)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise StepError(
            f"'systemctl {' '.join(arguments)}' failed: {lines[-1]}.",
            "Look at 'systemctl status' and the journal.",
        )


def _is_enabled(unit: str) -> bool:
    return _run("systemctl", "is-enabled", "--quiet", unit).returncode == 0


def _is_active(unit: str) -> bool:
    return _run("systemctl", "is-active", "--quiet", unit).returncode == 0


def _switch_unit(unit: str, *, is_on: bool, say: Say) -> Undo:
    verb = "enable" if is_on else "disable"
    if not has_systemd():
        say(f"  systemd does not run here, so {unit} was not {verb}d.")
        return nothing_to_undo
    if _run("systemctl", "cat", "--quiet", unit).returncode != 0:
        say(f"  The unit {unit} is not installed, so it was not {verb}d.")
        return nothing_to_undo
    was_enabled, was_active = _is_enabled(unit), _is_active(unit)
    _systemctl(verb, *([] if is_on else ["--now"]), unit)

    def undo() -> None:
        if _is_enabled(unit) != was_enabled:
            _systemctl("enable" if was_enabled else "disable", unit)
        if was_active and not _is_active(unit):
            _systemctl("start", unit)

    return undo


def _rename(name: str) -> Undo:
    before = socket.gethostname()
    try:
        socket.sethostname(name)
    except OSError as error:
        raise StepError(
            f"The kernel does not take the host name {name}: {error.strerror}.", "Run as root."
        ) from error
    return lambda: socket.sethostname(before)


def _has_directories(places: Places) -> bool:
    return all(path.is_dir() for path, _ in directories(places))


def _prepare(places: Places) -> Undo:
    missing = [path for path, _ in directories(places) if not path.exists()]
    prepare(places)

    def undo() -> None:
        for path in reversed(missing):
            with suppress(OSError):
                path.rmdir()

    return undo


def _pairing_password(places: Places, secret: str) -> Undo:
    path = places.pairing_password
    before = path.read_bytes() if path.exists() else None
    PairingStore(path).set_password(secret)

    def undo() -> None:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)  # keeps its mode: the file is there

    return undo


def _management_password(config: str, secret: str) -> Undo:
    mse = Path(sys.executable).with_name("mse")
    command = str(mse) if mse.exists() else shutil.which("mse") or "mse"
    arguments = ("--config", config, "admin", "password", "--password-file", "-")
    done = _run(command, *arguments, stdin=f"{secret}\n")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise StepError(
            f"'mse admin password' did not take the management password: {lines[-1]}",
            "Set it later with 'mse admin password'; skip the item here.",
        )
    return nothing_to_undo  # nothing comes after it (plan)


def _set_clock(text: str, zone: str) -> Undo:
    try:
        place = zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        place = zoneinfo.ZoneInfo("UTC")
    wanted = datetime.datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=place)
    before, passed = time.time(), time.monotonic()
    try:
        time.clock_settime(time.CLOCK_REALTIME, wanted.timestamp())
    except OSError as error:
        raise StepError(
            f"The clock cannot be set: {error.strerror}.", "Run as root; or answer 'keep'."
        ) from error
    if os.path.exists("/dev/rtc0") and shutil.which("hwclock"):
        _run("hwclock", "--systohc")
    return lambda: time.clock_settime(time.CLOCK_REALTIME, before + time.monotonic() - passed)
