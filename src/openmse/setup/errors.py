"""What setup says when it cannot go on."""

from openmse.errors import CommandFailed, CommandRefused, DriverError, UsageError


class BadAnswer(UsageError):
    """An answer breaks a rule; the sentence is the rule. Nothing was changed."""

    code = "MSE-SET-001"


class BadAnswers(UsageError):
    """An answers file cannot be used; the sentence lists every fault. Nothing was changed."""

    code = "MSE-SET-002"


class SetupRefused(CommandRefused):
    """A rule forbids what was asked; nothing was changed."""

    code = "MSE-SET-003"


class ChecksFailed(CommandRefused):
    """Checks of the machine or the network are red; nothing was changed."""

    code = "MSE-SET-004"


class ApplyFailed(CommandFailed):
    """A step failed; the sentence says whether everything before it was undone."""

    code = "MSE-SET-005"


class StepError(DriverError):
    """One file or one command did not do what was asked."""

    code = "MSE-SET-006"
