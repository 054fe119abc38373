"""The bodies that clients send: strict, bounded, unknown fields refused; secrets never shown."""

from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from openmse import ports
from openmse.node.control.commands import SettingsArgs, WitnessArgs
from openmse.platform.licence import MAX_BYTES

PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
NodeName = Annotated[str, Field(max_length=63)]
Address = Annotated[str, Field(min_length=2, max_length=64)]
Port = Annotated[int, Field(ge=1, le=65535)]
Path = Annotated[str, Field(max_length=1024)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=256)]
Behalf = Annotated[str, Field(max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")]
Seconds = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
"""Bounded only so that arithmetic works; what is possible the health monitor says, with numbers."""


class Body(BaseModel):
    """What all bodies have in common."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Nothing(Body):
    """An empty object."""


class SwitchoverBody(Body):
    """``to``: the node that shall own; '' for the other one."""

    to: NodeName = ""


class MaintenanceBody(Body):
    """Maintenance on or off."""

    is_on: bool


class DrillBody(Body):
    """How long the pair may take to be in step again after each move, in seconds."""

    settle_s: Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False)] = 120.0


class TakeoverBody(Body):
    """``confirm``: the name of this node, as a person typed it after the loss was shown."""

    force: Literal[True]
    confirm: NodeName


class WitnessBody(Body):
    """A witness to be enrolled."""

    kind: Literal["console", "etcd"] = "console"
    name: NodeName = "witness"
    address: Annotated[str, Field(max_length=64)] = ""
    pairing_port: Port = ports.PAIRING
    password: Annotated[SecretStr, Field(max_length=256)] = SecretStr("")
    endpoints: Annotated[list[Path], Field(max_length=16)] = []
    ca_file: Path = ""
    cert_file: Path = ""
    key_file: Path = ""

    def args(self) -> WitnessArgs:
        """As the health monitor takes it."""
        return WitnessArgs(
            kind=self.kind,
            name=self.name,
            address=self.address,
            pairing_port=self.pairing_port,
            password=self.password.get_secret_value(),
            endpoints=tuple(self.endpoints),
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
        )


class PairBody(Body):
    """The secondary's own address, its pairing password, and a witness."""

    peer: Address
    password: Secret
    pairing_port: Port = ports.PAIRING
    management_port: Port = ports.MANAGEMENT
    """Of the secondary's management API, which is asked what machine it is."""
    witness: WitnessBody | None = None


class ReadmitBody(Body):
    """The password that the new machine must know, and how long it is waited for, in seconds."""

    password: Secret
    valid_for_s: Annotated[float, Field(ge=60, le=86_400)] = 3600.0
    confirm: NodeName


class UnpairBody(Body):
    """``without_peer``: although the other node cannot be told."""

    without_peer: bool = False
    confirm: NodeName


class SettingsBody(Body):
    """Only what is given changes. Seconds."""

    failover_wait_s: Seconds | None = None
    is_experimental: bool = False
    failover_type: Literal["manual", "automatic"] | None = None
    failback_type: Literal["manual", "automatic"] | None = None
    no_witness_mode: Literal["manual", "fencing", "protect"] | None = None
    boot_alone: Literal["auto", "ask"] | None = None
    boot_patience_s: Seconds | None = None
    failback_stable_s: Seconds | None = None

    def args(self) -> SettingsArgs:
        """As the health monitor takes it."""
        given: SettingsArgs = msgspec.convert(self.model_dump(exclude_none=True), SettingsArgs)
        return given


class StopBody(Body):
    """``handover``: hand the service over first."""

    handover: bool = False
    confirm: NodeName


class PairingPasswordBody(Body):
    """What a secondary shall be paired with."""

    password: Secret


class LicenceBody(Body):
    """The text of a licence file, byte for byte: its signature covers every one of them."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_BYTES)]
    on_behalf_of: Behalf = ""
    """The person for whom a program asks, such as the user of a console."""


class ClaimBody(Body):
    """The console that wants to manage this engine."""

    id: Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=PRINTABLE)]
    url: Annotated[str, Field(max_length=200, pattern=r"^(https://[!-~]+)?$")] = ""
    force: bool = False
    confirm: NodeName = ""


class UserBody(Body):
    """Either may be left out for a user that exists."""

    role: Literal["viewer", "operator", "administrator"] | None = None
    password: Secret | None = None


class OwnPasswordBody(Body):
    """A user's own new password."""

    old: Secret
    new: Secret


class TokenBody(Body):
    """A token to be made."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=PRINTABLE)]
    scope: Literal["read", "operate", "administer"] = "read"
    expires_in_days: Annotated[int, Field(ge=1, le=3650)] | None = None
