"""What may go wrong while installing, starting and stopping, in words for people."""

from openmse.errors import CommandFailed, CommandRefused, ConfigError, MseError


class NotPrepared(ConfigError):
    """The machine lacks something that has to be there first; nothing was changed."""

    code = "MSE-ENG-001"


class PortTaken(MseError):
    """Another program listens where a part of the product has to; nothing was started."""

    code = "MSE-ENG-002"


class StartFailed(CommandFailed):
    """A part did not start; the sentence says which, and what runs all the same."""

    code = "MSE-ENG-003"


class StopFailed(CommandFailed):
    """A part did not stop in time; the sentence says which."""

    code = "MSE-ENG-004"


class ManagerFailed(CommandFailed):
    """systemd did not do what it was asked; the sentence has its words."""

    code = "MSE-ENG-005"


class InstallFailed(CommandFailed):
    """A step of the installation failed; those before it stay, and it may be repeated."""

    code = "MSE-INS-001"


class InstallRefused(CommandRefused):
    """Installing or removing now would harm what runs; nothing was changed."""

    code = "MSE-INS-002"
