"""The text of licences: what goes in comes out, and no changed byte is ever taken for it."""

import string
from datetime import date

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from openmse.errors import MseError
from openmse.platform import licence_keys
from openmse.platform.licence import Kind, Licence, Type, body, faults_of, parse

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUSTED = {licence_keys.fingerprint(KEY.public_key()): KEY.public_key()}
printable = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
names = st.text(printable, min_size=1, max_size=40).map(str.strip).filter(bool)
ids = st.text("0123456789abcdef", min_size=16, max_size=16)
parts = st.text(string.ascii_letters + string.digits, min_size=1, max_size=12)


@st.composite
def licences(draw: st.DrawFn) -> Licence:
    term = draw(st.sampled_from(Type))
    kind = draw(st.sampled_from(Kind))
    is_counted = kind is not Kind.ACTIVATION and term is not Type.EXTENSION
    return Licence(
        id=draw(ids),
        kind=kind,
        type=term,
        udi=":".join(draw(st.tuples(parts, parts, parts))),
        quantity=draw(st.integers(1, 10_000_000)) if is_counted else 0,
        days=0 if term is Type.PERMANENT else draw(st.integers(1, 3660)),
        extends=draw(ids) if term is Type.EXTENSION else "",
        issued=draw(st.dates(date(2000, 1, 1))),
        issued_to=draw(names),
        issued_by=draw(names),
    )


@settings(deadline=None)
@given(licences())
def test_round_trip(licence: Licence) -> None:
    assert list(faults_of(licence)) == []
    data = licence_keys.sign(licence, KEY)
    assert licence_keys.verify(data, TRUSTED).licence == licence


@settings(deadline=None)
@given(licences(), st.data())
def test_any_changed_byte_is_refused(licence: Licence, data: st.DataObject) -> None:
    text = bytearray(licence_keys.sign(licence, KEY))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= data.draw(st.integers(1, 255))
    assert is_refused(bytes(text))


def test_each_bit_of_one_licence() -> None:
    """Not by chance: every single bit of a whole file."""
    licence = Licence(
        id="00000000000000aa",
        kind=Kind.WIPS_LOCAL,
        type=Type.EVALUATION,
        udi="AIR-MSE-VA-K9:V01:mse1_0a",
        quantity=25,
        days=60,
        issued=date(2026, 1, 31),
        issued_to="病院",
        issued_by="Its operator",
    )
    text = licence_keys.sign(licence, KEY)
    taken = [
        (at, bit)
        for at in range(len(text))
        for bit in range(8)
        if not is_refused(text[:at] + bytes([text[at] ^ 1 << bit]) + text[at + 1 :])
    ]
    assert taken == []


@settings(deadline=None)
@given(licences(), st.binary(min_size=1, max_size=20), st.integers(0, 2000))
def test_nothing_can_be_inserted(licence: Licence, more: bytes, at: int) -> None:
    text = licence_keys.sign(licence, KEY)
    changed = text[:at] + more + text[at:]
    assert is_refused(changed)


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_other_bytes_are_refused_in_words(data: bytes) -> None:
    assert is_refused(data)
    assert is_refused(b"OpenMSE licence\n" + data)


@settings(deadline=None, max_examples=50)
@given(licences(), licences())
def test_different_licences_sign_different_bytes(one: Licence, other: Licence) -> None:
    is_same = one == other
    assert (body(one, "k") == body(other, "k")) is is_same
    assert (parse(licence_keys.sign(one, KEY)) == parse(licence_keys.sign(other, KEY))) is is_same


def is_refused(data: bytes) -> bool:
    try:
        licence_keys.verify(data, TRUSTED)
    except MseError:
        return True
    return False
