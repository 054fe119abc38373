"""Errors of the management API, and the HTTP status and shape of every error."""

from typing import NamedTuple

from msgspec import Struct

from openmse.errors import CommandRefused, ConfigError, MseError, UsageError


class ApiError(MseError):
    """Base of what the API itself says no to; ``status`` is the HTTP status."""

    code = "MSE-API-000"
    exit_code = 2
    status = 400


class NotJson(ApiError):
    """The body is not JSON; nothing was changed."""

    code = "MSE-API-001"


class NotAuthenticated(ApiError):
    """No credentials came with the request, or wrong ones."""

    code = "MSE-API-002"
    status = 401


class NotAllowed(ApiError):
    """The credentials are right, but do not reach this far."""

    code = "MSE-API-003"
    status = 403


class GuessesExhausted(ApiError):
    """Too many wrong guesses came from there; ``retry_after_s`` is the rest of the wait."""

    code = "MSE-API-004"
    status = 429

    def __init__(self, sentence: str, hint: str, *, retry_after_s: float) -> None:
        super().__init__(sentence, hint)
        self.retry_after_s = retry_after_s


class ClaimLost(ApiError):
    """The console that asks has been replaced by another one."""

    code = "MSE-API-005"
    status = 403


class ForeignPage(ApiError):
    """A web page of another site made the browser ask."""

    code = "MSE-API-006"
    status = 403


class NotFound(ApiError):
    """There is nothing of that name."""

    code = "MSE-API-010"
    status = 404


class MethodNotAllowed(ApiError):
    """What is there does not know this method."""

    code = "MSE-API-011"
    status = 405


class WrongMediaType(ApiError):
    """The body is not declared as JSON; nothing was changed."""

    code = "MSE-API-012"
    status = 415


class RequestTooSlow(ApiError):
    """The request did not arrive in time; nothing was changed."""

    code = "MSE-API-013"
    status = 408


class RequestTooLarge(ApiError):
    """The request is larger than any real one; nothing was changed."""

    code = "MSE-API-014"
    status = 413


class WrongFields(ApiError):
    """A field has a value that it cannot have; nothing was changed."""

    code = "MSE-API-015"
    status = 422

    def __init__(self, fields: "tuple[FieldFault, ...]") -> None:
        listed = "; ".join(f"{fault.field}: {fault.sentence}" for fault in fields[:5])
        super().__init__(
            f"The request cannot be used ({listed}); nothing was changed.",
            "Correct these fields; /openapi.json describes them.",
        )
        self.fields = fields


class ClaimedByAnother(ApiError):
    """Another console manages this engine; nothing was changed."""

    code = "MSE-API-020"
    exit_code = 3
    status = 409


class AlreadyUnderWay(ApiError):
    """The same operation is under way; nothing was changed."""

    code = "MSE-API-021"
    exit_code = 3
    status = 409

    def __init__(self, sentence: str, hint: str, *, operation: str) -> None:
        super().__init__(sentence, hint)
        self.operation = operation


class LastAdministrator(ApiError):
    """Nobody would be left who may administer; nothing was changed."""

    code = "MSE-API-022"
    exit_code = 3
    status = 409


class TooMuchAtOnce(ApiError):
    """Too much of one kind is under way or kept; nothing was changed."""

    code = "MSE-API-030"
    status = 429


class NoRoom(ApiError):
    """All streams or connections are taken."""

    code = "MSE-API-031"
    status = 503


class AuditUnavailable(ApiError):
    """The audit file cannot be written, so nothing is changed."""

    code = "MSE-API-032"
    exit_code = 1
    status = 503


class Stopping(ApiError):
    """This process is being stopped."""

    code = "MSE-API-033"
    status = 503


class OwnMistake(ApiError):
    """A mistake of ours."""

    code = "MSE-API-099"
    exit_code = 1
    status = 500


class FieldFault(Struct, frozen=True):
    """What is wrong with one field of a body or a query."""

    field: str
    sentence: str


class Fault(Struct, frozen=True, kw_only=True):
    """An error as clients get it."""

    status: int
    code: str
    sentence: str
    hint: str = ""
    operation: str | None = None
    fields: tuple[FieldFault, ...] = ()


class ErrorBody(Struct, frozen=True):
    """The body of every answer that is no success."""

    error: Fault


_BY_CODE = {
    "MSE-CTL-002": 503,
    "MSE-CTL-003": 504,
    "MSE-CTL-004": 504,
    "MSE-CTL-006": 503,
    "MSE-USE-002": 503,
    "MSE-PAIR-020": 400,
}
_BY_FAMILY = {
    "MSE-PAIR": 409,
    "MSE-CTL": 502,
    "MSE-PEER": 502,
}


def status_of(error: MseError) -> int:
    """The HTTP status of an error: by its class here, elsewhere by its code."""
    if isinstance(error, ApiError):
        return error.status
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    if isinstance(error, CommandRefused):
        return 409
    if isinstance(error, UsageError):
        return 400
    return _BY_FAMILY.get(error.code.rpartition("-")[0], 500)


def fault_of(error: MseError, operation: str | None = None) -> Fault:
    """The error as clients get it; ``operation``: the id of the one it belongs to."""
    return Fault(
        status=status_of(error),
        code=error.code,
        sentence=error.sentence,
        hint=error.hint,
        operation=operation or getattr(error, "operation", None),
        fields=getattr(error, "fields", ()),
    )


class Outcome(NamedTuple):
    """How an operation that raised has ended: ``refused``, ``failed`` or ``lost``."""

    state: str
    error: MseError


_NOTHING_CHANGED = ("MSE-PAIR", "MSE-API")
_LOST = ("MSE-CTL-003", "MSE-CTL-004")


def outcome_of(error: MseError) -> Outcome:
    """Whether anything was begun, as far as the error's code tells."""
    family = error.code.rpartition("-")[0]
    is_refusal = isinstance(error, CommandRefused | UsageError | ConfigError)
    if is_refusal or error.code == "MSE-CTL-002" or family in _NOTHING_CHANGED:
        return Outcome("refused", error)
    return Outcome("lost" if error.code in _LOST else "failed", error)
