"""What can go wrong in the console, in sentences; each with the HTTP status that carries it."""

from collections.abc import Mapping
from http import HTTPStatus

from openmse.errors import ConfigError, MseError


class ConsoleError(MseError):
    """Base of the console's own errors; never raised itself."""

    code = "MSE-CON-001"
    status = HTTPStatus.INTERNAL_SERVER_ERROR


class NotLoggedIn(ConsoleError):
    """No session, or one that has ended; pages answer with the log-in page."""

    code = "MSE-CON-010"
    status = HTTPStatus.UNAUTHORIZED


class LoginRefused(ConsoleError):
    """Name or password is wrong; the answer never says which."""

    code = "MSE-CON-011"
    status = HTTPStatus.UNAUTHORIZED


class LockedOut(ConsoleError):
    """Too many wrong guesses."""

    code = "MSE-CON-012"
    status = HTTPStatus.TOO_MANY_REQUESTS


class RoleTooLow(ConsoleError):
    """Known, but not allowed to do this; nothing was changed."""

    code = "MSE-CON-013"
    status = HTTPStatus.FORBIDDEN


class ForeignRequest(ConsoleError):
    """A change that was not asked for by a page of this console; nothing was changed."""

    code = "MSE-CON-014"
    status = HTTPStatus.FORBIDDEN


class NotFound(ConsoleError):
    """There is nothing of that name here."""

    code = "MSE-CON-020"
    status = HTTPStatus.NOT_FOUND


class Conflict(ConsoleError):
    """It contradicts what is there already; nothing was changed."""

    code = "MSE-CON-021"
    status = HTTPStatus.CONFLICT


class NeverAsked(Conflict):
    """The console was restarted before it asked the engine; nothing was changed."""

    code = "MSE-CON-026"


class FormError(ConsoleError):
    """Fields have values that they cannot have; nothing was changed."""

    code = "MSE-CON-022"
    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, fields: Mapping[str, str], sentence: str = "") -> None:
        """``fields``: field -> what is wrong with it."""
        what = sentence or "Some fields cannot be used as they are; nothing was changed."
        super().__init__(what, "Correct the fields that are marked.")
        self.fields = dict(fields)


class NoLicenceFile(ConsoleError):
    """What was uploaded can be no licence; nothing was sent to the engine, nothing was changed."""

    code = "MSE-CON-024"
    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, "Choose the file as it was issued, such as elements.licence.")
        self.fields = {"file": sentence}


class TooLarge(ConsoleError):
    """More was sent than any form of this console needs; nothing was changed."""

    code = "MSE-CON-025"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class NodeUnreachable(ConsoleError):
    """An engine's management API does not answer; the pair may be well nevertheless."""

    code = "MSE-CON-030"
    status = HTTPStatus.BAD_GATEWAY


class NodeUntrusted(NodeUnreachable):
    """Who answers at an engine's address shows another certificate than the pinned one."""

    code = "MSE-CON-031"


class OtherIdentity(NodeUntrusted):
    """Who answers shows a certificate that nobody has compared; ``fields`` has what it shows."""

    def __init__(self, address: str, shown: str) -> None:
        super().__init__(
            f"The certificate at {address} has the fingerprint {shown}, not the one that was "
            "confirmed; nothing was sent to it, nothing was changed.",
            "Compare it with 'mse admin fingerprint' on the engine.",
        )
        self.fingerprint = shown
        self.fields = {"fingerprint": shown}


class NodeRefused(ConsoleError):
    """An engine said no; code, sentence and hint are the engine's."""

    code = "MSE-CON-032"
    status = HTTPStatus.CONFLICT

    def __init__(self, sentence: str, hint: str = "", *, code: str = "", status: int = 409) -> None:
        super().__init__(sentence, hint, code=code)
        self.node_status = status
        self.fields: dict[str, str] = {}


class ConsoleConfigError(ConfigError):
    """The console's settings file has faults; nothing was changed."""

    code = "MSE-CON-002"


class ConsoleStoreError(ConsoleError):
    """The console's store cannot be read, written or brought up to date."""

    code = "MSE-CON-003"
