"""The pairing password of this machine: never kept itself, and guessed at only a few times.

``pairing.json`` holds what scrypt makes of it (which is all the responder of the PAKE needs) and
how many guesses were wrong, so that a restart forgives none. A guess is paid for before it is
answered and given back when it was right. Instants are seconds of the calendar clock: the
lock-out must outlast a restart; if the clock goes back, it is no longer than when it began.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from openmse.errors import PairingError, StateError, UsageError
from openmse.pki.files import read_file, sync_directory, write_file

FREE_GUESSES = 5
LOCK_FIRST_S = 60
LOCK_MAX_S = 3600
MIN_LENGTH = 8
MAX_LENGTH = 256
SALT_BYTES = 16

LOCKED_SENTENCE = (
    "Too many wrong passwords were tried on the other machine; it refuses all for a while."
)
LOCKED_HINT = "Wait, or set a new pairing password there, which ends the wait. Nothing was changed."
NOT_WAITING_SENTENCE = "The other machine does not wait for a pairing or an enrolment."
NOT_WAITING_HINT = "Set a pairing password there first. Nothing was changed."

_SCRYPT_N = 1 << 15
_SCRYPT_R = 8
_SCRYPT_MEMORY = 64 << 20


class Armed(Struct, frozen=True, forbid_unknown_fields=True):
    """The file. ``secret`` is as good as the password against this machine, hence mode 0600."""

    salt: bytes
    secret: bytes
    expires_at_s: float | None = None
    failures: int = 0
    locked_until_s: float = 0.0
    format: int = 1

    def __repr__(self) -> str:
        return f"Armed(failures={self.failures}, locked_until_s={self.locked_until_s})"


def derive(password: str, salt: bytes) -> bytes:
    """What both sides feed the PAKE; takes about 0.1 s and 32 MiB, so not in the loop."""
    return hashlib.scrypt(
        password.encode(), salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=1, maxmem=_SCRYPT_MEMORY, dklen=32
    )


def lockout_s(failures: int) -> float:
    """How long all guesses are refused after so many wrong ones in a row. Pure."""
    if failures < FREE_GUESSES:
        return 0.0
    return float(min(LOCK_FIRST_S << min(failures - FREE_GUESSES, 16), LOCK_MAX_S))


class PairingStore:
    """Reads and writes the file; it may be changed by another process in between."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def set_password(
        self, password: str, *, now_s: float = 0.0, valid_for_s: float | None = None
    ) -> None:
        """Wait for a pairing with this password, wrong guesses forgiven.

        Raises UsageError where it is too short or long, StateError where it cannot be kept.
        """
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise UsageError(
                f"A pairing password has {MIN_LENGTH} to {MAX_LENGTH} characters.",
                "Choose a longer one; it is typed only once.",
                code="MSE-PAIR-020",
            )
        salt = os.urandom(SALT_BYTES)
        expires = None if valid_for_s is None else now_s + valid_for_s
        self._save(Armed(salt, derive(password, salt), expires))

    def clear(self) -> None:
        """Wait no longer; raises StateError."""
        try:
            with suppress(FileNotFoundError):
                self.path.unlink()
                sync_directory(self.path.parent)
        except OSError as error:
            raise StateError(f"{self.path} could not be removed: {error.strerror}.") from error

    def armed(self, now_s: float) -> Armed | None:
        """What is waited with; None where no password is set, or it has expired."""
        if not self.path.exists():
            return None
        try:
            armed = msgspec.json.decode(read_file(self.path), type=Armed)
        except (msgspec.MsgspecError, ValueError) as error:
            raise StateError(
                f"The file {self.path} is damaged, so nobody can pair with this machine.",
                "Set the pairing password again.",
                code="MSE-STA-012",
            ) from error
        is_expired = armed.expires_at_s is not None and now_s >= armed.expires_at_s
        return None if is_expired else armed

    def spend_guess(self, now_s: float) -> Armed:
        """Pay for one guess, durably; raises PairingError where none is allowed now."""
        armed = self.check(now_s)
        failures = armed.failures + 1
        locked_until_s = now_s + lockout_s(failures)
        self._save(msgspec.structs.replace(armed, failures=failures, locked_until_s=locked_until_s))
        return armed

    def check(self, now_s: float) -> Armed:
        """What is waited with; raises PairingError where no guess is allowed now."""
        armed = self.armed(now_s)
        if armed is None:
            raise PairingError(NOT_WAITING_SENTENCE, NOT_WAITING_HINT, code="MSE-PAIR-003")
        left_s = min(armed.locked_until_s - now_s, lockout_s(armed.failures))
        if left_s > 0:
            raise PairingError(LOCKED_SENTENCE, LOCKED_HINT, code="MSE-PAIR-005")
        return armed

    def forgive(self, now_s: float) -> None:
        """The guess was right: count from zero again."""
        armed = self.armed(now_s)
        if armed is not None:
            self._save(msgspec.structs.replace(armed, failures=0, locked_until_s=0.0))

    def _save(self, armed: Armed) -> None:
        write_file(self.path, msgspec.json.encode(armed))
