"""The text of a licence, its keys, and every way in which a file is refused."""

import base64
from pathlib import Path

import pytest
from licensing import BASE, Deployment, activation, evaluation, extension, licence

from openmse.errors import MseError
from openmse.pki import files
from openmse.platform import licence_keys
from openmse.platform.errors import (
    LicenceFileError,
    LicenceKeyError,
    LicenceSignatureError,
)
from openmse.platform.licence import BEGIN, Kind, Type, faults_of, parse


def test_a_licence_is_text_for_people(deployment: Deployment) -> None:
    text = deployment.sign(BASE).decode()
    assert text.startswith("OpenMSE licence\nFormat: 1\nLicence: 00000000000000aa\n")
    for line in ("Kind: elements", "Type: permanent", "Quantity: 500", "Issued: 2026-01-31"):
        assert f"\n{line}\n" in text
    assert "Days:" not in text
    assert "Extends:" not in text


@pytest.mark.parametrize(
    "what", [BASE, activation(1, BASE.udi), evaluation(2), extension(3, evaluation(2))]
)
def test_what_is_signed_is_proven(deployment: Deployment, what: object) -> None:
    assert licence_keys.verify(deployment.sign(what), deployment.trusted).licence == what  # type: ignore[arg-type]


def test_an_unknown_key(deployment: Deployment, tmp_path: Path) -> None:
    other = Deployment(tmp_path)
    with pytest.raises(LicenceSignatureError, match="does not trust; nothing was changed"):
        licence_keys.verify(other.sign(BASE), deployment.trusted)


def test_a_forged_signature(deployment: Deployment, tmp_path: Path) -> None:
    """Another's signature under the name of a key that is trusted, and a text changed in place."""
    genuine = deployment.sign(BASE)
    forged = Deployment(tmp_path).sign(BASE)
    rows = forged.decode().split(f"{BEGIN}\n")[1].split("\n")[1:]
    head = genuine.decode().split("\n")
    at = head.index(BEGIN) + 2
    with pytest.raises(LicenceSignatureError, match="not genuine"):
        licence_keys.verify("\n".join([*head[:at], *rows]).encode(), deployment.trusted)
    more = genuine.replace(b"Quantity: 500\n", b"Quantity: 900\n")
    with pytest.raises(LicenceSignatureError, match="not genuine"):
        licence_keys.verify(more, deployment.trusted)


def test_every_cut_of_a_file_is_refused(deployment: Deployment) -> None:
    whole = deployment.sign(evaluation(5))
    for end in range(len(whole)):
        with pytest.raises(LicenceFileError):
            licence_keys.verify(whole[:end], deployment.trusted)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: b"", "first line"),
        (lambda d: b"\xff" + d, "UTF-8"),
        (lambda d: d + b"x" * 20_000, "larger"),
        (lambda d: d.replace(b"\n", b"\r\n"), "first line"),
        (lambda d: d.rstrip(b"\n"), "cut short"),
        (lambda d: d + b"\n", "cut short"),
        (lambda d: b" " + d, "first line"),
        (lambda d: d.replace(b"Format: 1", b"Format: 2"), "format"),
        (lambda d: d.replace(b"Kind: elements", b"Kind: apples"), "apples"),
        (lambda d: d.replace(b"Kind: elements\n", b""), "'Kind' is missing"),
        (lambda d: d.replace(b"Kind: elements\n", b"Colour: red\nKind: elements\n"), "'Colour'"),
        (lambda d: d.replace(b"Quantity: 500", b"Quantity: 0500"), "whole number"),
        (lambda d: d.replace(b"Quantity: 500\n", b""), "quantity must lie"),
        (lambda d: d.replace(b"Issued: 2026-01-31", b"Issued: 2026-02-31"), "day"),
        (lambda d: d.replace(b"Issued: 2026-01-31", b"Issued: 20260131"), "not as it was written"),
        (lambda d: d.replace(b"Key: ", b"Kay: "), "name the key"),
        (lambda d: d.replace(b"Issued to: A", b"Issued to:  A"), "'Issued to' must have"),
    ],
)
def test_damaged_files(deployment: Deployment, change: object, match: str) -> None:
    data = change(deployment.sign(BASE))  # type: ignore[operator]
    with pytest.raises(LicenceFileError, match=match) as error:
        licence_keys.verify(data, deployment.trusted)
    assert error.value.exit_code == 2
    assert "nothing was changed" in error.value.sentence


def test_the_other_spelling_of_a_signature_is_refused(deployment: Deployment) -> None:
    """Base64 has spare bits at its end: the same bytes, written otherwise, are not the file."""
    text = deployment.sign(BASE).decode()
    end = text.index("==\n")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = letters[letters.index(text[end - 1]) ^ 1]
    other = text[: end - 1] + spare + text[end:]
    block = other.split("Key: ")[1].split("\n")[1:3]
    assert base64.b64decode("".join(block)) == parse(text.encode()).signature
    with pytest.raises(LicenceFileError, match="not as it was written"):
        parse(other.encode())


@pytest.mark.parametrize(
    "faulty",
    [
        licence(1, id="xyz"),
        licence(1, udi="nothing"),
        licence(1, quantity=0),
        licence(1, quantity=20_000_000),
        licence(1, days=3),
        licence(1, kind=Kind.ACTIVATION),
        licence(1, extends="00000000000000aa"),
        licence(1, issued_to=""),
        licence(1, issued_to="two\nlines"),
        licence(1, issued_by="x" * 201),
        evaluation(1, days=0),
        evaluation(1, days=9999),
        licence(1, type=Type.EXTENSION, quantity=0, days=5),
        licence(1, type=Type.EXTENSION, quantity=0, days=5, extends="short"),
        extension(1, evaluation(2), quantity=7),
    ],
)
def test_what_cannot_be_in_a_licence(faulty: object, deployment: Deployment) -> None:
    assert list(faults_of(faulty))  # type: ignore[arg-type]
    with pytest.raises(LicenceFileError):
        parse(deployment.sign(faulty))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------ keys


def test_a_key_is_made_once(tmp_path: Path) -> None:
    made = licence_keys.make(tmp_path / "key")
    assert made.private.stat().st_mode & 0o777 == 0o600
    assert made.public.name == "key.pub"
    key = licence_keys.load_private(made.private)
    assert licence_keys.fingerprint(key.public_key()) == made.id
    assert list(licence_keys.load_trusted(tmp_path).keys) == [made.id]
    with pytest.raises(LicenceKeyError, match="exists already"):
        licence_keys.make(tmp_path / "key")
    made.private.unlink()
    with pytest.raises(LicenceKeyError, match="exists already"):
        licence_keys.make(tmp_path / "key")


def test_a_private_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    made = licence_keys.make(tmp_path / "key")
    made.private.chmod(0o640)
    with pytest.raises(LicenceKeyError, match="can be read by others"):
        licence_keys.load_private(made.private)


def test_what_is_no_private_key(tmp_path: Path) -> None:
    made = licence_keys.make(tmp_path / "key")
    secret = made.private.read_text().split("\n")[1]
    broken = tmp_path / "broken"
    files.write_file(broken, made.private.read_bytes().replace(b"M", b"?"))
    for path in (made.public, broken, tmp_path / "absent", tmp_path):
        with pytest.raises(LicenceKeyError) as error:
            licence_keys.load_private(path)
        assert secret not in str(error.value)
        assert error.value.__cause__ is None or secret not in str(error.value.__cause__)


def test_trusted_keys(tmp_path: Path) -> None:
    assert licence_keys.load_trusted(tmp_path / "absent").keys == {}
    directory = tmp_path / "keys"
    directory.mkdir()
    licence_keys.make(directory / "one")
    licence_keys.make(directory / "two")
    assert len(licence_keys.load_trusted(directory).keys) == 2
    (directory / "bad.pub").write_text("")  # as after a power cut
    (directory / "private.pub").write_bytes((directory / "one").read_bytes())
    found = licence_keys.load_trusted(directory)
    assert len(found.keys) == 2
    assert [one.file for one in found.broken] == ["bad.pub", "private.pub"]


def test_errors_have_codes_of_their_own() -> None:
    from openmse.platform import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    own = [k for k in kinds if issubclass(k, MseError) and k.__module__ == errors.__name__]
    codes = [kind.code for kind in own]
    assert len(own) >= 8
    assert len(set(codes)) == len(codes)
