"""What two machines say to each other while they pair, and the sentences of every refusal.

Before the password is proven nothing that the other side says is shown to people, but what is
checked to be a number or a short name; a refusal is a code, its sentence is ours.
"""

from enum import StrEnum

from msgspec import Struct

from openmse.errors import PairingError
from openmse.pki.names import Role
from openmse.pki.password import (
    LOCKED_HINT,
    LOCKED_SENTENCE,
    NOT_WAITING_HINT,
    NOT_WAITING_SENTENCE,
)
from openmse.wire.versions import OLDEST_VERSION, WIRE_VERSION

PAIRING_VERSION = 1
READMISSION_VERSION = 2
"""The same conversation with the parts changed: the responder gives its group, the initiator
takes it. Who knows only pairing answers ``Code.VERSION``."""
MAX_FRAME_BYTES = 64 << 10


class Code(StrEnum):
    """Why a pairing was refused before the password was proven."""

    BROKEN = "broken"
    VERSION = "version"
    SOFTWARE = "software"
    ROLE = "role"
    SAME_ID = "same_id"
    OTHER_GROUP = "other_group"
    NOT_WAITING = "not_waiting"
    WRONG_PASSWORD = "wrong_password"
    LOCKED = "locked"
    BUSY = "busy"


class Hello(Struct, frozen=True, tag="hello"):
    """Who speaks. ``salt``: the responder's, for its password."""

    id: str
    role: Role
    software: str
    kind: Role
    """What the initiator wants the responder to become: its peer node, or the group's witness."""
    group: str = ""
    """The initiator's; the responder names none."""
    salt: bytes = b""
    lowest_wire: int = OLDEST_VERSION
    highest_wire: int = WIRE_VERSION
    version: int = PAIRING_VERSION


class Refuse(Struct, frozen=True, tag="refuse"):
    """The end, before the password was proven."""

    code: Code
    software: str = ""
    highest_wire: int = WIRE_VERSION


class Share(Struct, frozen=True, tag="share"):
    """A message of SPAKE2."""

    data: bytes


class Confirm(Struct, frozen=True, tag="confirm"):
    """Proof that the sender derived the same keys from the same conversation."""

    mac: bytes


Clear = Hello | Refuse | Share | Confirm


class Offer(Struct, frozen=True, tag="offer"):
    """What the giver gives: the initiator of a pairing, the responder of a re-admission.

    A witness gets neither the authority's key nor the register's seed, and only the root key of
    its own datagrams. ``group_info``, ``settings`` and ``register_seed`` are bytes to this module.
    """

    group: str
    authority_certificate: bytes
    heartbeat_key: bytes
    virtual_ips: tuple[str, ...] = ()
    group_info: bytes = b""
    settings: bytes = b""
    register_seed: bytes = b""
    authority_key: bytes = b""

    def __repr__(self) -> str:
        return f"Offer(group={self.group!r})"


class Facts(Struct, frozen=True, tag="facts"):
    """What the taker says of itself. ``addresses`` and ``names`` go into its certificate;
    ``machine`` and ``info`` are bytes to this module."""

    id: str
    incarnation: str
    software: str
    addresses: tuple[str, ...]
    names: tuple[str, ...] = ()
    machine: bytes = b""
    info: bytes = b""


class Requests(Struct, frozen=True, tag="requests"):
    """The taker's facts, and its certificate requests (PEM)."""

    facts: Facts
    node: bytes
    replication: bytes = b""


class Certificates(Struct, frozen=True, tag="certificates"):
    """What the giver issued (PEM)."""

    node: bytes
    replication: bytes = b""


class Prepared(Struct, frozen=True, tag="prepared"):
    """The taker has checked everything and can commit."""


class Commit(Struct, frozen=True, tag="commit"):
    """Store it all now."""


class Committed(Struct, frozen=True, tag="committed"):
    """The taker has stored it all, durably."""


class Done(Struct, frozen=True, tag="done"):
    """The giver knows; the password is no longer needed."""


class Refused(Struct, frozen=True, tag="refused"):
    """The end, from a party that has proven the password: so its sentence may be shown."""

    sentence: str
    hint: str
    code: str


Secure = Offer | Requests | Certificates | Prepared | Commit | Committed | Done | Refused

_SENTENCES: dict[Code, tuple[str, str, str]] = {
    Code.BROKEN: (
        "The other machine did not follow the pairing's rules, or is no machine of this product.",
        "Check the address and the port, and that both run the same version.",
        "MSE-PAIR-001",
    ),
    Code.VERSION: (
        "The other machine speaks no version of the wire that this one knows.",
        "Install the same version on both machines, then pair again.",
        "MSE-PAIR-002",
    ),
    Code.SOFTWARE: (
        "The two machines run different versions; nodes are paired only with the same one.",
        "Install the same version on both machines, then pair again.",
        "MSE-PAIR-013",
    ),
    Code.NOT_WAITING: (NOT_WAITING_SENTENCE, NOT_WAITING_HINT, "MSE-PAIR-003"),
    Code.WRONG_PASSWORD: (
        "The password is not the one that was set on the other machine.",
        "Type it again; after a few wrong ones the other machine refuses all for a while.",
        "MSE-PAIR-004",
    ),
    Code.LOCKED: (LOCKED_SENTENCE, LOCKED_HINT, "MSE-PAIR-005"),
    Code.ROLE: (
        "The machine at that address has another role than was asked for.",
        "A pair is made from a primary to a secondary; a witness is enrolled, not paired.",
        "MSE-PAIR-006",
    ),
    Code.SAME_ID: (
        "Both machines have the same name.",
        "Rename one of them; the names tell them apart in every record.",
        "MSE-PAIR-007",
    ),
    Code.OTHER_GROUP: (
        "The other machine belongs to another group already.",
        "Unpair it there first, if it really shall join this group.",
        "MSE-PAIR-008",
    ),
    Code.BUSY: (
        "The other machine is busy with other pairings.",
        "Try again in a minute.",
        "MSE-PAIR-010",
    ),
}


def refusal(code: Code, detail: str = "") -> PairingError:
    """The error for a code, in our words; ``detail``: checked facts to add, as a sentence."""
    sentence, hint, number = _SENTENCES[code]
    said = f"{sentence} {detail}".strip()
    return PairingError(
        said, f"{hint}".removesuffix(" Nothing was changed.") + " Nothing was changed.", code=number
    )


def code_of(error: PairingError) -> Code:
    """The code that tells the other side of a refusal of ours."""
    return next((c for c, text in _SENTENCES.items() if text[2] == error.code), Code.BROKEN)
