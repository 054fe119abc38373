"""Secrets as they are made, hashed and compared; nothing here keeps one."""

import hashlib
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

TOKEN_PREFIX = "msec_"
LENGTH_MIN = 10
LENGTH_MAX = 200
_hasher = PasswordHasher()
_NOBODY = _hasher.hash(secrets.token_hex(16))


def hash_password(password: str) -> str:
    """The argon2id hash of a password."""
    return _hasher.hash(password)


def is_password(kept_hash: str, password: str) -> bool:
    """Whether it is the one; takes as long for '' (nobody), so that names cannot be found out."""
    try:
        return _hasher.verify(kept_hash or _NOBODY, password) and bool(kept_hash)
    except (VerificationError, InvalidHashError):
        return False


def needs_new_hash(kept_hash: str) -> bool:
    """Whether it was made with weaker parameters than today's."""
    return _hasher.check_needs_rehash(kept_hash)


def password_fault(password: str, name: str = "") -> str:
    """What is wrong with a new password, or ''."""
    if len(password) < LENGTH_MIN:
        return f"At least {LENGTH_MIN} characters are needed; a few words are good."
    if len(password) > LENGTH_MAX:
        return f"At most {LENGTH_MAX} characters are possible."
    if name and password.lower() == name.lower() * (len(password) // max(1, len(name))):
        return "It must not be made of the user name."
    if len(set(password)) < 4:
        return "It needs at least four different characters."
    return ""


def new_secret(prefix: str = "") -> str:
    """A secret of 256 random bits, safe in a URL and a header."""
    return prefix + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is kept of a random secret: it needs no slow hash, since it cannot be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()
