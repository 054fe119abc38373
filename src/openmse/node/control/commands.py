"""The commands of the control socket: their names, their arguments, and what they answer. Pure."""

from msgspec import UNSET, Struct, UnsetType

from openmse import ports
from openmse.ha.values import BootAlone, FailoverType, NoWitnessMode


class NoArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """For commands that take none."""


class WatchArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """``watch``: a snapshot at each change, and at the latest after ``every_s``."""

    every_s: float = 1.0


class SwitchoverArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """``switchover``: to the named node, or to the other one."""

    to: str = ""


class TakeoverArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """``takeover``: forced; ``confirmed_for`` is the node's name as it was typed."""

    confirmed_for: str


class MaintenanceArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """``maintenance``: on or off."""

    is_on: bool


class SettingsArgs(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``set_settings``: only what is given changes. Durations in seconds."""

    failover_wait_s: float | UnsetType = UNSET
    is_experimental: bool = False
    failover_type: FailoverType | UnsetType = UNSET
    failback_type: FailoverType | UnsetType = UNSET
    no_witness_mode: NoWitnessMode | UnsetType = UNSET
    boot_alone: BootAlone | UnsetType = UNSET
    boot_patience_s: float | UnsetType = UNSET
    failback_stable_s: float | UnsetType = UNSET


class WitnessArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """A witness to be enrolled; ``password`` (kind console) is the witness's own."""

    kind: str
    name: str = "witness"
    address: str = ""
    pairing_port: int = ports.PAIRING
    password: str = ""
    endpoints: tuple[str, ...] = ()
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class PairArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """``pair``: sent to the primary's daemon. No secret is ever shown or logged."""

    peer: str
    """The secondary's address."""
    password: str
    pairing_port: int = ports.PAIRING
    witness: WitnessArgs | None = None


class UnpairArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """``unpair``: ``without_peer``: although the other node cannot be told."""

    without_peer: bool = False


class ReadmitArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """``readmit``: wait for a new machine in place of the lost one. No secret is ever shown."""

    password: str
    valid_for_s: float = 3600.0
    """How long it is waited for: 60 s to a day."""


class StopArgs(Struct, frozen=True, forbid_unknown_fields=True):
    """``stop``: the machine's planned stop, with or without handing over first."""

    handover: bool = False


class Done(Struct, frozen=True):
    """The answer of commands that change something."""

    sentence: str
    elapsed_ms: float = 0.0


class Progress(Struct, frozen=True):
    """An event on the way: a step that was reached."""

    step: str
    ms: float = 0.0


class JournalFlushed(Struct, frozen=True):
    """``flush_journal``: where everything up to now has been written."""

    directory: str
    dropped: int
