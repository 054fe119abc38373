"""A licence as a value and as text: what is granted, to which engine, for how long. Pure.

The text is for people first: one line for each fact, then a signature block. There is exactly one
text for each licence, so a file whose bytes differ anywhere from it is refused.
"""

import base64
import re
from collections.abc import Iterator
from datetime import date
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from openmse.platform import udi as udis
from openmse.platform.errors import LicenceFileError

TITLE = "OpenMSE licence"
FORMAT = "1"
BEGIN = "-----BEGIN LICENCE SIGNATURE-----"
END = "-----END LICENCE SIGNATURE-----"
SIGNATURE_BYTES = 64
MAX_BYTES = 16 * 1024
MAX_QUANTITY = 10_000_000
MAX_DAYS = 3660
_ID = re.compile(r"[0-9a-f]{16}")
_KEY = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile(r"[1-9][0-9]{0,7}")


class Kind(StrEnum):
    """What is licensed."""

    ACTIVATION = "activation"
    """A virtual appliance may be given further licences."""
    ELEMENTS = "elements"
    """Context Aware: tracked elements."""
    WIPS_MONITOR = "wips-monitor-mode-aps"
    WIPS_LOCAL = "wips-local-mode-aps"
    CLICKS = "service-advertisement-clicks"


class Type(StrEnum):
    """For how long."""

    PERMANENT = "permanent"
    EVALUATION = "evaluation"
    """``days`` from its first installation."""
    EXTENSION = "extension"
    """``days`` more for the evaluation licence that it names."""


class Licence(Struct, frozen=True, kw_only=True):
    """What one file grants. ``quantity``: how many of ``kind``; 0 for activation and extension."""

    id: str
    """16 hexadecimal digits, drawn at random."""
    kind: Kind
    type: Type
    udi: str
    """The engine it is bound to."""
    quantity: int = 0
    days: int = 0
    """Evaluation and extension: days; 0 for permanent."""
    extends: str = ""
    """Extension: the id of the evaluation licence."""
    issued: date
    issued_to: str
    issued_by: str


class Signed(NamedTuple):
    """A licence with its proof."""

    licence: Licence
    key_id: str
    """Fingerprint of the public key that proves it: 32 hexadecimal digits."""
    signature: bytes


_LABELS = {
    "Licence": "id",
    "Kind": "kind",
    "Type": "type",
    "Engine UDI": "udi",
    "Quantity": "quantity",
    "Days": "days",
    "Extends": "extends",
    "Issued": "issued",
    "Issued to": "issued_to",
    "Issued by": "issued_by",
}
"""Label -> field, in the order of the text. Fields with nothing in them have no line."""


def body(licence: Licence, key_id: str) -> bytes:
    """The bytes that are signed: title, facts, and whose signature follows."""
    lines = [TITLE, f"Format: {FORMAT}"]
    for label, name in _LABELS.items():
        value = getattr(licence, name)
        if value:
            lines.append(f"{label}: {value}")
    lines += ["", BEGIN, f"Key: {key_id}"]
    return ("\n".join(lines) + "\n").encode()


def render(signed: Signed) -> bytes:
    """The file."""
    text = base64.b64encode(signed.signature).decode()
    rows = [text[at : at + 64] for at in range(0, len(text), 64)]
    return body(signed.licence, signed.key_id) + ("\n".join([*rows, END]) + "\n").encode()


def parse(data: bytes) -> Signed:
    """The licence in ``data``, its signature not yet verified; raises LicenceFileError."""
    if len(data) > MAX_BYTES:
        raise LicenceFileError("The file is larger than a licence can be; nothing was changed.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LicenceFileError(f"The file is not a licence: {_NOT_TEXT}") from error
    if not text.startswith(f"{TITLE}\n"):
        raise LicenceFileError(
            f"The file is not a licence: its first line is not '{TITLE}'; nothing was changed.",
            _RETURNS if "\r" in text else _AGAIN,
        )
    if not text.endswith(f"\n{END}\n"):
        raise LicenceFileError(
            "The licence is cut short: its signature block does not end; nothing was changed.",
            _AGAIN,
        )
    try:
        signed = _parse(text)
        faults = [*faults_of(signed.licence)]
    except (ValueError, KeyError, LicenceFileError) as error:
        raise LicenceFileError(
            f"The licence is damaged: {_plain(error)}; nothing was changed.", _AGAIN
        ) from error
    if faults or render(signed) != data:
        what = faults[0] if faults else "its text is not as it was written"
        raise LicenceFileError(f"The licence is damaged: {what}; nothing was changed.", _AGAIN)
    return signed


_NOT_TEXT = "it is not text in UTF-8; nothing was changed."
_AGAIN = "Get the file again as it was issued; a copy must be equal in every byte."
_RETURNS = "It has the line ends of another system: send it as an attachment, not as text."


def _plain(error: Exception) -> str:
    if isinstance(error, LicenceFileError):
        return error.sentence.rstrip(".")
    if isinstance(error, KeyError):
        return f"the line '{error.args[0]}' is missing or unknown"
    return str(error)


def _parse(text: str) -> Signed:
    facts, _, block = text.partition(f"\n\n{BEGIN}\n")
    key, *rows = block.removesuffix(f"\n{END}\n").split("\n")
    if not key.startswith("Key: ") or not _KEY.fullmatch(key[5:]):
        raise ValueError("its signature block does not name the key")
    signature = base64.b64decode("".join(rows), validate=True)
    if len(signature) != SIGNATURE_BYTES:
        raise ValueError("its signature has another length")
    found = dict(_facts(facts))
    if found.pop("Format", "") != FORMAT:
        raise ValueError("it has a format that this software does not read")
    named = {_LABELS[label]: value for label, value in found.items()}
    return Signed(_licence(named), key[5:], signature)


def _facts(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n")[1:]:
        label, separator, value = line.partition(": ")
        if not separator:
            raise ValueError(f"the line '{line[:60]}' is no fact")
        yield label, value


def _licence(named: dict[str, str]) -> Licence:
    missing = {"id", "kind", "type", "udi", "issued", "issued_to", "issued_by"} - named.keys()
    if missing:
        labels = {name: label for label, name in _LABELS.items()}
        raise KeyError(labels[sorted(missing)[0]])
    return Licence(
        id=named["id"],
        kind=Kind(named["kind"]),
        type=Type(named["type"]),
        udi=named["udi"],
        quantity=_number(named.get("quantity", "")),
        days=_number(named.get("days", "")),
        extends=named.get("extends", ""),
        issued=date.fromisoformat(named["issued"]),
        issued_to=named["issued_to"],
        issued_by=named["issued_by"],
    )


def _number(text: str) -> int:
    if text and not _NUMBER.fullmatch(text):
        raise ValueError(f"'{text[:40]}' is not a whole number")
    return int(text or "0")


def faults_of(licence: Licence) -> Iterator[str]:
    """What cannot be in a licence, each as half a sentence; none where it is sound."""
    if not _ID.fullmatch(licence.id):
        yield f"'{licence.id[:40]}' is not the id of a licence"
    try:
        udis.parse(licence.udi)
    except LicenceFileError as error:
        yield error.sentence.rstrip(".")
    for label, text in (("Issued to", licence.issued_to), ("Issued by", licence.issued_by)):
        if not text.strip() or text != text.strip() or not text.isprintable() or len(text) > 200:
            yield f"'{label}' must have 1 to 200 printable characters"
    yield from _faults_of_term(licence)


def _faults_of_term(licence: Licence) -> Iterator[str]:
    is_counted = licence.kind is not Kind.ACTIVATION and licence.type is not Type.EXTENSION
    if is_counted and not 1 <= licence.quantity <= MAX_QUANTITY:
        yield f"the quantity must lie between 1 and {MAX_QUANTITY}"
    if not is_counted and licence.quantity:
        yield f"a licence of this kind ({licence.kind}, {licence.type}) has no quantity"
    is_timed = licence.type is not Type.PERMANENT
    if is_timed and not 1 <= licence.days <= MAX_DAYS:
        yield f"the days must lie between 1 and {MAX_DAYS}"
    if not is_timed and licence.days:
        yield "a permanent licence has no days"
    is_extension = licence.type is Type.EXTENSION
    if is_extension != bool(licence.extends):
        yield "an extension names the licence that it extends, and only an extension does"
    if licence.extends and not _ID.fullmatch(licence.extends):
        yield f"'{licence.extends[:40]}' is not the id of a licence"
