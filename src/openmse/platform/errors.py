"""The errors of this package; what they mean for a command is said by their base classes."""

from openmse.errors import CommandRefused, ConfigError, PeerError, StateError, UsageError


class LicenceFileError(UsageError):
    """A file is no licence, or no longer the one that was signed; nothing was changed."""

    code = "MSE-LIC-001"


class LicenceSignatureError(CommandRefused):
    """A licence was not signed by a key that this engine trusts; nothing was changed."""

    code = "MSE-LIC-002"


class LicenceRefused(CommandRefused):
    """A genuine licence that does not fit: other engine, expired, there already, not there."""

    code = "MSE-LIC-003"


class LicenceKeyError(UsageError):
    """A key file cannot be used; nothing was changed. Never contains the key."""

    code = "MSE-LIC-004"


class LicenceStoreError(StateError):
    """The licences of this engine cannot be read, or not be written; the old ones stand."""

    code = "MSE-LIC-005"


class PlatformConfigError(ConfigError):
    """``platform.toml`` says something that cannot be."""

    code = "MSE-PLT-001"


class PlatformStateError(StateError):
    """The stored identity of this machine cannot be read or written."""

    code = "MSE-PLT-002"


class PairingMatrixRefused(CommandRefused):
    """Machines of these types do not make a pair; nothing was changed."""

    code = "MSE-PLT-003"


class CandidateUnknown(PeerError):
    """The other machine does not tell what it is, so the two could not be compared."""

    code = "MSE-PLT-005"
