"""Enrolling: a node that proves the witness's password hands its group over to be kept."""

import secrets

import msgspec

from openmse import __version__
from openmse.errors import PairingError
from openmse.node.group import GroupInfo
from openmse.pki.names import Role
from openmse.pki.pairing_messages import Facts, Offer
from openmse.pki.pairing_server import Paired, Responder
from openmse.wire.datagrams import KEY_BYTES
from openmse.witness.config import WitnessConfig
from openmse.witness.groups import Credentials, GroupFacts
from openmse.witness.server import WitnessServer

GROUP_LIMIT = 4096
_WILDCARDS = ("0.0.0.0", "::")


class Enrolment:
    """The handler of the witness's ``PairingServer``."""

    def __init__(self, config: WitnessConfig, server: WitnessServer) -> None:
        self._name = config.witness.name
        self._address = config.witness.address
        self._server = server
        self._reviewed = ""
        self._incarnations: dict[str, str] = {}

    def responder(self) -> Responder:
        """Who waits, and the groups it keeps."""
        return Responder(
            self._name, Role.WITNESS, __version__, self._server.names, group_limit=GROUP_LIMIT
        )

    def review(self, initiator: str, offer: Offer) -> None:
        """Raise PairingError where the group cannot be kept."""
        trouble = self._server.trouble(offer.group)
        if trouble is not None and not trouble.is_served:
            raise PairingError(
                f"The witness cannot use what it kept of this group: {trouble.sentence}",
                f"'mse witness forget {offer.group}' on the witness's machine, then try again.",
            )
        if len(offer.heartbeat_key) != KEY_BYTES:
            raise PairingError("The key for the witness's heartbeats has the wrong length.")
        authority = self._server.authority(offer.group)
        if authority is not None and authority != offer.authority_certificate:
            # whoever knows the password may enrol a group, but not take another's over
            raise PairingError(
                f"The witness keeps group {offer.group!r} under another authority.",
                f"If that group is gone: 'mse witness forget {offer.group}' on the witness's "
                "machine. Nothing was changed.",
                code="MSE-PAIR-008",
            )
        self._reviewed = offer.group

    def facts(self) -> Facts:
        """What the node is told; it is asked for directly after ``review``, in the same turn."""
        group = self._reviewed
        if self._server.voter(group) is not None:
            incarnation = self._server.incarnation(group)
        else:
            incarnation = self._incarnations.setdefault(group, secrets.token_hex(8))
        addresses = () if self._address in _WILDCARDS else (self._address,)
        return Facts(self._name, incarnation, __version__, addresses)

    async def commit(self, paired: Paired) -> None:
        """Keep the group, durably. Raises StateError."""
        offer = paired.offer
        facts = GroupFacts(
            offer.group,
            self._name,
            _nodes(paired.initiator, offer.group_info),
            offer.heartbeat_key,
        )
        credentials = Credentials(paired.certificate, paired.key, offer.authority_certificate)
        incarnation = self._incarnations.setdefault(offer.group, secrets.token_hex(8))
        await self._server.enrol(facts, credentials, incarnation)
        self._incarnations.pop(offer.group, None)


def _nodes(initiator: str, group_info: bytes) -> tuple[str, ...]:
    """The nodes of the group, as far as they are told; the rest come with its configs."""
    try:
        told = msgspec.json.decode(group_info, type=GroupInfo)
    except msgspec.MsgspecError:
        return (initiator,)
    return tuple(sorted({initiator, *(node.name for node in told.nodes)}))
