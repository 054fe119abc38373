"""Every error a person may meet: a stable code, a full sentence, a hint, and an exit status.

The command line, the API and the console render the same object. Library exceptions are
translated once, at the driver, with ``raise ... from``. ``MseError`` itself is never raised.
"""


class MseError(Exception):
    """Base of all errors shown to people; never raised itself.

    ``code`` is stable (scripts may match it), ``sentence`` says what happened and what it means,
    ``hint`` what to do next. Neither may contain a secret.
    """

    code = "MSE-000"
    exit_code = 1

    def __init__(self, sentence: str, hint: str = "", *, code: str = "") -> None:
        super().__init__(f"{sentence} {hint}".strip())
        self.sentence = sentence
        self.hint = hint
        if code:
            self.code = code


class ConfigError(MseError):
    """The user must mend a setting; nothing was changed."""

    code = "MSE-CFG-001"
    exit_code = 2


class UsageError(MseError):
    """A command was given something it cannot work with; nothing was changed."""

    code = "MSE-USE-001"
    exit_code = 2


class PrivilegeError(UsageError):
    """The command needs root, or membership in the group ``openmse``; nothing was changed."""

    code = "MSE-USE-002"


class DriverError(MseError):
    """The world failed: a process, a disk, the kernel or the network."""

    code = "MSE-DRV-001"

    def __init__(
        self, sentence: str, hint: str = "", *, code: str = "", is_retryable: bool = True
    ) -> None:
        super().__init__(sentence, hint, code=code)
        self.is_retryable = is_retryable


class DatabaseError(DriverError):
    """PostgreSQL, or one of its tools, did not do what was asked."""

    code = "MSE-DB-001"


class NetworkError(DriverError):
    """The virtual IP, the kernel lease or an announcement failed."""

    code = "MSE-NET-001"


class StateError(DriverError):
    """The durable state of this node is missing, damaged, or cannot be written."""

    code = "MSE-STA-001"


class PeerError(MseError):
    """Another party broke the protocol, or could not prove who it is."""

    code = "MSE-PEER-001"


class PairingError(MseError):
    """Pairing or enrolling was refused; nothing was changed on either side."""

    code = "MSE-PAIR-001"


class CommandRefused(MseError):
    """A rule said no; the sentence is the rule's."""

    code = "MSE-CMD-001"
    exit_code = 3


class CommandFailed(MseError):
    """What was asked was begun and did not come to its end; the sentence says how things stand."""

    code = "MSE-CMD-002"


class ControlError(MseError):
    """The daemon of this machine answered in a way that cannot be understood, or not in time."""

    code = "MSE-CTL-001"


class DaemonDownError(ControlError):
    """No daemon answers on this machine's control socket; nothing was changed."""

    code = "MSE-CTL-002"
    exit_code = 4
