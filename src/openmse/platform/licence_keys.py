"""The keys that sign licences (Ed25519): made by whoever runs a deployment, trusted by its engines.

A private key is one PEM file, mode 0600; it is never printed, and no error contains any of it.
Source: RFC 8032 (Ed25519), RFC 8410 (its keys in PEM).
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from msgspec import Struct

from openmse.errors import StateError
from openmse.pki.files import PRIVATE, PUBLIC, read_file, write_file
from openmse.platform.errors import LicenceKeyError, LicenceSignatureError
from openmse.platform.licence import Licence, Signed, body, parse, render

PUBLIC_SUFFIX = ".pub"
MAX_KEYS = 64
_MAX_KEY_BYTES = 4096


class Broken(Struct, frozen=True):
    """A file of a key or a licence that counts for nothing, and why."""

    file: str
    sentence: str


class TrustedKeys(NamedTuple):
    """What an engine trusts: keys by fingerprint, and files that are none."""

    keys: dict[str, Ed25519PublicKey]
    broken: tuple[Broken, ...] = ()


class MadeKey(NamedTuple):
    """A new key on disk."""

    private: Path
    public: Path
    id: str


def fingerprint(key: Ed25519PublicKey) -> str:
    """What names a key: 32 hexadecimal digits of the SHA-256 of its raw bytes."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(b"openmse licence key " + raw).hexdigest()[:32]


def make(private: Path) -> MadeKey:
    """A new key in ``private`` (0600) and its public half in ``private``.pub.

    Raises LicenceKeyError where either file is there already, StateError on a failed write.
    """
    public = private.with_name(private.name + PUBLIC_SUFFIX)
    for path in (private, public):
        if os.path.lexists(path):
            raise LicenceKeyError(
                f"{path} exists already, so no key was made.",
                "Choose another name: licences that the old key signed need its public half.",
            )
    key = Ed25519PrivateKey.generate()
    shown = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    hidden = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_file(private, hidden, mode=PRIVATE)
    write_file(public, shown, mode=PUBLIC)
    return MadeKey(private, public, fingerprint(key.public_key()))


def load_private(path: Path) -> Ed25519PrivateKey:
    """The private key in ``path``; raises LicenceKeyError, which says nothing of its contents."""
    try:
        mode = path.stat().st_mode
        data = read_file(path, _MAX_KEY_BYTES)
        key = load_pem_private_key(data, password=None)
    except (OSError, StateError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.sentence
        raise LicenceKeyError(
            f"The private key {path} cannot be read: {reason}", "'mse license keygen' makes one."
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _no_key(path) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path)
    if mode & 0o077:
        raise LicenceKeyError(
            f"The private key {path} can be read by others, so it was not used.",
            f"'chmod 600 {path}', and make a new key if anybody else may have read it.",
        )
    return key


def _no_key(path: Path) -> LicenceKeyError:
    return LicenceKeyError(
        f"{path} is not a private key for licences (Ed25519, PEM, without a password).",
        "Name the file that 'mse license keygen' made, not the one that ends in .pub.",
    )


def load_trusted(directory: Path) -> TrustedKeys:
    """The public keys (``*.pub``) that an engine trusts; none where there is no directory.

    A file that is none takes nothing else with it: limits rest on the keys that are whole.
    """
    keys, broken = {}, []
    for path in sorted(directory.glob(f"*{PUBLIC_SUFFIX}"))[:MAX_KEYS]:
        try:
            key = load_pem_public_key(read_file(path, _MAX_KEY_BYTES))
        except (ValueError, UnsupportedAlgorithm, StateError):
            key = None
        if isinstance(key, Ed25519PublicKey):
            keys[fingerprint(key)] = key
        else:
            broken.append(
                Broken(
                    path.name,
                    "It is not the public half of a licence key, so it proves nothing. Copy the "
                    ".pub file that 'mse license keygen' made there, or remove this one.",
                )
            )
    return TrustedKeys(keys, tuple(broken))


def sign(licence: Licence, key: Ed25519PrivateKey) -> bytes:
    """The licence's file."""
    key_id = fingerprint(key.public_key())
    return render(Signed(licence, key_id, key.sign(body(licence, key_id))))


def verify(data: bytes, trusted: dict[str, Ed25519PublicKey]) -> Signed:
    """The licence in ``data``, proven; raises LicenceFileError or LicenceSignatureError."""
    signed = parse(data)
    key = trusted.get(signed.key_id)
    if key is None:
        raise LicenceSignatureError(
            f"Licence {signed.licence.id} was signed by key {signed.key_id}, which this engine "
            "does not trust; nothing was changed.",
            "If that key is your deployment's, put its .pub file into the directory of trusted "
            "keys (/etc/openmse/licence-keys) of both nodes.",
        )
    try:
        key.verify(signed.signature, body(signed.licence, signed.key_id))
    except InvalidSignature:
        raise LicenceSignatureError(
            f"The signature of licence {signed.licence.id} is not genuine: the text was changed "
            "after it was signed, or somebody else made it; nothing was changed.",
            "Get the file again from whoever issued it.",
        ) from None
    return signed
